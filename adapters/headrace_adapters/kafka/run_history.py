"""The history of a run, from the events topic: what is there, and where it is followed, what comes."""

from __future__ import annotations

__all__ = ["RunHistory"]

import asyncio
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from headrace.errors import StoreError
from headrace_adapters.base.run_views import history_of
from headrace_adapters.kafka.clients import Clients, Consumer
from headrace_adapters.kafka.connection import reader
from headrace_adapters.kafka.settings import KafkaSettings
from headrace_adapters.kafka.topic_scans import Reading, Scan, TopicScans, next_messages

_T = TypeVar("_T")

RECORDS_AT_ONCE: Final = 1_000

# Whoever leaves a history that is followed is rid of its thread after this time at most.
POLL_S: Final = 0.2

_ENDS: Final = frozenset(("runCompleted", "runFailed", "runCancelled"))


class RunHistory:
    """For one event loop. *topic* is that of the events."""

    def __init__(self, clients: Clients, settings: KafkaSettings, scans: TopicScans, topic: str) -> None:
        self._clients = clients
        self._settings = settings
        self._scans = scans
        self._topic = topic
        self._open: set[_Stream] = set()
        self._closed = False

    async def events(
        self, run_id: str, partition: int, since_ms: int | None, *, follow: bool
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The events of a run in sequence, each once, and then what was rejected.

        With *follow*, everything stands where it happened, and what comes is given until the run ends.
        """
        if self._closed:
            raise StoreError("this client was closed: ask another one")
        stream = _Stream(self._clients, self._settings, self._scans, Scan(self._topic, partition, since_ms), run_id)
        self._open.add(stream)
        try:
            await stream.call(stream.open)
            sequence, rejected = _Sequence(), []
            while not stream.is_at_end or (follow and not sequence.is_ended):
                for event in await stream.call(stream.more):
                    if event["seq"] is None and not follow:
                        rejected.append(event)
                    elif event["seq"] is None or sequence.goes_on_with(event):
                        yield event
            for event in rejected:
                yield event
        finally:
            self._open.discard(stream)
            stream.leave()

    async def close(self) -> None:
        """End what is followed."""
        self._closed = True
        for stream in list(self._open):
            stream.leave()
            await asyncio.to_thread(stream.join)


class _Sequence:
    """Tells which events are new. With the guarantee *at least once* a step may stand in the history twice."""

    def __init__(self) -> None:
        self._last = 0
        self.is_ended = False

    def goes_on_with(self, event: dict[str, Any]) -> bool:
        seq = event["seq"]
        if seq == 1 and self.is_ended:
            # The id was used again when nobody remembered the first run any more.
            self._last, self.is_ended = 0, False
        if seq <= self._last:
            return False
        self._last = seq
        self.is_ended = self.is_ended or event["type"] in _ENDS
        return True


class _Stream:
    """A consumer in a thread of its own; everything but :meth:`call`, :meth:`leave` and :meth:`join` runs there."""

    def __init__(self, clients: Clients, settings: KafkaSettings, scans: TopicScans, scan: Scan, run_id: str) -> None:
        self._clients = clients
        self._settings = settings
        self._scans = scans
        self._scan = scan
        self._key = run_id.encode()
        self._thread = ThreadPoolExecutor(1, "headrace-events")
        self._consumer: Consumer | None = None
        self._reading: Reading | None = None
        self._left = False

    async def call(self, function: Callable[[], _T]) -> _T:
        """Run *function* in the thread. Raises :class:`StoreError` when the client was closed meanwhile."""
        if self._left:
            raise StoreError("this client was closed while somebody followed a history: ask another one")
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    def open(self) -> None:
        self._consumer = self._clients.consumer(reader(self._settings, "earliest"))
        self._reading = self._scans.begin(self._consumer, [self._scan])

    @property
    def is_at_end(self) -> bool:
        """Whether everything is read that was there in the beginning."""
        return self._reading is not None and self._reading.is_done

    def more(self) -> list[dict[str, Any]]:
        """What comes next, if anything comes soon."""
        assert self._consumer is not None
        assert self._reading is not None
        records = self._reading.look(next_messages(self._consumer, RECORDS_AT_ONCE, POLL_S))
        return [
            event
            for record in records
            if record.key() == self._key and record.value() is not None
            for event in history_of(record.value())
        ]

    def leave(self) -> None:
        """Let go of the consumer, as soon as the thread is done with it."""
        if not self._left:
            self._left = True
            self._thread.submit(self._close)
            self._thread.shutdown(wait=False)

    def join(self) -> None:
        """Wait until the thread has ended."""
        self._thread.shutdown(wait=True)

    def _close(self) -> None:
        if self._consumer is not None:
            self._consumer.close()
