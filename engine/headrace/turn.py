"""One decision about one run: what was emitted, and what is to be done outside once it is durable.

A verb (``start``, ``finish``, ``resume``, ...) reads ``turn.state`` and writes through ``turn.emit``, which applies each
event at once, so that what follows in the same decision sees it. Nothing else changes the state. Nodes whose incoming
edges were decided are put on ``turn.look`` and looked at in order, so that a dead path of any length needs no stack.
"""

from __future__ import annotations

__all__ = ["Reply", "Turn"]

from collections import deque
from typing import NamedTuple

from headrace.apply import apply
from headrace.commands import Command
from headrace.events import Event, TimerSet
from headrace.execution import NO_ITEM
from headrace.limits import Limits
from headrace.plan import Plan
from headrace.state import RunState


class Reply(NamedTuple):
    """The answer to a command: ``applied``, ``ignored``, ``duplicate`` or ``unknown``, with the reason."""

    request_id: str
    outcome: str
    reason: str = ""


class Turn:
    """One decision in the making. *plan* may be missing only while a run is parked for lack of its blueprint."""

    __slots__ = (
        "cancels",
        "events",
        "finished_batches",
        "limits",
        "look",
        "loops",
        "news",
        "now_ms",
        "plan",
        "publish",
        "ready",
        "replies",
        "state",
        "timers",
    )

    def __init__(self, state: RunState, plan: Plan, now_ms: int, limits: Limits) -> None:
        self.state = state
        self.plan = plan
        self.now_ms = now_ms
        self.limits = limits
        self.events: list[Event] = []
        # Commands to this and other runs, in order.
        self.publish: list[Command] = []
        # Work of this run that may start once this decision is durable: (node, item).
        self.ready: list[tuple[str, int]] = []
        # Durable timers that were set: (due_ms, node, item).
        self.timers: list[tuple[int, str, int]] = []
        # Executions that are no longer wanted, by token.
        self.cancels: list[int] = []
        self.replies: list[Reply] = []
        # Nodes to look at, because something was decided about their incoming edges.
        self.look: deque[str] = deque()
        # Scatter nodes that have no item outstanding any more, and loops in whose body something was decided.
        self.finished_batches: list[str] = []
        self.loops: dict[str, None] = {}
        # Whether the parent has to be told about waits.
        self.news = False

    def emit(self, event: Event) -> None:
        """Record *event* and apply it."""
        self.events.append(event)
        apply(self.state, event)

    def set_timer(self, node_id: str, due_ms: int) -> None:
        """Have the node's timer fire at *due_ms*, and no earlier."""
        self.emit(TimerSet(node_id, NO_ITEM, due_ms))
        self.timers.append((due_ms, node_id, NO_ITEM))

    def reply(self, request_id: str, outcome: str, reason: str = "") -> None:
        """Answer whoever waits for it; nobody does where *request_id* is empty."""
        if request_id:
            self.replies.append(Reply(request_id, outcome, reason))
