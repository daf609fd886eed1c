"""An admin client as ``confluent_kafka.admin.AdminClient`` is one: what a worker at work asks, answered by futures."""

from __future__ import annotations

__all__ = ["SimulatedAdmin"]

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from confluent_kafka import ConsumerGroupState, IsolationLevel, KafkaError, TopicPartition

from tests.simulation.broker.client_context import Context, failure, microseconds
from tests.simulation.broker.messages import Described, Place
from tests.simulation.broker.network import Line
from tests.simulation.broker.refused import Refused
from tests.simulation.kernel import Signal

# A request that the brokers put off, or that got lost, is made again after this time, for as long as it may take.
AGAIN_US = 100_000
REQUEST_S = 60.0

_PUT_OFF = frozenset((
    KafkaError._TRANSPORT, KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
))  # fmt: skip

_STATES = {
    "PreparingRebalance": ConsumerGroupState.PREPARING_REBALANCING,
    "CompletingRebalance": ConsumerGroupState.COMPLETING_REBALANCING,
    "Stable": ConsumerGroupState.STABLE,
    "Dead": ConsumerGroupState.DEAD,
    "Empty": ConsumerGroupState.EMPTY,
}


class OffsetInfo(NamedTuple):
    """An end of a partition."""

    offset: int
    timestamp: int = -1
    leader_epoch: int | None = None


class GroupOffset(NamedTuple):
    """An offset of a group, or why there is none."""

    topic: str
    partition: int
    offset: int
    metadata: str | None
    error: KafkaError | None


class GroupOffsets(NamedTuple):
    """The offsets of a group."""

    group_id: str
    topic_partitions: list[GroupOffset]


class MemberAssignment(NamedTuple):
    """What a member has."""

    topic_partitions: list[TopicPartition]


class MemberDescription(NamedTuple):
    """A member of a group."""

    member_id: str
    client_id: str
    group_instance_id: str | None
    assignment: MemberAssignment


class GroupDescription(NamedTuple):
    """A group and its members."""

    group_id: str
    state: ConsumerGroupState
    members: list[MemberDescription]
    is_simple_consumer_group: bool = False


class _Answer(Future[Any]):
    """Whoever waits for it gives away the turn, and never blocks in earnest."""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self._context = context
        self._told = Signal()

    def give(self, value: Any) -> None:
        """It is here."""
        self.set_result(value)
        self._told.notify()

    def refuse(self, code: int, reason: str = "") -> None:
        """It will not come."""
        self.set_exception(failure(code, reason))
        self._told.notify()

    def _wait(self, timeout: float | None) -> None:
        until_us = self._context.until(timeout)
        while not self.done():
            if not self._context.wait(self._told, until_us):
                raise TimeoutError

    def result(self, timeout: float | None = None) -> Any:
        self._wait(timeout)
        return super().result(0)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._wait(timeout)
        return super().exception(0)


class SimulatedAdmin:
    """Made by ``SimulatedClients``."""

    def __init__(self, context: Context, configuration: Mapping[str, Any]) -> None:
        self._context = context
        self._server = context.server
        self._line: Line = context.line()

    def list_topics(self, topic: str, timeout: float) -> None:
        """Nothing: who leads what is known to every client here."""

    def _ask(
        self,
        what: str,
        about: Any,
        call: Callable[[], Any],
        tell: Callable[[Any], None],
        refuse: Callable[[int], None],
        options: Mapping[str, Any],
    ) -> None:
        """Have *tell* told what *call* gives, or *refuse* why not; within the time that the options allow."""
        self._context.enter()
        until_us = self._context.kernel.now_us + microseconds(options.get("request_timeout", REQUEST_S))

        def ask() -> None:
            left_us = until_us - self._context.kernel.now_us
            if left_us <= 0:
                refuse(KafkaError._TIMED_OUT)
            else:
                self._line.request(what, about, call, answer, left_us)

        def answer(result: Any) -> None:
            if type(result) is not Refused:
                tell(result)
            elif result.code in _PUT_OFF:
                self._context.later(AGAIN_US, ask)
            else:
                refuse(result.code)

        ask()

    def list_offsets(self, partitions: Mapping[TopicPartition, Any], **options: Any) -> dict[TopicPartition, Future[Any]]:
        """Where partitions begin or end, as a reader of (un)committed records sees it."""
        committed = options.get("isolation_level") == IsolationLevel.READ_COMMITTED
        asked = [
            (it, (it.topic, it.partition), "earliest" if spec._value == -2 else "latest") for it, spec in partitions.items()
        ]
        futures = {it: _Answer(self._context) for it in partitions}

        def call() -> list[int | Refused]:
            return [self._list_offset(place, spec, committed) for _, place, spec in asked]

        def tell(found: list[int | Refused]) -> None:
            for (it, _, _), offset in zip(asked, found, strict=True):
                if type(offset) is Refused:
                    unknown = offset.code == KafkaError.UNKNOWN_TOPIC_OR_PART
                    futures[it].refuse(KafkaError._NOENT if unknown else offset.code)
                else:
                    futures[it].give(OffsetInfo(offset))

        def refuse(code: int) -> None:
            for future in futures.values():
                future.refuse(code)

        self._ask("list offsets", [(place, spec) for _, place, spec in asked], call, tell, refuse, options)
        return dict(futures)

    def _list_offset(self, place: Place, spec: Any, committed: bool) -> int | Refused:
        try:
            return self._server.list_offsets(place, spec, committed)
        except Refused as refused:
            return refused

    def list_consumer_group_offsets(self, requests: list[Any], **options: Any) -> dict[str, Future[Any]]:
        """The committed offsets of a group."""
        (request,) = requests
        group: str = request.group_id
        places = [(it.topic, it.partition) for it in request.topic_partitions]
        stable = bool(options.get("require_stable", False))
        future = _Answer(self._context)

        def tell(found: dict[Place, tuple[int, str] | Refused]) -> None:
            offsets = []
            for topic, number in places:
                known = found[topic, number]
                if isinstance(known, Refused):
                    offsets.append(GroupOffset(topic, number, -1001, None, KafkaError(known.code)))
                else:
                    offsets.append(GroupOffset(topic, number, *known, None))
            future.give(GroupOffsets(group, offsets))

        def call() -> dict[Place, tuple[int, str] | Refused]:
            return self._server.offset_fetch(group, places, stable)

        self._ask("fetch offsets", (group, places), call, tell, future.refuse, options)
        return {group: future}

    def describe_consumer_groups(self, groups: Sequence[str], **options: Any) -> dict[str, Future[Any]]:
        """Who is in a group, and has what."""
        return {group: self._describe(group, options) for group in groups}

    def _describe(self, group: str, options: Mapping[str, Any]) -> Future[Any]:
        future = _Answer(self._context)

        def tell(found: Described) -> None:
            members = [
                MemberDescription(
                    member_id, client_id, instance_id, MemberAssignment([TopicPartition(*place) for place in places])
                )
                for member_id, client_id, instance_id, places in found.members
            ]
            future.give(GroupDescription(group, _STATES.get(found.state, ConsumerGroupState.UNKNOWN), members))

        self._ask("describe", group, lambda: self._server.describe_group(group), tell, future.refuse, options)
        return future
