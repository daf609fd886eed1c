"""What nodes get: shapes come from the blueprint, values from what has arrived."""

from __future__ import annotations

from typing import Any

import pytest

from headrace import events as e
from headrace.apply import apply
from headrace.blueprint import from_json
from headrace.execution import NO_ITEM
from headrace.inputs import NameRef, compile_inputs, edge_value, named_output, node_input, pinned_input, run_output
from headrace.plan import Plan, compile_plan
from headrace.state import NodeState, RunState
from headrace.values import NULL, decode, encode


def plan_of(*edges: str, **nodes: dict[str, Any]) -> Plan:
    """Nodes by id, and edges as ``a>b``."""
    pairs = [edge.split(">") for edge in edges]
    ids = dict.fromkeys([name for pair in pairs for name in pair] + list(nodes))
    return compile_plan(
        from_json(
            {
                "id": "f",
                "nodes": [{"id": name, "uses": "f", **nodes.get(name, {})} for name in ids],
                "edges": [{"source": source, "target": target} for source, target in pairs],
            }
        )
    )


def state_of(
    plan: Plan, context: dict[str, Any] | None = None, over: dict[int, Any] | None = None, **outputs: Any
) -> RunState:
    """A run in which these nodes have completed, and all their edges are taken; *over* are values of transforms."""
    state = RunState("r")
    encoded = {key: encode(value) for key, value in (context or {}).items()}
    apply(state, e.RunStarted("f", "1", encode("run input"), encoded, None, 0))
    for node, output in outputs.items():
        apply(state, e.NodeScheduled(node, NO_ITEM, 0, 1, (), None))
        apply(state, e.NodeCompleted(node, NO_ITEM, encode(output), None))
        for edge in plan.edges:
            if edge.source == node:
                value = encode(over[edge.index]) if over and edge.index in over else None
                apply(state, e.EdgeTaken(edge.index, node, edge.target, node, value))
    return state


def input_of(plan: Plan, state: RunState, node: str, *edges: int) -> Any:
    apply(
        state, e.NodeScheduled(node, NO_ITEM, 0, 1, edges, pinned_input(state, plan, plan.nodes[node].inputs, None, edges))
    )
    return decode(node_input(state, plan, plan.nodes[node], state.nodes[node]))


def test_a_start_node_gets_the_input_of_the_run() -> None:
    plan = plan_of("a>b")
    assert input_of(plan, state_of(plan), "a") == "run input"


def test_a_node_behind_one_other_gets_its_output() -> None:
    plan = plan_of("a>b")
    for output in (5, None, {"x": [1]}):
        assert input_of(plan, state_of(plan, a=output), "b", 0) == output


def test_a_join_gets_an_object_in_the_order_of_the_blueprint() -> None:
    plan = plan_of("a>z", "b>z", "c>z")
    state = state_of(plan, c=3, a=1, b=2)

    assert list(input_of(plan, state, "z", 0, 1, 2).items()) == [("a", 1), ("b", 2), ("c", 3)]
    assert input_of(plan, state, "z", 2) == {"c": 3}, "also where one only arrived"


def test_an_any_join_gets_the_value_that_came() -> None:
    plan = plan_of("a>z", "b>z", z={"config": {"joinStrategy": "any"}})
    assert input_of(plan, state_of(plan, b=2), "z", 1) == 2


