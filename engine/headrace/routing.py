"""Where a result leads: the edges of a node (SEMANTICS section 5).

Every edge is decided once in an activation: taken, dead or failed. What follows for the node at its other end is for
``joins`` to say. An edge that leads out of a loop's body and was not taken stays open until the loop has ended, because
a later iteration may take it.
"""

from __future__ import annotations

__all__ = ["close", "close_leaving", "complete", "holds", "record", "schedule", "skip_fallbacks", "value_over"]

from headrace import events as e
from headrace.errors import ExpressionFailed, ValueRefused
from headrace.execution import NO_ITEM, Operation
from headrace.inputs import node_input, pinned_input
from headrace.operations import preview
from headrace.plan import LOOP, PlanEdge, PlanNode
from headrace.scope import Subject, condition_holds, transformed
from headrace.state import DEAD, NodeState
from headrace.turn import Turn
from headrace.values import Json, check_size

_Taken = dict[int, Json | None]


def complete(
    turn: Turn,
    node: PlanNode,
    work: NodeState,
    output: Json,
    action: str | None,
    operations: tuple[Operation, ...] = (),
) -> ExpressionFailed | ValueRefused | None:
    """Record a result and route it; returns why it could not be routed, in which case nothing was recorded."""
    try:
        writes = preview(operations, turn.state.context, turn.limits.value_bytes_max) if operations else {}
        taken = _choose(turn, node, work, output, action, writes)
    except (ExpressionFailed, ValueRefused) as error:
        return error
    record(turn, node, output, action, operations, taken)
    return None


def record(
    turn: Turn,
    node: PlanNode,
    output: Json,
    action: str | None,
    operations: tuple[Operation, ...],
    taken: _Taken,
) -> None:
    """Record a result whose edges have been chosen."""
    _touch_loops(turn, node)
    turn.emit(e.NodeCompleted(node.id, NO_ITEM, output, action))
    if operations:
        turn.emit(e.ContextChanged(node.id, operations))
    if action is not None and not taken and node.routes and node.kind != LOOP:
        turn.emit(e.ActionUnheard(node.id, action))
    for edge in node.routes:
        if edge.index in taken:
            _take(turn, edge, node.id, output, taken[edge.index])
        elif not edge.leaves and not _is_way_in(node, edge):
            turn.emit(e.EdgeDead(edge.index, edge.source, edge.target, node.id))
            turn.look.append(edge.target)
    if node.fallback is not None:
        skip_fallbacks(turn, node)


def _choose(
    turn: Turn, node: PlanNode, work: NodeState, output: Json, action: str | None, writes: dict[str, Json | None]
) -> _Taken:
    """The edges to take, with the value of those that have a transform (rules 1 to 3)."""
    routes = node.routes
    if action is None and len(routes) == 1:
        # The most frequent node of all: one plain edge.
        edge = routes[0]
        if edge.action is None and edge.condition is None and edge.transform is None:
            return {edge.index: None}
    if not routes:
        return {}
    subject = Subject(node.id, node_input(turn.state, turn.plan, node, work), output, action, writes)
    chosen: list[PlanEdge] = []
    if action is not None:
        chosen = [edge for edge in routes if edge.action == action and holds(turn, edge, subject)]
    if not chosen:
        chosen = [edge for edge in routes if edge.action is None and holds(turn, edge, subject)]
    return {edge.index: value_over(turn, edge, subject) for edge in chosen}


def holds(turn: Turn, edge: PlanEdge, subject: Subject) -> bool:
    """Whether the edge's condition holds, if it has one; a failure names the edge."""
    if edge.condition is None:
        return True
    try:
        return condition_holds(edge.condition, turn.state, turn.plan, subject)
    except ExpressionFailed as error:
        raise ExpressionFailed(f"condition of edge {edge.source!r} -> {edge.target!r}: {error}") from None


