"""Clients of Kafka that do what a test says, and remember what was asked of them; behind the port ``clients``.

Unlike ``memory_kafka`` there is no broker behind them: every answer, error and callback is the test's.
"""

from __future__ import annotations

__all__ = [
    "Record",
    "ScriptedAdmin",
    "ScriptedClients",
    "ScriptedConsumer",
    "ScriptedProducer",
    "failure",
]

from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, NamedTuple

from confluent_kafka import ConsumerGroupState, KafkaError, KafkaException, TopicPartition


def failure(code: int, **flags: bool) -> KafkaException:
    """What a call raises. *flags*: ``fatal``, ``retriable``, ``txn_requires_abort``."""
    return KafkaException(KafkaError(code, **flags))


class Record(NamedTuple):
    """What a consumer gives: a record, or where *problem* is set what is wrong."""

    topic_name: str | None = "app.jobs"
    number: int = 0
    at: int = 0
    record_key: bytes | None = b"r"
    record_value: bytes | None = None
    problem: KafkaError | None = None

    def topic(self) -> str | None:
        return self.topic_name

    def partition(self) -> int:
        return self.number

    def offset(self) -> int:
        return self.at

    def error(self) -> KafkaError | None:
        return self.problem

    def key(self) -> bytes | None:
        return None if self.problem is not None else self.record_key

    def value(self) -> bytes | None:
        return None if self.problem is not None else self.record_value


class Scripted:
    """*script* has by the name of a method what its next calls raise; None is a call that goes well."""

    def __init__(self, configuration: Mapping[str, Any]) -> None:
        self.configuration = configuration
        self.script: defaultdict[str, deque[Exception | None]] = defaultdict(deque)
        self.calls: list[tuple[Any, ...]] = []

    def fails(self, name: str, *problems: Exception | None) -> None:
        """Have the next calls of a method raise these."""
        self.script[name].extend(problems)

    def called(self, name: str) -> list[tuple[Any, ...]]:
        """The arguments of all calls of a method."""
        return [call[1:] for call in self.calls if call[0] == name]

    def _call(self, name: str, *arguments: Any) -> None:
        self.calls.append((name, *arguments))
        if self.script[name] and (problem := self.script[name].popleft()) is not None:
            raise problem


class ScriptedProducer(Scripted):
    """Takes records, up to *room* of them, and reports them at the next poll, flush or commit that goes well."""

    def __init__(self, configuration: Mapping[str, Any]) -> None:
        super().__init__(configuration)
        self.room = 1_000_000
        self.ends: defaultdict[tuple[str, int], int] = defaultdict(int)
        """Where the next record of a partition will stand."""
        self.written: list[tuple[str, int, bytes | None, bytes | None]] = []
        self.refused: dict[bytes, int] = {}
        """By value, the error of a record that is not taken."""
        self.hangs = False
        """Whether nothing is reported."""
        self.watched = 0
        """How many records were to be reported."""
        self.waiting: deque[tuple[str, int, bytes | None, bytes | None, Callable[..., None] | None]] = deque()

    def produce(self, topic: str, value: bytes | None, key: bytes | None, partition: int, **others: Any) -> None:
        self._call("produce", topic, value, key, partition)
        if len(self.waiting) >= self.room:
            raise BufferError("Local: Queue full")
        self.watched += "on_delivery" in others
        self.waiting.append((topic, partition, key, value, others.get("on_delivery")))

    def poll(self, timeout: float) -> int:
        self._call("poll", timeout)
        return self._report()

    def _report(self) -> int:
        reported = 0
        while self.waiting and not self.hangs:
            topic, number, key, value, on_delivery = self.waiting.popleft()
            reported += 1
            code = self.refused.get(value or b"")
            if code is None:
                self.written.append((topic, number, key, value))
                at = self.ends[topic, number]
                self.ends[topic, number] += 1
            if on_delivery is not None:
                error = None if code is None else KafkaError(code)
                on_delivery(error, Record(topic, number, -1 if code is not None else at, key, value))
        return reported

    def flush(self, timeout: float) -> int:
        self._call("flush", timeout)
        self._report()
        return len(self.waiting)

    def purge(self) -> None:
        self._call("purge")
        self.waiting.clear()

    def init_transactions(self, timeout: float) -> None:
        self._call("init_transactions", timeout)

    def begin_transaction(self) -> None:
        self._call("begin_transaction")

    def send_offsets_to_transaction(self, positions: list[Any], group_metadata: Any, timeout: float) -> None:
        self._call("send_offsets_to_transaction", positions, group_metadata)

    def commit_transaction(self, timeout: float) -> None:
        self._call("commit_transaction", timeout)
        self._report()

    def abort_transaction(self, timeout: float) -> None:
        self._call("abort_transaction", timeout)
        self.waiting.clear()


