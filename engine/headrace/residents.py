"""The runs of a partition that are decoded in memory; the others are read when they are needed."""

from __future__ import annotations

__all__ = ["Residents"]

from collections.abc import Container, Iterable

from headrace.apply import apply
from headrace.batch import RunChange
from headrace.errors import RecordRefused
from headrace.ports import Ended, RunReader
from headrace.state import RunState


class Residents:
    """A cache over the committed state that also holds what is decided and not committed yet.

    *unreadable* are runs whose records could not be read, with the reason. Such a run is as if it were not there, so
    that it holds up no other; whoever would begin it anew has to look here first.
    """

    def __init__(self, reader: RunReader) -> None:
        self._reader = reader
        self._runs: dict[str, RunState] = {}
        # Runs that have ended in a batch which is not committed yet.
        self._ended: dict[str, Ended] = {}
        self.unreadable: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def find(self, run_id: str) -> RunState | Ended | None:
        """A run as it is decided so far; the marker of one that has ended; None where nothing is known."""
        run = self._runs.get(run_id)
        if run is not None:
            return self._ended[run_id] if run.ended else run
        try:
            found = self._reader.load(run_id)
        except RecordRefused as error:
            self.unreadable[run_id] = str(error)
            return None
        if isinstance(found, RunState):
            self._runs[run_id] = found
        return found

    def create(self, run_id: str, blueprint_id: str, version: str) -> RunState:
        """A run that begins; it is forgotten again by :meth:`put_back` if that fails."""
        assert run_id not in self._runs, f"run {run_id!r} exists"
        run = self._runs[run_id] = RunState(run_id)
        run.blueprint_id, run.version = blueprint_id, version
        return run

    def end(self, run_id: str, ended: Ended) -> None:
        """The run has ended; it stays until that is committed."""
        self._ended[run_id] = ended

    def drop(self, run_id: str) -> None:
        """The end of the run is committed."""
        self._runs.pop(run_id, None)
        self._ended.pop(run_id, None)

    def clear(self) -> None:
        """Only what is committed counts."""
        self._runs.clear()
        self._ended.clear()

    def evict(self, runs_max: int, in_use: Container[str]) -> None:
        """Drop runs that only wait until no more than *runs_max* are left, those looked at longest ago first."""
        spare = len(self._runs) - runs_max
        for run_id in list(self._runs) if spare > 0 else ():
            run = self._runs.pop(run_id)
            if run.active or run.changed or run_id in in_use:
                self._runs[run_id] = run  # To the end of the line.
            else:
                spare -= 1
                if spare <= 0:
                    return

    def put_back(self, run_id: str, under_way: RunChange | None, growing: RunChange | None) -> RunState | None:
        """Make a run again whose decision failed half-way: the committed state and what was decided after it."""
        self._runs.pop(run_id, None)
        found = self._reader.load(run_id)
        run = found if isinstance(found, RunState) else RunState(run_id)
        for change in (under_way, growing):
            if change is not None:
                for _, events in change.events:
                    for event in events:
                        apply(run, event)
                change.state = run
            if change is under_way:
                run.changed = set()
        if not run.seq:
            return None
        self._runs[run_id] = run
        return run

    def known(self) -> Iterable[str]:
        """The runs in memory, for reports."""
        return self._runs.keys()