def test_of_two_edges_from_one_node_the_first_gives_the_value() -> None:
    plan = plan_of("a>z", "a>z")
    state = state_of(plan, over={1: "transformed"}, a=1)

    assert input_of(plan, state, "z", 0, 1) == 1
    assert decode(edge_value(state, plan, 1)) == "transformed"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a", {"b": [10, {"c": 1}]}),
        ("a.b", [10, {"c": 1}]),
        ("a.b.0", 10),
        ("a.b.1.c", 1),
        ("a.b.2", None),
        ("a.b.-1", None),
        ("a.b.one", None),
        ("a.b.٣", None),
        ("a.b.0.deeper", None),
        ("a.missing", None),
        ("n.dotted", "the node with the dotted id"),
        ("n.dotted.x", None),
        ("n.other", "of node n"),
        ("key", "a context value"),
        ("key.with.dots", "the longer key"),
        ("object.x.y", 7),
        ("never", None),
        ("nobody", None),
        ("shadowed", "the node's"),
    ],
)
def test_a_name_means_a_node_then_a_context_key_the_longest_first(name: str, value: Any) -> None:
    plan = plan_of("a>z", z={"inputs": name}, never={}, shadowed={}, **{"n.dotted": {}, "n": {}})
    context = {
        "key": "a context value",
        "key.with.dots": "the longer key",
        "object": {"x": {"y": 7}},
        "shadowed": "the context's",
    }
    outputs: dict[str, Any] = {
        "a": {"b": [10, {"c": 1}]},
        "n.dotted": "the node with the dotted id",
        "n": {"other": "of node n"},
        "shadowed": "the node's",
    }
    assert input_of(plan, state_of(plan, context, **outputs), "z", 0) == value


def test_named_inputs_are_an_object_and_pinned_when_the_node_is_scheduled() -> None:
    plan = plan_of("a>z", z={"inputs": {"one": "a", "two": "k", "three": "nobody"}})
    state = state_of(plan, {"k": 2}, a=1)
    assert input_of(plan, state, "z", 0) == {"one": 1, "two": 2, "three": None}

    state.context["k"] = encode(99)
    assert decode(node_input(state, plan, plan.nodes["z"], state.nodes["z"])) == {"one": 1, "two": 2, "three": None}


def test_a_name_of_the_edges_source_reads_what_came_over_the_edge() -> None:
    plan = plan_of("a>z", z={"inputs": "a.x"})
    state = state_of(plan, over={0: {"x": "transformed"}}, a={"x": 1})

    assert input_of(plan, state, "z", 0) == "transformed"


def test_a_fallback_finds_the_error_and_nobody_else_does() -> None:
    plan = plan_of("a>z", z={"inputs": "_error.message"})
    state = state_of(plan, a=1)
    work = NodeState()
    work.error = encode({"message": "what went wrong"})
    ref = plan.nodes["z"].inputs

    assert pinned_input(state, plan, ref, work, (0,)) == encode("what went wrong")
    assert pinned_input(state, plan, ref, None, (0,)) == NULL


def test_the_output_of_a_node_is_also_that_of_its_fallback() -> None:
    plan = plan_of("a>z", a={"config": {"fallback": "m"}}, m={})
    state = state_of(plan)
    for event in (
        e.NodeScheduled("a", NO_ITEM, 0, 1, (), None),
        e.NodeFailed("a", NO_ITEM, 1, "NODE_ERROR", "no", "m"),
        e.NodeFallback("a", "m", b"{}"),
        e.NodeScheduled("m", NO_ITEM, 0, 1, (), None),
    ):
        apply(state, event)
    assert named_output(state, "a") is None, "not yet"
    apply(state, e.NodeCompleted("m", NO_ITEM, encode("mended"), None))

    assert named_output(state, "a") == named_output(state, "m") == encode("mended")
    assert named_output(state, "nobody") is None


def test_the_output_of_a_run_is_that_of_its_terminals() -> None:
    plan = plan_of("a>b", "a>c")

    assert run_output(state_of(plan), plan) == NULL
    assert run_output(state_of(plan, a=1), plan) == NULL
    assert run_output(state_of(plan, a=1, b=None), plan) == NULL
    assert run_output(state_of(plan, a=1, c=3), plan) == b"3"
    assert decode(run_output(state_of(plan, a=1, c=3, b=2), plan)) == {"b": 2, "c": 3}


def test_names_are_compiled_once() -> None:
    ids = {"a", "a.b"}
    assert compile_inputs(None, ids) is None
    assert compile_inputs("a.b.c", ids) == NameRef("a.b", ("c",), "a.b.c")
    assert compile_inputs("a.c", ids) == NameRef("a", ("c",), "a.c")
    assert compile_inputs("x.a", ids) == NameRef(None, (), "x.a")
    assert compile_inputs({"k": "a"}, ids) == (("k", NameRef("a", (), "a")),)
