"""What a store says when nobody works on it any more: every run's history, checked by folding it once more.

Nothing of the worker is used here but ``apply``, the function that says what an event means.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from headrace import events as e
from headrace.apply import apply
from headrace.execution import NO_ITEM
from headrace.state import RunState
from headrace_adapters.local.layout import EVENTS, RESULT
from headrace_adapters.rocks import RocksStore
from headrace_topics.events_record import decode_events
from headrace_topics.names import run_prefix
from headrace_topics.results_record import encode_result

FINAL = (e.RunCompleted, e.RunFailed, e.RunCancelled)
DECIDED = (e.NodeCompleted, e.NodeFailed, e.NodeSkipped, e.NodePoisoned, e.NodeCancelled)


@dataclass
class History:
    """One run by its events alone; every fault in them is an AssertionError."""

    run_id: str
    state: RunState = field(init=False)
    events: list[e.Event] = field(default_factory=list)
    times_ms: list[int] = field(default_factory=list)
    counted: int = 0
    """How many counting nodes have a recorded completion."""
    begun_again: int = 0
    """How many attempts were cut short and began once more."""

    def __post_init__(self) -> None:
        self.state = RunState(self.run_id)
        # Which turn of its loop a node is in: what is decided once is decided once a turn.
        self._turns: Counter[str] = Counter()
        self._decided: set[tuple[str, int, int]] = set()
        self._fired: set[tuple[str, int]] = set()
        self._running: set[tuple[str, int, int, int]] = set()

    def add(self, seq: int, at_ms: int, event: e.Event) -> None:
        """Take the next event."""
        assert seq == self.state.seq + 1, f"{self.run_id}: event {seq} comes after {self.state.seq}"
        assert not self.state.ended, f"{self.run_id}: {event} comes after the end"
        assert isinstance(event, e.RunStarted) == (seq == 1), f"{self.run_id}: {event} is event {seq}"
        apply(self.state, event)
        self.events.append(event)
        self.times_ms.append(at_ms)
        if isinstance(event, e.LoopIteration):
            self._turns.update(event.reset)
        elif isinstance(event, e.JoinFired):
            fired = (event.node, self._turns[event.node])
            assert fired not in self._fired, f"{self.run_id}: join {fired} fired twice"
            self._fired.add(fired)
        elif isinstance(event, e.NodeStarted):
            began = (event.node, event.item, self._turns[event.node], event.attempt)
            assert began[:3] not in self._decided, f"{self.run_id}: {began} began after its end was recorded"
            self.begun_again += began in self._running
            self._running.add(began)
        elif isinstance(event, DECIDED):
            self._decide(event)

    def _decide(self, event: e.NodeCompleted | e.NodeFailed | e.NodeSkipped | e.NodePoisoned | e.NodeCancelled) -> None:
        item = getattr(event, "item", NO_ITEM)
        decided = (event.node, item, self._turns[event.node])
        assert decided not in self._decided, f"{self.run_id}: {decided} was decided twice, now by {event}"
        self._decided.add(decided)
        if isinstance(event, e.NodeCompleted):
            is_batch = event.node.endswith(("_scatter", "_gather"))
            self.counted += item != NO_ITEM or (event.node.startswith("count_") and not is_batch)

    def of_type(self, kind: type[Any]) -> list[Any]:
        """Its events of one type, in order."""
        return [event for event in self.events if isinstance(event, kind)]

    def check_end(self, result: bytes | None) -> None:
        """It has one final event, and the result record is what its events say."""
        finals = self.of_type(FINAL)  # type: ignore[arg-type]
        assert len(finals) == 1, f"{self.run_id} ended {len(finals)} times: {finals}"
        assert self.events[-1] is finals[0]
        assert result == encode_result(self.state, self.times_ms[-1]), f"{self.run_id}: its result differs from its events"


def read_histories(folder: Path) -> dict[str, History]:
    """Every run of the embedded store in *folder*, checked, and checked that nothing else is left of them."""
    histories: dict[str, History] = {}
    with RocksStore(folder / "store") as store:
        for _, record in store.scan(EVENTS):
            data = orjson.loads(record)
            if "rejected" not in data:
                history = histories.setdefault(data["runId"], History(data["runId"]))
                for seq, at_ms, event in decode_events(record):
                    history.add(seq, at_ms, event)
        for run_id, history in histories.items():
            history.check_end(store.get(RESULT + run_prefix(run_id)))
        check_leavings(store)
        assert sum(1 for _ in store.scan(RESULT)) == len(histories)
    return histories


def check_leavings(store: RocksStore) -> None:
    """Of runs that have ended nothing is left but the result, the history, and the dedup marker with its timer."""
    for key, value in store.scan(b""):
        space = key[:1]
        assert space in b"HERTBM", f"left in the store: {key!r} {value[:200]!r}"
        if space == b"H":
            assert b'"ended"' in value, f"a run that has not ended is left: {key!r}"
        elif space == b"T":
            assert key.endswith(b',"",-1]'), f"a timer is left: {key!r}"