def value_over(turn: Turn, edge: PlanEdge, subject: Subject) -> Json | None:
    """What the edge's transform makes of the output; None where it has none."""
    if edge.transform is None:
        return None
    try:
        value = transformed(edge.transform, turn.state, subject)
        check_size(value, turn.limits.value_bytes_max, "the value")
        return value
    except (ExpressionFailed, ValueRefused) as error:
        raise ExpressionFailed(f"transform of edge {edge.source!r} -> {edge.target!r}: {error}") from None


def _take(turn: Turn, edge: PlanEdge, giver: str, output: Json, value: Json | None) -> None:
    if edge.leaves:
        if _decided(turn, edge):
            return  # An earlier iteration took it, or failed before it.
        # The giver is forgotten when the body begins anew, so the value goes with the edge.
        value = output if value is None else value
    turn.emit(e.EdgeTaken(edge.index, edge.source, edge.target, giver, value))
    turn.look.append(edge.target)


def _touch_loops(turn: Turn, node: PlanNode) -> None:
    """The loops that hold a node which was decided may have come to the end of an iteration."""
    for controller in node.loops:
        turn.loops[controller] = None


def _is_way_in(node: PlanNode, edge: PlanEdge) -> bool:
    """Whether the edge leads from a loop's controller into its body: decided with each iteration only."""
    return node.kind == LOOP and edge.action == "continue" and edge.source == node.id


def close(turn: Turn, node: PlanNode, status: str) -> None:
    """Decide all edges of a node that gives no result: ``dead`` or ``failed``."""
    _touch_loops(turn, node)
    event = e.EdgeDead if status == DEAD else e.EdgeFailed
    for edge in node.routes:
        if _is_way_in(node, edge) or (edge.leaves and (status == DEAD or _decided(turn, edge))):
            continue
        turn.emit(event(edge.index, edge.source, edge.target, node.id))
        turn.look.append(edge.target)
    close_leaving(turn, node, status)
    if node.fallback is not None:
        skip_fallbacks(turn, node)


def close_leaving(turn: Turn, node: PlanNode, status: str) -> None:
    """Decide the edges out of a loop's body that no iteration has taken."""
    event = e.EdgeDead if status == DEAD else e.EdgeFailed
    for edge in node.leaving:
        if not _decided(turn, edge):
            turn.emit(event(edge.index, edge.source, edge.target, node.id))
            turn.look.append(edge.target)


def _decided(turn: Turn, edge: PlanEdge) -> bool:
    join = turn.state.joins.get(edge.target)
    return join is not None and (edge.index in join.arrived or edge.index in join.dead or edge.index in join.failed)


def skip_fallbacks(turn: Turn, node: PlanNode) -> None:
    """A fallback that was not needed is skipped, with those behind it; only its own edges are its to decide."""
    fallback = node.fallback
    while fallback is not None:
        skipped = turn.plan.nodes[fallback]
        turn.emit(e.NodeSkipped(fallback))
        for edge in skipped.routes:
            if edge.source == fallback and not edge.leaves:
                turn.emit(e.EdgeDead(edge.index, edge.source, edge.target, fallback))
                turn.look.append(edge.target)
        fallback = skipped.fallback


def schedule(turn: Turn, node: PlanNode, edges: tuple[int, ...], work: NodeState | None = None) -> None:
    """Make the node's job. *work* is that of the node which this one replaces as its fallback."""
    own = turn.state.nodes.get(node.id)
    pinned = pinned_input(turn.state, turn.plan, node.inputs, own, edges)
    if pinned is None and work is not None:
        pinned = work.input
    turn.emit(e.NodeScheduled(node.id, NO_ITEM, _activation(turn, node), 1, edges, pinned))
    turn.ready.append((node.id, NO_ITEM))


def _activation(turn: Turn, node: PlanNode) -> int:
    if not node.loops:
        return 0
    loop = turn.state.nodes[node.loops[0]].loop
    assert loop is not None
    return loop.activation
