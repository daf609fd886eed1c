"""What conditions and transforms may look at."""

from __future__ import annotations

from typing import Any

import pytest

from headrace import events as e
from headrace.apply import apply
from headrace.blueprint import from_json
from headrace.errors import ExpressionFailed
from headrace.execution import NO_ITEM
from headrace.expressions import compile_expression
from headrace.plan import compile_plan
from headrace.scope import Subject, condition_holds, transformed
from headrace.state import RunState
from headrace.values import decode, encode

PLAN = compile_plan(
    from_json({"id": "f", "nodes": [{"id": name, "uses": "f"} for name in ("a", "b", "both", "odd id")], "edges": []})
)


@pytest.fixture
def state() -> RunState:
    made = RunState("r")
    context = {"k": b"1", "both": b'"context"', "list": b"[1,2]", "odd key": b"3"}
    apply(made, e.RunStarted("f", "1", b"null", context, None, 0))
    for node, output in (("a", {"n": 5}), ("both", "node"), ("odd id", 7)):
        apply(made, e.NodeScheduled(node, NO_ITEM, 0, 1, (), None))
        apply(made, e.NodeCompleted(node, NO_ITEM, encode(output), None))
    return made


def subject(output: Any = None, action: str | None = None, writes: dict[str, Any] | None = None) -> Subject:
    encoded = {key: None if value is ... else encode(value) for key, value in (writes or {}).items()}
    return Subject("b", encode({"in": 1}), encode(output), action, encoded)


@pytest.mark.parametrize(
    "condition",
    [
        "result.output.paid",
        "result.action == 'go'",
        "input['in'] == 1",
        "context.k == 1",
        "context['odd key'] == 3",
        "outputs.a.n == 5",
        "outputs['odd id'] == 7",
        "a.n == 5",
        "b.paid",
        "k == 1",
        "both == 'node'",
        "context.both == 'context'",
        "size(list) == 2",
        "!has(context.nobody)",
        "'k' in context && !('nobody' in context)",
        "'a' in outputs && 'b' in outputs && !('both2' in outputs)",
    ],
)
def test_a_condition_sees_result_input_context_and_outputs(state: RunState, condition: str) -> None:
    assert condition_holds(compile_expression(condition), state, PLAN, subject({"paid": True}, "go"))


def test_the_nodes_own_writes_are_seen_before_they_are_recorded(state: RunState) -> None:
    own = subject(writes={"k": 99, "new": True, "list": ...})

    assert condition_holds(compile_expression("context.k == 99 && k == 99 && new"), state, PLAN, own)
    assert condition_holds(compile_expression("!has(context.list)"), state, PLAN, own)
    assert state.context["k"] == b"1"


@pytest.mark.parametrize(
    "condition", ["missing", "outputs.missing", "context.missing", "result.missing", "1", "'true'", "null"]
)
def test_what_is_not_there_and_what_is_no_boolean_is_a_failure(state: RunState, condition: str) -> None:
    with pytest.raises(ExpressionFailed):
        condition_holds(compile_expression(condition), state, PLAN, subject())


def test_a_transform_sees_the_output_as_its_input_and_the_context(state: RunState) -> None:
    assert decode(transformed(compile_expression("input.n + context.k"), state, subject({"n": 2}))) == 3
    assert decode(transformed(compile_expression("{'kept': input}"), state, subject(None))) == {"kept": None}
    with pytest.raises(ExpressionFailed):
        transformed(compile_expression("a.n"), state, subject())


def test_only_what_an_expression_names_is_decoded(state: RunState) -> None:
    """A value that is no JSON would fail whoever decodes it."""
    state.context["broken"] = b"{"
    state.nodes["a"].output = b"{"

    assert condition_holds(compile_expression("context.k == 1 && outputs.both == 'node'"), state, PLAN, subject())
