"""Appliers of what happens to a run as a whole."""

from __future__ import annotations

__all__ = [
    "history_only",
    "run_awaiting",
    "run_cancelled",
    "run_completed",
    "run_failed",
    "run_parked",
    "run_paused",
    "run_resumed",
    "run_started",
    "run_unparked",
    "run_unpaused",
]

from headrace import events as e
from headrace.state import RunError, RunState
from headrace.values import NULL


def run_started(state: RunState, event: e.RunStarted) -> None:
    """Apply :class:`~headrace.events.RunStarted`."""
    state.blueprint_id = event.blueprint_id
    state.version = event.version
    state.input = event.input
    state.context = dict(event.context)
    state.parent = event.parent
    state.started_at_ms = event.at_ms
    changed = state.changed
    changed.add(("r",))
    if event.input != NULL:
        changed.add(("i",))
    for key in event.context:
        changed.add(("x", key))


def run_parked(state: RunState, event: e.RunParked) -> None:
    """Apply :class:`~headrace.events.RunParked`."""
    state.parked = event.reason
    state.changed.add(("r",))


def run_unparked(state: RunState, event: e.RunUnparked) -> None:
    """Apply :class:`~headrace.events.RunUnparked`."""
    state.parked = ""
    state.version = event.version
    state.changed.add(("r",))


def run_awaiting(state: RunState, _: e.RunAwaiting) -> None:
    """Apply :class:`~headrace.events.RunAwaiting`."""
    state.awaiting = True
    state.changed.add(("r",))


def run_resumed(state: RunState, _: e.RunResumed) -> None:
    """Apply :class:`~headrace.events.RunResumed`."""
    state.awaiting = False
    state.changed.add(("r",))


def run_paused(state: RunState, _: e.RunPaused) -> None:
    """Apply :class:`~headrace.events.RunPaused`."""
    state.paused = True
    state.changed.add(("r",))


def run_unpaused(state: RunState, _: e.RunUnpaused) -> None:
    """Apply :class:`~headrace.events.RunUnpaused`."""
    state.paused = False
    state.changed.add(("r",))


def run_completed(state: RunState, event: e.RunCompleted) -> None:
    """Apply :class:`~headrace.events.RunCompleted`."""
    state.ended = "completed"
    state.output = event.output


def run_failed(state: RunState, event: e.RunFailed) -> None:
    """Apply :class:`~headrace.events.RunFailed`."""
    state.ended = "failed"
    if event.reason:
        # Where a record names no code, it is of a defect.
        state.errors.append(RunError("", event.code or "INTERNAL_ERROR", event.reason))


def run_cancelled(state: RunState, event: e.RunCancelled) -> None:
    """Apply :class:`~headrace.events.RunCancelled`."""
    state.ended = "cancelled"
    state.reason = event.reason


def history_only(state: RunState, _: e.Event) -> None:
    """Apply an event that changes nothing but the history."""
    # The event changes nothing but the sequence number, which the head keeps.
    state.changed.add(("r",))
