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

from headrace import events as e
from headrace.execution import NO_ITEM
from headrace.operations import apply_operation
from headrace.state import (
    ACTIVE,
    CANCELLED,
    CHILD,
    COMPLETED,
    DEAD,
    FAILED,
    LOOPING,
    OPEN,
    POISONED,
    RETRYING,
    RUNNING,
    SCATTERING,
    SCHEDULED,
    SKIPPED,
    SLEEPING,
    TAKEN,
    WAITING,
    BatchState,
    ChildState,
    EdgeOut,
    Join,
    LoopState,
    NodeState,
    RunError,
    RunState,
)
from headrace.values import NULL


def apply(state: RunState, event: e.Event) -> None:
    """Change *state* as *event* says, and count it."""
    state.seq += 1
    _APPLIERS[type(event)](state, event)


def rebuild(state: RunState) -> None:
    """Derive joins and counters from the parts, after these were read from a store."""
    state.joins = {}
    state.open = state.waiting = state.active = 0
    for node_id, node in state.nodes.items():
        _count(state, node, 1)
        for edge, out in (node.out or {}).items():
            _arrive(state, edge, out, node_id)
        for item in node.batch.items if node.batch is not None else ():
            _count(state, item, 1)


# Parts of the work.


def _count(state: RunState, node: NodeState, by: int) -> None:
    status = node.status
    if status in OPEN:
        state.open += by
        if status in ACTIVE:
            state.active += by
        elif status == WAITING or (status == CHILD and node.child is not None and node.child.awaiting):
            state.waiting += by


def _move(state: RunState, node: NodeState, status: str) -> None:
    _count(state, node, -1)
    node.status = status
    _count(state, node, 1)


def _arrive(state: RunState, edge: int, out: EdgeOut, giver: str) -> None:
    join = state.joins.get(out.target)
    if join is None:
        join = state.joins[out.target] = Join()
    if out.status == TAKEN:
        join.arrived[edge] = giver
    elif out.status == DEAD:
        join.dead[edge] = giver
    else:
        join.failed[edge] = giver


def _touched(state: RunState, node_id: str, item: int = NO_ITEM) -> NodeState:
    """The work that an event is about, marked as changed."""
    node = state.nodes.get(node_id)
    if node is None:
        node = state.nodes[node_id] = NodeState()
    if item == NO_ITEM:
        state.changed.add(("n", node_id))
        return node
    assert node.batch is not None, f"{node_id} has no items"
    state.changed.add(("m", node_id, str(item)))
    return node.batch.items[item]


# Runs.


def _run_started(state: RunState, event: e.RunStarted) -> None:
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


def _run_parked(state: RunState, event: e.RunParked) -> None:
    state.parked = event.reason
    state.changed.add(("r",))


def _run_unparked(state: RunState, event: e.RunUnparked) -> None:
    state.parked = ""
    state.version = event.version
    state.changed.add(("r",))


def _run_awaiting(state: RunState, _: e.RunAwaiting) -> None:
    state.awaiting = True
    state.changed.add(("r",))


def _run_resumed(state: RunState, _: e.RunResumed) -> None:
    state.awaiting = False
    state.changed.add(("r",))


def _run_paused(state: RunState, _: e.RunPaused) -> None:
    state.paused = True
    state.changed.add(("r",))


def _run_unpaused(state: RunState, _: e.RunUnpaused) -> None:
    state.paused = False
    state.changed.add(("r",))


def _run_completed(state: RunState, event: e.RunCompleted) -> None:
    state.ended = "completed"
    state.output = event.output


def _run_failed(state: RunState, event: e.RunFailed) -> None:
    state.ended = "failed"
    if event.reason:
        state.errors.append(RunError("", "INTERNAL_ERROR", event.reason))


def _run_cancelled(state: RunState, event: e.RunCancelled) -> None:
    state.ended = "cancelled"
    state.reason = event.reason


def _history_only(state: RunState, _: e.Event) -> None:
    # The event changes nothing but the sequence number, which the head keeps.
    state.changed.add(("r",))


# Nodes.


def _node_scheduled(state: RunState, event: e.NodeScheduled) -> None:
    node = _touched(state, event.node, event.item)
    _count(state, node, -1)
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
    _count(state, node, 1)
    if event.item != NO_ITEM and event.attempt == 1:
        batch = state.nodes[event.node].batch
        assert batch is not None
        batch.next = max(batch.next, event.item + 1)
        batch.open += 1
        state.changed.add(("n", event.node))