class ScriptedConsumer(Scripted):
    """Gives *coming* one by one: records, and callables that are called instead, as callbacks of the group are."""

    def __init__(self, configuration: Mapping[str, Any]) -> None:
        super().__init__(configuration)
        self.coming: deque[Record | Callable[[], None]] = deque()
        self.callbacks: dict[str, Callable[..., None]] = {}
        self.paused: set[tuple[str, int]] = set()
        self.positions: dict[tuple[str, int], int] = {}
        """By what is assigned, from where it is read."""
        self.generation = 0
        self.member = "me"

    # What the group does.

    def assign_by_group(self, *numbers: int, topic: str = "app.jobs") -> None:
        """The group gives partitions to this member, in the next poll."""
        self.coming.append(lambda: self._tell("on_assign", topic, numbers))

    def revoke(self, *numbers: int, topic: str = "app.jobs") -> None:
        """The group takes partitions away, in the next poll."""
        self.coming.append(lambda: self._tell("on_revoke", topic, numbers))

    def lose(self, *numbers: int, topic: str = "app.jobs") -> None:
        """The group has given partitions to somebody else, and says so in the next poll."""
        self.coming.append(lambda: self._tell("on_lost", topic, numbers))

    def _tell(self, name: str, topic: str, numbers: Sequence[int]) -> None:
        self.generation += 1
        self.callbacks[name](self, [TopicPartition(topic, number) for number in numbers])

    # What is called.

    def subscribe(self, topics: list[str], **callbacks: Callable[..., None]) -> None:
        self._call("subscribe", topics)
        self.callbacks = callbacks

    def poll(self, timeout: float) -> Record | None:
        self._call("poll", timeout)
        while self.coming:
            found = self.coming.popleft()
            if isinstance(found, Record):
                return found
            found()
        return None

    def consume(self, num_messages: int, timeout: float) -> list[Record]:
        self._call("consume", num_messages)
        messages: list[Record] = []
        while self.coming and len(messages) < num_messages:
            found = self.coming.popleft()
            if isinstance(found, Record):
                messages.append(found)
            else:
                found()
        return messages

    def assign(self, partitions: list[Any]) -> None:
        self._call("assign", partitions)
        self.positions = {(it.topic, it.partition): it.offset for it in partitions}

    def incremental_assign(self, partitions: list[Any]) -> None:
        self._call("incremental_assign", partitions)
        for it in partitions:
            assert (it.topic, it.partition) not in self.positions, f"{it} is assigned already"
            self.positions[it.topic, it.partition] = it.offset

    def incremental_unassign(self, partitions: list[Any]) -> None:
        self._call("incremental_unassign", partitions)
        for it in partitions:
            del self.positions[it.topic, it.partition]

    def pause(self, partitions: list[Any]) -> None:
        self._call("pause", partitions)
        self.paused |= {(it.topic, it.partition) for it in partitions}

    def resume(self, partitions: list[Any]) -> None:
        self._call("resume", partitions)
        self.paused -= {(it.topic, it.partition) for it in partitions}

    def seek(self, partition: Any) -> None:
        self._call("seek", partition)
        assert (partition.topic, partition.partition) in self.positions, f"{partition} is not assigned"
        self.positions[partition.topic, partition.partition] = partition.offset

    def commit(self, *, offsets: list[Any], asynchronous: bool) -> None:
        self._call("commit", offsets, asynchronous)

    def consumer_group_metadata(self) -> str:
        return f"generation {self.generation}"

    def memberid(self) -> str | None:
        return self.member

    def close(self) -> None:
        self._call("close")
        while self.coming:
            found = self.coming.popleft()
            if not isinstance(found, Record):
                found()


