"""A Kafka in memory, for unit tests of what reads and writes topics as a client: offsets, transactions, ends, reports.

It stands behind the port ``headrace_adapters.kafka.clients``. What it proves is what the code here does with what a broker
gives; that a broker gives it is for the tests on a real one to prove.
"""

from __future__ import annotations

__all__ = ["MemoryKafka", "Message"]

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, NamedTuple

from confluent_kafka import (
    OFFSET_INVALID,
    ConsumerGroupState,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicPartition,
)

Place = tuple[str, int]
OPEN, COMMITTED, ABORTED = "open", "committed", "aborted"


class Record:
    """One record of a partition. Those of a transaction are open until it ends."""

    def __init__(self, key: bytes | None, value: bytes | None, at_ms: int, transaction: str) -> None:
        self.key = key
        self.value = value
        self.at_ms = at_ms
        self.transaction = transaction
        self.state = OPEN if transaction else COMMITTED


class Message(NamedTuple):
    """What a consumer gives."""

    place: Place
    at: int
    record: Record | None = None
    problem: KafkaError | None = None

    def topic(self) -> str:
        return self.place[0]

    def partition(self) -> int:
        return self.place[1]

    def offset(self) -> int:
        return self.at

    def error(self) -> KafkaError | None:
        return self.problem

    def key(self) -> bytes | None:
        assert self.record is not None
        return self.record.key

    def value(self) -> bytes | None:
        assert self.record is not None
        return self.record.value


