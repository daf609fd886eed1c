"""A worker's answers to those who ask over HTTP: what it knows of the runs in the partitions that it owns.

The state is read in the worker's loop, between two steps, and only what is committed; answers to commands are told by
the loop after each commit and kept for those who ask a little later.
"""

from __future__ import annotations

__all__ = ["OwnerService"]

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from contextlib import suppress
from threading import Lock
from typing import Any, Final, Protocol, TypeVar

from headrace.adapter import Answer
from headrace.batch import Batch
from headrace.errors import StoreError
from headrace.plans import Plans
from headrace.ports import Ended
from headrace.state import RunState
from headrace.view import status_view
from headrace_adapters.base.run_views import run_row
from headrace_adapters.http.questions import Health, NotOwned, OwnedRuns, Unanswered

_T = TypeVar("_T")

ANSWERS_KEPT: Final = 10_000

# A loop that waits for a broker answers when that is over; who asked has gone to the topics by then.
ANSWER_S: Final = 3.0

# Nothing that a loop does takes as long as this, unless it hangs.
STALLED_S: Final = 60.0
PROBE_S: Final = 1.0


class Loop(Protocol):
    """What is used of a worker's loop (``headrace_adapters.base.WorkerLoop``)."""

    @property
    def partitions(self) -> Mapping[int, Any]: ...
    @property
    def stopped(self) -> StoreError | None: ...
    def ask(self, question: Callable[[], None]) -> None: ...
    def on_commit(self, callback: Callable[[Batch], None]) -> None: ...
    def off_commit(self, callback: Callable[[Batch], None]) -> None: ...


class CommittedRuns(Protocol):
    """The committed runs of one partition (``headrace_adapters.local.reader.LocalReader``)."""

    def load(self, run_id: str) -> RunState | Ended | None: ...
    def head(self, run_id: str) -> bytes | None: ...
    def heads(self) -> Iterator[tuple[str, bytes]]: ...


class RunsOfPartitions(Protocol):
    """What is used of a carrier."""

    def partition_of(self, run_id: str) -> int: ...
    def reader(self, partition: int) -> CommittedRuns: ...


class OwnerService:
    """Implements ``headrace_adapters.http.OwnerQuestions`` on a worker's loop.

    *restoring* names the partitions that were assigned and are not worked on yet.
    """

    def __init__(
        self,
        loop: Loop,
        carrier: RunsOfPartitions,
        plans: Plans,
        clock: Callable[[], int],
        *,
        restoring: Callable[[], Collection[int]] = tuple,
        answers_kept: int = ANSWERS_KEPT,
        answer_s: float = ANSWER_S,
    ) -> None:
        self._loop = loop
        self._carrier = carrier
        self._plans = plans
        self._clock = clock
        self._restoring = restoring
        self._answer_s = answer_s
        self._replies = _Replies(answers_kept)
        self._answered_s = time.monotonic()
        self._probing = False
        self._closed = False
        loop.on_commit(self._committed)

    def close(self) -> None:
        """Answer no more, and wake those who wait. Called before the server is stopped."""
        self._closed = True
        self._loop.off_commit(self._committed)
        self._replies.close()

    # What is asked, in the event loop of the server.

    async def status(self, run_id: str) -> dict[str, Any] | None:
        """A run as people look at it; of one that has ended how and when it did."""
        return await self._ask(lambda: self._status(run_id))

    async def runs(self, states: frozenset[str] | None, flow: str | None, limit: int) -> OwnedRuns:
        """Runs of the partitions that this worker has."""
        return await self._ask(lambda: self._runs(states, flow, limit))

    async def answers(self, request_ids: Sequence[str], wait_s: float) -> dict[str, Answer]:
        """The answers that are known to these requests; waits for the first one."""
        return await self._replies.to(request_ids, wait_s)

    async def health(self) -> Health:
        """Whether the loop goes round. A broker that is down does not make a worker ill, and a restart would not help."""
        details: dict[str, Any] = {"partitions": len(self._loop.partitions)}
        if self._closed or self._loop.stopped is not None:
            return Health(False, {**details, "reason": "the worker has stopped"})
        if not self._probing:
            # One question at a time is enough to know, and a loop that hangs is not buried under them.
            self._probing = True
            with suppress(Unanswered):
                await self._ask(self._probed, PROBE_S)
        silent_s = time.monotonic() - self._answered_s
        details["lastStepSecondsAgo"] = round(silent_s, 1)
        if silent_s > STALLED_S:
            return Health(False, {**details, "reason": "the loop of the worker hangs"})
        return Health(True, details)

    async def readiness(self) -> Health:
        """Whether all partitions that were assigned are worked on."""
        restoring = sorted(self._restoring())
        details = {"partitions": sorted(self._loop.partitions), "restoring": restoring}
        return Health(not self._closed and self._loop.stopped is None and not restoring, details)

    # In the worker's loop.

    def _probed(self) -> None:
        self._probing = False
        self._answered_s = time.monotonic()

    def _status(self, run_id: str) -> dict[str, Any] | None:
        number = self._carrier.partition_of(run_id)
        if number not in self._loop.partitions:
            raise NotOwned(f"partition {number}, which run {run_id!r} belongs to, is not this worker's")
        reader = self._carrier.reader(number)
        run = reader.load(run_id)
        if isinstance(run, RunState):
            return status_view(run, self._plans.get(run.blueprint_id, run.version), self._clock())
        marker = None if run is None else reader.head(run_id)
        return None if marker is None else run_row(run_id, marker)

    def _runs(self, states: Container[str] | None, flow: str | None, limit: int) -> OwnedRuns:
        owned = list(self._loop.partitions)
        found: list[dict[str, Any]] = []
        for number in owned:
            for run_id, record in self._carrier.reader(number).heads():
                row = run_row(run_id, record)
                if (states is None or row["status"] in states) and (flow is None or row["flow"] == flow):
                    found.append(row)
                    if len(found) >= limit:
                        return OwnedRuns(owned, found)
        return OwnedRuns(owned, found)

    def _committed(self, batch: Batch) -> None:
        if batch.replies:
            self._replies.add({reply.request_id: Answer(reply.outcome, reply.reason) for reply in batch.replies})

    async def _ask(self, question: Callable[[], _T], timeout_s: float | None = None) -> _T:
        if self._closed:
            raise Unanswered("this worker is stopping")
        here = asyncio.get_running_loop()
        answered: asyncio.Future[_T] = here.create_future()

        def ask() -> None:
            try:
                answer = question()
            except Exception as error:  # noqa: BLE001 (whoever asked gets it)
                failure = error
                _call(here, lambda: None if answered.done() else answered.set_exception(failure))
            else:
                _call(here, lambda: None if answered.done() else answered.set_result(answer))

        self._loop.ask(ask)
        try:
            async with asyncio.timeout(timeout_s or self._answer_s):
                return await answered
        except TimeoutError:
            raise Unanswered("the worker is busy, or waits for a broker") from None


