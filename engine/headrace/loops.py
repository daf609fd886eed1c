"""Loops (SEMANTICS section 7): while-style, with a body that may hold anything.

A controller is scheduled and begun like any node; from then on it is *looping* until its condition fails. An iteration
is over when the edge back from the body's end is decided and nothing of the body is outstanding, so a branch of the
body that does not lead back is neither lost nor overtaken. What goes round is the controller's output.
"""

from __future__ import annotations

__all__ = ["advance_loops", "begin_loop"]

from headrace import events as e
from headrace.errors import ExpressionFailed, ValueRefused
from headrace.failures import fail_for_good
from headrace.inputs import edge_value, node_input
from headrace.plan import PlanEdge, PlanNode
from headrace.routing import close, close_leaving, holds, record, value_over
from headrace.scope import Subject, condition_holds
from headrace.state import DEAD, FAILED, LOOPING, OPEN, SCATTERING, NodeState
from headrace.turn import Turn
from headrace.values import Json, check_made


def begin_loop(turn: Turn, node: PlanNode, work: NodeState) -> None:
    """Check the condition for the first time."""
    value = node_input(turn.state, turn.plan, node, work)
    try:
        # A controller that is a join wraps what goes round, and a loop around it may do that without end.
        check_made(value, turn.limits.value_bytes_max, f"the input of {node.id!r}")
    except ValueRefused as error:
        fail_for_good(turn, node, work, "VALUE_REFUSED", str(error))
    else:
        _turn_round(turn, node, work, value)


def advance_loops(turn: Turn) -> bool:
    """Go on with loops whose iteration is over, inner ones first; whether there was one."""
    advanced = False
    touched, turn.loops = turn.loops, {}
    for controller in sorted(touched, key=lambda node_id: len(turn.plan.nodes[node_id].body)):
        node = turn.plan.nodes[controller]
        work = turn.state.nodes.get(controller)
        if work is not None and work.status == LOOPING and _iteration_is_over(turn, node):
            _close_iteration(turn, node, work)
            advanced = True
            break
    # The others are looked at again after what this one has set in motion.
    turn.loops = {**touched, **turn.loops} if advanced else turn.loops
    return advanced


def _iteration_is_over(turn: Turn, node: PlanNode) -> bool:
    join = turn.state.joins.get(node.id)
    if join is None or not all(edge in join.arrived or edge in join.dead or edge in join.failed for edge in node.back):
        return False
    nodes = turn.state.nodes
    for member in node.body:
        work = nodes.get(member)
        if work is not None and (work.status in OPEN or work.status in (LOOPING, SCATTERING)):
            return False
    return True


def _close_iteration(turn: Turn, node: PlanNode, work: NodeState) -> None:
    join = turn.state.joins[node.id]
    arrived = [edge for edge in node.back if edge in join.arrived]
    failed = [edge for edge in node.back if edge in join.failed]
    if failed:
        turn.emit(e.NodePoisoned(node.id, turn.plan.edges[failed[0]].source, False))
        close(turn, node, FAILED)
    elif arrived:
        _turn_round(turn, node, work, edge_value(turn.state, turn.plan, min(arrived)))
    else:
        # The body's branch ended without leading back: the loop is over, and nothing goes over its exits.
        assert work.output is not None
        _leave(turn, node, work, work.output, None, {})


def _turn_round(turn: Turn, node: PlanNode, work: NodeState, value: Json) -> None:
    """Check the exits with a condition first, then the loop's own condition."""
    subject = Subject(node.id, value, value, None, {})
    assert node.condition is not None
    try:
        exits = [edge for edge in node.routes if not _leads_in(node, edge)]
        chosen = [edge for edge in exits if edge.condition is not None and holds(turn, edge, subject)]
        if not chosen and condition_holds(node.condition, turn.state, turn.plan, subject):
            _iterate(turn, node, work, value, subject)
            return
        action = None
        if not chosen:
            action = "break"
            chosen = [edge for edge in exits if edge.action == "break" and edge.condition is None]
            chosen = chosen or [edge for edge in exits if edge.action is None and edge.condition is None]
        taken = {edge.index: value_over(turn, edge, subject) for edge in chosen}
    except ExpressionFailed as error:
        fail_for_good(turn, node, work, "EXPRESSION_FAILED", f"loop {node.id!r}: {error}")
        return
    _leave(turn, node, work, value, action, taken)


def _leads_in(node: PlanNode, edge: PlanEdge) -> bool:
    return edge.action == "continue" and edge.source == node.id


def _iterate(turn: Turn, node: PlanNode, work: NodeState, value: Json, subject: Subject) -> None:
    state = turn.state
    iteration = 0 if work.loop is None else work.loop.iteration
    if iteration >= node.iterations_max:
        text = f"loop {node.id!r} would go beyond its {node.iterations_max} iterations"
        fail_for_good(turn, node, work, "LOOP_LIMIT", text)
        return
    ways_in = [edge for edge in node.routes if _leads_in(node, edge) and holds(turn, edge, subject)]
    values = [value_over(turn, edge, subject) for edge in ways_in]
    # A set of names has another order in every process.
    reset = tuple(sorted(member for member in node.body if member in state.nodes or member in state.joins))
    kept = tuple(
        e.Kept(index, out.status, out.source, out.target, out.value)
        for member in reset
        if member in state.nodes
        for index, out in (state.nodes[member].out or {}).items()
        if out.target != node.id and out.target not in node.body
    )
    # The sequence number of the event is unlike any other in the run, and replay finds the same one.
    turn.emit(e.LoopIteration(node.id, iteration + 1, state.seq + 1, value, reset, kept))
    for edge, over in zip(ways_in, values, strict=True):
        turn.emit(e.EdgeTaken(edge.index, edge.source, edge.target, node.id, over))
        turn.look.append(edge.target)
    if not ways_in:
        _leave(turn, node, work, value, None, {})


def _leave(
    turn: Turn, node: PlanNode, work: NodeState, value: Json, action: str | None, taken: dict[int, Json | None]
) -> None:
    turn.emit(e.LoopEnded(node.id, 0 if work.loop is None else work.loop.iteration, value))
    record(turn, node, value, action, (), taken)
    close_leaving(turn, node, DEAD)
