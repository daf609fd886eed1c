"""A consumer as ``confluent_kafka.Consumer`` is one: what the product calls of it, and the same errors."""

from __future__ import annotations

__all__ = ["GroupMetadata", "SimulatedConsumer"]

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, TopicPartition

from tests.simulation.broker.classic_member import ClassicMember
from tests.simulation.broker.client_context import FOREVER_US, Context, failure
from tests.simulation.broker.client_message import Message
from tests.simulation.broker.consumer_member import ConsumerMember
from tests.simulation.broker.fetcher import Fetcher
from tests.simulation.broker.group_member import ASSIGN, GroupMember, Rebalance
from tests.simulation.broker.messages import Place
from tests.simulation.broker.refused import Refused
from tests.simulation.kernel import Signal

Callback = Callable[[Any, list[TopicPartition]], None]

# What a commit that the coordinator put off waits for until it is sent again.
COMMIT_AGAIN_US = 100_000
LEAVE_US = 5_000_000

_PUT_OFF = frozenset((
    KafkaError._TRANSPORT, KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
))  # fmt: skip


class GroupMetadata(NamedTuple):
    """What a producer is given to speak for a member of a group."""

    group: str
    generation: int
    member_id: str
    instance_id: str | None


class SimulatedConsumer:
    """Made by ``SimulatedClients``."""

    def __init__(self, context: Context, configuration: Mapping[str, Any]) -> None:
        self._context = context
        self._configuration = dict(configuration)
        self._group: str = configuration["group.id"]
        self._signal = Signal()
        self._events: deque[Rebalance | Message] = deque()
        # Fetches have a connection of their own, beside the one with the coordinator.
        self._fetcher = Fetcher(context, context.line(), self._configuration, self._signal, self._tell)
        self._coordinator = context.line()
        self._member: GroupMember | None = None
        self._callbacks: dict[str, Callback | None] = {}
        self._called = False
        self._closed = False

    def _tell(self, event: Rebalance | Message) -> None:
        self._events.append(event)
        self._signal.notify()

    def _enter(self) -> None:
        self._context.enter()
        if self._closed:
            raise RuntimeError("Consumer closed")

    # The group.

    def subscribe(
        self,
        topics: list[str],
        on_assign: Callback | None = None,
        on_revoke: Callback | None = None,
        on_lost: Callback | None = None,
    ) -> None:
        """Become a member of the group."""
        self._enter()
        assert self._member is None, "what is subscribed to is not changed here"
        self._callbacks = {"assign": on_assign, "revoke": on_revoke, "lost": on_lost}
        self._fetcher.begins_late = True
        kind = ConsumerMember if self._configuration.get("group.protocol") == "consumer" else ClassicMember
        self._member = kind(self._context, self._coordinator, self._configuration, list(topics), self._fetcher, self._tell)
        self._member.begin()

    def memberid(self) -> str | None:
        """The id of the member, where it has one."""
        self._enter()
        return (self._member.member_id or None) if self._member is not None else None

    def consumer_group_metadata(self) -> GroupMetadata:
        """What is so at this moment."""
        self._enter()
        member = self._member
        if member is None:
            return GroupMetadata(self._group, -1, "", self._configuration.get("group.instance.id"))
        return GroupMetadata(self._group, member.generation, member.member_id, member.instance_id)

    def _rebalance(self, event: Rebalance) -> None:
        member = self._member
        assert member is not None
        name = event.kind
        if name != ASSIGN and member.lost and self._callbacks["lost"] is not None:
            name = "lost"
        callback = self._callbacks[name]
        self._called = False
        partitions = [TopicPartition(*place) for place in event.places]
        try:
            if callback is not None:
                callback(self, partitions)
        finally:
            # Where the application did not, or failed before it did.
            if not self._called and self._context.process.alive:
                self._follow(event.kind, partitions)

    def _follow(self, kind: str, partitions: list[TopicPartition]) -> None:
        assert self._member is not None
        if self._member.cooperative:
            (self.incremental_assign if kind == ASSIGN else self.incremental_unassign)(partitions)
        elif kind == ASSIGN:
            self.assign(partitions)
        else:
            self.unassign()

    # What is assigned.

    def assign(self, partitions: list[TopicPartition]) -> None:
        """These and no others."""
        self._enter()
        if self._may_change(incremental=False):
            self._fetcher.clear()
            self._fetcher.add(partitions)
            if self._member is not None:
                self._member.assigned()

    def unassign(self) -> None:
        """None any more."""
        self._enter()
        if self._may_change(incremental=False):
            self._fetcher.clear()
            if self._member is not None:
                self._member.unassigned(whole=True)

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        """These as well."""
        self._enter()
        if self._may_change(incremental=True):
            self._fetcher.add(partitions)
            if self._member is not None:
                self._member.assigned()

    def incremental_unassign(self, partitions: list[TopicPartition]) -> None:
        """These no more."""
        self._enter()
        if self._may_change(incremental=True):
            self._fetcher.remove(partitions)
            if self._member is not None:
                self._member.unassigned(whole=False)

    def _may_change(self, *, incremental: bool) -> bool:
        """Whether the assignment is to become what was said; a member that leaves loses all of it instead."""
        self._called = True
        member = self._member
        if member is None:
            return True
        if member.closing or member.fatal is not None:
            member.ending_call()
            return False
        if member.cooperative is not None and member.cooperative != incremental:
            raise failure(
                KafkaError._STATE,
                "Changes to the current assignment must be made using "
                + ("incremental_assign() or incremental_unassign()" if member.cooperative else "assign()"),
            )
        return True

    def assignment(self) -> list[TopicPartition]:
        """What is assigned."""
        self._enter()
        return [TopicPartition(*place) for place in sorted(self._fetcher.places)]

    def pause(self, partitions: list[TopicPartition]) -> None:
        """Give no records of these."""
        self._enter()
        self._fetcher.pause(partitions)

    def resume(self, partitions: list[TopicPartition]) -> None:
        """Give records of these again."""
        self._enter()
        self._fetcher.resume(partitions)

    def seek(self, partition: TopicPartition) -> None:
        """Go on from another offset."""
        self._enter()
        self._fetcher.seek(partition)

    # Records.

    def poll(self, timeout: float | None = None) -> Message | None:
        """One message; callbacks are called from here."""
        messages = self._gather(1, timeout)
        return messages[0] if messages else None

    def consume(self, num_messages: int = 1, timeout: float | None = -1) -> list[Message]:
        """So many messages, or what has come of them when the time is over."""
        return self._gather(num_messages, timeout)

    def _gather(self, limit: int, timeout: float | None) -> list[Message]:
        self._enter()
        until_us = self._context.until(timeout)
        messages: list[Message] = []
        member = self._member
        if member is not None:
            member.polling(True)
        try:
            while True:
                while self._events and len(messages) < limit:
                    event = self._events.popleft()
                    if type(event) is Message:
                        messages.append(event)
                    else:
                        self._rebalance(event)
                        messages = [message for message in messages if self._is_current(message)]
                messages += self._fetcher.take(limit - len(messages))
                if len(messages) >= limit:
                    return messages
                # To look for records may be what tells of a problem.
                if not self._events and not self._context.wait(self._signal, until_us):
                    return messages
        finally:
            if member is not None:
                member.polling(False)

    def _is_current(self, message: Message) -> bool:
        """Whether a rebalance leaves a message of before it."""
        return message.topic() is None or (message.topic(), message.partition()) in self._fetcher.places

    # Offsets.

    def commit(
        self, *, offsets: list[TopicPartition] | None = None, message: Message | None = None, asynchronous: bool = True
    ) -> list[TopicPartition] | None:
        """Commit offsets as a member, or as nobody."""
        self._enter()
        if message is not None:
            offsets = [TopicPartition(message.topic() or "", message.partition(), message.offset() + 1)]
        assert offsets is not None, "offsets are not stored here"
        places = {(it.topic, it.partition): (it.offset, it.metadata or "") for it in offsets if it.offset >= 0}
        if not places:
            raise failure(KafkaError._NO_OFFSET)
        if self._member is not None and self._member.fatal is not None:
            raise failure(KafkaError._FATAL)
        answers: list[Any] = []
        done = Signal()
        session_us = int(self._configuration.get("session.timeout.ms", 45_000)) * 1_000
        until_us = self._context.kernel.now_us + session_us

        def answer(result: Any) -> None:
            code = result.code if type(result) is Refused else KafkaError.NO_ERROR
            if code in _PUT_OFF and self._context.kernel.now_us < until_us:
                self._context.later(COMMIT_AGAIN_US, lambda: self._send_commit(places, answer, until_us))
                return
            answers.append(KafkaError._WAIT_COORD if code in _PUT_OFF else code)
            if code and self._member is not None:
                self._member.refused_commit(code)
            done.notify()

        self._send_commit(places, answer, until_us)
        if asynchronous:
            return None
        # It may have to wait until the coordinator has answered a join.
        while not answers:
            self._context.wait(done, FOREVER_US)
        if answers[0]:
            raise failure(answers[0], f"Commit failed: {KafkaError(answers[0]).str()}")
        return offsets

    def _send_commit(self, places: dict[Place, tuple[int, str]], answer: Callable[[Any], None], until_us: int) -> None:
        member = self._member
        member_id, generation, instance_id = "", -1, None
        if member is not None:
            member_id, generation, instance_id = member.member_id, member.generation, member.instance_id
        self._coordinator.request(
            "commit offsets",
            places,
            lambda: self._context.server.offset_commit(self._group, member_id, generation, instance_id, places),
            answer,
            max(1, until_us - self._context.kernel.now_us),
        )

    # The end.

    def close(self) -> None:
        """Leave the group; what is assigned is revoked by callbacks first."""
        self._context.enter()
        if self._closed:
            return
        member = self._member
        try:
            if member is not None:
                member.close()
                self._close(member)
        finally:
            self._closed = True
            self._fetcher.clear()
            if member is not None:
                member.stopped = True

    def _close(self, member: GroupMember) -> None:
        error: BaseException | None = None
        until_us: int | None = None
        while True:
            while self._events:
                event = self._events.popleft()
                if type(event) is not Message:
                    try:
                        self._rebalance(event)  # type: ignore[arg-type]
                    except Exception as raised:  # noqa: BLE001 (raised when it is closed)
                        error = error or raised
            if member.ended:
                break
            if until_us is None:
                until_us = self._context.kernel.now_us + LEAVE_US
            if not self._context.wait(member.changed, until_us):
                break
        if error is not None:
            raise error
