"""The group coordinator: which protocol a group speaks, and its offsets.

A group is of the protocol that its members speak. An empty one may be joined with the other protocol; one that has members
may not (Kafka can move such a group while it works; that is left out).
"""

from __future__ import annotations

__all__ = ["Groups"]

import random
from collections.abc import Callable, Iterable, Mapping, Sequence

from confluent_kafka import KafkaError

from tests.simulation.broker.classic_group import ClassicGroup
from tests.simulation.broker.consumer_group import ConsumerGroup
from tests.simulation.broker.messages import Assignment, CallIn, Described, JoinReply, JoinRequest, Place, SyncReply
from tests.simulation.broker.offsets import CommittedOffsets
from tests.simulation.broker.options import ServerOptions
from tests.simulation.broker.refused import Refused


class Groups:
    """All groups."""

    __slots__ = ("_call_in_ms", "_clock_ms", "_draw", "_groups", "_offsets", "_options", "_partitions_of")

    def __init__(
        self,
        clock_ms: Callable[[], int],
        call_in_ms: CallIn,
        draw: random.Random,
        options: ServerOptions,
        offsets: CommittedOffsets,
        partitions_of: Callable[[str], int],
    ) -> None:
        self._clock_ms = clock_ms
        self._call_in_ms = call_in_ms
        self._draw = draw
        self._options = options
        self._offsets = offsets
        self._partitions_of = partitions_of
        self._groups: dict[str, ClassicGroup | ConsumerGroup] = {}

    def _new_classic(self, group: str) -> ClassicGroup:
        made = self._groups[group] = ClassicGroup(self._clock_ms, self._call_in_ms, self._draw, self._options)
        return made

    def _classic(self, group: str) -> ClassicGroup:
        found = self._groups.get(group)
        if not isinstance(found, ClassicGroup):
            raise Refused(KafkaError.UNKNOWN_MEMBER_ID)
        return found

    # The classic protocol.

    def join(self, group: str, member_id: str, request: JoinRequest, reply: JoinReply) -> None:
        found = self._groups.get(group)
        if isinstance(found, ConsumerGroup):
            if not found.is_empty:
                reply(Refused(KafkaError.INCONSISTENT_GROUP_PROTOCOL))
                return
            found = None
        if found is None:
            if member_id:
                reply(Refused(KafkaError.UNKNOWN_MEMBER_ID))
                return
            found = self._new_classic(group)
        found.join(member_id, request, reply)

    def sync(
        self,
        group: str,
        member_id: str,
        instance_id: str | None,
        generation: int,
        assignments: Assignment | None,
        reply: SyncReply,
    ) -> None:
        found = self._groups.get(group)
        if isinstance(found, ClassicGroup):
            found.sync(member_id, instance_id, generation, assignments, reply)
        else:
            reply(Refused(KafkaError.UNKNOWN_MEMBER_ID))

    def heartbeat(self, group: str, member_id: str, instance_id: str | None, generation: int) -> None:
        self._classic(group).heartbeat(member_id, instance_id, generation)

    def leave(self, group: str, member_id: str, instance_id: str | None) -> None:
        self._classic(group).leave(member_id, instance_id)

    # The consumer protocol.

    def consumer_heartbeat(
        self,
        group: str,
        member_id: str,
        member_epoch: int,
        instance_id: str | None,
        client_id: str,
        topics: Sequence[str] | None,
        owned: Sequence[Place] | None,
        rebalance_ms: int | None,
    ) -> tuple[int, int, list[Place] | None]:
        found = self._groups.get(group)
        if not isinstance(found, ConsumerGroup):
            if member_epoch != 0 or (found is not None and not found.is_empty):
                raise Refused(KafkaError.GROUP_ID_NOT_FOUND)
            found = ConsumerGroup(self._clock_ms, self._call_in_ms, self._options, self._partitions_of)
            self._groups[group] = found
        return found.heartbeat(member_id, member_epoch, instance_id, client_id, topics, owned, rebalance_ms)

    def topics_changed(self) -> None:
        for found in self._groups.values():
            if isinstance(found, ConsumerGroup):
                found.topics_changed = True

    # Offsets.

    def check_commit(
        self,
        group: str,
        member_id: str,
        generation: int,
        instance_id: str | None,
        places: Iterable[Place],
        transactional: bool,
    ) -> None:
        """Whether these offsets may be committed. For a group that nobody has joined, anybody may."""
        found = self._groups.get(group)
        if found is None:
            if generation >= 0:
                raise Refused(KafkaError.ILLEGAL_GENERATION if transactional else KafkaError.GROUP_ID_NOT_FOUND)
            found = self._new_classic(group)
        if isinstance(found, ConsumerGroup):
            found.check_commit(member_id, instance_id, generation, transactional, places)
        else:
            found.check_commit(member_id, instance_id, generation, transactional)

    def commit(
        self,
        group: str,
        member_id: str,
        generation: int,
        instance_id: str | None,
        offsets: Mapping[Place, tuple[int, str]],
    ) -> None:
        self.check_commit(group, member_id, generation, instance_id, offsets, transactional=False)
        self._offsets.commit(group, offsets)

    def fetch(
        self, group: str, places: Iterable[Place], require_stable: bool, member_id: str | None, member_epoch: int
    ) -> dict[Place, tuple[int, str] | Refused]:
        found = self._groups.get(group)
        if isinstance(found, ConsumerGroup):
            found.check_fetch(member_id, member_epoch)
        return {place: self._offsets.fetch(group, place, require_stable) for place in places}

    # Looking, and moving to other brokers.

    def describe(self, group: str) -> Described:
        found = self._groups.get(group)
        return Described("Dead", []) if found is None else found.describe()

    def restart(self) -> None:
        for found in self._groups.values():
            found.restart()
