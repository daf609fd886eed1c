"""Whether a node runs, now that something was decided about its incoming edges (SEMANTICS section 6).

``look_at`` is the one place where a node with predecessors is scheduled, skipped, poisoned or cancelled:

    strategy    fires                                   else, once it cannot fire any more
    all         no edge pending, at least one arrived   poisoned at the first failed edge; skipped if all are dead
    any         at the first arrival                    cancelled by a failed edge until it has begun; skipped
    at least n  at the n-th arrival                     fails if something arrived or failed; else skipped
    (one edge)  when it arrives                         shares its edge's fate
"""

from __future__ import annotations

__all__ = ["look_at"]

from headrace import events as e
from headrace.execution import NO_ITEM
from headrace.failures import fail_for_good
from headrace.inputs import pinned_input
from headrace.plan import ALL, ANY, PlanNode
from headrace.routing import close, schedule
from headrace.state import DEAD, FAILED, SCHEDULED, Join, NodeState
from headrace.turn import Turn


def look_at(turn: Turn, node: PlanNode) -> None:
    """Decide whether the node is to run, now that something was decided about its incoming edges."""
    state = turn.state
    join = state.joins[node.id]
    work = state.nodes.get(node.id)
    if work is not None and work.status:
        if node.join == ANY and work.status == SCHEDULED and work.attempt == 1 and join.failed:
            # The cancellation pill, for a join that was scheduled and has not begun.
            _cancel(turn, node, min(join.failed))
        return
    if len(node.entries) == 1:
        entry = node.entries[0]
        if entry in join.arrived:
            schedule(turn, node, node.entries)
        elif entry in join.dead:
            _skip(turn, node)
        elif entry in join.failed:
            _poison(turn, node, entry, listed=False)
    elif node.join == ALL:
        _look_at_all(turn, node, join)
    elif node.join == ANY:
        _look_at_any(turn, node, join)
    else:
        _look_at_least(turn, node, join)


def _look_at_all(turn: Turn, node: PlanNode, join: Join) -> None:
    if join.failed:
        _poison(turn, node, min(join.failed), listed=True)
    elif len(join.arrived) + len(join.dead) >= len(node.entries):
        _fire_or_skip(turn, node, join)


def _look_at_any(turn: Turn, node: PlanNode, join: Join) -> None:
    if join.failed:
        _cancel(turn, node, min(join.failed))
    elif join.arrived:
        _fire(turn, node, (min(join.arrived),))
    elif len(join.dead) >= len(node.entries):
        _skip(turn, node)


def _look_at_least(turn: Turn, node: PlanNode, join: Join) -> None:
    if len(join.arrived) >= node.join:
        _fire(turn, node, tuple(sorted(join.arrived)))
    elif len(join.arrived) + len(join.dead) + len(join.failed) >= len(node.entries):
        if join.arrived or join.failed:
            text = f"{len(join.arrived)} of at least {node.join} predecessors arrived, and no other one can"
            # Not part of the state: it only tells a fallback which input the join would have had.
            work = NodeState()
            work.edges = tuple(sorted(join.arrived))
            work.input = pinned_input(turn.state, turn.plan, node.inputs, None, work.edges)
            fail_for_good(turn, node, work, "JOIN_OUT_OF_REACH", text)
        else:
            _skip(turn, node)


def _fire_or_skip(turn: Turn, node: PlanNode, join: Join) -> None:
    if join.arrived:
        _fire(turn, node, tuple(sorted(join.arrived)))
    else:
        _skip(turn, node)


def _fire(turn: Turn, node: PlanNode, edges: tuple[int, ...]) -> None:
    turn.emit(e.JoinFired(node.id, edges))
    schedule(turn, node, edges)


def _skip(turn: Turn, node: PlanNode) -> None:
    turn.emit(e.NodeSkipped(node.id))
    close(turn, node, DEAD)


def _poison(turn: Turn, node: PlanNode, entry: int, *, listed: bool) -> None:
    turn.emit(e.NodePoisoned(node.id, turn.plan.edges[entry].source, listed))
    close(turn, node, FAILED)


def _cancel(turn: Turn, node: PlanNode, entry: int) -> None:
    turn.emit(e.NodeCancelled(node.id, NO_ITEM, turn.plan.edges[entry].source))
    close(turn, node, FAILED)
