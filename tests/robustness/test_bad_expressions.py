"""Conditions and transforms that are wrong, do not end quickly, or blow up: refused at once, or a quick node failure.

An expression is evaluated in the thread that decides for all runs of a worker, so its cost is everybody's.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from headrace import App, Flow
from headrace.adapter import RunResult
from headrace.errors import BlueprintInvalid
from tests.contract.waiting import RESULT_S

QUICK_S = 2.0

WRONG = {
    "a syntax error": "input +",
    "an unknown function": "launch(input)",
    "an unknown name": "password == 'x'",
    "Python": "__import__('os').system('true')",
    "dunder access": "input.__class__.__mro__",
    "empty": "",
    "too long": "input == 1 || " * 200 + "true",
    "parentheses without end": "(" * 1_000 + "1" + ")" * 1_000,
    "lists without end": "[" * 1_000 + "]" * 1_000,
    "ternaries without end": "true ? " * 300 + "1" + ": 1" * 300,
    "a lone surrogate": "input == '\ud800'",
    "a NUL": "input == 1 \x00",
}
# Each takes very long, or very much memory, for whoever evaluates it without a bound.
COSTLY: dict[str, tuple[str, Any]] = {
    "a regular expression that backtracks": ("input.matches('^(a+)+$')", "a" * 200 + "b"),
    "another one": ("input.matches('(x+x+)+y')", "x" * 5_000),
    "a repetition of repetitions": ("input.matches('((((a{1,99}){1,99}){1,99}){1,99}){1,99}')", "a" * 1_000),
    "a pair of every two": ("input.all(a, input.all(b, a != b + 1000000))", list(range(20_000))),
    "three within each other": ("input.map(a, input.map(b, input.map(c, a + b + c))).size() > 0", list(range(400))),
    "negations without end": ("!" * 1_500 + "true", 1),
    "text that doubles": (" + ".join(["input"] * 200) + " == 'x'", "x" * 900_000),
    "lists that double": ("size(" + " + ".join(["input"] * 200) + ") == 0", [1] * 200_000),
    "maps of maps": ("input.map(a, input.map(b, input)).size() > 0", list(range(1_000))),
}


def deciding(condition: str) -> Flow:
    flow = Flow("f").node("first", lambda ctx: ctx.input).node("second", lambda: "reached")
    return flow.edge("first", "second", when=condition)


async def run(flow: Flow, value: Any = None) -> tuple[RunResult, float]:
    app = App("expressions").add(flow).add(Flow("quick").node("only", lambda: 1))
    async with app.work("memory:"):
        before = time.monotonic()
        handle = await app.start("f", value)
        other = await app.start("quick")
        assert await other.result(RESULT_S) is not None
        result = await handle.result(RESULT_S)
        assert result is not None
        return result, time.monotonic() - before


@pytest.mark.parametrize("condition", list(WRONG.values()), ids=list(WRONG))
async def test_a_wrong_expression_is_refused_before_anything_runs_or_fails_its_node_quickly(condition: str) -> None:
    before = time.monotonic()
    try:
        result, took_s = await run(deciding(condition), 1)
    except BlueprintInvalid as error:
        assert time.monotonic() - before < QUICK_S
        (problem,) = [problem for problem in error.problems if not problem.warning]
        assert problem.code in {"EXPRESSION_INVALID", "BLUEPRINT_MALFORMED"}
        assert "first" in problem.where or "edges" in problem.where
    else:
        assert took_s < QUICK_S
        (failure,) = result.errors
        assert (failure["nodeId"], failure["code"]) == ("first", "EXPRESSION_FAILED")
        assert "condition of edge 'first' -> 'second'" in failure["message"]


@pytest.mark.parametrize(("condition", "value"), list(COSTLY.values()), ids=list(COSTLY))
async def test_a_costly_expression_ends_quickly_whatever_its_value(condition: str, value: Any) -> None:
    result, took_s = await run(deciding(condition), value)

    assert took_s < QUICK_S
    if result.status == "failed":
        (failure,) = result.errors
        assert (failure["nodeId"], failure["code"]) == ("first", "EXPRESSION_FAILED")


@pytest.mark.parametrize(
    ("condition", "value"),
    [
        ("result.output", 5),
        ("result.output.missing == 1", {}),
        ("result.output / 0 == 1", 5),
        ("result.output + 9223372036854775807 > 0", 9223372036854775807),
        ("result.output[10] == 1", [1]),
        ("result.output > 'text'", 5),
        ("timestamp(result.output) > timestamp('2024-01-01T00:00:00Z')", "no time"),
        ("context.nobody.set.this == 1", None),
        ("outputs.second == 1", None),
    ],
    ids=lambda it: str(it)[:40],
)
async def test_an_evaluation_that_fails_is_a_failure_that_names_the_edge(condition: str, value: Any) -> None:
    result, _ = await run(deciding(condition), value)

    (failure,) = result.errors
    assert (failure["nodeId"], failure["code"]) == ("first", "EXPRESSION_FAILED")
    assert "condition of edge 'first' -> 'second'" in failure["message"]


async def test_a_failed_expression_is_not_tried_again_and_its_fallback_applies() -> None:
    calls: list[int] = []
    flow = Flow("f").node("first", lambda ctx: calls.append(ctx.attempt), max_retries=5, fallback="mend")
    flow.node("mend", lambda ctx: ctx.get("_error")["message"]).node("second", lambda: 1)
    flow.edge("first", "second", when="result.output.no == 1")

    result, _ = await run(flow)

    assert calls == [1]
    assert [error["nodeId"] for error in result.errors] == ["first", "mend"], "the edge is the fallback's too"


@pytest.mark.parametrize("transform", ["input.map(a, input.map(b, input))", "input + input + input", "input[99999]"])
async def test_a_transform_is_bounded_alike(transform: str) -> None:
    flow = Flow("f").node("first", lambda ctx: ctx.input).node("second", lambda ctx: ctx.input)
    flow.edge("first", "second", transform=transform)

    result, took_s = await run(flow, ["x" * 100] * 9_000)

    assert took_s < QUICK_S
    (failure,) = result.errors
    assert (failure["nodeId"], failure["code"]) == ("first", "EXPRESSION_FAILED")
    assert "transform of edge 'first' -> 'second'" in failure["message"]


async def test_a_loop_condition_that_fails_ends_the_loop_as_failed() -> None:
    blueprint = {
        "id": "f",
        "nodes": [
            {"id": "begin", "uses": "sleep", "params": {"duration": 0}},
            {"id": "c", "uses": "loop-controller", "params": {"condition": "input.missing < 3"}},
            {"id": "body", "uses": "sleep", "params": {"duration": 0}},
        ],
        "edges": [
            {"source": "begin", "target": "c"},
            {"source": "c", "target": "body", "action": "continue"},
            {"source": "body", "target": "c"},
        ],
    }
    app = App("expressions").add(blueprint)
    async with app.work("memory:"):
        result = await (await app.start("f", {"n": 1})).result(RESULT_S)

    assert result is not None
    assert [(error["nodeId"], error["code"]) for error in result.errors] == [("c", "EXPRESSION_FAILED")]
