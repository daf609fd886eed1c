"""What a partition needs from outside: reading the state that was committed. Types only.

Nothing is written through these: what is to be written leaves the partition as a :class:`headrace.batch.Batch`.
"""

from __future__ import annotations

__all__ = ["Ended", "RunReader", "TimerEntry"]

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from headrace.events import Parent
from headrace.state import RunState


class Ended(NamedTuple):
    """The dedup marker of a run that has ended: all that is left of it in the store."""

    run_id: str
    status: str
    until_ms: int
    parent: Parent | None


class TimerEntry(NamedTuple):
    """One entry of the timer index. An empty *node_id* is the end of a dedup marker's time."""

    due_ms: int
    run_id: str
    node_id: str
    item: int


class RunReader(Protocol):
    """The committed state of one partition."""

    def load(self, run_id: str) -> RunState | Ended | None:
        """A run (with joins and counters rebuilt), its dedup marker, or None where nothing is known of it."""
        ...

    def active_runs(self) -> Iterable[str]:
        """The runs that have work which is scheduled or running."""
        ...

    def parked_runs(self) -> Iterable[str]:
        """The runs that are parked."""
        ...

    def timers(self, after_ms: int, until_ms: int, limit: int) -> list[TimerEntry]:
        """Timers due in ``after_ms < due_ms <= until_ms``, earliest first; a full list may lack later ones."""
        ...
