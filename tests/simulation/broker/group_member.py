"""The part of a consumer that belongs to a group, as librdkafka has it for every protocol: the steps of a rebalance.

What the group gives and takes is put before the application as an event, and goes on when that has called ``assign`` or
one of its kin; until then nothing is read. So callbacks happen in calls of the application, and nowhere else.
"""

from __future__ import annotations

__all__ = ["ASSIGN", "REVOKE", "GroupMember", "Rebalance", "State"]

from abc import ABC, abstractmethod
from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple

from confluent_kafka import KafkaError

from tests.simulation.broker.client_context import Context
from tests.simulation.broker.client_message import Message
from tests.simulation.broker.fetcher import Fetcher
from tests.simulation.broker.messages import Place
from tests.simulation.broker.network import Line
from tests.simulation.kernel import Signal

ASSIGN, REVOKE = "assign", "revoke"


class Rebalance(NamedTuple):
    """What the application is to be told of: these are its own from now on, or are not any more."""

    kind: str
    places: list[Place]


class State(IntEnum):
    """Where a member is on its way into the group and through its rebalances."""

    INIT = 0
    WAIT_JOIN = 1
    WAIT_SYNC = 2
    WAIT_ASSIGN_CALL = 3
    WAIT_UNASSIGN_CALL = 4
    WAIT_UNASSIGN_TO_COMPLETE = 5
    WAIT_INCR_UNASSIGN_TO_COMPLETE = 6
    STEADY = 7


_CALLS = (State.WAIT_ASSIGN_CALL, State.WAIT_UNASSIGN_CALL)
_COMPLETING = (State.WAIT_UNASSIGN_TO_COMPLETE, State.WAIT_INCR_UNASSIGN_TO_COMPLETE)

# How often it is looked whether a session, or the time between two polls, is over.
TICK_US = 500_000


