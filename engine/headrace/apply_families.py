"""Appliers of subflows, loops, batches and the context."""

from __future__ import annotations

__all__ = [
    "batch_finished",
    "batch_started",
    "child_changed",
    "child_ended",
    "child_started",
    "context_changed",
    "forget",
    "loop_ended",
    "loop_iteration",
]

from headrace import events as e
from headrace.apply_work import arrive, count, move, touched
from headrace.operations import apply_operation
from headrace.state import (
    CHILD,
    LOOPING,
    RUNNING,
    SCATTERING,
    BatchState,
    ChildState,
    EdgeOut,
    LoopState,
    NodeState,
    RunState,
)


def child_started(state: RunState, event: e.ChildStarted) -> None:
    """Apply :class:`~headrace.events.ChildStarted`."""
    node = touched(state, event.node)
    count(state, node, -1)
    node.child = ChildState(event.child)
    node.status = CHILD
    count(state, node, 1)


def child_changed(state: RunState, event: e.ChildChanged) -> None:
    """Apply :class:`~headrace.events.ChildChanged`."""
    node = touched(state, event.node)
    assert node.child is not None
    count(state, node, -1)
    node.child.awaiting = event.awaiting
    node.child.waits = event.waits
    count(state, node, 1)


def child_ended(state: RunState, event: e.ChildEnded) -> None:
    """Apply :class:`~headrace.events.ChildEnded`."""
    node = touched(state, event.node)
    count(state, node, -1)
    node.child = None
    node.due_ms = None
    node.status = RUNNING
    count(state, node, 1)


def loop_iteration(state: RunState, event: e.LoopIteration) -> None:
    """Apply :class:`~headrace.events.LoopIteration`."""
    controller = touched(state, event.node)
    count(state, controller, -1)
    if controller.loop is None:
        controller.loop = LoopState()
    controller.loop.iteration = event.iteration
    controller.loop.activation = event.activation
    controller.output = event.value
    controller.status = LOOPING
    for node_id in event.reset:
        forget(state, node_id)
    # Edges into the controller from its body are decided anew; so are those into the body.
    join = state.joins.get(event.node)
    if join is not None:
        join.forget({*event.reset})
    out = controller.out = {} if controller.out is None else controller.out
    for edge in [edge for edge, decided in out.items() if decided.source == event.node]:
        del out[edge]
    for kept in event.kept:
        out[kept.edge] = EdgeOut(kept.status, kept.source, kept.target, kept.value)
        arrive(state, kept.edge, out[kept.edge], event.node)


def forget(state: RunState, node_id: str) -> None:
    """Drop what an earlier iteration left of a node."""
    node = state.nodes.pop(node_id, None)
    state.joins.pop(node_id, None)
    if node is None:
        return
    count(state, node, -1)
    state.changed.add(("n", node_id))
    for index in range(len(node.batch.items)) if node.batch is not None else ():
        state.changed.add(("m", node_id, str(index)))


def loop_ended(state: RunState, event: e.LoopEnded) -> None:
    """Apply :class:`~headrace.events.LoopEnded`."""
    controller = touched(state, event.node)
    move(state, controller, RUNNING)
    controller.output = event.value


def batch_started(state: RunState, event: e.BatchStarted) -> None:
    """Apply :class:`~headrace.events.BatchStarted`."""
    node = touched(state, event.node)
    move(state, node, SCATTERING)
    batch = node.batch = BatchState()
    for index, value in enumerate(event.items):
        item = NodeState()
        item.input = value
        batch.items.append(item)
        state.changed.add(("m", event.node, str(index)))


def batch_finished(state: RunState, event: e.BatchFinished) -> None:
    """Apply :class:`~headrace.events.BatchFinished`."""
    move(state, touched(state, event.node), RUNNING)


def context_changed(state: RunState, event: e.ContextChanged) -> None:
    """Apply :class:`~headrace.events.ContextChanged`."""
    for operation in event.operations:
        value = apply_operation(operation, state.context.get(operation.key))
        if value is None:
            state.context.pop(operation.key, None)
        else:
            state.context[operation.key] = value
        state.changed.add(("x", operation.key))
