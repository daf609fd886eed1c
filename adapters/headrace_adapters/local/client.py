"""A client on the store of one machine: through the worker's loop where one runs in this process, else directly.

Without a worker, commands are appended to the job log (``accepted``), and everything else is read from the records.
"""

from __future__ import annotations

__all__ = ["LocalClient"]

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from headrace.adapter import Answer, Client, RunResult
from headrace.batch import Batch
from headrace.commands import Command
from headrace.errors import StoreError
from headrace.plans import Plans
from headrace.state import RunState
from headrace.view import status_view
from headrace_adapters.base import WorkerLoop
from headrace_adapters.base.run_views import at_the_door, history_of, result_view, run_row
from headrace_adapters.local.carrier import append_jobs
from headrace_adapters.local.layout import EVENTS, RESULT, KeyValueStore
from headrace_adapters.local.reader import LocalReader
from headrace_topics.jobs_record import decode_command
from headrace_topics.names import run_prefix
from headrace_topics.partitioning import partition_of
from headrace_topics.results_record import decode_result

_T = TypeVar("_T")

EVENT_RECORDS_AT_ONCE = 200

# What the numbers of rejections begin with, which have no sequence number.
REJECTED = b"\x80"


class LocalClient(Client):
    """*on_close* is called when the client is closed: it lets go of the store where nobody else holds it."""

    def __init__(
        self,
        store: KeyValueStore,
        partitions: int,
        plans: Plans,
        clock: Callable[[], int],
        loop: WorkerLoop | None,
        on_close: Callable[[], None] = lambda: None,
        *,
        value_bytes_max: int,
    ) -> None:
        self._store = store
        self._readers = [LocalReader(store, number) for number in range(partitions)]
        self._plans = plans
        self._clock = clock
        self._loop = loop
        self._on_close = on_close
        self._value_bytes_max = value_bytes_max
        # Who waits for the end of a run, or for news of it.
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        # Who waits for an answer of the loop.
        self._asked: set[asyncio.Future[Any]] = set()
        self._here: asyncio.AbstractEventLoop | None = None
        self._stopped: StoreError | None = None
        # Where the job log ends, as far as is known; looking for it from the beginning would cost more with every job.
        self._next_job = 0
        if loop is not None:
            loop.on_commit(self._committed)

    async def submit(self, command: Command) -> Answer:
        """Hand a command over; see :meth:`headrace.adapter.Client.submit`.

        Raises :class:`RecordRefused`, which names the field, for a command that could not stand in a record.
        """
        bytes_max = self._value_bytes_max
        command = decode_command(at_the_door(command, bytes_max), value_bytes_max=bytes_max)
        if self._loop is None:
            self._next_job = append_jobs(self._store, [command], self._next_job)
            return Answer("accepted", "it is taken up when a worker starts")
        self._check()
        here = asyncio.get_running_loop()
        answered: asyncio.Future[Answer] = here.create_future()
        self._asked.add(answered)
        answered.add_done_callback(self._asked.discard)
        self._loop.submit(command, lambda answer: _tell(here, answered, answer))
        return await answered

    async def result(self, run_id: str, timeout_s: float | None = None) -> RunResult | None:
        """The final result; see :meth:`headrace.adapter.Client.result`."""
        deadline = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
        while True:
            with self._news_of(run_id) as news:
                record = await self._read(lambda: self._store.get(RESULT + run_prefix(run_id)))
                if record is not None:
                    return decode_result(record)
                if not await self._wait(news, deadline):
                    return None

    async def status(self, run_id: str) -> dict[str, Any] | None:
        """A run as people look at it."""
        return await self._read(lambda: self._status(run_id))

    def _status(self, run_id: str) -> dict[str, Any] | None:
        run = self._readers[partition_of(run_id, len(self._readers))].load(run_id)
        if run is None:
            return None
        if isinstance(run, RunState):
            return status_view(run, self._plans.get(run.blueprint_id, run.version), self._clock())
        record = self._store.get(RESULT + run_prefix(run_id))
        assert record is not None, f"run {run_id!r} has ended without a result"
        return result_view(record)

    async def runs(
        self, *, states: frozenset[str] | None = None, flow: str | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        """Runs that are known."""
        return await self._read(lambda: self._runs(states, flow, limit))

    def _runs(self, states: frozenset[str] | None, flow: str | None, limit: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for reader in self._readers:
            for run_id, record in reader.heads():
                row = run_row(run_id, record)
                if (states is None or row["status"] in states) and (flow is None or row["flow"] == flow):
                    found.append(row)
                    if len(found) >= limit:
                        return found
        return found

    async def events(self, run_id: str, *, follow: bool = False) -> AsyncIterator[dict[str, Any]]:
        """The history of a run; see :meth:`headrace.adapter.Client.events`."""
        prefix, ended = EVENTS + run_prefix(run_id), False
        # Rejections have keys behind all events, and may be older: each of the two is read on from where it ended.
        events, rejections = (prefix, prefix + REJECTED), (prefix + REJECTED, prefix + b"\xff" * 9)
        while True:
            with self._news_of(run_id) as news:
                records = await self._read(lambda spans=(events, rejections): self._event_records(*spans))  # type: ignore[misc]
                for key, record in records:
                    if key < events[1]:
                        events = (key + b"\0", events[1])
                    else:
                        rejections = (key + b"\0", rejections[1])
                    for event in history_of(record):
                        ended = ended or event["type"] in ("runCompleted", "runFailed", "runCancelled")
                        yield event
                if records:
                    continue
                if not follow or ended or not await self._wait(news, None):
                    return

    def _event_records(self, *spans: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
        """Some of the next records, of events first; none where there are no more for now."""
        found: list[tuple[bytes, bytes]] = []
        for lower, upper in spans:
            if not found:
                found += self._store.scan_between(lower, upper, EVENT_RECORDS_AT_ONCE)
        return found

    async def close(self) -> None:
        """Let go of the store."""
        self.stop(None)
        if self._loop is not None:
            self._loop.off_commit(self._committed)
        self._on_close()

    def stop(self, error: StoreError | None) -> None:
        """The worker has stopped: nobody waits any longer for what it will not tell."""
        self._stopped = error or StoreError("the worker has stopped, or this client was closed: ask another one")
        waiting = [future for futures in self._waiting.values() for future in futures]
        for future in (*waiting, *self._asked):
            if not future.done():
                future.set_exception(self._stopped)
                future.exception()  # Whoever waits sees it; nobody has to.
        self._waiting.clear()

    @property
    def works(self) -> bool:
        """Whether it was not closed, and its worker has not stopped."""
        return self._stopped is None

    # Waiting for commits.

    def _check(self) -> None:
        if self._stopped is not None:
            raise self._stopped

    @contextmanager
    def _news_of(self, run_id: str) -> Iterator[asyncio.Future[None]]:
        """A future that is done with the next commit about the run. Made before looking, so that none is missed."""
        self._here = asyncio.get_running_loop()
        future: asyncio.Future[None] = self._here.create_future()
        if self._loop is not None:
            self._waiting.setdefault(run_id, []).append(future)
        try:
            yield future
        finally:
            future.cancel()
            waiting = self._waiting.get(run_id, [])
            if future in waiting:
                waiting.remove(future)
                if not waiting:
                    del self._waiting[run_id]

    async def _wait(self, news: asyncio.Future[None], deadline: float | None) -> bool:
        """Wait for news; False when there will be none in time."""
        if self._loop is None:
            # Nobody in this process works, so nothing will change here.
            return False
        self._check()
        timeout = None if deadline is None else deadline - asyncio.get_running_loop().time()
        if timeout is not None and timeout <= 0:
            return False
        try:
            await asyncio.wait_for(news, timeout)
        except TimeoutError:
            return False
        return True

    def _committed(self, batch: Batch) -> None:
        """In the loop's thread: wake those who wait for one of these runs."""
        if self._waiting and self._here is not None:
            changed = [run_id for run_id in batch.runs if run_id in self._waiting]
            if changed:
                _call(self._here, lambda: self._wake(changed))

    def _wake(self, run_ids: list[str]) -> None:
        for run_id in run_ids:
            for future in self._waiting.pop(run_id, ()):
                if not future.done():
                    future.set_result(None)

    async def _read(self, question: Callable[[], _T]) -> _T:
        """Read the store: in the loop's thread where there is one, since a store is used by one thread."""
        if self._loop is None:
            return question()
        self._check()
        here = asyncio.get_running_loop()
        answered: asyncio.Future[_T] = here.create_future()
        self._asked.add(answered)
        answered.add_done_callback(self._asked.discard)

        def ask() -> None:
            try:
                answer = question()
            except Exception as error:  # noqa: BLE001 (whoever asked gets it)
                failure = error
                _call(here, lambda: _fail(answered, failure))
            else:
                _tell(here, answered, answer)

        self._loop.ask(ask)
        return await answered


def _call(here: asyncio.AbstractEventLoop, function: Callable[[], object]) -> None:
    # A loop may be closed at any moment by its own thread: then nobody waits, and the worker goes on.
    with suppress(RuntimeError):
        here.call_soon_threadsafe(function)


def _tell(here: asyncio.AbstractEventLoop, future: asyncio.Future[_T], value: _T) -> None:
    _call(here, lambda: _succeed(future, value))


def _succeed(future: asyncio.Future[_T], value: _T) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
