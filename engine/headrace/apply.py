"""apply(state, event): the only code that changes the state of a run.

Live processing, recovery and replay call this one function, so they cannot differ. It decides nothing and reads
nothing but the state and the event: every choice was made in ``decide`` and stands in the event. What an event touches
is added to ``state.changed``, which tells the store what to write.

Counters that are derived from the nodes are kept here as the nodes move: *open* (outstanding work), *waiting* (that part
of it which only somebody from outside can advance) and *active* (that part which the owner drives).
"""

from __future__ import annotations

__all__ = ["apply", "rebuild"]

from collections.abc import Callable
from typing import Any

from headrace import apply_families as families
from headrace import apply_nodes as nodes
from headrace import apply_runs as runs
from headrace import apply_waits as waits
from headrace import events as e
from headrace.apply_work import arrive, count
from headrace.state import RunState


def apply(state: RunState, event: e.Event) -> None:
    """Change *state* as *event* says, and count it."""
    state.seq += 1
    _APPLIERS[type(event)](state, event)


def rebuild(state: RunState) -> None:
    """Derive joins and counters from the parts, after these were read from a store."""
    state.joins = {}
    # A store gives records in the order of their keys; kept signals are in the order of their numbers.
    state.signals = dict(sorted(state.signals.items()))
    state.open = state.waiting = state.active = 0
    for node_id, node in state.nodes.items():
        count(state, node, 1)
        for edge, out in (node.out or {}).items():
            arrive(state, edge, out, node_id)
        for item in node.batch.items if node.batch is not None else ():
            count(state, item, 1)


_APPLIERS: dict[type[Any], Callable[[RunState, Any], None]] = {
    e.RunStarted: runs.run_started,
    e.RunParked: runs.run_parked,
    e.RunUnparked: runs.run_unparked,
    e.RunAwaiting: runs.run_awaiting,
    e.RunResumed: runs.run_resumed,
    e.RunPaused: runs.run_paused,
    e.RunUnpaused: runs.run_unpaused,
    e.RunCompleted: runs.run_completed,
    e.RunFailed: runs.run_failed,
    e.RunCancelled: runs.run_cancelled,
    e.RunDuplicate: runs.history_only,
    e.CommandIgnored: runs.history_only,
    e.NodeScheduled: nodes.node_scheduled,
    e.NodeStarted: nodes.node_started,
    e.NodeCompleted: nodes.node_completed,
    e.NodeFailed: nodes.node_failed,
    e.NodeRetrying: nodes.node_retrying,
    e.NodeSkipped: nodes.node_skipped,
    e.NodePoisoned: nodes.node_poisoned,
    e.NodeCancelled: nodes.node_cancelled,
    e.NodeFallback: nodes.node_fallback,
    e.EdgeTaken: nodes.edge_decided,
    e.EdgeDead: nodes.edge_decided,
    e.EdgeFailed: nodes.edge_decided,
    e.ActionUnheard: runs.history_only,
    e.JoinFired: runs.history_only,
    e.TimerSet: waits.timer_set,
    e.TimerFired: waits.timer_fired,
    e.WaitOpened: waits.wait_opened,
    e.SignalReceived: waits.signal_received,
    e.SignalTaken: waits.signal_taken,
    e.WaitResumed: waits.wait_resumed,
    e.ResumeClaimed: waits.resume_claimed,
    e.ResumeForwarded: waits.resume_forwarded,
    e.ResumeReleased: waits.resume_released,
    e.ChildStarted: families.child_started,
    e.ChildChanged: families.child_changed,
    e.ChildEnded: families.child_ended,
    e.LoopIteration: families.loop_iteration,
    e.LoopEnded: families.loop_ended,
    e.BatchStarted: families.batch_started,
    e.BatchFinished: families.batch_finished,
    e.ContextChanged: families.context_changed,
}

assert set(_APPLIERS) == set(e.EVENT_TYPES), "every event has its applier"
