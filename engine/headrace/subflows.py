"""Subflows (SEMANTICS section 7): a child run with an id of its own, owned wherever its key falls.

Parent and child know of each other only by records: ``Start`` and ``Cancel`` go down, ``ChildNews`` and ``ChildEnd`` come
up. What comes from a child that the parent does not wait for any more changes nothing.
"""

from __future__ import annotations

__all__ = ["begin_child", "child_ended", "child_news", "child_timed_out", "tell_end", "tell_news"]

from hashlib import blake2b

from headrace import events as e
from headrace.commands import Cancel, ChildEnd, ChildNews, Start
from headrace.errors import ValueRefused
from headrace.events import Parent
from headrace.execution import NO_ITEM, Failed, Operation, id_segment
from headrace.failures import fail_attempt
from headrace.inputs import compile_inputs, named_output, node_input, pinned_input
from headrace.limits import ID_BYTES_MAX, SUBFLOW_DEPTH_MAX
from headrace.plan import PlanNode
from headrace.results import settle_result
from headrace.state import CHILD, NodeState, RunState
from headrace.turn import Turn
from headrace.values import NULL, Json, check_made, join_object
from headrace.waits import hand_out_kept, open_waits


def begin_child(turn: Turn, node: PlanNode, work: NodeState) -> None:
    """Start the child; every attempt has a child of its own."""
    state = turn.state
    depth = 1 if state.parent is None else state.parent.depth + 1
    if depth > SUBFLOW_DEPTH_MAX:
        text = f"subflows are nested deeper than {SUBFLOW_DEPTH_MAX}: does {node.params['blueprintId']!r} start itself?"
        fail_attempt(turn, node, work, NO_ITEM, Failed(text, "SUBFLOW_DEPTH", fatal=True))
        return
    context, value = _mapped_in(turn, node, work)
    child = _child_id(state, node, work)
    turn.emit(e.ChildStarted(node.id, child))
    if node.timeout_ms is not None:
        turn.set_timer(node.id, turn.now_ms + node.timeout_ms)
    outputs = tuple((node.params.get("outputs") or {}).values())
    parent = Parent(state.run_id, node.id, work.activation, work.attempt, depth, outputs)
    version = node.params.get("version")
    turn.publish.append(Start(child, node.params["blueprintId"], version, value, context, parent))


def _mapped_in(turn: Turn, node: PlanNode, work: NodeState) -> tuple[dict[str, Json], Json]:
    mapping = node.params.get("inputs")
    if not mapping:
        return {}, node_input(turn.state, turn.plan, node, work)
    context: dict[str, Json] = {}
    for key, name in mapping.items():
        ref = compile_inputs(name, turn.plan.nodes)
        value = pinned_input(turn.state, turn.plan, ref, work, work.edges)
        context[key] = NULL if value is None else value
    return context, join_object(context.items())


def _child_id(state: RunState, node: PlanNode, work: NodeState) -> str:
    child = f"{state.run_id}/{id_segment(node.id)}"
    if work.activation:
        child += f"@{work.activation}"
    if work.attempt > 1:
        child += f"#{work.attempt}"
    encoded = child.encode("utf-8")
    if len(encoded) <= ID_BYTES_MAX:
        return child
    return f"{encoded[:128].decode('utf-8', 'ignore')}~{blake2b(encoded, digest_size=16).hexdigest()}"


def child_news(turn: Turn, command: ChildNews) -> None:
    """The child's open waits changed, or whether it awaits somebody."""
    work = _waiting_for(turn, command.node_id, command.child_id)
    if work is None or work.child is None or (work.child.awaiting, work.child.waits) == (command.awaiting, command.waits):
        return
    known = set(work.child.waits)
    turn.emit(e.ChildChanged(command.node_id, command.awaiting, command.waits))
    turn.news = True
    if turn.state.signals:
        hand_out_kept(turn, command.node_id, tuple(wait for wait in command.waits if wait not in known))


def child_ended(turn: Turn, command: ChildEnd) -> None:
    """The child has ended: its output is the node's, or its failure is."""
    work = _waiting_for(turn, command.node_id, command.child_id)
    if work is None:
        return
    node = turn.plan.nodes[command.node_id]
    turn.emit(e.ChildEnded(node.id, command.child_id, command.status))
    turn.news = True
    if command.status == "completed":
        try:
            # A child's output may be an object of several outputs.
            for value in (command.output, *command.values.values()):
                check_made(value, turn.limits.value_bytes_max, f"the output of child run {command.child_id!r}")
        except ValueRefused as error:
            fail_attempt(turn, node, work, NO_ITEM, Failed(str(error), "VALUE_REFUSED"))
            return
        mapping: dict[str, str] = node.params.get("outputs") or {}
        operations = tuple(Operation("set", key, command.values.get(name, NULL)) for key, name in mapping.items())
        settle_result(turn, node, work, command.output, None, operations)
    else:
        text = f"child run {command.child_id!r} {command.status}" + (f": {command.error}" if command.error else "")
        fail_attempt(turn, node, work, NO_ITEM, Failed(text, "CHILD_FAILED"))


def child_timed_out(turn: Turn, node: PlanNode, work: NodeState) -> None:
    """The time of a child is over: it is cancelled, and the attempt has failed."""
    assert work.child is not None
    child = work.child.run_id
    turn.publish.append(Cancel(child, "its time was over"))
    turn.emit(e.ChildEnded(node.id, child, "timed out"))
    turn.news = True
    text = f"child run {child!r} did not end within {node.timeout_ms} ms"
    fail_attempt(turn, node, work, NO_ITEM, Failed(text, "TIMEOUT"))


def _waiting_for(turn: Turn, node_id: str, child: str) -> NodeState | None:
    work = turn.state.nodes.get(node_id)
    if work is None or work.status != CHILD or work.child is None or work.child.run_id != child:
        return None
    return work


def tell_news(turn: Turn) -> None:
    """Tell the parent about the waits that are open here."""
    state = turn.state
    assert state.parent is not None
    awaiting = state.awaiting and not state.paused
    turn.publish.append(ChildNews(state.parent.run_id, state.run_id, state.parent.node_id, awaiting, open_waits(state)))


def tell_end(turn: Turn) -> None:
    """Tell the parent how this run ended, with the values that it asked for."""
    state = turn.state
    parent = state.parent
    assert parent is not None
    values: dict[str, Json] = {}
    for name in parent.outputs if state.ended == "completed" else ():
        value = named_output(state, name)
        if value is None:
            value = state.context.get(name)
        values[name] = NULL if value is None else value
    error = "; ".join(f"{error.node}: {error.message}" for error in state.errors[:5]) or state.reason
    turn.publish.append(ChildEnd(parent.run_id, state.run_id, parent.node_id, state.ended, state.output, values, error))
