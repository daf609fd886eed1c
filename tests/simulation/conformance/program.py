"""Programs of broker calls: what they are given, on the real broker and on the model alike.

A program is a function that takes a :class:`Broker`. It makes clients through the port, with the configurations that the
product has, makes topics and groups of its own, and lets time pass. What it was told stands in ``broker.answers``: offsets
of new topics, outcomes of calls, what callbacks were given; never ids or names, which differ from run to run.
"""

from __future__ import annotations

__all__ = ["Broker", "Program", "World"]

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from confluent_kafka import ConsumerGroupState, ConsumerGroupTopicPartitions, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from headrace_adapters.kafka.clients import Admin, Clients
from headrace_adapters.kafka.connection import admin, group_consumer, plain_producer, reader, transactional_producer
from headrace_adapters.kafka.settings import KafkaSettings, kafka_settings
from tests.simulation.conformance.answers import WAIT_S, Answers, flagged
from tests.simulation.conformance.member import Member
from tests.simulation.conformance.reader import Reader
from tests.simulation.conformance.writer import Writer


class World(Protocol):
    """Where a program runs."""

    servers: str
    clients: Clients

    def now_s(self) -> float: ...
    def pause(self, seconds: float) -> None: ...
    def create_topic(self, topic: str, partitions: int) -> None: ...
    def put(self, topic: str, number: int, values: Sequence[bytes]) -> None: ...
    def delete_before(self, topic: str, number: int, offset: int) -> None: ...


