"""A group of the consumer protocol (KIP-848): the coordinator shares out, and each member moves towards that on its own.

The group's epoch rises when members or topics change; the target assignment follows it, and members follow the target, each
in its own heartbeats: it gives up first what is not its any more, and what it gains it gets when nobody has it any more.

All of this stands in the coordinator's log, so when coordinators move only the time limits begin anew.
"""

from __future__ import annotations

__all__ = ["ConsumerGroup"]

from collections.abc import Callable, Iterable, Sequence

from confluent_kafka import KafkaError

from tests.simulation.broker.expiry import Expiry
from tests.simulation.broker.messages import CallIn, Described, GroupMember, Place
from tests.simulation.broker.options import ServerOptions
from tests.simulation.broker.refused import Refused
from tests.simulation.broker.uniform_assignor import assigned

_STABLE, _UNREVOKED, _UNRELEASED = range(3)

_LEAVES, _LEAVES_FOR_A_WHILE = -1, -2
"""Member epochs that say so."""

_REBALANCE_MS = 300_000


class _Member:
    """A member. Of *held* and *revoked* places the epoch is known in which they were assigned."""

    __slots__ = (
        "client_id", "epoch", "epoch_before", "held", "instance_id", "member_id", "rebalance_ms", "revocation", "revoked",
        "session", "state", "topics",
    )  # fmt: skip

    def __init__(self, member_id: str, instance_id: str | None, session: Expiry, revocation: Expiry) -> None:
        self.member_id = member_id
        self.instance_id = instance_id
        self.client_id = ""
        self.topics: tuple[str, ...] = ()
        self.rebalance_ms = _REBALANCE_MS
        self.epoch = 0
        self.epoch_before = 0
        self.state = _STABLE
        self.held: dict[Place, int] = {}
        self.revoked: dict[Place, int] = {}
        self.session = session
        self.revocation = revocation

    def move_to(self, epoch: int) -> None:
        self.epoch_before = self.epoch
        self.epoch = epoch