class MemoryKafka:
    """The cluster, and the factory of its clients."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.logs: dict[Place, list[Record]] = {}
        # Who is in the group: (client id, places).
        self.members: list[tuple[str, list[Place]]] = []
        self.group_state = ConsumerGroupState.STABLE
        self.described = 0
        # Consumers and producers that are open.
        self.open: list[Any] = []
        self.made = 0
        # Errors that calls of the admin client, or consumers, give once each.
        self.admin_errors: deque[KafkaError] = deque()
        self.consumer_errors: deque[KafkaError] = deque()
        # Of the next answers about offsets, whether nobody leads the partition when they are given.
        self.leaderless: dict[Place, deque[bool]] = {}
        # Whether the brokers acknowledge, what they refuse by key, and how much fits into a producer.
        self.acknowledges = True
        self.refused: dict[bytes, int] = {}
        self.queue_max = 1_000_000

    # What a test does.

    def append(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, at_ms: int = 0, transaction: str = ""
    ) -> None:
        """One more record, committed at once where it belongs to no transaction."""
        with self.changed:
            self._log((topic, partition)).append(Record(key, value, at_ms, transaction))
            self.changed.notify_all()

    def end(self, transaction: str, state: str = COMMITTED) -> None:
        """Commit or abort; that leaves a mark in every partition that it wrote."""
        with self.changed:
            for log in self.logs.values():
                mine = [record for record in log if record.transaction == transaction and record.state == OPEN]
                for record in mine:
                    record.state = state
                if mine:
                    mark = Record(None, None, mine[-1].at_ms, "mark")
                    mark.state = ABORTED
                    log.append(mark)
            self.changed.notify_all()

    def values(self, topic: str, partition: int) -> list[bytes | None]:
        """What stands in a partition."""
        with self.changed:
            return [record.value for record in self._log((topic, partition))]

    # What clients see.

    def _log(self, place: Place) -> list[Record]:
        return self.logs.setdefault(place, [])

    def stable_end(self, place: Place) -> int:
        log = self._log(place)
        return next((at for at, record in enumerate(log) if record.state == OPEN), len(log))

    def consumer(self, configuration: Mapping[str, Any]) -> MemoryConsumer:
        assert configuration["isolation.level"] == "read_committed"
        self.made += 1
        made = MemoryConsumer(self)
        self.open.append(made)
        return made

    def producer(self, configuration: Mapping[str, Any]) -> MemoryProducer:
        assert configuration["acks"] == "all"
        made = MemoryProducer(self)
        self.open.append(made)
        return made

    def admin(self, configuration: Mapping[str, Any]) -> MemoryAdmin:
        return MemoryAdmin(self)


class MemoryConsumer:
    """Reads what is committed, and tells of ends."""

    def __init__(self, kafka: MemoryKafka) -> None:
        self._kafka = kafka
        self._at: dict[Place, int] = {}
        self._told_end: dict[Place, int] = {}
        self._next = 0

    def assign(self, partitions: list[Any]) -> None:
        self._at = {(it.topic, it.partition): max(0, it.offset) for it in partitions}
        self._told_end = {}

    def poll(self, timeout: float) -> Message | None:
        deadline_s = time.monotonic() + timeout
        with self._kafka.changed:
            while True:
                found = self._take()
                left_s = deadline_s - time.monotonic()
                if found is not None or left_s <= 0:
                    return found
                self._kafka.changed.wait(left_s)

    def consume(self, num_messages: int, timeout: float) -> list[Message]:
        messages: list[Message] = []
        with self._kafka.changed:
            while len(messages) < num_messages and (message := self._take()) is not None:
                messages.append(message)
        return messages

    def _take(self) -> Message | None:
        if self._kafka.consumer_errors:
            place = next(iter(self._at), ("", 0))
            return Message(place, -1, problem=self._kafka.consumer_errors.popleft())
        for place, start in self._at.items():
            end, log, at = self._kafka.stable_end(place), self._kafka._log(place), start
            while at < end and log[at].state == ABORTED:
                at += 1
            self._at[place] = at
            if at < end:
                self._at[place] = at + 1
                return Message(place, at, log[at])
            if self._told_end.get(place) != at:
                self._told_end[place] = at
                return Message(place, at, problem=KafkaError(KafkaError._PARTITION_EOF))
        return None

    def close(self) -> None:
        self._kafka.open.remove(self)


class MemoryProducer:
    """Takes records, and reports when somebody polls."""

    def __init__(self, kafka: MemoryKafka) -> None:
        self._kafka = kafka
        self._queue: deque[tuple[Place, bytes | None, bytes | None, Callable[..., None] | None]] = deque()
        self._purged = False

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        on_delivery: Callable[..., None] | None = None,
    ) -> None:
        if len(self._queue) >= self._kafka.queue_max:
            raise BufferError("Local: Queue full")
        if key is not None and self._kafka.refused.get(key) == KafkaError.MSG_SIZE_TOO_LARGE:
            raise KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))
        self._queue.append(((topic, partition), key, value, on_delivery))

    def poll(self, timeout: float) -> int:
        deadline_s = time.monotonic() + timeout
        while not self._queue or not (self._kafka.acknowledges or self._purged):
            if time.monotonic() >= deadline_s:
                return 0
            time.sleep(0.001)
        number = len(self._queue)
        for _ in range(number):
            place, key, value, on_delivery = self._queue.popleft()
            code = KafkaError._PURGE_QUEUE if self._purged else self._kafka.refused.get(key or b"")
            if code is None:
                self._kafka.append(*place, key, value)
            if on_delivery is not None:
                record = Record(key, value, 0, "")
                on_delivery(None if code is None else KafkaError(code), Message(place, 0, record))
        return number

    def flush(self, timeout: float) -> int:
        self.poll(min(timeout, 0.05))
        if not self._queue and self in self._kafka.open:
            self._kafka.open.remove(self)
        return len(self._queue)

    def purge(self) -> None:
        self._purged = True


class MemoryAdmin:
    """Answers at once, with what is so or with an error that a test has prepared."""

    def __init__(self, kafka: MemoryKafka) -> None:
        self._kafka = kafka

    def list_topics(self, topic: str, timeout: float) -> None:
        """Nothing: nobody leads anything."""

    def list_offsets(self, partitions: Mapping[Any, Any], **options: Any) -> dict[Any, Future[Any]]:
        committed = options["isolation_level"] == IsolationLevel.READ_COMMITTED
        with self._kafka.changed:
            return {
                it: self._future(lambda it=it, spec=spec: SimpleNamespace(offset=self._offset(it, spec._value, committed)))
                for it, spec in partitions.items()
            }

    def _offset(self, it: Any, wanted: int, committed: bool) -> int:
        place = (it.topic, it.partition)
        log = self._kafka._log(place)
        leaderless = self._kafka.leaderless.get(place)
        if leaderless and leaderless.popleft():
            return OFFSET_INVALID
        if wanted == -2:
            return 0
        if wanted == -1:
            return self._kafka.stable_end(place) if committed else len(log)
        return next((at for at, record in enumerate(log) if record.at_ms >= wanted), -1)

    def describe_consumer_groups(self, groups: Sequence[str], **options: Any) -> dict[str, Future[Any]]:
        self._kafka.described += 1
        members = [
            SimpleNamespace(
                client_id=client_id,
                assignment=SimpleNamespace(topic_partitions=[TopicPartition(*place) for place in places]),
            )
            for client_id, places in self._kafka.members
        ]
        described = SimpleNamespace(members=members, state=self._kafka.group_state)
        return {groups[0]: self._future(lambda: described)}

    def _future(self, answer: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        if self._kafka.admin_errors:
            future.set_exception(KafkaException(self._kafka.admin_errors.popleft()))
        else:
            future.set_result(answer())
        return future
