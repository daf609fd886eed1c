from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest

from headrace.context import Context
from headrace.errors import Cancelled, ValueRefused
from headrace.execution import Execution, Operation
from headrace.values import encode


def make_context(values: dict[str, Any] | None = None, **changes: Any) -> Context:
    """A context over *values*; *changes* are fields of the execution."""
    execution = Execution(
        token=1,
        run_id="r1",
        blueprint_id="b",
        node_id="n",
        item=-1,
        activation=0,
        attempt=1,
        uses="n",
        params=b"{}",
        input=b"null",
        context={key: encode(value) for key, value in (values or {}).items()},
        error=None,
        timeout_ms=None,
    )
    return Context(execution._replace(**changes))


def test_it_tells_what_is_executed() -> None:
    ctx = make_context(attempt=3, item=7, input=b'{"a": [1]}', params=b'{"p": 2}')

    assert (ctx.run_id, ctx.node_id, ctx.item, ctx.attempt) == ("r1", "n", 7, 3)
    assert ctx.input == {"a": [1]}
    assert ctx.params == {"p": 2}
    assert ctx.idempotency_key == "r1/n[7]/0/3"


def test_outside_a_batch_there_is_no_item() -> None:
    assert make_context().item is None


def test_the_input_is_decoded_once_and_belongs_to_the_node() -> None:
    ctx = make_context(input=b'{"a": 1}')
    ctx.input["a"] = 2

    assert ctx.input == {"a": 2}
    assert ctx.execution.input == b'{"a": 1}'


def test_dependencies_are_those_that_the_worker_was_given() -> None:
    ctx = Context(make_context().execution, {"client": 5})

    assert ctx.dependencies["client"] == 5
    assert dict(make_context().dependencies) == {}


def test_reading_gives_a_copy_or_the_default() -> None:
    ctx = make_context({"list": [1], "nothing": None})
    ctx.get("list").append(2)

    assert ctx.get("list") == [1]
    assert ctx.get("nothing", "default") is None
    assert ctx.get("absent", "default") == "default"
    assert [ctx.has(key) for key in ("list", "nothing", "absent")] == [True, True, False]


def test_reading_sees_what_other_nodes_record_meanwhile() -> None:
    live: dict[str, bytes] = {}
    ctx = make_context(context=live)
    live["late"] = b"1"

    assert ctx.get("late") == 1


def test_own_writes_are_seen_at_once_and_recorded_in_order() -> None:
    ctx = make_context({"old": 1, "gone": 2})
    ctx.set("new", {"x": 1})
    ctx.delete("gone")
    ctx.patch({"old": 5, "more": None}, delete=["new"])

    assert [ctx.get(key, "-") for key in ("old", "gone", "new", "more")] == [5, "-", "-", None]
    assert ctx.operations == (
        Operation("set", "new", b'{"x":1}'),
        Operation("delete", "gone"),
        Operation("set", "old", b"5"),
        Operation("set", "more", b"null"),
        Operation("delete", "new"),
    )


def test_a_value_is_encoded_when_it_is_written() -> None:
    value = [1]
    ctx = make_context()
    ctx.set("k", value)
    value.append(2)

    assert ctx.get("k") == [1]
    assert ctx.operations == (Operation("set", "k", b"[1]"),)


def test_a_patch_with_a_refused_value_writes_nothing() -> None:
    ctx = make_context()
    with pytest.raises(ValueRefused, match="context value 'b'"):
        ctx.patch({"a": 1, "b": {1}})
    with pytest.raises(TypeError, match="keys are text, not int"):
        ctx.patch({"a": 1}, delete=[5])  # type: ignore[list-item]

    assert ctx.operations == ()
    assert not ctx.has("a")


def test_increment_is_an_operation_and_gives_the_sum() -> None:
    ctx = make_context({"n": 40})

    assert [ctx.increment("n"), ctx.increment("n", 0.5), ctx.increment("fresh", by=-2)] == [41, 41.5, -2]
    assert ctx.get("n") == 41.5
    assert ctx.operations == (
        Operation("increment", "n", b"1"),
        Operation("increment", "n", b"0.5"),
        Operation("increment", "fresh", b"-2"),
    )


@pytest.mark.parametrize(
    ("value", "named"), [("1", "a text"), (True, "a boolean"), (None, "null"), ([1], "a list"), ({}, "an object")]
)
def test_increment_of_what_is_no_number_is_an_error_at_once(value: object, named: str) -> None:
    ctx = make_context({"k": value})
    with pytest.raises(TypeError, match=f"'k' holds {named}"):
        ctx.increment("k")

    assert ctx.operations == ()


@pytest.mark.parametrize("by", ["1", True, None])
def test_increment_by_what_is_no_number_is_an_error(by: Any) -> None:
    with pytest.raises(TypeError, match="by a number only"):
        make_context().increment("k", by)


def test_increment_beyond_the_numbers_of_json_is_refused() -> None:
    ctx = make_context({"k": 2**63})
    with pytest.raises(ValueRefused):
        ctx.increment("k", 2**63)
    with pytest.raises(ValueRefused, match="NaN"):
        ctx.increment("k", float("nan"))

    assert ctx.operations == ()


