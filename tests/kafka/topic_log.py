"""All that the topics of an app hold, read as anybody could read it: a plain consumer of committed records, to the ends.

Nothing of the product is used here.
"""

from __future__ import annotations

__all__ = ["Record", "TopicLog", "ends_of", "read_log"]

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, IsolationLevel, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

# A transaction that a dead worker left open keeps readers of committed records from the end until it times out.
END_S = 60.0
REQUEST_S = 10.0

SHORT_NAMES = ("jobs", "context-changelog", "coordination-changelog", "events", "results", "blueprints", "dead-letters")


class Record(NamedTuple):
    """One record; *topic* is the short name."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    at_ms: int

    def __str__(self) -> str:
        value = self.value if self.value is None else self.value[:300]
        return f"{self.topic}[{self.partition}]@{self.offset} key={self.key!r} value={value!r}"


@dataclass
class TopicLog:
    """The records of each topic by its short name, in the order of each partition."""

    app: str
    partitions: int
    records: dict[str, list[Record]]
    committed: dict[int, int]
    """By partition of the jobs, the offset that the group has committed."""

    def of(self, topic: str) -> list[Record]:
        """The records of one topic."""
        return self.records.get(topic, [])


def ends_of(servers: str, places: list[TopicPartition]) -> dict[tuple[str, int], int]:
    """Where each place ends, open transactions included."""
    admin = AdminClient({"bootstrap.servers": servers})
    deadline = time.monotonic() + END_S
    while True:
        asked = admin.list_offsets(
            {TopicPartition(place.topic, place.partition): OffsetSpec.latest() for place in places},
            isolation_level=IsolationLevel.READ_UNCOMMITTED,
            request_timeout=REQUEST_S,
        )
        ends = {(place.topic, place.partition): future.result(REQUEST_S + 5).offset for place, future in asked.items()}
        # A partition without a leader is said to end at an offset that is none.
        if min(ends.values()) >= 0:
            return ends
        assert time.monotonic() < deadline, f"these have no leader after {END_S} s: {ends}"
        time.sleep(0.1)


def read_log(servers: str, app: str, names: Sequence[str] = SHORT_NAMES) -> TopicLog:
    """Everything that is committed in the topics of *app* now, or in some of them, and how far its group is."""
    admin = AdminClient({"bootstrap.servers": servers})
    topics = admin.list_topics(timeout=REQUEST_S).topics
    places = [
        TopicPartition(f"{app}.{name}", number, 0)
        for name in names
        if f"{app}.{name}" in topics
        for number in topics[f"{app}.{name}"].partitions
    ]
    records = _read(servers, app, places)
    numbers = sorted(topics[f"{app}.jobs"].partitions)
    return TopicLog(app, len(numbers), records, _committed(admin, app, numbers))


def _read(servers: str, app: str, places: list[TopicPartition]) -> dict[str, list[Record]]:
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": f"{app}.checker",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            # A broker holds back what it has not much of, and most partitions here are small.
            "fetch.wait.max.ms": 20,
            "fetch.message.max.bytes": 4 * 1024 * 1024,
            "fetch.max.bytes": 64 * 1024 * 1024,
            "receive.message.max.bytes": 128 * 1024 * 1024,
        }
    )
    records: dict[str, list[Record]] = {}
    try:
        # First of all: who leads what is new to a consumer is asked at once while it connects, and later on by and by.
        consumer.assign(places)
        left = {place: end for place, end in ends_of(servers, places).items() if end}
        deadline = time.monotonic() + END_S
        while left:
            assert time.monotonic() < deadline, f"after {END_S} s these are not read to their ends: {left}"
            for message in consumer.consume(10_000, 0.2):
                place = (message.topic(), message.partition())
                at = message.offset()
                if message.error() is None:
                    name = message.topic().removeprefix(f"{app}.")
                    record = Record(name, place[1], at, message.key(), message.value(), message.timestamp()[1])
                    records.setdefault(name, []).append(record)
                    at += 1
                else:
                    assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                if at >= left.get(place, at + 1):
                    del left[place]
    finally:
        consumer.close()
    return records


def _committed(admin: AdminClient, app: str, numbers: list[int]) -> dict[int, int]:
    places = [TopicPartition(f"{app}.jobs", number) for number in numbers]
    request = ConsumerGroupTopicPartitions(app, places)
    asked = admin.list_consumer_group_offsets([request], request_timeout=REQUEST_S)
    answer = asked[app].result(REQUEST_S + 5).topic_partitions
    return {place.partition: max(0, place.offset) for place in answer}