def _node_started(state: RunState, event: e.NodeStarted) -> None:
    _move(state, _touched(state, event.node, event.item), RUNNING)


def _node_completed(state: RunState, event: e.NodeCompleted) -> None:
    node = _touched(state, event.node, event.item)
    _count(state, node, -1)
    node.status = COMPLETED
    node.output = event.output
    node.action = event.action
    node.due_ms = None
    node.prepared = None
    if event.item != NO_ITEM:
        _item_ended(state, event.node, node)


def _item_ended(state: RunState, node_id: str, item: NodeState) -> None:
    batch = state.nodes[node_id].batch
    assert batch is not None
    batch.open -= 1
    item.input = None
    state.changed.add(("n", node_id))


def _node_failed(state: RunState, event: e.NodeFailed) -> None:
    node = _touched(state, event.node, event.item)
    _count(state, node, -1)
    node.status = FAILED
    node.message = (event.code, event.message)
    node.due_ms = None
    node.prepared = None
    node.fallback = event.recovered_by
    if event.item != NO_ITEM:
        _item_ended(state, event.node, node)
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


def _node_retrying(state: RunState, event: e.NodeRetrying) -> None:
    node = _touched(state, event.node, event.item)
    _move(state, node, RETRYING)
    node.attempt = event.attempt
    node.due_ms = event.due_ms
    node.message = (event.code, event.message)
    node.prepared = event.prepared


def _node_skipped(state: RunState, event: e.NodeSkipped) -> None:
    _move(state, _touched(state, event.node), SKIPPED)


def _node_poisoned(state: RunState, event: e.NodePoisoned) -> None:
    _move(state, _touched(state, event.node), POISONED)
    if event.listed:
        text = f"not executed: its predecessor {event.predecessor!r} failed"
        state.errors.append(RunError(event.node, "POISONED", text, event.predecessor))
        state.changed.add(("r",))


def _node_cancelled(state: RunState, event: e.NodeCancelled) -> None:
    node = _touched(state, event.node, event.item)
    _move(state, node, CANCELLED)
    node.due_ms = None
    if event.item != NO_ITEM:
        _item_ended(state, event.node, node)
    if event.predecessor:
        text = f"cancelled before it began: its predecessor {event.predecessor!r} failed"
        state.errors.append(RunError(event.node, "CANCELLED", text, event.predecessor))
        state.changed.add(("r",))


def _node_fallback(state: RunState, event: e.NodeFallback) -> None:
    _touched(state, event.fallback).error = event.error


def _edge_decided(state: RunState, event: e.EdgeTaken | e.EdgeDead | e.EdgeFailed) -> None:
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
    _arrive(state, event.edge, out, giver)


# Time and people.


def _timer_set(state: RunState, event: e.TimerSet) -> None:
    node = _touched(state, event.node, event.item)
    node.due_ms = event.due_ms
    if node.child is None:
        # A sleep and a wait are nothing but their timer; a child works on while its timer runs.
        _move(state, node, WAITING if node.status == WAITING else SLEEPING)


def _timer_fired(state: RunState, event: e.TimerFired) -> None:
    _touched(state, event.node, event.item).due_ms = None


def _wait_opened(state: RunState, event: e.WaitOpened) -> None:
    node = _touched(state, event.node)
    _move(state, node, WAITING)
    node.event = event.event


def _signal_received(state: RunState, event: e.SignalReceived) -> None:
    state.changed.add(("r",))
    if event.kept:
        state.signals_seq += 1
        state.signals[state.signals_seq] = (event.event, event.payload)
        state.changed.add(("s", str(state.signals_seq)))


def _signal_taken(state: RunState, event: e.SignalTaken) -> None:
    del state.signals[event.number]
    state.changed.add(("s", str(event.number)))


def _wait_resumed(state: RunState, event: e.WaitResumed) -> None:
    if event.key is not None:
        state.keys.add(event.key)
        state.changed.add(("k", event.key))


def _resume_forwarded(state: RunState, event: e.ResumeForwarded) -> None:
    state.keys.add(event.key)
    state.changed.add(("k", event.key))
    state.changed.add(("r",))


# Subflows, loops, batches, context.


def _child_started(state: RunState, event: e.ChildStarted) -> None:
    node = _touched(state, event.node)
    _count(state, node, -1)
    node.child = ChildState(event.child)
    node.status = CHILD
    _count(state, node, 1)


def _child_changed(state: RunState, event: e.ChildChanged) -> None:
    node = _touched(state, event.node)
    assert node.child is not None
    _count(state, node, -1)
    node.child.awaiting = event.awaiting
    node.child.waits = event.waits
    _count(state, node, 1)


