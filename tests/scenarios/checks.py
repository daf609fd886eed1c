"""What holds after every commit, whatever carries the work: events fold to the state that is live and that is stored."""

from __future__ import annotations

from collections import Counter
from typing import Any

from headrace import events as e
from headrace.apply import apply
from headrace.batch import RunChange
from headrace.execution import NO_ITEM
from headrace.ports import RunReader
from headrace.state import RunState
from headrace.values import decode
from headrace_topics.events_record import decode_events, encode_events
from headrace_topics.state_records import encode_part, run_parts

FINAL = (e.RunCompleted, e.RunFailed, e.RunCancelled)


def snapshot(state: RunState) -> dict[str, Any]:
    """Everything of a run's state, as bytes where it is recorded and as numbers where it is derived."""
    parts = {part: encode_part(state, part) for part in run_parts(state)}
    joins = {
        node: (dict(join.arrived), dict(join.dead), dict(join.failed))
        for node, join in state.joins.items()
        if join.arrived or join.dead or join.failed
    }
    return {
        "parts": parts,
        "context": dict(state.context),
        "seq": state.seq,
        "counters": (state.open, state.waiting, state.active),
        "joins": joins,
        "ended": state.ended,
    }


def assert_same(one: dict[str, Any], other: dict[str, Any], what: str) -> None:
    """Compare two snapshots, and say where they differ."""
    for name, value in one.items():
        assert value == other[name], f"{what}, {name}: {value} is not {other[name]}"


class Checks:
    """The runs of one scenario, folded from their events, and what was seen on the way."""

    def __init__(self) -> None:
        self.folded: dict[str, RunState] = {}
        self.finals: Counter[str] = Counter()
        self.outputs: dict[str, Any] = {}
        self.skipped: set[str] = set()

    def committed(self, run_id: str, change: RunChange, reader: RunReader) -> None:
        """A change of a run is durable."""
        live = change.state
        record = encode_events(run_id, change.first_seq, change.events)
        folded = self.folded.setdefault(run_id, RunState(run_id))
        for seq, _, event in decode_events(record):
            assert seq == folded.seq + 1, "events have no gap"
            assert not folded.ended, "nothing happens after the end"
            apply(folded, event)
            self._note(run_id, event)
        assert_same(snapshot(folded), snapshot(live), "folded events == live state")
        if not live.ended:
            stored = reader.load(run_id)
            assert isinstance(stored, RunState)
            assert_same(snapshot(stored), snapshot(live), "store == live state")

    def _note(self, run_id: str, event: e.Event) -> None:
        if isinstance(event, FINAL):
            self.finals[run_id] += 1
            assert self.finals[run_id] == 1, f"run {run_id} has two final states"
        elif isinstance(event, e.NodeCompleted) and event.item == NO_ITEM:
            self.outputs[event.node] = decode(event.output)
        elif isinstance(event, e.NodeSkipped):
            self.skipped.add(event.node)
