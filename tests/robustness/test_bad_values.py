"""Values that are no JSON, too large or too deep: each is refused where it comes in, and nothing else is lost."""

from __future__ import annotations

import datetime as dt
import decimal
import math
from collections.abc import Callable
from typing import Any

import pytest

from headrace import App, Context, Flow, Node, Result
from headrace import commands as c
from headrace.adapter import RunResult
from headrace.app import Handle
from headrace.errors import ValueRefused
from tests.contract.places import Place
from tests.contract.waiting import RESULT_S


def cyclic() -> Any:
    value: dict[str, Any] = {}
    value["itself"] = [value]
    return value


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


class Thing:
    """Something of the author's own."""


BAD: dict[str, Callable[[], Any]] = {
    "NaN": lambda: math.nan,
    "a NaN far inside": lambda: {"a": [1, {"b": -math.inf}]},
    "a set": lambda: {1, 2},
    "bytes": lambda: b"bytes",
    "an object": Thing,
    "a class": lambda: Thing,
    "a generator": lambda: (n for n in [1]),
    "a decimal": lambda: decimal.Decimal("1.1"),
    "a big integer": lambda: 2**64,
    "a big negative integer": lambda: {"n": -(2**63) - 1},
    "keys that are numbers": lambda: {1: "one"},
    "keys that are null": lambda: {"a": {None: 1}},
    "a lone surrogate": lambda: "\ud800",
    "a key with a lone surrogate": lambda: {"\udfff": 1},
    "a cycle": cyclic,
    "a deep list": lambda: deep(300),
    "a very deep list": lambda: deep(100_000),
    "too much": lambda: "x" * 1_000_000,
}
FINE: dict[str, Any] = {
    "the greatest integers": [2**64 - 1, -(2**63)],
    "a tuple": (1, (2,)),
    "254 levels": deep(254),
    "odd text": ["\x00", "\u202e", "\U0001f600", "\ufeff", "\uffff", "e\u0301", '"\\', ""],
    "odd keys": {"": 1, "\x00": 2, "a.b": 3, "\U0001f600": 4, '"': 5, "_error": 6},
    "numbers": [0, -0.0, 1e308, 5e-324, 0.1],
    "as large as may be": "x" * (1_000_000 - 2),
}
bad = pytest.mark.parametrize("value", list(BAD.values()), ids=list(BAD))


def refused(result: RunResult | None, node: str, what: str) -> None:
    """The run failed at *node*, and its error says what was refused and why."""
    assert result is not None
    assert result.status == "failed"
    (error,) = result.errors
    assert (error["nodeId"], error["code"]) == (node, "VALUE_REFUSED")
    assert error["message"].startswith(what)
    assert any(part in error["message"] for part in ("is not JSON", "nested deeper", "raise the limit (value_bytes_max)"))


async def result_of(app: App, flow: str, **start: Any) -> RunResult | None:
    async with app.work("memory:"):
        handle = await app.start(flow, **start)
        return await handle.result(RESULT_S)


# Given by nodes.


@bad
async def test_an_output_that_cannot_be_kept_fails_its_node_only(value: Callable[[], Any]) -> None:
    def give() -> Any:
        return value()

    app = App("bad").add(Flow("f").node("give", give).node("other", lambda: "fine"))
    result = await result_of(app, "f")

    refused(result, "give", "output")


@bad
async def test_a_context_value_that_cannot_be_kept_fails_its_node_and_leaves_nothing(value: Callable[[], Any]) -> None:
    def write(ctx: Context) -> None:
        ctx.set("before", 1)
        ctx.set("key", value())

    result = await result_of(App("bad").add(Flow("f").node("write", write)), "f", context={"kept": True})

    refused(result, "write", "context value 'key'")
    assert result is not None
    assert result.context == {"kept": True}


@bad
async def test_an_output_in_a_result_of_a_class_node_is_refused_alike(value: Callable[[], Any]) -> None:
    class Give(Node):
        async def post(self, ctx: Context, prepared: Any, executed: Any) -> Result:
            return Result(value(), action="given")

    result = await result_of(App("bad").add(Flow("f").node("give", Give)), "f")

    assert result is not None
    assert result.errors[0]["nodeId"] == "give"
    assert result.errors[0]["message"].startswith("output")


async def test_the_fallback_applies_and_gets_to_know_what_was_refused() -> None:
    flow = Flow("f").node("give", lambda: {1}, max_retries=2, fallback="mend")
    flow.node("mend", lambda ctx: ctx.get("_error")["message"])

    result = await result_of(App("bad").add(flow), "f")

    assert result is not None
    assert result.status == "completed"
    assert "is not JSON" in result.output


