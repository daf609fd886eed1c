"""The histories of runs where a decision may be told twice: what was told last is what happened.

At least once means that a worker which dies within a step leaves records of it, and that the next one decides the step again
(docs/kafka.md). Its events then stand there a second time, under the same sequence numbers, and so may the result.
"""

from __future__ import annotations

__all__ = ["Retold"]

from headrace.adapter import RunResult
from headrace.events import Event

from .cases import Case, Judge


class Retold:
    """Takes what is told as ``Judge`` does, and hands it over when all is told."""

    def __init__(self, case: Case) -> None:
        self._started = [start.run_id for start in case.starts]
        self._events: dict[str, list[tuple[int, int, Event]]] = {}
        self._results: dict[str, RunResult] = {}

    @property
    def open(self) -> list[str]:
        """The runs that were to start, or have started, and have no result yet."""
        return [run_id for run_id in dict.fromkeys((*self._started, *self._events)) if run_id not in self._results]

    def event(self, run_id: str, seq: int, at_ms: int, event: Event) -> None:
        """An event of a run; with it all that was told of what came after that one is void."""
        events = self._events.setdefault(run_id, [])
        assert seq <= len(events) + 1, f"run {run_id}: event {seq} comes after event {len(events)}: {event}"
        del events[seq - 1 :]
        events.append((seq, at_ms, event))

    def result(self, result: RunResult) -> None:
        """A result of a run."""
        self._results[result.run_id] = result

    def hand_over(self, judge: Judge) -> None:
        """Tell all of it, as it was told last."""
        for run_id, events in self._events.items():
            for seq, at_ms, event in events:
                judge.event(run_id, seq, at_ms, event)
        for result in self._results.values():
            judge.result(result)