def test_append_is_an_operation_on_a_list() -> None:
    ctx = make_context({"full": ["a"], "empty": []})
    for key in ("full", "empty", "fresh"):
        ctx.append(key, {"x": [1]})
        ctx.append(key, None)

    assert ctx.get("full") == ["a", {"x": [1]}, None]
    assert ctx.get("empty") == ctx.get("fresh") == [{"x": [1]}, None]
    assert ctx.operations[:2] == (Operation("append", "full", b'{"x":[1]}'), Operation("append", "full", b"null"))


@pytest.mark.parametrize(("value", "named"), [("[]", "a text"), (1, "a number"), ({}, "an object")])
def test_append_to_what_is_no_list_is_an_error_at_once(value: object, named: str) -> None:
    with pytest.raises(TypeError, match=f"'k' holds {named}"):
        make_context({"k": value}).append("k", 1)


def test_a_deleted_key_starts_anew() -> None:
    ctx = make_context({"n": 5, "l": [1]})
    ctx.delete("n")
    ctx.delete("l")
    ctx.append("l", 2)

    assert ctx.increment("n") == 1
    assert ctx.get("l") == [2]


def test_a_value_above_the_limit_is_refused() -> None:
    ctx = Context(make_context().execution, value_bytes_max=10)
    ctx.set("k", "x" * 8)
    with pytest.raises(ValueRefused, match="limit is 10"):
        ctx.set("k", "x" * 9)
    with pytest.raises(ValueRefused, match="limit is 10"):
        ctx.append("l", "x" * 9)

    assert len(ctx.operations) == 1


@pytest.mark.parametrize("verb", ["get", "has", "set", "delete", "increment", "append"])
def test_keys_are_text(verb: str) -> None:
    arguments = (1, 1) if verb in {"set", "append"} else (1,)
    with pytest.raises(TypeError, match="context keys are text, not int"):
        getattr(make_context(), verb)(*arguments)


def test_a_key_that_utf8_cannot_hold_is_refused() -> None:
    ctx = make_context()
    ctx.set("schlüssel🔑", 1)
    with pytest.raises(ValueRefused):
        ctx.set("\ud800", 1)

    assert ctx.get("schlüssel🔑") == 1


def test_only_a_fallback_finds_an_error() -> None:
    ctx = make_context(error=b'{"node":"A"}')

    assert ctx.get("_error") == {"node": "A"}
    assert ctx.has("_error")
    assert not make_context().has("_error")


async def test_the_asynchronous_context_is_the_same_one() -> None:
    ctx = make_context({"n": 1})
    await ctx.context.set("a", 1)
    await ctx.context.patch({"b": 2, "c": 3}, delete=["c"])
    await ctx.context.append("l", 4)
    await ctx.context.delete("a")

    assert await ctx.context.increment("n", by=2) == 3
    assert await ctx.context.get("b") == ctx.get("b") == 2
    assert await ctx.context.get("a", 9) == 9
    assert not await ctx.context.has("c")
    kinds = [operation.kind for operation in ctx.operations]
    assert kinds == ["set", "set", "set", "delete", "append", "delete", "increment"]
    assert ctx.context is ctx.context


def test_a_withdrawn_attempt_is_told_so() -> None:
    ctx = make_context()
    ctx.heartbeat()
    ctx.raise_if_cancelled()
    assert not ctx.cancelled
    ctx.withdraw()

    assert ctx.cancelled
    with pytest.raises(Cancelled, match="attempt 1 of node 'n' is no longer wanted"):
        ctx.raise_if_cancelled()
    with pytest.raises(Cancelled):
        ctx.heartbeat("ignored")
    assert ctx.progress is None


def test_a_heartbeat_from_another_thread_is_remembered_and_passed_on() -> None:
    heard: list[bytes | None] = []
    ctx = Context(make_context().execution, on_heartbeat=heard.append)
    thread = threading.Thread(target=lambda: (ctx.heartbeat({"done": 5}), ctx.heartbeat()))
    thread.start()
    thread.join()

    assert ctx.progress == b'{"done":5}'
    assert heard == [b'{"done":5}', b'{"done":5}']


def test_progress_that_is_not_json_is_refused() -> None:
    with pytest.raises(ValueRefused, match="progress is not JSON"):
        make_context().heartbeat({1, 2})


def test_log_records_carry_the_run_and_the_node(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="headrace.node"):
        make_context().log.info("half of %s", "it", extra={"own": 1})

    (record,) = caplog.records
    assert (record.name, record.getMessage()) == ("headrace.node", "half of it")
    assert (vars(record)["run_id"], vars(record)["node_id"], vars(record)["own"]) == ("r1", "n", 1)


def test_writes_of_an_earlier_prep_can_be_repeated() -> None:
    ctx = make_context({"n": 1})
    ctx.replay([("set", "a", None), ("increment", "n", 2), ("append", "l", [1]), ("delete", "a", None)])

    assert [ctx.get(key, "-") for key in ("a", "n", "l")] == ["-", 3, [[1]]]
    assert [operation.kind for operation in ctx.operations] == ["set", "increment", "append", "delete"]


def test_coroutines_of_one_node_can_share_it() -> None:
    ctx = make_context()

    async def add() -> None:
        for _ in range(10):
            await ctx.context.increment("n")
            await asyncio.sleep(0)

    async def node() -> None:
        await asyncio.gather(add(), add())

    asyncio.run(node())
    assert ctx.get("n") == 20
