"""What becomes of a failure: another attempt, a fallback, or failed edges (SEMANTICS section 6)."""

from __future__ import annotations

__all__ = ["fail_attempt", "fail_for_good", "stop_all"]

from headrace import events as e
from headrace.batches import item_failed
from headrace.commands import Cancel
from headrace.execution import NO_ITEM, NOT_TRIED_AGAIN, Failed
from headrace.plan import LOOP, PlanNode
from headrace.retry import retry_delay_ms
from headrace.routing import close, close_leaving, schedule
from headrace.state import DEAD, FAILED, OPEN, RUNNING, NodeState
from headrace.turn import Turn
from headrace.values import encode


def fail_attempt(turn: Turn, node: PlanNode, work: NodeState, item: int, failure: Failed) -> None:
    """One attempt failed: try again where attempts are left and the failure is not fatal."""
    if failure.fatal or failure.code in NOT_TRIED_AGAIN or work.attempt >= node.max_retries:
        fail_for_good(turn, node, work, failure.code, failure.message, item=item, fatal=failure.fatal)
        return
    delay_ms = retry_delay_ms(node, f"{turn.state.run_id}/{node.id}/{item}/{work.activation}", work.attempt)
    attempt = work.attempt + 1
    due_ms = turn.now_ms + delay_ms
    prepared = failure.prepared if failure.prepared is not None else work.prepared
    turn.emit(e.NodeRetrying(node.id, item, attempt, due_ms, failure.code, failure.message, prepared))
    if delay_ms == 0:
        turn.emit(e.NodeScheduled(node.id, item, work.activation, attempt, (), None))
        turn.ready.append((node.id, item))
    else:
        turn.timers.append((due_ms, node.id, item))


def fail_for_good(
    turn: Turn,
    node: PlanNode,
    work: NodeState,
    code: str,
    message: str,
    *,
    item: int = NO_ITEM,
    fatal: bool = False,
) -> None:
    """No attempt is left. A fatal failure has no use of its fallback."""
    attempt = work.attempt
    if item != NO_ITEM:
        turn.emit(e.NodeFailed(node.id, item, attempt, code, message, None))
        item_failed(turn, node, item)
        return
    fallback = None if fatal else node.fallback
    if fallback is not None:
        turn.emit(e.NodeFailed(node.id, item, attempt, code, message, fallback))
        error = encode({"node": node.id, "message": message, "attempt": attempt})
        turn.emit(e.NodeFallback(node.id, fallback, error))
        schedule(turn, turn.plan.nodes[fallback], work.edges, work)
        if node.kind == LOOP:
            close_leaving(turn, node, DEAD)
        return
    unrecovered: list[str] = []
    primary = node.replaces
    while primary is not None:
        unrecovered.append(primary)
        primary = turn.plan.nodes[primary].replaces
    turn.emit(e.NodeFailed(node.id, item, attempt, code, message, None, tuple(reversed(unrecovered))))
    close(turn, node, FAILED)
    if turn.plan.fail_fast:
        stop_all(turn)
        turn.emit(e.RunFailed())


def stop_all(turn: Turn) -> None:
    """End all outstanding work: running nodes are cancelled, children too, nothing else starts."""
    state = turn.state
    turn.look.clear()
    turn.ready.clear()
    for node_id, node in state.by_id():
        if node.status in OPEN:
            if node.status == RUNNING and node.token:
                turn.cancels.append(node.token)
            if node.child is not None:
                turn.publish.append(Cancel(node.child.run_id, f"its parent run {state.run_id} ended"))
            turn.emit(e.NodeCancelled(node_id, NO_ITEM, ""))
        for index, item in enumerate(node.batch.items if node.batch is not None else ()):
            if item.status in OPEN:
                if item.status == RUNNING and item.token:
                    turn.cancels.append(item.token)
                turn.emit(e.NodeCancelled(node_id, index, ""))
