"""Reading parts of topics from one place to their present end, for those who look something up.

What is read is what was committed. A transaction is committed a moment before its records can be read: the broker writes
its marks into the partitions after it has answered. So the end is the high watermark, and a reader that stands at
the last stable offset before it waits for what is open there; but not for long, because the transaction of a worker that
died is open until it times out, and what it wrote has not happened.

Scans run in a few threads, each with a consumer that stays connected for the next one.
"""

from __future__ import annotations

__all__ = ["NOW", "Reading", "Scan", "TopicScans", "next_messages"]

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple, TypeVar

from confluent_kafka import KafkaError, TopicPartition
from confluent_kafka.admin import OffsetSpec

from headrace.errors import StoreError
from headrace_adapters.kafka.clients import Admin, Clients, Consumer
from headrace_adapters.kafka.connection import reader
from headrace_adapters.kafka.failures import store_error
from headrace_adapters.kafka.offsets import Place, ask_offsets
from headrace_adapters.kafka.passing import passes
from headrace_adapters.kafka.settings import KafkaSettings

_T = TypeVar("_T")

# A message as confluent-kafka gives it, and whether the scan may end with it.
Take = Callable[[Any], bool | None]

# A scan that gets nothing for as long as this has no broker any more.
STALLED_S: Final = 30.0

# How long it is waited for transactions that are open before the end. Those of workers that live take some ms.
OPEN_S: Final = 2.0

SCANS_AT_ONCE: Final = 3
POLL_S: Final = 0.1
RECORDS_AT_ONCE: Final = 2_000

# Clocks of workers differ, and a record is written a moment after the time that stands in it.
SLACK_MS: Final = 60_000

NOW: Final = -1
"""In place of a time: from the last stable offset on, so that everything is read that is committed from now on."""


class Scan(NamedTuple):
    """One partition of a topic, from records that are about as old as *since_ms* on (None: from the first one)."""

    topic: str
    partition: int
    since_ms: int | None = None


def next_messages(consumer: Consumer, most: int, timeout_s: float) -> list[Any]:
    """What has come; waits for the first of it. (To consume many at once waits for all of them, or for the whole time.)"""
    first = consumer.poll(timeout_s)
    return [] if first is None else [first, *consumer.consume(most - 1, 0)]


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
        """The offsets at which these begin. Blocks."""
        offsets = self._offsets({TopicPartition(*scan[:2]): _spec(scan.since_ms) for scan in scans})
        if any(offset < 0 for offset in offsets.values()):
            # Nothing is as new as that: such a scan begins at the end.
            latest = self._offsets({TopicPartition(*place): OffsetSpec.latest() for place in offsets})
            offsets = {place: offset if offset >= 0 else latest[place] for place, offset in offsets.items()}
        return [offsets[scan[:2]] for scan in scans]

    def begin(self, consumer: Consumer, scans: Sequence[Scan]) -> Reading:
        """Assign what these begin with, and find out where they end. Blocks."""
        begins = self.places(scans)
        ends = self._offsets({TopicPartition(*scan[:2]): OffsetSpec.latest() for scan in scans}, committed=False)
        consumer.assign([TopicPartition(*scan[:2], begin) for scan, begin in zip(scans, begins, strict=True)])
        begun = {scan[:2]: begin for scan, begin in zip(scans, begins, strict=True)}
        return Reading({place: end for place, end in ends.items() if begun[place] < end}, self._settings)

    def _offsets(self, specs: Mapping[Any, Any], *, committed: bool = True) -> dict[Place, int]:
        return ask_offsets(
            self._admin,
            self._settings,
            "asking how far topics go",
            specs,
            within_s=STALLED_S,
            committed=committed,
            give_up=lambda: self._closed,
        )

    def _read(self, scans: Sequence[Scan], take: Take) -> None:
        consumer = self._borrowed()
        try:
            reading = self.begin(consumer, scans)
            while not reading.is_done:
                messages = next_messages(consumer, RECORDS_AT_ONCE, POLL_S)
                if any(map(take, reading.look(messages))):
                    break
                if self._closed:
                    raise StoreError("this client was closed while it read a topic: ask another one")
            consumer.assign([])
        except BaseException:
            consumer.close()
            raise
        if self._closed:
            consumer.close()
        else:
            self._idle.put(consumer)

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


class Reading:
    """How far partitions are read, up to *ends*."""

    def __init__(self, ends: Mapping[Place, int], settings: KafkaSettings) -> None:
        self._ends = dict(ends)
        self._settings = settings
        self._moved_s = time.monotonic()
        # The partitions that were read up to an open transaction, and when that was seen.
        self._held_s: dict[Place, float] = {}

    @property
    def is_done(self) -> bool:
        """Whether all of them are read to their ends."""
        return not self._ends

    def look(self, messages: Sequence[Any]) -> list[Any]:
        """The records among what a consumer gave. Raises :class:`StoreError` for errors, and when nothing comes."""
        now_s = time.monotonic()
        records: list[Any] = []
        for message in messages:
            error, place = message.error(), (message.topic(), message.partition())
            if error is None:
                records.append(message)
                self._held_s.pop(place, None)
            elif error.code() == KafkaError._PARTITION_EOF:
                self._held_s[place] = now_s
            elif passes(error):
                continue
            else:
                raise store_error(f"reading {place[0]}", error, self._settings)
            self._moved_s = now_s
            end = self._ends.get(place)
            if end is not None and message.offset() >= (end - 1 if error is None else end):
                del self._ends[place]
        for place, held_s in list(self._held_s.items()):
            if now_s - held_s > OPEN_S:
                self._ends.pop(place, None)
        if self._ends and now_s - self._moved_s > STALLED_S:
            topics = ", ".join(sorted({topic for topic, _ in self._ends}))
            raise store_error(f"reading {topics}", KafkaError(KafkaError._TIMED_OUT), self._settings)
        return records


def _spec(since_ms: int | None) -> Any:
    if since_ms is None:
        return OffsetSpec.earliest()
    return OffsetSpec.latest() if since_ms == NOW else OffsetSpec.for_timestamp(max(0, since_ms - SLACK_MS))