class ScriptedAdmin(Scripted):
    """Answers with what is so, at once or, while it *hangs*, when :meth:`answer` is called."""

    def __init__(self, configuration: Mapping[str, Any]) -> None:
        super().__init__(configuration)
        self.committed: dict[int, Any] = {}
        """By partition of the jobs: an offset, or an error of the partition."""
        self.metadata = ""
        self.starts: defaultdict[tuple[str, int], int] = defaultdict(int)
        self.ends: defaultdict[tuple[str, int], int] = defaultdict(int)
        self.members: list[Any] = []
        self.group_state = ConsumerGroupState.STABLE
        self.hangs = False
        self._open: list[Callable[[], None]] = []

    def list_topics(self, topic: str, timeout: float) -> None:
        self._call("list_topics", topic, timeout)

    def answer(self) -> None:
        """Answer everything that was asked meanwhile, with what was so when it was asked."""
        waiting, self._open = self._open, []
        for give in waiting:
            give()

    def _future(self, name: str, make: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        problem = self.script[name].popleft() if self.script[name] else None
        answer = make() if problem is None else None

        def give() -> None:
            if problem is None:
                future.set_result(answer)
            else:
                future.set_exception(problem)

        if self.hangs:
            self._open.append(give)
        else:
            give()
        return future

    def list_consumer_group_offsets(self, requests: list[Any], **options: Any) -> dict[str, Future[Any]]:
        (request,) = requests
        (place,) = request.topic_partitions
        self.calls.append(("list_consumer_group_offsets", place.partition, options["require_stable"]))

        def make() -> Any:
            known = self.committed.get(place.partition, -1001)
            if isinstance(known, KafkaError) and options["require_stable"]:
                found = SimpleNamespace(offset=-1001, error=known, metadata=None)
            else:
                offset = -1001 if isinstance(known, KafkaError) else known
                found = SimpleNamespace(offset=offset, error=None, metadata=self.metadata)
            return SimpleNamespace(topic_partitions=[found])

        return {request.group_id: self._future("list_consumer_group_offsets", make)}

    def list_offsets(self, partitions: Mapping[Any, Any], **options: Any) -> dict[Any, Future[Any]]:
        self.calls.append(("list_offsets", len(partitions)))
        asked = {}
        for place, spec in partitions.items():
            known = self.starts if spec._value == -2 else self.ends
            offset = known[place.topic, place.partition]
            asked[place] = self._future("list_offsets", lambda offset=offset: SimpleNamespace(offset=offset))
        return asked

    def describe_consumer_groups(self, groups: Sequence[str], **options: Any) -> dict[str, Future[Any]]:
        self.calls.append(("describe_consumer_groups", *groups))
        return {groups[0]: self._future("describe_consumer_groups", self._described)}

    def _described(self) -> Any:
        return SimpleNamespace(members=list(self.members), state=self.group_state)

    def has_member(self, name: str, *numbers: int, topic: str = "app.jobs") -> None:
        """One more member of the group, with these partitions."""
        places = [TopicPartition(topic, number) for number in numbers]
        assignment = SimpleNamespace(topic_partitions=places) if numbers else None
        self.members.append(SimpleNamespace(member_id=name, assignment=assignment))


class ScriptedClients:
    """The factory. *prepare* is told of every client that is made, before anybody uses it."""

    def __init__(self, prepare: Callable[[Scripted], None] = lambda client: None) -> None:
        self.prepare = prepare
        self.consumers: list[ScriptedConsumer] = []
        self.producers: list[ScriptedProducer] = []
        self.admins: list[ScriptedAdmin] = []

    def consumer(self, configuration: Mapping[str, Any]) -> ScriptedConsumer:
        made = ScriptedConsumer(configuration)
        self.consumers.append(made)
        self.prepare(made)
        return made

    def producer(self, configuration: Mapping[str, Any]) -> ScriptedProducer:
        made = ScriptedProducer(configuration)
        self.producers.append(made)
        self.prepare(made)
        return made

    def admin(self, configuration: Mapping[str, Any]) -> ScriptedAdmin:
        made = ScriptedAdmin(configuration)
        self.admins.append(made)
        self.prepare(made)
        return made
