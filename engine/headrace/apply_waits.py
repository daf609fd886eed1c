"""Appliers of timers, waits and signals."""

from __future__ import annotations

__all__ = [
    "resume_claimed",
    "resume_forwarded",
    "resume_released",
    "signal_received",
    "signal_taken",
    "timer_fired",
    "timer_set",
    "wait_opened",
    "wait_resumed",
]

from headrace import events as e
from headrace.apply_work import move, touched
from headrace.state import SLEEPING, WAITING, Claim, RunState


def timer_set(state: RunState, event: e.TimerSet) -> None:
    """Apply :class:`~headrace.events.TimerSet`."""
    node = touched(state, event.node, event.item)
    node.due_ms = event.due_ms
    if node.child is None:
        # A sleep and a wait are nothing but their timer; a child works on while its timer runs.
        move(state, node, WAITING if node.status == WAITING else SLEEPING)


def timer_fired(state: RunState, event: e.TimerFired) -> None:
    """Apply :class:`~headrace.events.TimerFired`."""
    touched(state, event.node, event.item).due_ms = None


def wait_opened(state: RunState, event: e.WaitOpened) -> None:
    """Apply :class:`~headrace.events.WaitOpened`."""
    node = touched(state, event.node)
    move(state, node, WAITING)
    node.event = event.event


def signal_received(state: RunState, event: e.SignalReceived) -> None:
    """Apply :class:`~headrace.events.SignalReceived`."""
    state.changed.add(("r",))
    if event.kept:
        state.signals_seq += 1
        state.signals[state.signals_seq] = (event.event, event.payload)
        state.changed.add(("s", str(state.signals_seq)))


def signal_taken(state: RunState, event: e.SignalTaken) -> None:
    """Apply :class:`~headrace.events.SignalTaken`."""
    del state.signals[event.number]
    state.changed.add(("s", str(event.number)))


def wait_resumed(state: RunState, event: e.WaitResumed) -> None:
    """Apply :class:`~headrace.events.WaitResumed`."""
    if event.key is not None:
        state.keys.add(event.key)
        state.changed.add(("k", event.key))


def resume_claimed(state: RunState, event: e.ResumeClaimed) -> None:
    """Apply :class:`~headrace.events.ResumeClaimed`."""
    state.claims[event.key] = Claim(state.seq, event.holders)
    _key_changed(state, event.key)


def resume_forwarded(state: RunState, event: e.ResumeForwarded) -> None:
    """Apply :class:`~headrace.events.ResumeForwarded`."""
    state.claims.pop(event.key, None)
    state.keys.add(event.key)
    _key_changed(state, event.key)


def resume_released(state: RunState, event: e.ResumeReleased) -> None:
    """Apply :class:`~headrace.events.ResumeReleased`."""
    del state.claims[event.key]
    _key_changed(state, event.key)


def _key_changed(state: RunState, key: str) -> None:
    state.changed.add(("k", key))
    # No other part carries the sequence number of these events once the key is gone.
    state.changed.add(("r",))
