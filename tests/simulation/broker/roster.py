"""The members of a classic group: who there is, who leads, and who waits for an answer."""

from __future__ import annotations

__all__ = ["Roster", "RosterMember"]

from confluent_kafka import KafkaError

from tests.simulation.broker.expiry import Expiry
from tests.simulation.broker.messages import Joined, JoinReply, JoinRequest, Place, Subscription, SyncReply
from tests.simulation.broker.refused import Refused


class RosterMember:
    """A member; *join_reply* and *sync_reply* are the answers that it waits for."""

    __slots__ = ("is_new", "join_reply", "member_id", "places", "request", "session", "sync_reply")

    def __init__(self, member_id: str, request: JoinRequest, session: Expiry) -> None:
        self.member_id = member_id
        self.request = request
        self.session = session
        self.places: list[Place] = []
        self.is_new = True
        self.join_reply: JoinReply | None = None
        self.sync_reply: SyncReply | None = None

    @property
    def waits(self) -> bool:
        """Whether it waits for an answer; meanwhile it sends no heartbeats."""
        return self.join_reply is not None or self.sync_reply is not None

    def answer_join(self, answer: Joined | Refused) -> None:
        reply, self.join_reply = self.join_reply, None
        if reply is not None:
            reply(answer)

    def answer_sync(self, answer: list[Place] | Refused) -> bool:
        """Whether it waited for that."""
        reply, self.sync_reply = self.sync_reply, None
        if reply is None:
            return False
        reply(answer)
        return True

    def answer_both(self, answer: Refused) -> None:
        self.answer_join(answer)
        self.answer_sync(answer)

    def live(self) -> None:
        """A sign of life."""
        self.session.put_off(self.request.session_ms)


class Roster:
    """The members, by id and in the order in which they came; the first of them leads, and another when that one goes."""

    __slots__ = ("_static", "leader", "members", "protocol")

    def __init__(self) -> None:
        self.members: dict[str, RosterMember] = {}
        self.leader: str | None = None
        self.protocol = ""
        self._static: dict[str, str] = {}

    def find(self, member_id: str, instance_id: str | None) -> RosterMember:
        """Raises UNKNOWN_MEMBER_ID; FENCED_INSTANCE_ID for a static member in whose place another one has come."""
        if instance_id is not None:
            known = self._static.get(instance_id)
            if known != member_id:
                raise Refused(KafkaError.UNKNOWN_MEMBER_ID if known is None else KafkaError.FENCED_INSTANCE_ID)
        member = self.members.get(member_id)
        if member is None:
            raise Refused(KafkaError.UNKNOWN_MEMBER_ID)
        return member

    def static(self, instance_id: str) -> RosterMember | None:
        """The static member of that name."""
        member_id = self._static.get(instance_id)
        return None if member_id is None else self.members[member_id]

    def add(self, member: RosterMember) -> None:
        if not self.members:
            self.protocol = member.request.protocol
        self.members[member.member_id] = member
        if member.request.instance_id is not None:
            self._static[member.request.instance_id] = member.member_id
        if self.leader is None:
            self.leader = member.member_id

    def remove(self, member: RosterMember) -> None:
        member.session.cancel()
        del self.members[member.member_id]
        if member.request.instance_id is not None:
            del self._static[member.request.instance_id]
        if self.leader == member.member_id:
            self.leader = next(iter(self.members), None)

    def replace(self, old: RosterMember, member: RosterMember) -> None:
        """A static member has come back: what was the old one's is the new one's, and the old one is fenced."""
        leads = self.leader == old.member_id
        self.remove(old)
        self.add(member)
        if leads:
            self.leader = member.member_id
        member.is_new = False
        member.places = old.places
        old.answer_both(Refused(KafkaError.FENCED_INSTANCE_ID))

    # Joining.

    def all_joined(self) -> bool:
        return all(member.join_reply is not None for member in self.members.values())

    def elect(self) -> bool:
        """Whether there is a leader that has joined; another one leads where the old one has not."""
        if self.leader is not None and self.members[self.leader].join_reply is not None:
            return True
        for member_id, member in self.members.items():
            if member.join_reply is not None:
                self.leader = member_id
                return True
        return False

    def subscriptions(self) -> dict[str, Subscription]:
        return {member_id: member.request.subscription for member_id, member in self.members.items()}

    def rebalance_ms(self) -> int:
        """How long all wait for the slowest."""
        return max((member.request.rebalance_ms for member in self.members.values()), default=0)
