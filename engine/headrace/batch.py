"""What leaves a partition: one batch of decisions, to be made durable in one transaction."""

from __future__ import annotations

__all__ = ["Batch", "Rejection", "RunChange"]

from typing import NamedTuple

from headrace.commands import Command
from headrace.events import Event
from headrace.ports import Ended, TimerEntry
from headrace.state import RunState
from headrace.turn import Reply


class Rejection(NamedTuple):
    """A command that changed nothing because there is no such run, or it has ended. It is a record too."""

    run_id: str
    command: str
    reason: str
    at_ms: int


class RunChange:
    """What happened to one run: its events in order, each decision with its time, and the parts that changed.

    *parts* and *state* are to be read before the partition decides anything else.
    """

    __slots__ = ("events", "first_seq", "parts", "state")

    def __init__(self, state: RunState, first_seq: int) -> None:
        self.state = state
        self.first_seq = first_seq
        self.events: list[tuple[int, list[Event]]] = []
        self.parts: set[tuple[str, ...]] = set()


class Batch:
    """Decisions since the last batch: to be written at once, or not at all.

    *ready* names work that was scheduled (run, node, item): the node jobs of this batch. *publish* are commands for
    other runs, in order. *replies* and *cancels* leave the engine only once the batch is durable. *expired* are runs
    whose dedup marker has served its time. *stale_timers* are entries of the timer index that mean nothing any more:
    an index that was made from a changelog may have some.
    """

    __slots__ = ("cancels", "dead_letters", "expired", "publish", "ready", "rejections", "replies", "runs", "stale_timers")

    def __init__(self) -> None:
        self.runs: dict[str, RunChange] = {}
        self.publish: list[Command] = []
        self.ready: list[tuple[str, str, int]] = []
        self.rejections: list[Rejection] = []
        self.dead_letters: list[tuple[Command, str]] = []
        self.replies: list[Reply] = []
        self.cancels: list[int] = []
        self.expired: list[Ended] = []
        self.stale_timers: list[TimerEntry] = []

    def record(self, run: RunState, first_seq: int, now_ms: int, events: list[Event]) -> None:
        """Events of one decision about a run, the first of them with the number *first_seq*."""
        change = self.runs.get(run.run_id)
        if change is None:
            change = self.runs[run.run_id] = RunChange(run, first_seq)
        change.events.append((now_ms, events))

    def __bool__(self) -> bool:
        """Whether anything is to be written or told."""
        return bool(self.runs or self.publish or self.rejections or self.dead_letters or self.replies or self.expired)