@pytest.mark.parametrize("value", list(FINE.values()), ids=list(FINE))
async def test_what_can_be_kept_comes_out_as_it_went_in(place: Place, value: Any) -> None:
    flow = Flow("f").node("give", lambda ctx: ctx.input).wait("ask", event="e", after="give")
    flow.node("pass", lambda ctx: {"given": ctx.get("key"), "sent": ctx.input}, after="ask")
    app = App("fine").add(flow)
    expected = [*value] if isinstance(value, tuple) else value
    settings = {"value_bytes_max": 5_000_000}
    async with place.work(app, **settings) as client:
        app._enter(client, settings)
        handle = await app.start("f", value, context={"key": value} if expected != FINE["254 levels"] else {})
        await handle.signal("e", value)

    async with place.work(app, **settings) as client:
        result = await client.result(handle.run_id, RESULT_S)
        assert result is not None
        if expected == FINE["254 levels"]:
            assert result.errors[0]["code"] == "VALUE_REFUSED", "one level more is too deep"
        else:
            assert _as_list(result.output["sent"]) == _as_list(expected)
            assert _as_list(result.output["given"]) == _as_list(expected)


def _as_list(value: Any) -> Any:
    return [_as_list(item) for item in value] if isinstance(value, list | tuple) else value


async def test_many_writes_that_are_small_each_cannot_grow_a_value_beyond_the_limit() -> None:
    def grow(ctx: Context) -> None:
        for _ in range(20):
            ctx.append("list", "x" * 100_000)

    result = await result_of(App("bad").add(Flow("f").node("grow", grow)), "f")

    refused(result, "grow", "context key 'list'")
    assert result is not None
    assert result.context == {}


async def test_increments_beyond_what_a_number_can_be_fail_their_node() -> None:
    flow = Flow("f").node("count", lambda ctx: ctx.increment("n", 2**63))
    result = await result_of(App("bad").add(flow), "f", context={"n": 2**64 - 1})

    assert result is not None
    assert result.errors[0]["nodeId"] == "count"
    assert result.context == {"n": 2**64 - 1}


@pytest.mark.parametrize(
    "key", ["k" * 100_000, "\ud800", 5, None, b"k"], ids=["long", "surrogate", "number", "null", "bytes"]
)
async def test_a_context_key_that_cannot_be_one_fails_its_node(key: Any) -> None:
    result = await result_of(App("bad").add(Flow("f").node("write", lambda ctx: ctx.set(key, 1))), "f")

    assert result is not None
    assert result.status == "failed"
    assert result.errors[0]["nodeId"] == "write"
    assert result.context == {}


@pytest.mark.parametrize("action", ["a" * 100_000, "\ud800", 5, ["a"]], ids=["long", "surrogate", "number", "list"])
async def test_an_action_that_cannot_be_one_fails_its_node(action: Any) -> None:
    result = await result_of(App("bad").add(Flow("f").node("act", lambda: Result(action=action))), "f")

    assert result is not None
    assert result.errors[0]["code"] == "VALUE_REFUSED"
    assert "action" in result.errors[0]["message"]


# Values that the engine puts together.


def looping(node: dict[str, Any], iterations: int) -> dict[str, Any]:
    return {
        "id": "loop",
        "nodes": [
            {"id": "begin", "uses": "sleep", "params": {"duration": 0}},
            {"id": "c", "uses": "loop-controller", "params": {"condition": "true", "maxIterations": iterations}},
            {"id": "body", **node},
        ],
        "edges": [
            {"source": "begin", "target": "c"},
            {"source": "c", "target": "body", "action": "continue"},
            {"source": "body", "target": "c"},
        ],
    }


SLEEP = {"uses": "sleep", "params": {"duration": 0}}


@pytest.mark.parametrize(
    ("blueprint", "part"),
    [
        (looping({**SLEEP, "inputs": {"deeper": "c"}}, 2_000), "nested deeper"),
        (looping({**SLEEP, "inputs": {"one": "c", "two": "c"}}, 200), "the limit is 1000000"),
    ],
    ids=["deeper at each round", "doubled at each round"],
)
async def test_a_loop_that_wraps_its_value_without_end_fails_before_it_fills_the_memory(
    place: Place, blueprint: dict[str, Any], part: str
) -> None:
    async with place.work(App("bad").add(blueprint)) as client:
        await client.submit(c.Start("r", "loop", input=b'"seed"'))
        result = await client.result("r", RESULT_S)
        assert result is not None
        assert result.status == "failed"
        assert part in result.errors[0]["message"]
        assert await client.status("r") is not None


async def test_a_transform_that_doubles_its_value_without_end_fails() -> None:
    blueprint = looping(SLEEP, 100)
    blueprint["edges"][1]["transform"] = "input + input"

    result = await result_of(App("bad").add(blueprint), "loop", input="0123456789")

    assert result is not None
    assert result.status == "failed"
    assert "transform of edge 'c' -> 'body'" in result.errors[0]["message"]
    assert "the limit is 1000000" in result.errors[0]["message"]


