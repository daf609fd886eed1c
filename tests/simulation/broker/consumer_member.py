"""A member of a group of the consumer protocol (KIP-848): one kind of request, and the brokers share out.

A new assignment is reconciled in the steps of a rebalance, one at a time, and acknowledged by the heartbeat after it.
"""

from __future__ import annotations

__all__ = ["ConsumerMember"]

from typing import Any

from confluent_kafka import KafkaError

from tests.simulation.broker.group_member import GroupMember, State
from tests.simulation.broker.messages import Place
from tests.simulation.broker.refused import Refused

_FENCED = (KafkaError.UNKNOWN_MEMBER_ID, KafkaError.FENCED_MEMBER_EPOCH)
_FATAL = frozenset((
    KafkaError.INVALID_REQUEST, KafkaError.GROUP_MAX_SIZE_REACHED, KafkaError.UNSUPPORTED_ASSIGNOR,
    KafkaError.UNSUPPORTED_VERSION, KafkaError.UNRELEASED_INSTANCE_ID, KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.GROUP_ID_NOT_FOUND,
))  # fmt: skip

# A heartbeat that was not answered as hoped is sent again after this time, twice as long each time.
BACKOFF_US = 1_000
BACKOFF_US_MAX = 1_000_000


class ConsumerMember(GroupMember):
    """Always cooperative. Its id is its own, and lasts; the generation is the epoch that the brokers give it."""

    rejoins_after_revoke = False

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.cooperative = True
        self.member_id = f"{self.kernel.draw.getrandbits(64):016x}"
        self.beat_us = 0
        self._current: list[Place] = []
        self._target: list[Place] | None = None
        self._coming: list[Place] | None = None
        self._acknowledges = False
        """Whether a target is being reconciled, and has to be acknowledged."""
        self._beating = False
        self._in_full = False
        self._fenced = False
        self._leaves_fenced = False
        self._due_us = 0
        self._tries = 0

    def has_joined(self) -> bool:
        """Whether the group knows of it."""
        return self.generation > 0

    def begin(self) -> None:
        """Start joining."""
        self.run()
        self._beat_soon(0)

    # Heartbeats.

    def _beat_soon(self, delay_us: int) -> None:
        self._due_us = self.kernel.now_us + delay_us
        self.context.later(delay_us + self.context.network.local(), self._serve)

    def tick(self) -> None:
        """Send a heartbeat where it is time for one."""
        self._serve()

    def _serve(self) -> None:
        if self.fatal is not None:
            return
        if self._fenced and not self.rebalancing:
            self._fenced = False
            self.revoke_all(lost=True)
        if self.kernel.now_us < self._due_us or self._beating or not self.subscribed or self.leaving or self._leaves_then:
            return
        if self._fenced or not self.may_join():
            return
        self._beat()

    def _beat(self) -> None:
        acknowledges = self.state == State.STEADY and self._acknowledges
        full = self.state == State.INIT or self._in_full
        owned = self._target if acknowledges else self._current if full else None
        self._beating = True
        self._due_us = self.kernel.now_us + (self.beat_us or BACKOFF_US_MAX)
        epoch = max(self.generation, 0)
        instance_id = self.instance_id if full else None
        topics = self.topics if full else None
        rebalance_ms = self.max_poll_us // 1_000 if full else None
        self.line.request(
            "heartbeat",
            (self.member_id, epoch, owned),
            lambda: self.server.consumer_heartbeat(
                self.group, self.member_id, epoch, instance_id, self.client_id, topics, owned, rebalance_ms=rebalance_ms
            ),
            lambda result: self._answered(result, owned if acknowledges else None),
        )

    def _answered(self, result: Any, acknowledged: list[Place] | None) -> None:
        self._beating = False
        if type(result) is Refused:
            self._refused(result.code)
            return
        self._tries = 0
        self.generation, heartbeat_ms, assignment = result
        if self.leaving or self._leaves_then:
            return
        self.beat_us = heartbeat_ms * 1_000
        self._in_full = False
        if assignment is not None:
            assignment = sorted(assignment)
            known = self._current if self._target is None else self._target
            self._coming = None if assignment == known else assignment
        if self.state == State.STEADY and self._acknowledges and self._target is not None:
            if acknowledged is not None:
                self._current, self._target = self._target, None
                self._acknowledges = False
            else:
                self._beat_soon(0)
        if self._coming is not None and self.subscribed:
            self._reconcile()

    def _refused(self, code: int) -> None:
        if code in _FENCED:
            self._fenced = True
            self._beat_soon(0)
        elif code in _FATAL:
            self.fail(code)
            self.revoke_all_unless_rebalancing(lost=True)
        else:
            # The coordinator may be another one, that has to be told everything.
            self._in_full = True
            self._tries += 1
            self._beat_soon(min(BACKOFF_US << self._tries, BACKOFF_US_MAX))

    # Assignments.

    def _reconcile(self) -> None:
        if self._coming is None or self._acknowledges or self.state not in (State.INIT, State.STEADY):
            return
        self._acknowledges = True
        self._target, self._coming = self._coming, None
        self.take_over(self._target)

    def assign_done(self) -> None:
        """The application knows its assignment, and the group is told so."""
        if self._leave_if_wanted() or self.closing:
            return
        if self.state == State.INIT or (not self.rejoin_if_wanted() and self._acknowledges):
            self._beat_soon(0)

    def rejoin(self) -> None:
        """Join as if it had never been in the group."""
        self._leave_if_wanted()
        self._reset()
        self.state = State.INIT
        self._beat_soon(0)

    def _reset(self) -> None:
        self.generation = 0
        self._current = []
        self._target = self._coming = None
        self._acknowledges = self._in_full = self._fenced = False

    def refused_commit(self, code: int) -> None:
        """A commit was refused for a reason that says something about the membership."""
        if code in (KafkaError.UNKNOWN_MEMBER_ID, KafkaError.STALE_MEMBER_EPOCH):
            self._beat_soon(0)
        elif code == KafkaError.ILLEGAL_GENERATION and not self.rebalancing:
            self.generation = -1
            self.revoke_all_unless_rebalancing(lost=True)

    def poll_exceeded(self) -> None:
        """Its heartbeats stop, and the brokers find out; the application is told that everything is lost."""
        self._fenced = True
        self._beat_soon(0)

    def leave(self) -> None:
        """Send word that it leaves; a static member only goes away for a while."""
        if self.leaving:
            return
        self.leaving = True
        epoch = -1 if self.instance_id is None else -2

        def answer(result: Any) -> None:
            self.leaving = False
            self._reset()
            self.changed.notify()
            if not self.closing:
                self._beat_soon(0)

        self.line.request(
            "leave",
            self.member_id,
            lambda: self.server.consumer_heartbeat(
                self.group, self.member_id, epoch, self.instance_id, self.client_id, None, None
            ),
            answer,
            5_000_000,
        )
