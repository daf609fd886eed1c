"""Reading parts of topics from one place to their present end, for those who look something up.

What is read is what was committed. The end is the last stable offset, so a transaction that is open, or was left open by
a worker that died, holds nobody up: what it wrote has not happened yet.

Scans run in a few threads, each with a consumer that stays connected for the next one.
"""

from __future__ import annotations

__all__ = ["NOW", "Scan", "TopicScans"]

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple, TypeVar

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from headrace.errors import StoreError
from headrace_adapters.kafka.clients import Admin, Clients, Consumer
from headrace_adapters.kafka.connection import reader
from headrace_adapters.kafka.failures import store_error
from headrace_adapters.kafka.settings import KafkaSettings

_T = TypeVar("_T")

# A message as confluent-kafka gives it, and whether the scan may end with it.
Take = Callable[[Any], bool | None]

REQUEST_S: Final = 10.0

# A scan that gets nothing for as long as this has no broker any more.
STALLED_S: Final = 30.0

SCANS_AT_ONCE: Final = 3
RECORDS_AT_ONCE: Final = 2_000

# Clocks of workers differ, and a record is written a moment after the time that stands in it.
SLACK_MS: Final = 60_000

NOW: Final = -1
"""In place of a time: where a topic ends at present."""


class Scan(NamedTuple):
    """One partition of a topic, from records that are about as old as *since_ms* on (None: from the first one)."""

    topic: str
    partition: int
    since_ms: int | None = None


class TopicScans:
    """For one event loop; *admin* is asked in threads too."""

    def __init__(self, clients: Clients, admin: Admin, settings: KafkaSettings) -> None:
        self._clients = clients
        self._admin = admin
        self._settings = settings
        self._threads = ThreadPoolExecutor(SCANS_AT_ONCE, "headrace-scan")
        self._idle: SimpleQueue[Consumer] = SimpleQueue()
        self._closed = False

    async def read(self, scans: Sequence[Scan], take: Take) -> None:
        """Call *take* with every record, in a thread; those of one partition come in order.

        Ends where the partitions end now, or as soon as *take* gives True. Raises :class:`StoreError`.
        """
        await self.run(lambda: self._read(scans, take))

    async def run(self, function: Callable[[], _T]) -> _T:
        """Call something that blocks in one of the threads."""
        if self._closed:
            raise StoreError("this client was closed: ask another one")
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)

    def places(self, scans: Sequence[Scan]) -> list[int]:
        """The offsets at which these begin; with :data:`NOW` as their time, where they end. Blocks."""
        specs = {TopicPartition(scan.topic, scan.partition): _spec(scan.since_ms) for scan in scans}
        offsets = self._offsets(specs)
        places = [offsets[scan.topic, scan.partition] for scan in scans]
        if any(place < 0 for place in places):
            # Nothing is as new as that: such a scan begins at the end.
            ends = self._offsets({TopicPartition(scan.topic, scan.partition): OffsetSpec.latest() for scan in scans})
            places = [
                place if place >= 0 else ends[scan.topic, scan.partition] for scan, place in zip(scans, places, strict=True)
            ]
        return places

    def _offsets(self, specs: Mapping[Any, OffsetSpec]) -> dict[tuple[str, int], int]:
        doing = "asking how far topics go"
        try:
            asked = self._admin.list_offsets(specs, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=REQUEST_S)
            return {(place.topic, place.partition): _offset(future) for place, future in asked.items()}
        except KafkaException as error:
            raise store_error(doing, error, self._settings) from error
        except TimeoutError:
            raise store_error(doing, KafkaError(KafkaError._TIMED_OUT), self._settings) from None

    def _read(self, scans: Sequence[Scan], take: Take) -> None:
        begins = self.places(scans)
        ends = self.places([scan._replace(since_ms=NOW) for scan in scans])
        open_ends = {
            (scan.topic, scan.partition): end for scan, begin, end in zip(scans, begins, ends, strict=True) if begin < end
        }
        if not open_ends:
            return
        consumer = self._borrowed()
        try:
            consumer.assign(
                [
                    TopicPartition(scan.topic, scan.partition, begin)
                    for scan, begin in zip(scans, begins, strict=True)
                    if (scan.topic, scan.partition) in open_ends
                ]
            )
            self._read_to(consumer, open_ends, take)
            consumer.assign([])
        except BaseException:
            consumer.close()
            raise
        if self._closed:
            consumer.close()
        else:
            self._idle.put(consumer)

    def _read_to(self, consumer: Consumer, open_ends: dict[tuple[str, int], int], take: Take) -> None:
        moved_s = time.monotonic()
        while open_ends:
            messages = consumer.consume(RECORDS_AT_ONCE, 0.5)
            if self._closed:
                raise StoreError("this client was closed while it read a topic: ask another one")
            if messages:
                moved_s = time.monotonic()
            elif time.monotonic() - moved_s > STALLED_S:
                topics = ", ".join(sorted({topic for topic, _ in open_ends}))
                raise store_error(f"reading {topics}", KafkaError(KafkaError._TIMED_OUT), self._settings)
            for message in messages:
                place = (message.topic(), message.partition())
                error = message.error()
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    if error.retriable() or error.code() in _PASSING:
                        continue
                    raise store_error(f"reading {place[0]}", error, self._settings)
                end = open_ends.get(place)
                if end is None:
                    continue
                if error is None and message.offset() < end and take(message):
                    return
                if message.offset() >= (end - 1 if error is None else end):
                    del open_ends[place]

    def _borrowed(self) -> Consumer:
        try:
            return self._idle.get_nowait()
        except Empty:
            return self._clients.consumer(reader(self._settings, "earliest"))

    async def close(self) -> None:
        """End what is read, and let go of the consumers."""
        self._closed = True
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
        while not self._idle.empty():
            self._idle.get().close()


# The client goes on by itself after these.
_PASSING: Final = frozenset((KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._TIMED_OUT))


def _spec(since_ms: int | None) -> OffsetSpec:
    if since_ms is None:
        return OffsetSpec.earliest()
    return OffsetSpec.latest() if since_ms == NOW else OffsetSpec.for_timestamp(max(0, since_ms - SLACK_MS))


def _offset(future: Future[Any]) -> int:
    offset: int = future.result(REQUEST_S + 1).offset
    return offset