async def test_a_list_of_outputs_that_is_too_large_fails_the_gather_node() -> None:
    flow = Flow("f").node("list", lambda: list(range(20)))
    flow.batch("each", lambda: "x" * 100_000, after="list")

    result = await result_of(App("bad").add(flow), "f")

    assert result is not None
    assert result.status == "failed"
    assert "the list of outputs has" in result.errors[0]["message"]


async def test_the_outputs_of_a_child_that_are_too_large_together_fail_the_subflow_node() -> None:
    child = Flow("child")
    for number in range(20):
        child.node(f"n{number}", lambda: "x" * 100_000)
    parent = {"id": "parent", "nodes": [{"id": "kid", "uses": "subflow", "params": {"blueprintId": "child"}}], "edges": []}

    result = await result_of(App("bad").add(child).add(parent), "parent")

    assert result is not None
    assert [(error["nodeId"], error["code"]) for error in result.errors] == [("kid", "VALUE_REFUSED")]


async def test_a_batch_of_too_many_items_or_of_no_list_fails_its_node() -> None:
    flow = Flow("f").node("list", lambda ctx: ctx.input).batch("each", lambda: 1, after="list")
    app = App("bad").add(flow)
    async with app.work("memory:", batch_items_max=10):
        many = await (await app.start("f", list(range(11)))).result(RESULT_S)
        none = await (await app.start("f", {"not": "a list"})).result(RESULT_S)
        some = await (await app.start("f", list(range(10)))).result(RESULT_S)

    assert many is not None
    assert "limit is 10" in many.errors[0]["message"]
    assert "batch_items_max" in many.errors[0]["message"]
    assert none is not None
    assert "needs a list" in none.errors[0]["message"]
    assert some is not None
    assert some.output == [1] * 10


# Given by callers.


async def _refused_at_the_door(app: App, call: Callable[[Handle], Any], what: str) -> None:
    async with app.work("memory:") as client:
        handle = await app.start("ask")
        with pytest.raises(ValueRefused, match=f"^{what}"):
            await call(handle)
        assert (await handle.signal("e", "fine")).outcome == "applied"
        result = await client.result(handle.run_id, RESULT_S)
        assert result is not None
        assert result.output == "fine"


@bad
async def test_an_input_a_signal_or_a_resume_that_cannot_be_kept_is_refused_and_changes_nothing(
    value: Callable[[], Any],
) -> None:
    app = App("bad").add(Flow("ask").wait("w", event="e").node("end", lambda ctx: ctx.input, after="w"))
    given = value()
    await _refused_at_the_door(app, lambda _: app.start("ask", given), "the input")
    await _refused_at_the_door(app, lambda _: app.start("ask", context={"k": given}), "context value 'k'")
    await _refused_at_the_door(app, lambda handle: handle.signal("e", given), "the payload of a signal")
    await _refused_at_the_door(app, lambda handle: handle.resume("w", output=given), "the output of a resume")


async def test_the_limit_is_a_setting_for_everything_that_comes_in_or_is_given(place: Place) -> None:
    big = "x" * 2_000_000
    flow = Flow("f").node("give", lambda ctx: ctx.input).wait("ask", event="e", after="give")
    flow.node("keep", lambda ctx: ctx.set("kept", ctx.input), after="ask")
    app = App("big").add(flow)
    async with place.work(app, value_bytes_max=2_000_002) as client, place.connect(app, value_bytes_max=2_000_002) as other:
        encoded = b'"' + big.encode() + b'"'
        await other.submit(c.Start("r", "f", input=encoded))
        assert (await client.submit(c.Signal("r", "e", encoded))).outcome == "applied"
        result = await other.result("r", RESULT_S)
        assert result is not None
        assert result.status == "completed", result.errors
        assert result.context == {"kept": big}


async def test_the_limit_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_VALUE_BYTES_MAX", "100")
    app = App("small").add(Flow("f").node("give", lambda ctx: ctx.input * 2))
    async with app.work("memory:"):
        with pytest.raises(ValueRefused, match="the limit is 100"):
            await app.start("f", "x" * 99)
        result = await (await app.start("f", "x" * 90)).result(RESULT_S)

    refused(result, "give", "output has 182 bytes")


async def test_dates_are_taken_as_the_text_that_json_has_for_them() -> None:
    """What the codec knows to write is not refused; a date comes back as text."""
    flow = Flow("f").node("give", lambda: dt.date(2024, 2, 29))

    assert (await App("dates").add(flow).flows[0].run()).unwrap() == "2024-02-29"
