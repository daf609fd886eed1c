"""Beginning the work of a node that is scheduled: hand out an execution, or do what a built-in node does."""

from __future__ import annotations

__all__ = ["begin_built_in", "execution_of", "finish", "fire_timer", "runs_code", "time_out"]

from headrace import events as e
from headrace.batches import gather_failure, gather_list, item_ended, schedule_items, split_items
from headrace.errors import ValueRefused
from headrace.execution import NO_ITEM, Execution, Failed, Operation, Outcome, Succeeded
from headrace.failures import fail_attempt, fail_for_good
from headrace.inputs import node_input
from headrace.loops import begin_loop
from headrace.operations import preview
from headrace.plan import FUNCTION, GATHER, LOOP, SCATTER, SLEEP, SUBFLOW, WAIT, Plan, PlanNode
from headrace.results import settle_result
from headrace.state import CHILD, RETRYING, RUNNING, SLEEPING, WAITING, NodeState, RunState
from headrace.subflows import begin_child, child_timed_out
from headrace.turn import Turn
from headrace.values import NULL, check_made
from headrace.waits import open_wait


def runs_code(node: PlanNode, item: int) -> bool:
    """Whether user code is to run; everything else is done by the engine itself."""
    return item != NO_ITEM or node.kind == FUNCTION


def execution_of(state: RunState, plan: Plan, node: PlanNode, work: NodeState, item: int, token: int) -> Execution:
    """The execution of a node, or of a batch item, that begins."""
    value = work.input if item != NO_ITEM else None
    return Execution(
        token,
        state.run_id,
        state.blueprint_id,
        node.id,
        item,
        work.activation,
        work.attempt,
        node.uses if item == NO_ITEM else node.params["workerUsesKey"],
        node.params_json,
        node_input(state, plan, node, work) if value is None else value,
        state.context,
        work.error,
        node.timeout_ms,
        work.prepared,
        node.max_retries,
    )


def begin_built_in(turn: Turn, node: PlanNode, work: NodeState) -> None:
    """Begin a node that the engine does itself."""
    turn.emit(e.NodeStarted(node.id, NO_ITEM, work.attempt))
    kind = node.kind
    if kind == WAIT:
        open_wait(turn, node, work)
    elif kind == SLEEP:
        turn.set_timer(node.id, turn.now_ms + node.duration_ms)
    elif kind == SUBFLOW:
        begin_child(turn, node, work)
    elif kind == LOOP:
        begin_loop(turn, node, work)
    elif kind == SCATTER:
        _begin_scatter(turn, node, work)
    else:
        assert kind == GATHER, kind
        _begin_gather(turn, node, work)


def _begin_scatter(turn: Turn, node: PlanNode, work: NodeState) -> None:
    try:
        items = split_items(node_input(turn.state, turn.plan, node, work), turn.limits)
    except ValueRefused as error:
        fail_for_good(turn, node, work, "BATCH_INPUT", str(error))
        return
    turn.emit(e.BatchStarted(node.id, items))
    assert work.batch is not None
    schedule_items(turn, node, work.batch)
    if not items:
        turn.finished_batches.append(node.id)


def _begin_gather(turn: Turn, node: PlanNode, work: NodeState) -> None:
    failure = gather_failure(turn, node)
    if failure is not None:
        fail_for_good(turn, node, work, "ITEM_FAILED", failure)
        return
    output = gather_list(turn, node)
    try:
        check_made(output, turn.limits.value_bytes_max, "the list of outputs")
    except ValueRefused as error:
        fail_for_good(turn, node, work, "VALUE_REFUSED", str(error))
        return
    assert node.scatter is not None
    key = turn.plan.nodes[node.scatter].params.get("outputKey")
    operations = (Operation("set", key, output),) if key else ()
    settle_result(turn, node, work, output, None, operations)


def finish(turn: Turn, node: PlanNode, work: NodeState, item: int, outcome: Outcome) -> None:
    """An execution has ended."""
    work.token = 0
    if isinstance(outcome, Failed):
        fail_attempt(turn, node, work, item, outcome)
    elif item == NO_ITEM:
        settle_result(turn, node, work, outcome.output, outcome.action, outcome.operations)
    else:
        _finish_item(turn, node, work, item, outcome)


def _finish_item(turn: Turn, node: PlanNode, work: NodeState, item: int, outcome: Succeeded) -> None:
    if outcome.operations:
        try:
            preview(outcome.operations, turn.state.context, turn.limits.value_bytes_max)
        except ValueRefused as error:
            fail_for_good(turn, node, work, "VALUE_REFUSED", str(error), item=item)
            return
    turn.emit(e.NodeCompleted(node.id, item, outcome.output, None))
    if outcome.operations:
        turn.emit(e.ContextChanged(node.id, outcome.operations))
    item_ended(turn, node)


def time_out(turn: Turn, node: PlanNode, work: NodeState, item: int) -> None:
    """The time of an attempt is over: its execution is no longer wanted, and the attempt has failed."""
    assert work.status == RUNNING, work.status
    turn.cancels.append(work.token)
    work.token = 0
    fail_attempt(turn, node, work, item, Failed(f"timed out after {node.timeout_ms} ms", "TIMEOUT"))


def fire_timer(turn: Turn, node: PlanNode, work: NodeState, item: int) -> None:
    """A durable timer is due."""
    assert work.due_ms is not None, "no timer is set"
    assert work.due_ms <= turn.now_ms, "a timer fires no earlier than due"
    turn.emit(e.TimerFired(node.id, item, work.due_ms))
    if work.status == RETRYING:
        turn.emit(e.NodeScheduled(node.id, item, work.activation, work.attempt, (), None))
        turn.ready.append((node.id, item))
    elif work.status == SLEEPING:
        value = node_input(turn.state, turn.plan, node, work)
        try:
            # A sleep that is a join wraps what it hands on, and a loop may do that without end.
            check_made(value, turn.limits.value_bytes_max, f"the input of {node.id!r}")
        except ValueRefused as error:
            fail_for_good(turn, node, work, "VALUE_REFUSED", str(error))
        else:
            settle_result(turn, node, work, value, None)
    elif work.status == WAITING:
        turn.news = True
        settle_result(turn, node, work, NULL, "timeout")
    else:
        assert work.status == CHILD, work.status
        child_timed_out(turn, node, work)
