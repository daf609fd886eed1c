"""What a node gets: the values over its edges, or what its ``inputs`` name (SEMANTICS section 4).

The shape of an input depends on the blueprint and never on what happened in the run. Which arrivals count is pinned when
the node is scheduled; named inputs are resolved at that moment too, so an attempt that is repeated gets the same input.
"""

from __future__ import annotations

__all__ = ["Inputs", "NameRef", "compile_inputs", "edge_value", "named_output", "node_input", "pinned_input", "run_output"]

from collections.abc import Container, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from headrace.state import COMPLETED, LOOPING, NodeState, RunState
from headrace.values import NULL, Json, decode, encode, join_object

if TYPE_CHECKING:
    from headrace.plan import Plan, PlanNode

_ANY = -1


class NameRef(NamedTuple):
    """One name in ``inputs``: a *node* and a *path* into its output, or else the *text* of a context key."""

    node: str | None
    path: tuple[str, ...]
    text: str


Inputs = NameRef | tuple[tuple[str, NameRef], ...] | None


def compile_inputs(inputs: str | Mapping[str, str] | None, node_ids: Container[str]) -> Inputs:
    """Find out what each name means; a longer node id goes before a shorter one, a node before a context key."""
    if inputs is None:
        return None
    if isinstance(inputs, str):
        return _compile_name(inputs, node_ids)
    return tuple((key, _compile_name(name, node_ids)) for key, name in inputs.items())


def _compile_name(name: str, node_ids: Container[str]) -> NameRef:
    head = name
    path: tuple[str, ...] = ()
    while True:
        if head in node_ids:
            return NameRef(head, path, name)
        head, dot, last = head.rpartition(".")
        if not dot:
            return NameRef(None, (), name)
        path = (last, *path)


def pinned_input(state: RunState, plan: Plan, inputs: Inputs, work: NodeState | None, edges: tuple[int, ...]) -> Json | None:
    """The input to record when the node is scheduled; None where its edges (or the run's input) give it."""
    if inputs is None:
        return None
    error = None if work is None else work.error
    if isinstance(inputs, NameRef):
        return _resolve(state, plan, inputs, edges, error)
    return join_object((key, _resolve(state, plan, ref, edges, error)) for key, ref in inputs)


def node_input(state: RunState, plan: Plan, node: PlanNode, work: NodeState) -> Json:
    """The input of a node that was scheduled."""
    if work.input is not None:
        return work.input
    edges = work.edges
    while node.replaces is not None:
        # A fallback gets what the node that it replaces got.
        node = plan.nodes[node.replaces]
    if not node.sources:
        return state.input
    if node.join == _ANY or len(node.sources) == 1:
        # Nothing arrived where a join was out of reach, and its fallback takes over.
        return edge_value(state, plan, edges[0]) if edges else NULL
    values: dict[str, Json] = {}
    for index in edges:
        source = plan.edges[index].source
        if source not in values:
            values[source] = edge_value(state, plan, index)
    return join_object((source, values[source]) for source in node.sources if source in values)


def edge_value(state: RunState, plan: Plan, index: int) -> Json:
    """The value that came over an edge that was taken."""
    giver = state.nodes[state.joins[plan.edges[index].target].arrived[index]]
    out = giver.out
    assert out is not None, f"edge {index} has no giver"
    value = out[index].value
    if value is None:
        value = giver.output
    assert value is not None, f"edge {index} was taken without a value"
    return value


def run_output(state: RunState, plan: Plan) -> Json:
    """The output of the completed nodes without outgoing edges: the single one's, or an object by node id."""
    done: list[tuple[str, Json]] = []
    for node_id in plan.terminals:
        work = state.nodes.get(node_id)
        if work is not None and work.status == COMPLETED:
            assert work.output is not None
            done.append((node_id, work.output))
    if len(done) == 1:
        return done[0][1]
    return join_object(done) if done else NULL


def named_output(state: RunState, node_id: str) -> Json | None:
    """A node's output, or that of the fallback that replaced it; None while there is none."""
    work = state.nodes.get(node_id)
    while work is not None and work.fallback is not None:
        work = state.nodes.get(work.fallback)
    if work is None or (work.status != COMPLETED and work.status != LOOPING):
        return None
    return work.output


def _resolve(state: RunState, plan: Plan, ref: NameRef, edges: tuple[int, ...], error: Json | None) -> Json:
    if ref.node is not None:
        for index in edges:
            if plan.edges[index].source == ref.node:
                return _walk(edge_value(state, plan, index), ref.path)
        output = named_output(state, ref.node)
        return NULL if output is None else _walk(output, ref.path)
    head = ref.text
    path: tuple[str, ...] = ()
    while True:
        value = error if head == "_error" and error is not None else state.context.get(head)
        if value is not None:
            return _walk(value, path)
        head, dot, last = head.rpartition(".")
        if not dot:
            return NULL
        path = (last, *path)


def _walk(value: Json, path: tuple[str, ...]) -> Json:
    if not path:
        return value
    found: Any = decode(value)
    for step in path:
        if isinstance(found, dict) and step in found:
            found = found[step]
        elif isinstance(found, list) and step.isascii() and step.isdigit() and int(step) < len(found):
            found = found[int(step)]
        else:
            return NULL
    return encode(found)