class Broker:
    """What a program is given. *unique* makes its names its own."""

    def __init__(self, world: World, unique: str) -> None:
        self._world = world
        self._unique = unique
        self._made = 0
        self._answers = Answers()
        self._members: list[Member] = []
        self._readers: list[Reader] = []
        self._asking: Admin | None = None
        self.say = self._answers.say
        self.pause = world.pause

    @property
    def answers(self) -> list[list[Any]]:
        """What was told so far."""
        return self._answers.given

    def name(self, word: str) -> str:
        """A name that nobody else has: of a group, a transactional id, a topic."""
        self._made += 1
        return f"{word}-{self._unique}-{self._made}"

    def topic(self, partitions: int = 1) -> str:
        """A new topic."""
        topic = self.name("topic")
        self._world.create_topic(topic, partitions)
        return topic

    def put(self, topic: str, number: int, *values: str) -> None:
        """Have these records in a partition, written by nobody whom the program is about."""
        self._world.put(topic, number, [value.encode() for value in values])

    def delete_before(self, topic: str, number: int, offset: int) -> None:
        """Delete the records of a partition below an offset, as retention would."""
        self._world.delete_before(topic, number, offset)

    # Clients.

    def settings(self, **values: Any) -> KafkaSettings:
        """Settings of the product; heartbeats are quick, so that groups are."""
        given = {"session_timeout_ms": 6_000, "heartbeat_ms": 100, "transaction_timeout_ms": 60_000, **values}
        return kafka_settings("conformance", f"kafka://{self._world.servers}", given)

    def transactional(self, name: str, transactional_id: str, **values: Any) -> Writer:
        """A transactional producer, not initialised yet."""
        configuration = transactional_producer(self.settings(**values), transactional_id)
        return Writer(name, self._world.clients.producer(configuration), self._answers, self._world.now_s)

    def ready(self, name: str) -> Writer:
        """A transactional producer under an id of its own, initialised."""
        made = self.transactional(name, self.name("id"))
        made.init()
        return made

    def plain(self, name: str, options: Mapping[str, Any] | None = None) -> Writer:
        """A producer without transactions."""
        configuration = {**plain_producer(self.settings()), **(options or {})}
        return Writer(name, self._world.clients.producer(configuration), self._answers, self._world.now_s)

    def reader(self, name: str, topic: str, out_of_range: Any = "error") -> Reader:
        """A consumer without a group."""
        consumer = self._world.clients.consumer(reader(self.settings(), out_of_range))
        made = Reader(name, consumer, topic, self._answers, self._world.now_s, self.rest)
        self._readers.append(made)
        return made

    def member(self, name: str, group: str, topic: str, protocol: str = "classic", **values: Any) -> Member:
        """A consumer that has subscribed, and joins when it is polled. Names decide the order of members of a group."""
        settings = self.settings(group=group, group_protocol=protocol, **values)
        made = Member(name, self._world.clients.consumer(group_consumer(settings, name)), topic, self._answers)
        made.subscribe()
        self._members.append(made)
        return made

    def outsider(self, group: str, topic: str) -> Member:
        """A consumer of a group that has not subscribed, and so is no member."""
        settings = self.settings(group=group)
        made = Member("outsider", self._world.clients.consumer(group_consumer(settings, "outsider")), topic, self._answers)
        self._members.append(made)
        return made

    # Waiting.

    def until(self, is_so: Callable[[], bool], members: Iterable[Member] = (), within_s: float = WAIT_S) -> None:
        """Wait until something is so, while these members are polled."""
        served = list(members)
        deadline_s = self._world.now_s() + within_s
        while not is_so():
            assert self._world.now_s() < deadline_s, f"not so within {within_s} s, after {self.answers}"
            for member in served:
                member.poll()
            if not served:
                self.pause(0.01)

    def settle(self, group: str, partitions: int, *members: Member) -> None:
        """Wait until these members share the partitions fairly, and the group is at rest."""
        least, more = divmod(partitions, len(members))
        shares = sorted([least + 1] * more + [least] * (len(members) - more))

        def shared() -> bool:
            owned = [number for member in members for number in member.assigned]
            return len(set(owned)) == len(owned) and sorted(len(member.assigned) for member in members) == shares

        self.until(lambda: shared() and self.group_state(group) == ConsumerGroupState.STABLE, members)
        self.serve(0.15, *members)

    def serve(self, seconds: float, *members: Member) -> None:
        """Poll these members for so long."""
        until_s = self._world.now_s() + seconds
        self.until(lambda: self._world.now_s() >= until_s, members)

    # Questions to the brokers.

    @property
    def _admin(self) -> Admin:
        if self._asking is None:
            self._asking = self._world.clients.admin(admin(self.settings()))
        return self._asking

    def group_state(self, group: str) -> ConsumerGroupState:
        """What a group is at."""
        state: ConsumerGroupState = self._group(group).state
        return state

    def group_members(self, group: str) -> int:
        """How many members a group has."""
        return len(self._group(group).members)

    def say_group(self, group: str) -> None:
        """Say the state of a group, and which member (by its client's name) has what."""
        found = self._group(group)
        members = [
            [known.client_id, known.group_instance_id or "", sorted(_numbers_of(known.assignment))]
            for known in found.members
        ]
        self.say("group", found.state.name, sorted(members))

    def _group(self, group: str) -> Any:
        return self._admin.describe_consumer_groups([group], request_timeout=WAIT_S)[group].result(WAIT_S)

    def say_committed(self, group: str, topic: str, *numbers: int) -> None:
        """Say the committed offsets, with what stands beside them, as soon as no transaction is open over them."""
        self.until(lambda: "UNSTABLE_OFFSET_COMMIT" not in self._committed(group, topic, numbers, stable=True).values())
        self.say("committed", self._committed(group, topic, numbers, stable=True))

    def say_pending(self, group: str, topic: str, *numbers: int) -> None:
        """Say the committed offsets at once, as those who want stable ones are told them, and as others are."""
        self.say("committed, if stable", self._committed(group, topic, numbers, stable=True))
        self.say("committed, stable or not", self._committed(group, topic, numbers, stable=False))

    def _committed(self, group: str, topic: str, numbers: Iterable[int], *, stable: bool) -> dict[str, Any]:
        places = [TopicPartition(topic, number) for number in numbers]
        asked = self._admin.list_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(group, places)], require_stable=stable, request_timeout=WAIT_S
        )
        try:
            found = asked[group].result(WAIT_S).topic_partitions
        except KafkaException as error:
            return {"all": flagged(error.args[0])}
        return {str(p.partition): flagged(p.error) if p.error else [p.offset, p.metadata or ""] for p in found}

    def say_ends(self, topic: str, number: int = 0, *, waits: bool = True) -> None:
        """Say where a partition begins, and where it ends for readers of committed and of all records.

        It *waits* for markers that are on their way, unless a transaction is open on purpose.
        """
        if waits:
            self.rest(topic, [number])
        self.say("ends", self.ends(topic, number))

    def rest(self, topic: str, numbers: Iterable[int]) -> None:
        """Wait until no transaction is open in these partitions: their markers come a little after a commit."""

        def stable(number: int) -> bool:
            ends = self.ends(topic, number)
            return bool(ends["committed end"] == ends["end"])

        for number in numbers:
            self.until(lambda number=number: stable(number))  # type: ignore[misc]

    def ends(self, topic: str, number: int) -> dict[str, Any]:
        """Where a partition begins and ends; the name of an error where that is not told."""
        wanted = {
            "begin": (OffsetSpec.earliest(), IsolationLevel.READ_UNCOMMITTED),
            "committed end": (OffsetSpec.latest(), IsolationLevel.READ_COMMITTED),
            "end": (OffsetSpec.latest(), IsolationLevel.READ_UNCOMMITTED),
        }
        place = TopicPartition(topic, number)
        said: dict[str, Any] = {}
        for word, (spec, level) in wanted.items():
            asked = self._admin.list_offsets({place: spec}, isolation_level=level, request_timeout=WAIT_S)
            try:
                said[word] = asked[place].result(WAIT_S).offset
            except KafkaException as error:
                said[word] = flagged(error.args[0])
        return said

    def close(self) -> None:
        """End everything that is left; what that gives is no answer any more."""
        for member in self._members:
            if not member.closed:
                member.leaving = lambda numbers: None
                member.consumer.close()
        for made in self._readers:
            made.consumer.close()


Program = Callable[[Broker], None]


def _numbers_of(assignment: Any) -> list[int]:
    return [] if assignment is None else [place.partition for place in assignment.topic_partitions]