class _Replies:
    """The last answers by request id, told by one thread and asked for in an event loop of another."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._lock = Lock()
        self._answers: OrderedDict[str, Answer] = OrderedDict()
        self._waiting: dict[str, set[_Waiter]] = {}
        self._closed = False

    def add(self, answers: Mapping[str, Answer]) -> None:
        """In the loop's thread: keep these, and wake those who wait for one of them."""
        with self._lock:
            self._answers |= answers
            while len(self._answers) > self._kept:
                self._answers.popitem(last=False)
            woken: set[_Waiter] = set()
            if self._waiting:
                for request_id in answers:
                    woken |= self._waiting.get(request_id, set())
        for waiter in woken:
            waiter.wake()

    async def to(self, request_ids: Sequence[str], wait_s: float) -> dict[str, Answer]:
        """What is known to these; waits for the first one."""
        waiter = _Waiter(asyncio.get_running_loop())
        with self._lock:
            found = self._known(request_ids)
            if found or wait_s <= 0 or self._closed:
                return found
            for request_id in request_ids:
                self._waiting.setdefault(request_id, set()).add(waiter)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await waiter.woken.wait()
        finally:
            with self._lock:
                for request_id in request_ids:
                    others = self._waiting.get(request_id)
                    if others is not None:
                        others.discard(waiter)
                        if not others:
                            del self._waiting[request_id]
                found = self._known(request_ids)
        return found

    def _known(self, request_ids: Sequence[str]) -> dict[str, Answer]:
        return {request_id: self._answers[request_id] for request_id in request_ids if request_id in self._answers}

    def close(self) -> None:
        with self._lock:
            self._closed = True
            woken = {waiter for waiters in self._waiting.values() for waiter in waiters}
        for waiter in woken:
            waiter.wake()


class _Waiter:
    """One who waits in an event loop."""

    __slots__ = ("_here", "woken")

    def __init__(self, here: asyncio.AbstractEventLoop) -> None:
        self._here = here
        self.woken = asyncio.Event()

    def wake(self) -> None:
        _call(self._here, self.woken.set)


def _call(here: asyncio.AbstractEventLoop, function: Callable[[], object]) -> None:
    # The server's loop may be closed at any moment: then nobody waits, and the worker goes on.
    with suppress(RuntimeError):
        here.call_soon_threadsafe(function)