class ConsumerGroup:
    """The coordinator's side of one group; *partitions_of* gives 0 for a topic that is not there."""

    __slots__ = (
        "_assigned_ms", "_call_in_ms", "_clock_ms", "_epoch", "_members", "_options", "_owners", "_partitions",
        "_partitions_of", "_static", "_target_epoch", "_targets", "topics_changed",
    )  # fmt: skip

    def __init__(
        self,
        clock_ms: Callable[[], int],
        call_in_ms: CallIn,
        options: ServerOptions,
        partitions_of: Callable[[str], int],
    ) -> None:
        self._clock_ms = clock_ms
        self._call_in_ms = call_in_ms
        self._options = options
        self._partitions_of = partitions_of
        self._partitions: dict[str, int] = {}
        self._members: dict[str, _Member] = {}
        self._static: dict[str, str] = {}
        # Who has a place, or has not said yet that it gave it up.
        self._owners: dict[Place, str] = {}
        self._epoch = 0
        self._target_epoch = 0
        self._targets: dict[str, dict[Place, None]] = {}
        self._assigned_ms: int | None = None
        self.topics_changed = False
        """Set when a topic came, or changed; the next heartbeat looks."""

    @property
    def is_empty(self) -> bool:
        return not self._members

    # Heartbeats.

    def heartbeat(
        self,
        member_id: str,
        epoch: int,
        instance_id: str | None,
        client_id: str,
        topics: Sequence[str] | None,
        owned: Sequence[Place] | None,
        rebalance_ms: int | None,
    ) -> tuple[int, int, list[Place] | None]:
        """What a member says; gives its epoch, the interval of heartbeats, and its places where it is to know."""
        if epoch < 0:
            self._leave(member_id, epoch, instance_id)
            return epoch, self._options.consumer_heartbeat_ms, None
        member = self._heard(member_id, epoch, instance_id, owned)
        member.client_id = client_id
        if rebalance_ms is not None:
            member.rebalance_ms = rebalance_ms
        wanted = member.topics if topics is None else tuple(sorted(dict.fromkeys(topics)))
        if wanted != member.topics:
            member.topics = wanted
            self._epoch += 1
        elif self.topics_changed and self._partitions != self._partitions_now():
            self._epoch += 1
        self.topics_changed = False
        if self._target_epoch < self._epoch:
            self._assign()
        before = member.held
        self._reconcile(member, owned)
        member.session.put_off(self._options.consumer_session_ms)
        in_full = epoch == 0 or (topics is not None and owned is not None)
        changed = before.keys() != member.held.keys()
        return member.epoch, self._options.consumer_heartbeat_ms, list(member.held) if in_full or changed else None

    def _heard(self, member_id: str, epoch: int, instance_id: str | None, owned: Sequence[Place] | None) -> _Member:
        if instance_id is not None:
            return self._heard_static(member_id, epoch, instance_id, owned)
        member = self._members.get(member_id)
        if member is None:
            if epoch:
                raise Refused(KafkaError.UNKNOWN_MEMBER_ID)
            return self._add(member_id, None)
        self._check_epoch(member, epoch, owned)
        return member

    def _heard_static(self, member_id: str, epoch: int, instance_id: str, owned: Sequence[Place] | None) -> _Member:
        known = self._static.get(instance_id)
        if epoch == 0:
            if known is None:
                return self._add(member_id, instance_id)
            if self._members[known].epoch != _LEAVES_FOR_A_WHILE:
                raise Refused(KafkaError.UNRELEASED_INSTANCE_ID)
            return self._replace(known, member_id)
        member = self._static_member(member_id, instance_id)
        self._check_epoch(member, epoch, owned)
        return member

    def _static_member(self, member_id: str, instance_id: str) -> _Member:
        known = self._static.get(instance_id)
        if known != member_id:
            raise Refused(KafkaError.UNKNOWN_MEMBER_ID if known is None else KafkaError.FENCED_INSTANCE_ID)
        return self._members[member_id]

    @staticmethod
    def _check_epoch(member: _Member, epoch: int, owned: Sequence[Place] | None) -> None:
        """An epoch of before is taken once more where the answer with the new one may have been lost."""
        if epoch == 0 or epoch == member.epoch:
            return
        answer_lost = epoch == member.epoch_before and owned is not None and all(place in member.held for place in owned)
        if epoch > member.epoch or not answer_lost:
            raise Refused(KafkaError.FENCED_MEMBER_EPOCH)

    # Members that come and go.

    def _add(self, member_id: str, instance_id: str | None) -> _Member:
        session = Expiry(self._clock_ms, self._call_in_ms, lambda: self._fence(member_id))
        revocation = Expiry(self._clock_ms, self._call_in_ms, lambda: self._fence(member_id))
        member = self._members[member_id] = _Member(member_id, instance_id, session, revocation)
        if instance_id is not None:
            self._static[instance_id] = member_id
        return member

    def _replace(self, old_id: str, member_id: str) -> _Member:
        """A static member comes back under another id, to what it had."""
        old = self._members.pop(old_id)
        old.session.cancel()
        old.revocation.cancel()
        member = self._add(member_id, old.instance_id)
        member.topics, member.state, member.held = old.topics, old.state, old.held
        self._targets[member_id] = self._targets.pop(old_id, {})
        for place in member.held:
            self._owners[place] = member_id
        return member

    def _leave(self, member_id: str, epoch: int, instance_id: str | None) -> None:
        if instance_id is not None:
            member = self._static_member(member_id, instance_id)
        elif member_id in self._members:
            member = self._members[member_id]
        else:
            raise Refused(KafkaError.UNKNOWN_MEMBER_ID)
        if epoch == _LEAVES or instance_id is None:
            self._fence(member_id)
            return
        # A static member that comes back within its session finds its places as they were.
        member.epoch = _LEAVES_FOR_A_WHILE
        member.held = dict.fromkeys(member.held, 0)
        self._set_places(member, member.held, {})
        member.revocation.cancel()

    def _fence(self, member_id: str) -> None:
        """The member is none any more, and what it had is free."""
        member = self._members.pop(member_id)
        member.session.cancel()
        member.revocation.cancel()
        self._set_places(member, {}, {})
        self._targets.pop(member_id, None)
        if member.instance_id is not None:
            del self._static[member.instance_id]
        self._epoch += 1

    # Sharing out.

    def _assign(self) -> None:
        now_ms = self._clock_ms()
        if self._assigned_ms is not None and now_ms < self._assigned_ms + self._options.assignment_interval_ms:
            return  # Members that come shortly one after another are not worth an assignment each.
        self._assigned_ms = now_ms
        subscriptions = {member_id: member.topics for member_id, member in self._members.items()}
        self._partitions = self._partitions_now()
        self._targets = assigned(subscriptions, self._partitions, self._targets)
        self._target_epoch = self._epoch

    def _partitions_now(self) -> dict[str, int]:
        topics = dict.fromkeys(topic for member in self._members.values() for topic in member.topics)
        return {topic: self._partitions_of(topic) for topic in topics}

    def _reconcile(self, member: _Member, owned: Sequence[Place] | None) -> None:
        """Move a member towards what it is to have."""
        epoch = member.epoch
        if member.state == _STABLE and epoch == self._target_epoch:
            return
        if member.state == _UNREVOKED:
            if _holds_any(owned, member.revoked):
                return
            epoch += 1
        target = self._targets.get(member.member_id, {})
        kept = {place: since for place, since in member.held.items() if place in target}
        revoked = {place: since for place, since in member.held.items() if place not in target}
        if revoked and _holds_any(owned, revoked):
            member.state = _UNREVOKED
            member.move_to(epoch)
            self._set_places(member, kept, revoked)
            member.revocation.put_off(member.rebalance_ms)
            return
        released = True
        for place in target:
            if place not in kept:
                if place in self._owners:
                    released = False
                else:
                    kept[place] = self._target_epoch
        member.state = _STABLE if released else _UNRELEASED
        member.move_to(self._target_epoch)
        self._set_places(member, kept, {})
        member.revocation.cancel()

    def _set_places(self, member: _Member, held: dict[Place, int], revoked: dict[Place, int]) -> None:
        owners = self._owners
        for place in (*member.held, *member.revoked):
            if owners.get(place) == member.member_id:
                del owners[place]
        member.held, member.revoked = held, revoked
        for place in (*held, *revoked):
            owners[place] = member.member_id

    # Offsets.

    def check_commit(
        self, member_id: str, instance_id: str | None, epoch: int, transactional: bool, places: Iterable[Place]
    ) -> None:
        """Whether this may be a commit of a member. With its current epoch, whose the places are is not looked at.

        With an older one (KIP-1251) they have to be its own, and have been in that epoch.
        """
        if epoch < 0 and not self._members:
            return
        if transactional and epoch == -1 and not member_id and instance_id is None:
            return
        member = self._member(member_id)
        if epoch == member.epoch:
            return
        for place in places:
            since = member.held.get(place, member.revoked.get(place))
            if epoch > member.epoch or since is None or epoch < since:
                raise Refused(KafkaError.ILLEGAL_GENERATION if transactional else KafkaError.STALE_MEMBER_EPOCH)

    def check_fetch(self, member_id: str | None, epoch: int) -> None:
        """Whether committed offsets are told to a member. Raises UNKNOWN_MEMBER_ID, STALE_MEMBER_EPOCH."""
        if member_id is None and epoch < 0:
            return
        if self._member(member_id or "").epoch != epoch:
            raise Refused(KafkaError.STALE_MEMBER_EPOCH)

    def _member(self, member_id: str) -> _Member:
        member = self._members.get(member_id)
        if member is None:
            raise Refused(KafkaError.UNKNOWN_MEMBER_ID)
        return member

    # Looking, and moving to another broker.

    def describe(self) -> Described:
        members = self._members.values()
        if not members:
            state = "Empty"
        elif self._epoch > self._target_epoch:
            state = "Assigning"
        elif any(member.state != _STABLE or member.epoch != self._target_epoch for member in members):
            state = "Reconciling"
        else:
            state = "Stable"
        return Described(
            state,
            [GroupMember(each.member_id, each.client_id, each.instance_id, list(each.held)) for each in members],
        )

    def restart(self) -> None:
        """Another broker takes over."""
        for member in self._members.values():
            member.session.put_off(self._options.consumer_session_ms)
            if member.state == _UNREVOKED:
                member.revocation.put_off(member.rebalance_ms)


def _holds_any(owned: Sequence[Place] | None, revoked: dict[Place, int]) -> bool:
    """Whether a member that says what it has (or does not) still has one of these."""
    return owned is None or any(place in revoked for place in owned)
