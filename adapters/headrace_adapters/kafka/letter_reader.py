"""Reads the dead letters topic of an app, in order of each partition, up to its present end.

The end is the high watermark. A transaction that is open before it keeps what lies behind it from a reader of committed
records: whoever only looks does not wait long for it. Whoever decides by what he has read waits until it has ended,
which takes at most its time-out and the time that brokers take to see that.
"""

from __future__ import annotations

__all__ = ["LetterReader"]

import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from confluent_kafka import KafkaError, TopicPartition
from confluent_kafka.admin import OffsetSpec

from headrace.errors import StoreError
from headrace_adapters.base.dead_letters import LetterPlace
from headrace_adapters.kafka.clients import Clients
from headrace_adapters.kafka.connection import admin, connect, reader
from headrace_adapters.kafka.failures import store_error
from headrace_adapters.kafka.offsets import ask_offsets
from headrace_adapters.kafka.passing import passes
from headrace_adapters.kafka.settings import KafkaSettings
from headrace_adapters.kafka.topic_scans import next_messages

POLL_S: Final = 0.1
RECORDS_AT_ONCE: Final = 1_000

# How long it is waited where nothing comes: for open transactions by those who look; for brokers; and for brokers to end
# a transaction that is over its time, which they look after every ten seconds.
LOOK_S: Final = 2.0
SILENT_S: Final = 30.0
ENDING_S: Final = 15.0

# Clocks of workers differ, and a letter is written a moment after the time that stands in it.
SLACK_MS: Final = 60_000


class LetterReader:
    """One reading at a time, by one thread."""

    def __init__(self, clients: Clients, settings: KafkaSettings, topic: str, partitions: int) -> None:
        self._clients = clients
        self._settings = settings
        self._topic = topic
        self._partitions = range(partitions)
        self._admin = clients.admin(admin(settings))
        connect(self._admin, topic)
        self._consumer: Any = None

    def read(
        self,
        *,
        since_ms: int | None = None,
        begins: Mapping[int, int] | None = None,
        strictly: bool = False,
        while_left: Collection[LetterPlace] | None = None,
    ) -> Iterator[tuple[LetterPlace, bytes | None]]:
        """Records with their places: of all partitions from about *since_ms* on, or of those in *begins* from there on.

        *strictly*: to the very end, or a :class:`StoreError`. Ends early when *while_left* is empty.
        """
        first = self._offsets(OffsetSpec.earliest(), self._partitions if begins is None else begins)
        ends = self._offsets(OffsetSpec.latest(), first)
        starts = dict(first)
        if begins is not None:
            starts = {number: max(begins[number], offset) for number, offset in first.items()}
        elif since_ms is not None:
            found = self._offsets(OffsetSpec.for_timestamp(max(0, since_ms - SLACK_MS)), first)
            # Nothing is as new as that: then there is nothing to read.
            starts = {number: offset if offset >= 0 else ends[number] for number, offset in found.items()}
        left = {number: end for number, end in ends.items() if starts[number] < end}
        if not left:
            return
        if self._consumer is None:
            self._consumer = self._clients.consumer(reader(self._settings, "earliest"))
        self._consumer.assign([TopicPartition(self._topic, number, starts[number]) for number in left])
        try:
            for record in self._records(left, strictly=strictly):
                yield record
                if while_left is not None and not while_left:
                    return
        finally:
            self._consumer.assign([])

    def _records(self, left: dict[int, int], *, strictly: bool) -> Iterator[tuple[LetterPlace, bytes | None]]:
        """Records until every partition in *left* is read to its end."""
        ending_s = self._settings.transaction_timeout_ms / 1_000 + ENDING_S if strictly else LOOK_S
        moved_s = time.monotonic()
        held: set[int] = set()
        while left:
            messages = next_messages(self._consumer, RECORDS_AT_ONCE, POLL_S)
            for message in messages:
                error, number, at = message.error(), message.partition(), message.offset()
                if error is None:
                    held.discard(number)
                    yield LetterPlace(number, at), message.value()
                    at += 1
                elif error.code() == KafkaError._PARTITION_EOF:
                    held.add(number)
                elif passes(error):
                    continue
                else:
                    raise store_error(f"reading {self._topic}", error, self._settings)
                if at >= left.get(number, at + 1):
                    del left[number]
            now_s = time.monotonic()
            if messages:
                moved_s = now_s
            elif held >= left.keys() and now_s - moved_s > ending_s:
                if strictly:
                    raise StoreError(
                        f"a transaction that is open in {self._topic} has not ended for {ending_s:.0f} s, and what lies "
                        "behind it cannot be read: see that the brokers are well, and try again"
                    )
                return
            elif now_s - moved_s > max(SILENT_S, ending_s):
                raise store_error(f"reading {self._topic}", KafkaError(KafkaError._TIMED_OUT), self._settings)

    def _offsets(self, spec: OffsetSpec, numbers: Collection[int]) -> dict[int, int]:
        specs = {TopicPartition(self._topic, number): spec for number in numbers}
        doing = f"asking how far {self._topic} goes"
        found = ask_offsets(self._admin, self._settings, doing, specs, within_s=SILENT_S)
        return {number: offset for (_, number), offset in found.items()}

    def close(self) -> None:
        """Let go of the consumer."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None