class GroupMember(ABC):
    """See the module's text. *tell* takes what the application is to be told of."""

    def __init__(
        self,
        context: Context,
        line: Line,
        configuration: dict[str, Any],
        topics: list[str],
        fetcher: Fetcher,
        tell: Callable[[Rebalance | Message], None],
    ) -> None:
        self.context = context
        self.line = line
        self.server = context.server
        self.kernel = context.kernel
        self.group: str = configuration["group.id"]
        self.instance_id: str | None = configuration.get("group.instance.id")
        self.client_id = str(configuration.get("client.id", "rdkafka"))
        self.max_poll_us = int(configuration.get("max.poll.interval.ms", 300_000)) * 1_000
        self.topics = tuple(topics)
        self.fetcher = fetcher
        self.tell = tell
        self.changed = Signal()
        """Comes when the member has left, or may have."""
        self.state = State.INIT
        self.member_id = ""
        self.generation = -1
        self.assignment: list[Place] = []
        """What the group has given to it, as far as it has been put before the application."""
        self.has_assignment = False
        self.lost = False
        """Whether somebody else may have that already."""
        self.fatal: KafkaError | None = None
        self.closing = False
        self.leaving = False
        """Whether a request to leave is under way."""
        self.subscribed = True
        self.stopped = False
        """Whether the consumer is closed."""
        self._leaves_then = False
        self._rejoins = False
        self._next: list[Place] | None = None
        self._completing = False
        self._polls_since_us: int | None = None
        self._polled_us = self.kernel.now_us
        self._poll_exceeded = False
        self._watches_polls = False
        self._ticking = False
        self.beat_us = 0

    # What the protocols do in their own ways.

    cooperative: bool | None = None
    """Whether rebalances are incremental; None where that is not known yet."""

    @abstractmethod
    def begin(self) -> None:
        """Start joining."""

    @abstractmethod
    def rejoin(self) -> None:
        """All that was to be given up is given up; join again."""

    @abstractmethod
    def leave(self) -> None:
        """Send word that it leaves."""

    @abstractmethod
    def tick(self) -> None:
        """Some time has passed."""

    @abstractmethod
    def has_joined(self) -> bool:
        """Whether the group knows of it."""

    @abstractmethod
    def assign_done(self) -> None:
        """The application has been told of everything, and has called ``assign``."""

    # Time.

    def run(self) -> None:
        """Look after the time from now on."""
        if not self._ticking:
            self._ticking = True
            self.context.later(self._tick_us(), self._tick)

    def _tick_us(self) -> int:
        return min(TICK_US, self.beat_us or TICK_US)

    def _tick(self) -> None:
        if self.stopped:
            return
        self._check_polls()
        self.tick()
        self.context.later(self._tick_us(), self._tick)

    def polling(self, begins: bool) -> None:
        """The application polls, or has done so."""
        self._polled_us = self.kernel.now_us
        self._polls_since_us = self._polled_us if begins else None

    def polls_too_late(self) -> bool:
        """Whether the application has not polled for too long."""
        return self._polls_since_us is None and self.kernel.now_us - self._polled_us > self.max_poll_us

    def _check_polls(self) -> None:
        if self._watches_polls and not self._poll_exceeded and self.polls_too_late():
            self._poll_exceeded = True
            self._watches_polls = False
            self.tell(Message.problem(KafkaError(KafkaError._MAX_POLL_EXCEEDED)))
            self.poll_exceeded()

    @abstractmethod
    def poll_exceeded(self) -> None:
        """The application has not polled for too long."""

    def may_join(self) -> bool:
        """A member that did not poll in time joins again when it polls."""
        if self._poll_exceeded and self.polls_too_late():
            return False
        self._poll_exceeded = False
        return True

    @property
    def is_silent(self) -> bool:
        """Whether it sends no heartbeats, because the application does not poll."""
        return self._poll_exceeded

    # Rebalances.

    @property
    def rebalancing(self) -> bool:
        """Whether a rebalance is in progress."""
        return (
            (self.state == State.WAIT_JOIN and self.has_joined())
            or self.state == State.WAIT_SYNC
            or self.state in _CALLS
            or self.state in _COMPLETING
            or self._next is not None
            or self._rejoins
        )

    @property
    def waits_for_call(self) -> bool:
        """Whether the application has to call ``assign`` or one of its kin."""
        return self.state in _CALLS

    def take_over(self, assignment: list[Place]) -> None:
        """The group says which places this member has."""
        if not self.cooperative:
            self._put_all(ASSIGN, assignment)
            return
        added = [place for place in assignment if place not in self.assignment]
        revoked = [place for place in self.assignment if place not in assignment]
        if revoked:
            self._next = added
            self._put(REVOKE, revoked, rejoins=False)
        else:
            self._put(ASSIGN, added, rejoins=False)

    def _put(self, kind: str, places: list[Place], *, rejoins: bool) -> None:
        """Put a part of the assignment before the application."""
        places = list(places)
        self._rejoins = rejoins
        if self.fatal is not None:
            self._unassign()
        else:
            self.state = State.WAIT_ASSIGN_CALL if kind == ASSIGN else State.WAIT_UNASSIGN_CALL
            self.fetcher.hold(True)
            self.tell(Rebalance(kind, places))
        if kind == ASSIGN:
            self.assignment = sorted({*self.assignment, *places})
        else:
            self.assignment = [place for place in self.assignment if place not in places]
        self.has_assignment = bool(self.assignment)

    def _put_all(self, kind: str, places: list[Place]) -> None:
        """Put the whole assignment before the application."""
        if self.fatal is not None:
            self._unassign()
        else:
            self.state = State.WAIT_ASSIGN_CALL if kind == ASSIGN else State.WAIT_UNASSIGN_CALL
            self.fetcher.hold(True)
            self.tell(Rebalance(kind, list(places)))
        self.assignment = sorted(places) if kind == ASSIGN else []
        self.has_assignment = kind == ASSIGN

    def revoke_all_unless_rebalancing(self, *, lost: bool) -> None:
        """Give up everything and join again, unless something is on its way already."""
        if not self.rebalancing:
            self.revoke_all(lost=lost)

    def revoke_all(self, *, lost: bool) -> None:
        """Give up everything, and then join again."""
        if not self.cooperative:
            self.lost = self.lost or lost
            if self.has_assignment and not self.waits_for_call:
                self._put_all(REVOKE, self.assignment)
            else:
                self.rejoin()
            return
        if self.assignment:
            self.lost = self.lost or lost
            self._put(REVOKE, self.assignment, rejoins=not self.closing)
        elif not self.closing:
            self.rejoin()

    # What the application calls.

    def assigned(self) -> None:
        """The application has called ``assign`` or ``incremental_assign``, and what it said is so."""
        if self.state == State.WAIT_ASSIGN_CALL:
            self.fetcher.hold(False)
            self.state = State.STEADY
            if self.subscribed:
                self._watches_polls = True
                self._polled_us = self.kernel.now_us
        self.lost = False
        self._complete_soon()

    def unassigned(self, *, whole: bool) -> None:
        """The application has called ``unassign`` or ``incremental_unassign``, and what it said is so."""
        if self.state == State.WAIT_UNASSIGN_CALL:
            self.fetcher.hold(False)
            self.state = State.WAIT_UNASSIGN_TO_COMPLETE if whole else State.WAIT_INCR_UNASSIGN_TO_COMPLETE
        self.lost = False
        self._complete_soon()

    def ending_call(self) -> None:
        """The application has called any of these while the member leaves: all is unassigned."""
        self._next = None
        if self.state == State.WAIT_ASSIGN_CALL:
            self.state = State.WAIT_UNASSIGN_CALL
        self._unassign()

    def _unassign(self) -> None:
        self.fetcher.clear()
        self.unassigned(whole=True)

    def _complete_soon(self) -> None:
        if not self._completing:
            self._completing = True
            self.context.later(self.context.network.local(), self._complete)

    def _complete(self) -> None:
        """What was unassigned is not read any more."""
        self._completing = False
        if self.state == State.WAIT_UNASSIGN_TO_COMPLETE:
            self._leave_if_wanted()
            self.join_at_once()
            self.rejoin()
        elif self.state == State.WAIT_INCR_UNASSIGN_TO_COMPLETE:
            self._incremental_complete()
        elif self.state in (State.INIT, State.STEADY):
            self.assign_done()
        self.changed.notify()

    def _incremental_complete(self) -> None:
        if self.closing:
            self._unassign()
            self._leave_if_wanted()
        elif self._next is not None:
            added, self._next = self._next, None
            self._put(ASSIGN, added, rejoins=self.rejoins_after_revoke)
        elif self._rejoins:
            self._rejoins = False
            self.join_at_once()
            self.rejoin()
        else:
            self.state = State.STEADY

    rejoins_after_revoke = True
    """Whether what was given up is to be shared out by another rebalance."""

    def rejoin_if_wanted(self) -> bool:
        """Join again where a rebalance asked for it."""
        if not self._rejoins:
            return False
        self._rejoins = False
        self.join_at_once()
        self.rejoin()
        return True

    def join_at_once(self) -> None:  # noqa: B027 (members of one protocol have turns to wait for, and others have none)
        """The next join does not wait for its turn."""

    # The end.

    def _leave_if_wanted(self) -> bool:
        if not self._leaves_then:
            return False
        self._leaves_then = False
        self.leave()
        return True

    def close(self) -> None:
        """Begin to leave. The application is told of what it has to give up, and then calls ``ending_call``."""
        self.closing = True
        self.subscribed = False
        self._watches_polls = False
        if self.has_joined():
            self._leaves_then = True
        if not self.lost:
            self.revoke_all(lost=False)
        if not self.waits_for_call:
            self._unassign()

    @property
    def ended(self) -> bool:
        """Whether nothing is left to be done after :meth:`close`."""
        return not (self.waits_for_call or self._completing or self.leaving)

    def fail(self, code: int) -> None:
        """The member can never go on."""
        error = KafkaError(code)
        self.fatal = error
        self.tell(Message.problem(KafkaError(KafkaError._FATAL, f"Fatal error: {error.name()}: {error.str()}")))
