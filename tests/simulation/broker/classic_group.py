"""A group of the classic protocol: members join, one of them shares out, and the coordinator only hands it on.

    Empty -> PreparingRebalance (joins are collected) -> CompletingRebalance (the leader shares out) -> Stable

What stands in the coordinator's log is the group as it was when its leader last shared out (or when it became empty).
When coordinators move, that is what it goes back to.
"""

from __future__ import annotations

__all__ = ["ClassicGroup"]

import random
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from confluent_kafka import KafkaError

from tests.simulation.broker.expiry import Expiry
from tests.simulation.broker.messages import (
    CallIn,
    Described,
    GroupMember,
    Joined,
    JoinReply,
    JoinRequest,
    Place,
    SyncReply,
)
from tests.simulation.broker.options import ServerOptions
from tests.simulation.broker.refused import Refused
from tests.simulation.broker.roster import Roster, RosterMember

_EMPTY, _PREPARING, _COMPLETING, _STABLE = "Empty", "PreparingRebalance", "CompletingRebalance", "Stable"


class _Logged(NamedTuple):
    """The group in the coordinator's log."""

    generation: int
    leader: str | None
    members: tuple[tuple[str, JoinRequest, list[Place]], ...]


class ClassicGroup:
    """The coordinator's side of one group."""

    __slots__ = (
        "_call_in_ms", "_clock_ms", "_draw", "_generation", "_initial", "_initial_ms", "_join_limit", "_joined_since",
        "_logged", "_options", "_pending", "_roster", "_state", "_sync_limit", "_unsynced",
    )  # fmt: skip

    def __init__(self, clock_ms: Callable[[], int], call_in_ms: CallIn, draw: random.Random, options: ServerOptions) -> None:
        self._clock_ms = clock_ms
        self._call_in_ms = call_in_ms
        self._draw = draw
        self._options = options
        self._state = _EMPTY
        self._generation = 0
        self._roster = Roster()
        # Ids that were given out and not used yet.
        self._pending: dict[str, Expiry] = {}
        # Who has joined this generation and did not ask for its places yet.
        self._unsynced: dict[str, None] = {}
        # The first generation of a group that was empty waits for members that come a little later.
        self._initial = False
        self._initial_ms = 0
        self._joined_since = False
        self._join_limit = Expiry(clock_ms, call_in_ms, self._end_wait)
        self._sync_limit = Expiry(clock_ms, call_in_ms, self._drop_unsynced)
        self._logged = _Logged(0, None, ())

    @property
    def is_empty(self) -> bool:
        return self._state == _EMPTY

    # Joining.

    def join(self, member_id: str, request: JoinRequest, reply: JoinReply) -> None:
        """Join, or join again; the answer comes when all have, or when those who have not are given up."""
        roster = self._roster
        if not self._options.session_min_ms <= request.session_ms <= self._options.session_max_ms:
            reply(Refused(KafkaError.INVALID_SESSION_TIMEOUT))
        elif roster.members and request.protocol != roster.protocol:
            reply(Refused(KafkaError.INCONSISTENT_GROUP_PROTOCOL))
        elif not member_id:
            self._join_new(request, reply)
        elif member_id in self._pending:
            self._pending.pop(member_id).cancel()
            self._add(member_id, request, reply)
        else:
            try:
                member = roster.find(member_id, request.instance_id)
            except Refused as refused:
                reply(refused)
            else:
                self._join_again(member, request, reply)

    def _join_new(self, request: JoinRequest, reply: JoinReply) -> None:
        member_id = f"{request.instance_id or request.client_id}-{self._draw.getrandbits(64):016x}"
        if request.instance_id is None:
            # Who does not come back with the id, because the answer was lost, is waited for no longer than a session.
            limit = Expiry(self._clock_ms, self._call_in_ms, lambda: self._expired(member_id))
            limit.put_off(request.session_ms)
            self._pending[member_id] = limit
            reply(Refused(KafkaError.MEMBER_ID_REQUIRED, member_id))
            return
        old = self._roster.static(request.instance_id)
        if old is None:
            self._add(member_id, request, reply)
        else:
            self._replace(old, member_id, request, reply)

    def _join_again(self, member: RosterMember, request: JoinRequest, reply: JoinReply) -> None:
        leads = member.member_id == self._roster.leader
        changes = (
            self._state == _PREPARING
            # A leader that joins again may have seen what is not in any subscription: that a topic has changed.
            or (self._state == _STABLE and leads)
            or request.subscription != member.request.subscription
        )
        if changes:
            member.request = request._replace(client_id=member.request.client_id)
            member.join_reply = reply
            self._rebalance()
        else:
            # It did not get the answer, so it gets it again.
            told = self._roster.subscriptions() if leads else {}
            reply(Joined(member.member_id, self._generation, self._roster.leader or "", told))

    def _add(self, member_id: str, request: JoinRequest, reply: JoinReply) -> None:
        member = self._new_member(member_id, request)
        member.join_reply = reply
        self._roster.add(member)
        if self._state == _PREPARING and self._initial:
            self._joined_since = True
        # It sends no heartbeats while it waits for its first answer.
        member.session.put_off(self._options.first_join_ms)
        self._rebalance()

    def _new_member(self, member_id: str, request: JoinRequest) -> RosterMember:
        session = Expiry(self._clock_ms, self._call_in_ms, lambda: self._expired(member_id))
        return RosterMember(member_id, request, session)

    def _replace(self, old: RosterMember, member_id: str, request: JoinRequest, reply: JoinReply) -> None:
        """A static member comes back, under a new id. Its client id stays that of whoever came first."""
        leader = self._roster.leader
        member = self._new_member(member_id, request._replace(client_id=old.request.client_id))
        self._roster.replace(old, member)
        self._unsynced.pop(old.member_id, None)
        member.live()
        if self._state == _STABLE:
            # Nobody else notices; it is told the old leader, so it does not share out itself.
            self._log()
            reply(Joined(member_id, self._generation, leader or "", {}))
            return
        member.join_reply = reply
        if self._state == _COMPLETING:
            self._prepare()
        else:
            self._maybe_complete_join()

    # Rebalancing.

    def _rebalance(self) -> None:
        if self._state == _PREPARING:
            self._maybe_complete_join()
        else:
            self._prepare()

    def _prepare(self) -> None:
        if self._state == _COMPLETING:
            self._hand_on({}, Refused(KafkaError.REBALANCE_IN_PROGRESS))
        self._sync_limit.cancel()
        self._unsynced.clear()
        self._initial = self._state == _EMPTY
        self._state = _PREPARING
        if self._initial:
            self._initial_ms = max(self._roster.rebalance_ms() - self._options.initial_rebalance_ms, 0)
            self._joined_since = False
            self._join_limit.put_off(self._options.initial_rebalance_ms)
        elif self._all_joined():
            self._complete_join()
        else:
            self._join_limit.put_off(self._roster.rebalance_ms())

    def _end_wait(self) -> None:
        """Enough was waited for joins; a group that was empty waits once more when others came meanwhile."""
        if self._initial and self._joined_since and self._initial_ms:
            self._joined_since = False
            delay_ms = min(self._options.initial_rebalance_ms, self._initial_ms)
            self._initial_ms = max(self._initial_ms - self._options.initial_rebalance_ms, 0)
            self._join_limit.put_off(delay_ms)
        else:
            self._complete_join()

    def _all_joined(self) -> bool:
        return not self._pending and self._roster.all_joined()

    def _maybe_complete_join(self) -> None:
        if self._state == _PREPARING and not self._initial and self._all_joined():
            self._complete_join()

    def _complete_join(self) -> None:
        """The next generation: of all that have joined, and of static members even where they have not."""
        roster = self._roster
        self._join_limit.cancel()
        for member in list(roster.members.values()):
            if member.join_reply is None and member.request.instance_id is None:
                roster.remove(member)
        if roster.members and not roster.elect():
            self._join_limit.put_off(roster.rebalance_ms())
            return
        self._generation += 1
        self._initial = False
        if not roster.members:
            self._state = _EMPTY
            self._log()
            return
        self._state = _COMPLETING
        told = roster.subscriptions()
        leader = roster.leader or ""
        for member_id, member in roster.members.items():
            member.live()
            member.is_new = False
            self._unsynced[member_id] = None
        self._sync_limit.put_off(roster.rebalance_ms())
        generation = self._generation
        # Whoever is answered may say the next thing at once, and be gone by that.
        for member_id, member in list(roster.members.items()):
            if roster.members.get(member_id) is member:
                member.answer_join(Joined(member_id, generation, leader, told if member_id == leader else {}))

    # Sharing out.

    def sync(
        self,
        member_id: str,
        instance_id: str | None,
        generation: int,
        assignments: Mapping[str, Sequence[Place]] | None,
        reply: SyncReply,
    ) -> None:
        """Ask for one's places; the leader's *assignments* are what everybody gets."""
        try:
            member = self._roster.find(member_id, instance_id)
            self._check_generation(generation)
            if self._state == _PREPARING:
                raise Refused(KafkaError.REBALANCE_IN_PROGRESS)
        except Refused as refused:
            reply(refused)
            return
        self._unsynced.pop(member_id, None)
        if not self._unsynced:
            self._sync_limit.cancel()
        if self._state == _STABLE:
            reply(list(member.places))
            return
        member.sync_reply = reply
        if member_id == self._roster.leader:
            self._state = _STABLE
            self._hand_on(assignments or {}, None)
            self._log()

    def _hand_on(self, assignments: Mapping[str, Sequence[Place]], refused: Refused | None) -> None:
        for member_id, member in self._roster.members.items():
            member.places = list(assignments.get(member_id, ()))
            if member.answer_sync(refused or list(member.places)):
                member.live()

    def _drop_unsynced(self) -> None:
        """Members that joined and then did not ask for their places are given up."""
        for member_id in self._unsynced:
            self._roster.remove(self._roster.members[member_id])
        self._prepare()

    # Signs of life, and of death.

    def heartbeat(self, member_id: str, instance_id: str | None, generation: int) -> None:
        member = self._roster.find(member_id, instance_id)
        self._check_generation(generation)
        member.live()
        if self._state == _PREPARING:
            raise Refused(KafkaError.REBALANCE_IN_PROGRESS)

    def leave(self, member_id: str, instance_id: str | None) -> None:
        pending = self._pending.pop(member_id, None)
        if pending is not None:
            pending.cancel()
        else:
            self._remove(self._roster.find(member_id, instance_id))
        if self._state in (_STABLE, _COMPLETING):
            self._prepare()
        else:
            self._maybe_complete_join()

    def _expired(self, member_id: str) -> None:
        if self._pending.pop(member_id, None) is None:
            member = self._roster.members[member_id]
            if member.waits and not member.is_new:
                return
            self._remove(member)
            if self._state in (_STABLE, _COMPLETING):
                self._prepare()
                return
        if self._state == _PREPARING and self._all_joined():
            self._complete_join()

    def _remove(self, member: RosterMember) -> None:
        self._roster.remove(member)
        self._unsynced.pop(member.member_id, None)
        member.answer_join(Refused(KafkaError.UNKNOWN_MEMBER_ID))

    def _check_generation(self, generation: int) -> None:
        if generation != self._generation:
            raise Refused(KafkaError.ILLEGAL_GENERATION)

    # Commits.

    def check_commit(self, member_id: str, instance_id: str | None, generation: int, transactional: bool) -> None:
        """Whether this may be a commit of a member; whose the places are is not looked at."""
        if generation < 0 and self._state == _EMPTY:
            return
        if generation >= 0 or member_id or instance_id is not None:
            member = self._roster.find(member_id, instance_id)
            self._check_generation(generation)
            if not transactional and self._state in (_STABLE, _PREPARING):
                member.live()
        elif not transactional:
            raise Refused(KafkaError.UNKNOWN_MEMBER_ID)
        if not transactional and self._state == _COMPLETING:
            raise Refused(KafkaError.REBALANCE_IN_PROGRESS)

    # Looking, and moving to another broker.

    def describe(self) -> Described:
        stable = self._state == _STABLE
        members = [
            GroupMember(member_id, each.request.client_id, each.request.instance_id, list(each.places) if stable else [])
            for member_id, each in self._roster.members.items()
        ]
        return Described(self._state, members)

    def _log(self) -> None:
        members = self._roster.members.items()
        self._logged = _Logged(
            self._generation,
            self._roster.leader,
            tuple((member_id, member.request, member.places) for member_id, member in members),
        )

    def restart(self) -> None:
        """Another broker takes over, with what stands in the log."""
        for member in self._roster.members.values():
            member.session.cancel()
            member.answer_both(Refused(KafkaError.NOT_COORDINATOR))
        for limit in self._pending.values():
            limit.cancel()
        self._join_limit.cancel()
        self._sync_limit.cancel()
        self._pending.clear()
        self._unsynced.clear()
        self._initial = False
        self._roster = Roster()
        self._generation, leader, members = self._logged
        self._state = _STABLE if members else _EMPTY
        for member_id, request, places in members:
            member = self._new_member(member_id, request)
            member.is_new = False
            member.places = places
            self._roster.add(member)
            member.live()
        self._roster.leader = leader
