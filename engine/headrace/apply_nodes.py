"""Appliers of what happens to nodes, batch items and edges."""

from __future__ import annotations

__all__ = [
    "edge_decided",
    "node_cancelled",
    "node_completed",
    "node_failed",
    "node_fallback",
    "node_poisoned",
    "node_retrying",
    "node_scheduled",
    "node_skipped",
    "node_started",
]

from headrace import events as e
from headrace.apply_work import arrive, count, item_ended, move, touched
from headrace.execution import NO_ITEM
from headrace.state import (
    CANCELLED,
    COMPLETED,
    DEAD,
    FAILED,
    POISONED,
    RETRYING,
    RUNNING,
    SCHEDULED,
    SKIPPED,
    TAKEN,
    EdgeOut,
    RunError,
    RunState,
)


def node_scheduled(state: RunState, event: e.NodeScheduled) -> None:
    """Apply :class:`~headrace.events.NodeScheduled`."""
    node = touched(state, event.node, event.item)
    count(state, node, -1)
    if event.attempt == 1:
        # Another activation, or another attempt after a crash of the whole plan, begins from nothing.
        node.activation = event.activation
        node.edges = event.edges
        if event.input is not None:
            node.input = event.input
        node.prepared = None
    node.attempt = event.attempt
    node.due_ms = None
    node.status = SCHEDULED
    count(state, node, 1)
    if event.item != NO_ITEM and event.attempt == 1:
        batch = state.nodes[event.node].batch
        assert batch is not None
        batch.next = max(batch.next, event.item + 1)
        batch.open += 1
        state.changed.add(("n", event.node))


def node_started(state: RunState, event: e.NodeStarted) -> None:
    """Apply :class:`~headrace.events.NodeStarted`."""
    move(state, touched(state, event.node, event.item), RUNNING)


def node_completed(state: RunState, event: e.NodeCompleted) -> None:
    """Apply :class:`~headrace.events.NodeCompleted`."""
    node = touched(state, event.node, event.item)
    count(state, node, -1)
    node.status = COMPLETED
    node.output = event.output
    node.action = event.action
    node.due_ms = None
    node.prepared = None
    if event.item != NO_ITEM:
        item_ended(state, event.node, node)


def node_failed(state: RunState, event: e.NodeFailed) -> None:
    """Apply :class:`~headrace.events.NodeFailed`."""
    node = touched(state, event.node, event.item)
    count(state, node, -1)
    node.status = FAILED
    node.message = (event.code, event.message)
    node.due_ms = None
    node.prepared = None
    node.fallback = event.recovered_by
    if event.item != NO_ITEM:
        item_ended(state, event.node, node)
        batch = state.nodes[event.node].batch
        assert batch is not None
        if batch.failed == NO_ITEM:
            batch.failed = event.item
    elif event.recovered_by is None:
        for primary in event.unrecovered:
            message = state.nodes[primary].message
            assert message is not None
            state.errors.append(RunError(primary, *message))
        state.errors.append(RunError(event.node, event.code, event.message))
        state.changed.add(("r",))


def node_retrying(state: RunState, event: e.NodeRetrying) -> None:
    """Apply :class:`~headrace.events.NodeRetrying`."""
    node = touched(state, event.node, event.item)
    move(state, node, RETRYING)
    node.attempt = event.attempt
    node.due_ms = event.due_ms
    node.message = (event.code, event.message)
    node.prepared = event.prepared


def node_skipped(state: RunState, event: e.NodeSkipped) -> None:
    """Apply :class:`~headrace.events.NodeSkipped`."""
    move(state, touched(state, event.node), SKIPPED)


def node_poisoned(state: RunState, event: e.NodePoisoned) -> None:
    """Apply :class:`~headrace.events.NodePoisoned`."""
    move(state, touched(state, event.node), POISONED)
    if event.listed:
        text = f"not executed: its predecessor {event.predecessor!r} failed, or was not executed behind a failure"
        state.errors.append(RunError(event.node, "POISONED", text, event.predecessor))
        state.changed.add(("r",))


def node_cancelled(state: RunState, event: e.NodeCancelled) -> None:
    """Apply :class:`~headrace.events.NodeCancelled`."""
    node = touched(state, event.node, event.item)
    move(state, node, CANCELLED)
    node.due_ms = None
    if event.item != NO_ITEM:
        item_ended(state, event.node, node)
    if event.predecessor:
        text = f"cancelled before it began: its predecessor {event.predecessor!r} failed"
        state.errors.append(RunError(event.node, "CANCELLED", text, event.predecessor))
        state.changed.add(("r",))


def node_fallback(state: RunState, event: e.NodeFallback) -> None:
    """Apply :class:`~headrace.events.NodeFallback`."""
    touched(state, event.fallback).error = event.error


def edge_decided(state: RunState, event: e.EdgeTaken | e.EdgeDead | e.EdgeFailed) -> None:
    """Apply what was decided about an edge: that it is taken, dead or failed."""
    if type(event) is e.EdgeTaken:
        out = EdgeOut(TAKEN, event.source, event.target, event.value)
    else:
        out = EdgeOut(DEAD if type(event) is e.EdgeDead else FAILED, event.source, event.target, None)
    giver = event.giver
    node = state.nodes[giver]
    if node.out is None:
        node.out = {}
    assert event.edge not in node.out, f"edge {event.edge} of {giver} was decided before"
    node.out[event.edge] = out
    state.changed.add(("n", giver))
    arrive(state, event.edge, out, giver)