def _child_ended(state: RunState, event: e.ChildEnded) -> None:
    node = _touched(state, event.node)
    _count(state, node, -1)
    node.child = None
    node.due_ms = None
    node.status = RUNNING
    _count(state, node, 1)


def _loop_iteration(state: RunState, event: e.LoopIteration) -> None:
    controller = _touched(state, event.node)
    _count(state, controller, -1)
    if controller.loop is None:
        controller.loop = LoopState()
    controller.loop.iteration = event.iteration
    controller.loop.activation = event.activation
    controller.output = event.value
    controller.status = LOOPING
    for node_id in event.reset:
        _forget(state, node_id)
    # Edges into the controller from its body are decided anew; so are those into the body.
    join = state.joins.get(event.node)
    if join is not None:
        join.forget({*event.reset})
    out = controller.out = {} if controller.out is None else controller.out
    for edge in [edge for edge, decided in out.items() if decided.source == event.node]:
        del out[edge]
    for kept in event.kept:
        out[kept.edge] = EdgeOut(kept.status, kept.source, kept.target, kept.value)
        _arrive(state, kept.edge, out[kept.edge], event.node)


def _forget(state: RunState, node_id: str) -> None:
    node = state.nodes.pop(node_id, None)
    state.joins.pop(node_id, None)
    if node is None:
        return
    _count(state, node, -1)
    state.changed.add(("n", node_id))
    for index in range(len(node.batch.items)) if node.batch is not None else ():
        state.changed.add(("m", node_id, str(index)))


def _loop_ended(state: RunState, event: e.LoopEnded) -> None:
    controller = _touched(state, event.node)
    _move(state, controller, RUNNING)
    controller.output = event.value


def _batch_started(state: RunState, event: e.BatchStarted) -> None:
    node = _touched(state, event.node)
    _move(state, node, SCATTERING)
    batch = node.batch = BatchState()
    for index, value in enumerate(event.items):
        item = NodeState()
        item.input = value
        batch.items.append(item)
        state.changed.add(("m", event.node, str(index)))


def _batch_finished(state: RunState, event: e.BatchFinished) -> None:
    _move(state, _touched(state, event.node), RUNNING)


def _context_changed(state: RunState, event: e.ContextChanged) -> None:
    for operation in event.operations:
        value = apply_operation(operation, state.context.get(operation.key))
        if value is None:
            state.context.pop(operation.key, None)
        else:
            state.context[operation.key] = value
        state.changed.add(("x", operation.key))


_APPLIERS: dict[type[Any], Callable[[RunState, Any], None]] = {
    e.RunStarted: _run_started,
    e.RunParked: _run_parked,
    e.RunUnparked: _run_unparked,
    e.RunAwaiting: _run_awaiting,
    e.RunResumed: _run_resumed,
    e.RunPaused: _run_paused,
    e.RunUnpaused: _run_unpaused,
    e.RunCompleted: _run_completed,
    e.RunFailed: _run_failed,
    e.RunCancelled: _run_cancelled,
    e.RunDuplicate: _history_only,
    e.CommandIgnored: _history_only,
    e.NodeScheduled: _node_scheduled,
    e.NodeStarted: _node_started,
    e.NodeCompleted: _node_completed,
    e.NodeFailed: _node_failed,
    e.NodeRetrying: _node_retrying,
    e.NodeSkipped: _node_skipped,
    e.NodePoisoned: _node_poisoned,
    e.NodeCancelled: _node_cancelled,
    e.NodeFallback: _node_fallback,
    e.EdgeTaken: _edge_decided,
    e.EdgeDead: _edge_decided,
    e.EdgeFailed: _edge_decided,
    e.ActionUnheard: _history_only,
    e.JoinFired: _history_only,
    e.TimerSet: _timer_set,
    e.TimerFired: _timer_fired,
    e.WaitOpened: _wait_opened,
    e.SignalReceived: _signal_received,
    e.SignalTaken: _signal_taken,
    e.WaitResumed: _wait_resumed,
    e.ResumeForwarded: _resume_forwarded,
    e.ChildStarted: _child_started,
    e.ChildChanged: _child_changed,
    e.ChildEnded: _child_ended,
    e.LoopIteration: _loop_iteration,
    e.LoopEnded: _loop_ended,
    e.BatchStarted: _batch_started,
    e.BatchFinished: _batch_finished,
    e.ContextChanged: _context_changed,
}

assert set(_APPLIERS) == set(e.EVENT_TYPES), "every event has its applier"
