"""Batches (SEMANTICS section 7): one worker call for each item, gathered in the order of the items.

A scatter node schedules its items as jobs of their own, at most ``chunkSize`` at once, and is complete when none is
outstanding. Its gather node then gives the list, or fails with the item that failed first.
"""

from __future__ import annotations

__all__ = ["gather_failure", "gather_list", "item_ended", "item_failed", "schedule_items", "split_items"]

from headrace import events as e
from headrace.errors import ValueRefused
from headrace.execution import NO_ITEM
from headrace.limits import Limits
from headrace.plan import PlanNode
from headrace.state import COMPLETED, SCATTERING, SCHEDULED, BatchState
from headrace.turn import Turn
from headrace.values import NULL, Json, decode, encode, join_array


def split_items(value: Json, limits: Limits) -> tuple[Json, ...]:
    """The items of a scatter node's input; raises :class:`ValueRefused` for anything but a list, or too long a one."""
    items = decode(value)
    if not isinstance(items, list):
        raise ValueRefused(f"a batch needs a list as its input, not {type(items).__name__}")
    if len(items) > limits.batch_items_max:
        raise ValueRefused(
            f"the batch has {len(items)} items and the limit is {limits.batch_items_max}: split the list, or raise the "
            "limit (batch_items_max)"
        )
    return tuple(encode(item) for item in items)


def schedule_items(turn: Turn, node: PlanNode, batch: BatchState) -> None:
    """Make the jobs of as many items as may run at once; none after a failure, unless failures are collected."""
    if batch.failed != NO_ITEM and not _collects(node):
        return
    chunk = node.params.get("chunkSize") or len(batch.items)
    activation = turn.state.nodes[node.id].activation
    while batch.next < len(batch.items) and batch.open < chunk:
        index = batch.next
        turn.emit(e.NodeScheduled(node.id, index, activation, 1, (), None))
        turn.ready.append((node.id, index))


def item_failed(turn: Turn, node: PlanNode, item: int) -> None:
    """An item failed for good: those that have not begun never will, unless failures are collected."""
    batch = turn.state.nodes[node.id].batch
    assert batch is not None
    if batch.failed == item and not _collects(node):
        for index in range(batch.next):
            # One that waits for its next attempt has begun, and goes on.
            if batch.items[index].status == SCHEDULED and batch.items[index].attempt == 1:
                turn.emit(e.NodeCancelled(node.id, index, ""))
    item_ended(turn, node)


def item_ended(turn: Turn, node: PlanNode) -> None:
    """An item is done: schedule the next ones, and mark the scatter node to be completed when none is outstanding."""
    work = turn.state.nodes[node.id]
    if work.status != SCATTERING:
        return
    assert work.batch is not None
    schedule_items(turn, node, work.batch)
    if work.batch.open == 0:
        turn.finished_batches.append(node.id)


def gather_failure(turn: Turn, node: PlanNode) -> str | None:
    """Why the gather node fails: the item that failed first, where failures are not collected."""
    scatter, batch = _scattered(turn, node)
    if batch is None:
        return f"its scatter node {node.scatter!r} did not run"
    if batch.failed == NO_ITEM or _collects(scatter):
        return None
    message = batch.items[batch.failed].message
    assert message is not None
    return f"item {batch.failed}: {message[1]}"


def gather_list(turn: Turn, node: PlanNode) -> Json:
    """The outputs in item order, one slot for each item; an error object where an item failed."""
    _, batch = _scattered(turn, node)
    assert batch is not None
    slots: list[Json] = []
    for index, item in enumerate(batch.items):
        if item.status == COMPLETED:
            slots.append(NULL if item.output is None else item.output)
        else:
            text = item.message[1] if item.message is not None else "not executed"
            slots.append(encode({"error": {"message": text, "index": index}}))
    return join_array(slots)


def _scattered(turn: Turn, node: PlanNode) -> tuple[PlanNode, BatchState | None]:
    assert node.scatter is not None
    work = turn.state.nodes.get(node.scatter)
    return turn.plan.nodes[node.scatter], None if work is None else work.batch


def _collects(node: PlanNode) -> bool:
    return bool(node.params.get("onItemError", "fail") == "collect")
