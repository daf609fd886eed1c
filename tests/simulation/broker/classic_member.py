"""A member of a group of the classic protocol: it joins, its leader shares out, and heartbeats say when to join again."""

from __future__ import annotations

__all__ = ["ClassicMember"]

from typing import Any

from confluent_kafka import KafkaError

from tests.simulation.broker.assignor import share_out
from tests.simulation.broker.client_message import Message
from tests.simulation.broker.group_member import GroupMember, State
from tests.simulation.broker.messages import Assignment, Joined, Subscription
from tests.simulation.broker.network import Answer
from tests.simulation.broker.refused import Refused

# Two joins have at least so much time between them, where nothing says that the second one is to be at once.
JOIN_EACH_US = 1_000_000

_BEATING = (State.STEADY, State.WAIT_ASSIGN_CALL, State.WAIT_UNASSIGN_CALL)
_COORDINATOR_GONE = frozenset((
    KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
))  # fmt: skip


class ClassicMember(GroupMember):
    """Eager where the strategy of its configuration is, cooperative otherwise."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        configuration = arguments[2]
        self._session_us = int(configuration.get("session.timeout.ms", 45_000)) * 1_000
        self.beat_us = int(configuration.get("heartbeat.interval.ms", 3_000)) * 1_000
        self._strategy = str(configuration.get("partition.assignment.strategy", "range")).split(",", maxsplit=1)[0].strip()
        self._session_over_us = 0
        self._join_due_us = 0
        self._join_timer_us = -1
        self._beat_sent_us = -1
        self._beating = False
        # Counts joins, so that the answers of outdated ones are recognised.
        self._attempt = 0

    def has_joined(self) -> bool:
        """Whether the group knows of it."""
        return self.member_id != ""

    # Joining.

    def begin(self) -> None:
        """Start joining."""
        self.run()
        self._join_soon()

    def join_at_once(self) -> None:
        """The next join does not wait for its turn."""
        self._join_due_us = 0

    def rejoin(self) -> None:
        """Join, at once or when it is time for it."""
        if not self.subscribed:
            self._leave_if_wanted()
        self.state = State.INIT
        self._attempt += 1
        self._join_soon()

    def _join_soon(self) -> None:
        now_us = self.kernel.now_us
        at_us = max(now_us, self._join_due_us)
        if self.subscribed and self._join_timer_us != at_us:
            self._join_timer_us = at_us
            self.context.later(at_us - now_us + self.context.network.local(), self._join)

    def _join(self) -> None:
        self._join_timer_us = -1
        now_us = self.kernel.now_us
        if self.state != State.INIT or not self.subscribed or self.fatal is not None:
            return
        if now_us < self._join_due_us:
            self._join_soon()
            return
        if not self.may_join() or self.leaving:
            self._join_due_us = now_us + JOIN_EACH_US
            self._join_soon()
            return
        self._join_due_us = now_us + JOIN_EACH_US
        self.state = State.WAIT_JOIN
        self._attempt += 1
        attempt, member_id = self._attempt, self.member_id
        subscription = Subscription(self.topics, tuple(self.assignment), self.generation)
        protocol = "cooperative-sticky" if self._strategy == "cooperative-sticky" else "eager"

        def call(reply: Answer) -> None:
            self.server.join_group(
                self.group, member_id, self.instance_id, self.client_id, self._session_us // 1_000,
                self.max_poll_us // 1_000, subscription, protocol, reply,
            )  # fmt: skip

        def answer(result: Any) -> None:
            if self.state == State.WAIT_JOIN and self._attempt == attempt:
                if type(result) is Refused:
                    self._join_refused(result)
                else:
                    self._joined(result)

        self.line.request_held("join", (member_id, subscription), call, answer, self.max_poll_us + 3_000_000)

    def _joined(self, joined: Joined) -> None:
        self.member_id = joined.member_id
        self.generation = joined.generation
        self.cooperative = self._strategy == "cooperative-sticky"
        self._session_over_us = self.kernel.now_us + self._session_us
        self.state = State.WAIT_SYNC
        if joined.leader_id != joined.member_id:
            self._sync(None)
            return
        topics = sorted({topic for member in joined.members.values() for topic in member.topics})
        attempt = self._attempt

        def count() -> dict[str, int]:
            found = {}
            for topic in topics:
                try:
                    found[topic] = self.server.partitions_of(topic)
                except Refused:
                    continue  # What is not there is shared out by the rebalance that comes when it is.
            return found

        def answer(result: Any) -> None:
            if self.state == State.WAIT_SYNC and self._attempt == attempt:
                if type(result) is Refused:
                    self.rejoin()
                else:
                    self._sync(share_out(self._strategy, joined.members, result))

        self.line.request("metadata", topics, count, answer)

    def _join_refused(self, refused: Refused) -> None:
        code = refused.code
        if code == KafkaError.FENCED_INSTANCE_ID:
            self.fail(code)
        elif code not in _COORDINATOR_GONE and code not in _EXPECTED:
            self._tell_problem(code)
        if code == KafkaError.UNKNOWN_MEMBER_ID:
            self.member_id = ""
        elif code == KafkaError.ILLEGAL_GENERATION:
            self.generation = -1
        elif code == KafkaError.MEMBER_ID_REQUIRED:
            self.member_id = refused.member_id  # type: ignore[attr-defined]
            self.join_at_once()
        if self.cooperative and code in (KafkaError.ILLEGAL_GENERATION, KafkaError.MEMBER_ID_REQUIRED):
            self.revoke_all(lost=True)
        else:
            self.rejoin()

    def _tell_problem(self, code: int) -> None:
        self.tell(Message.problem(KafkaError(code, f"JoinGroup failed: {KafkaError(code).str()}")))

    def _sync(self, assignments: Assignment | None) -> None:
        attempt, member_id, generation = self._attempt, self.member_id, self.generation

        def call(reply: Answer) -> None:
            self.server.sync_group(self.group, member_id, generation, assignments, reply, instance_id=self.instance_id)

        def answer(result: Any) -> None:
            if self.state != State.WAIT_SYNC or self._attempt != attempt:
                return
            if type(result) is not Refused:
                self._session_over_us = self.kernel.now_us + self._session_us
                if not self.closing:
                    self.take_over(result)
            elif result.code in (KafkaError._TRANSPORT, KafkaError._TIMED_OUT):
                self.context.later(100_000, lambda: self._sync_again(attempt, assignments))
            else:
                self._sync_refused(result.code)

        self.line.request_held("sync", (member_id, generation, assignments), call, answer)

    def _sync_again(self, attempt: int, assignments: Assignment | None) -> None:
        if self.state == State.WAIT_SYNC and self._attempt == attempt:
            self._sync(assignments)

    def _sync_refused(self, code: int) -> None:
        if code == KafkaError.FENCED_INSTANCE_ID:
            self.fail(code)
        elif code == KafkaError.ILLEGAL_GENERATION:
            self.generation = -1
        elif code == KafkaError.UNKNOWN_MEMBER_ID:
            self.member_id = ""
        if self.cooperative and code in (KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID):
            self.revoke_all(lost=True)
        else:
            self.rejoin()

    def assign_done(self) -> None:
        """The application knows its assignment."""
        if self.state == State.STEADY and not self.closing:
            self.rejoin_if_wanted()

    # Being a member.

    def tick(self) -> None:
        """Send a heartbeat, and see whether the session is over."""
        now_us = self.kernel.now_us
        if self.state == State.STEADY and self._session_over_us and now_us >= self._session_over_us:
            self._session_over_us = 0
            self.member_id = ""
            self.revoke_all_unless_rebalancing(lost=True)
            return
        if (
            self.state in _BEATING
            and self.subscribed
            and not self._beating
            and not self.is_silent
            and self.fatal is None
            and now_us - self._beat_sent_us >= self.beat_us
        ):
            self._beat(now_us)

    def _beat(self, now_us: int) -> None:
        self._beating = True
        self._beat_sent_us = now_us
        member_id, generation = self.member_id, self.generation
        self.line.request(
            "heartbeat",
            (member_id, generation),
            lambda: self.server.heartbeat(self.group, member_id, generation, instance_id=self.instance_id),
            self._beat_answered,
            self._session_us,
        )

    def _beat_answered(self, result: Any) -> None:
        self._beating = False
        code = result.code if type(result) is Refused else KafkaError.NO_ERROR
        if code in (KafkaError.NO_ERROR, KafkaError.REBALANCE_IN_PROGRESS) and self._session_over_us:
            self._session_over_us = self.kernel.now_us + self._session_us
        if code == KafkaError.NO_ERROR or self.state <= State.WAIT_SYNC:
            return
        if code == KafkaError.REBALANCE_IN_PROGRESS:
            if not self.waits_for_call:
                self._join_with_the_others()
        elif code == KafkaError.UNKNOWN_MEMBER_ID:
            self.member_id = ""
            self.revoke_all_unless_rebalancing(lost=True)
        elif code == KafkaError.ILLEGAL_GENERATION:
            self.generation = -1
            self.revoke_all_unless_rebalancing(lost=True)
        elif code == KafkaError.FENCED_INSTANCE_ID:
            self.fail(code)
            self.revoke_all_unless_rebalancing(lost=True)

    def _join_with_the_others(self) -> None:
        if not self.cooperative:
            self.revoke_all_unless_rebalancing(lost=False)
        elif not self.rebalancing:
            self.rejoin()

    def refused_commit(self, code: int) -> None:
        """A commit was refused for a reason that says something about the membership."""
        if code == KafkaError.UNKNOWN_MEMBER_ID:
            self.member_id = ""
            self.revoke_all_unless_rebalancing(lost=True)
        elif code == KafkaError.ILLEGAL_GENERATION and not self.rebalancing:
            self.generation = -1
            self.revoke_all_unless_rebalancing(lost=True)

    def poll_exceeded(self) -> None:
        """The group goes on without this member, which is told that everything is lost."""
        if self.instance_id is None:
            self.leave()
        self.member_id = ""
        self.revoke_all_unless_rebalancing(lost=True)

    def leave(self) -> None:
        """Send word that it leaves; nobody waits for an answer for long. Static members come back instead."""
        member_id, self.member_id = self.member_id, ""
        if self.leaving or not member_id or (self.instance_id is not None and self.closing):
            return
        self.leaving = True

        def answer(result: Any) -> None:
            self.leaving = False
            self.changed.notify()

        self.line.request(
            "leave",
            member_id,
            lambda: self.server.leave_group(self.group, member_id, instance_id=self.instance_id),
            answer,
            5_000_000,
        )


_EXPECTED = frozenset((
    KafkaError.UNKNOWN_MEMBER_ID, KafkaError.MEMBER_ID_REQUIRED, KafkaError.ILLEGAL_GENERATION,
    KafkaError.FENCED_INSTANCE_ID, KafkaError.REBALANCE_IN_PROGRESS,
))  # fmt: skip
