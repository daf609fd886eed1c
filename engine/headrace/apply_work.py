"""The work of a run, as appliers change it: counters, joins, and what is marked as changed."""

from __future__ import annotations

__all__ = ["arrive", "count", "item_ended", "move", "touched"]

from headrace.execution import NO_ITEM
from headrace.state import ACTIVE, CHILD, DEAD, OPEN, TAKEN, WAITING, EdgeOut, Join, NodeState, RunState


def count(state: RunState, node: NodeState, by: int) -> None:
    """Count a node in (1) or out (-1), by its status."""
    status = node.status
    if status in OPEN:
        state.open += by
        if status in ACTIVE:
            state.active += by
        elif status == WAITING or (status == CHILD and node.child is not None and node.child.awaiting):
            state.waiting += by


def move(state: RunState, node: NodeState, status: str) -> None:
    """Give a node another status."""
    count(state, node, -1)
    node.status = status
    count(state, node, 1)


def arrive(state: RunState, edge: int, out: EdgeOut, giver: str) -> None:
    """Note at an edge's target how it was decided."""
    join = state.joins.get(out.target)
    if join is None:
        join = state.joins[out.target] = Join()
    if out.status == TAKEN:
        join.arrived[edge] = giver
    elif out.status == DEAD:
        join.dead[edge] = giver
    else:
        join.failed[edge] = giver


def touched(state: RunState, node_id: str, item: int = NO_ITEM) -> NodeState:
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


def item_ended(state: RunState, node_id: str, item: NodeState) -> None:
    """An item of a batch is outstanding no more; its input is not needed any longer."""
    batch = state.nodes[node_id].batch
    assert batch is not None
    batch.open -= 1
    item.input = None
    state.changed.add(("n", node_id))
