"""Real nodes of every kind through the real executor: what they get, how often they run, and how they are ended."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from typing import Any

import pytest

from headrace import App, Context, Flow, Node, Result
from headrace import commands as c
from headrace.adapter import Client, RunResult
from headrace.errors import Cancelled, FatalError
from headrace.values import encode

from .places import Place
from .waiting import RESULT_S, eventually


async def run(place: Place, flow: Flow, value: Any = None, dependencies: dict[str, Any] | None = None) -> RunResult:
    """One run of one flow, to its end."""
    async with place.work(App("contract", dependencies).add(flow)) as client:
        return await run_on(client, flow, value)


async def run_on(client: Client, flow: Flow, value: Any = None, run_id: str = "r") -> RunResult:
    await client.submit(c.Start(run_id, flow.id, input=encode(value)))
    result = await client.result(run_id, RESULT_S)
    assert result is not None, await client.status(run_id)
    return result


# What nodes get and give.


async def test_functions_async_ones_and_class_nodes_work_together(place: Place) -> None:
    class Halve(Node):
        def exec(self, ctx: Context, prepared: Any) -> Any:
            return ctx.input / 2

    class HalveLater(Node):
        async def exec(self, ctx: Context, prepared: Any) -> Any:
            await asyncio.sleep(0)
            return ctx.input / 2

    async def add(ctx: Context) -> Result:
        await asyncio.sleep(0)
        return Result(ctx.input + 1, action="go")

    flow = Flow("kinds").node("plain", lambda ctx: ctx.input * 8).node("later", HalveLater, after="plain")
    flow.node("class", Halve, after="later").node("async", add, after="class").node("end", lambda ctx: ctx.input)
    flow.edge("async", "end", action="go")

    assert (await run(place, flow, 10)).output == 21


async def test_a_node_finds_its_run_its_params_and_the_dependencies_of_the_app(place: Place) -> None:
    class Pool:
        """Nothing that JSON could hold."""

        lock = threading.Lock()

    pool = Pool()

    def look(ctx: Context) -> dict[str, Any]:
        assert ctx.dependencies["pool"] is pool
        return {"ids": [ctx.run_id, ctx.node_id, ctx.attempt], "params": ctx.params, "item": ctx.item}

    flow = Flow("look").node("look", look, params={"colour": "red"})

    result = await run(place, flow, None, {"pool": pool})

    assert result.output == {"ids": ["r", "look", 1], "params": {"colour": "red"}, "item": None}


async def test_sync_nodes_run_in_threads_side_by_side_and_async_ones_in_one_loop(place: Place) -> None:
    meeting = threading.Barrier(4, timeout=RESULT_S)
    threads: set[int] = set()

    def meet() -> str:
        """Ends only when four of them are there at the same time."""
        meeting.wait()
        return threading.current_thread().name

    async def note() -> str:
        threads.add(threading.get_ident())
        return threading.current_thread().name

    flow = Flow("meet")
    for number in range(4):
        flow.node(f"t{number}", meet).node(f"a{number}", note)

    output = (await run(place, flow)).output

    assert len({output[f"t{number}"] for number in range(4)}) == 4
    assert len(threads) == 1
    assert threading.current_thread().name not in output.values(), "nobody holds up the caller's loop"


async def test_a_slow_sync_node_holds_up_no_other_run(place: Place) -> None:
    release = threading.Event()
    app = App("contract").add(Flow("slow").node("slow", lambda: release.wait(RESULT_S)))
    quick = Flow("quick").node("only", lambda: 1)

    async with place.work(app.add(quick)) as client:
        await client.submit(c.Start("slow", "slow"))
        before = time.monotonic()
        await run_on(client, quick, run_id="quick")
        assert time.monotonic() - before < 2
        assert (await client.status("slow") or {})["status"] == "running"
        release.set()
        assert await client.result("slow", RESULT_S) is not None


async def test_the_logger_of_a_node_names_run_and_node(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    flow = Flow("log").node("say", lambda ctx: ctx.log.info("half done"))
    caplog.set_level(logging.INFO)
    logging.getLogger("headrace.node").setLevel(logging.INFO)

    await run(place, flow)

    (record,) = [record for record in caplog.records if record.message == "half done"]
    assert (record.run_id, record.node_id) == ("r", "say")  # type: ignore[attr-defined]


async def test_context_writes_of_parallel_nodes_lose_nothing(place: Place) -> None:
    flow = Flow("count")

    def count(ctx: Context) -> None:
        ctx.increment("sum", ctx.params["n"])
        ctx.append("list", ctx.params["n"])

    for number in range(20):
        flow.node(f"n{number}", count, params={"n": number})

    context = (await run(place, flow)).context

    assert context["sum"] == sum(range(20))
    assert sorted(context["list"]) == list(range(20))


# Failures, retries, time.


async def test_the_life_of_a_class_node_over_three_attempts(place: Place) -> None:
    life: list[str] = []

    class Lively(Node):
        def prep(self, ctx: Context) -> Any:
            life.append(f"prep {ctx.attempt}")
            return {"prepared": True}

        def exec(self, ctx: Context, prepared: Any) -> Any:
            life.append(f"exec {ctx.attempt} {prepared}")
            raise RuntimeError(f"not in attempt {ctx.attempt}")

        def fallback(self, ctx: Context, prepared: Any, error: Exception) -> Any:
            life.append(f"fallback after {error}")
            return "mended"

        def post(self, ctx: Context, prepared: Any, executed: Any) -> Any:
            life.append(f"post {executed}")
            return executed

        def recover(self, ctx: Context, error: BaseException) -> Any:
            life.append(f"recover {error}")
            raise RuntimeError("and swallowed")

    flow = Flow("life").node("lively", Lively, max_retries=3, retry_delay=10)

    result = await run(place, flow)

    assert result.output == "mended"
    prepared = {"prepared": True}
    assert life == [
        "prep 1",
        *(f"exec {attempt} {prepared}" for attempt in (1, 2, 3)),
        "fallback after not in attempt 3",
        "post mended",
        "recover not in attempt 3",
    ]


async def test_retries_wait_for_their_delays_and_hold_up_nothing(place: Place) -> None:
    times: list[float] = []

    def fail(ctx: Context) -> str:
        times.append(time.monotonic())
        if ctx.attempt < 4:
            raise RuntimeError("not yet")
        return "at last"

    flow = Flow("retry").node("again", fail, max_retries=4, retry_delay=40, retry_backoff=2, max_retry_delay=100)

    assert (await run(place, flow)).output == "at last"
    delays_ms = [round((later - earlier) * 1_000) for earlier, later in itertools.pairwise(times)]
    for delay_ms, least_ms in zip(delays_ms, (40, 80, 100), strict=True):
        assert least_ms - 2 <= delay_ms < least_ms + 1_000


async def test_a_fatal_error_is_neither_tried_again_nor_recovered(place: Place) -> None:
    calls: list[int] = []

    def die(ctx: Context) -> None:
        calls.append(ctx.attempt)
        raise FatalError("there is no such customer")

    flow = Flow("fatal").node("die", die, max_retries=5, retry_delay=1, fallback="mend").node("mend", lambda: 1)

    result = await run(place, flow)

    assert calls == [1]
    assert result.status == "failed"
    assert [(error["nodeId"], error["code"]) for error in result.errors] == [("die", "FATAL")]


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_timeout_ends_an_attempt_and_the_node_is_told(place: Place, kind: str) -> None:
    told: list[str] = []

    async def wait_async(ctx: Context) -> None:
        try:
            await asyncio.sleep(3_600)
        except asyncio.CancelledError:
            told.append(f"async {ctx.attempt}")
            raise

    def wait_sync(ctx: Context) -> None:
        try:
            while True:
                time.sleep(0.005)
                ctx.heartbeat()
        except Cancelled:
            told.append(f"sync {ctx.attempt}")
            raise

    function = wait_async if kind == "async" else wait_sync
    flow = Flow("late").node("late", function, timeout=60, max_retries=2, retry_delay=1)

    result = await run(place, flow)

    assert result.status == "failed"
    assert [(error["nodeId"], error["code"]) for error in result.errors] == [("late", "TIMEOUT")]
    await eventually(lambda: told == [f"{kind} 1", f"{kind} 2"])


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_cancelled_run_tells_the_nodes_that_run(place: Place, kind: str) -> None:
    begun, told = threading.Event(), threading.Event()

    async def wait_async(ctx: Context) -> None:
        begun.set()
        try:
            await asyncio.sleep(3_600)
        finally:
            told.set()

    def wait_sync(ctx: Context) -> None:
        begun.set()
        while not ctx.cancelled:
            time.sleep(0.005)
        told.set()

    flow = Flow("long").node("long", wait_async if kind == "async" else wait_sync)
    async with place.work(App("contract").add(flow)) as client:
        await client.submit(c.Start("r", "long"))
        await eventually(begun.is_set)
        assert (await client.submit(c.Cancel("r", "not needed"))).outcome == "applied"
        result = await client.result("r", RESULT_S)

        assert result is not None
        assert (result.status, result.errors) == ("cancelled", [])
        await eventually(told.is_set)


async def test_what_a_cancelled_node_still_gives_changes_nothing(place: Place) -> None:
    begun, release, ended = threading.Event(), threading.Event(), threading.Event()

    def stubborn(ctx: Context) -> str:
        begun.set()
        release.wait(RESULT_S)
        ctx.set("written", True)
        ended.set()
        return "too late"

    flow = Flow("stubborn").node("s", stubborn, timeout=30)
    async with place.work(App("contract").add(flow)) as client:
        await client.submit(c.Start("r", "stubborn"))
        result = await client.result("r", RESULT_S)
        release.set()
        await eventually(ended.is_set)
        await asyncio.sleep(0.05)

        assert result is not None
        assert result.status == "failed"
        assert result.context == {}
        assert await client.result("r", 0) == result
        assert [event["type"] async for event in client.events("r")][-1] == "runFailed"


async def test_the_idempotency_key_is_of_an_attempt_and_of_an_item(place: Place) -> None:
    keys: list[str] = []

    def fail(ctx: Context) -> int:
        keys.append(ctx.idempotency_key)
        if ctx.attempt == 1:
            raise RuntimeError("once more")
        return 1

    flow = Flow("keys").node("list", lambda: [0, 1]).batch("each", fail, after="list", max_retries=2)
    flow.node("plain", fail, max_retries=2)

    await run(place, flow)

    assert len(set(keys)) == len(keys) == 6
    assert {key.rpartition("/")[2] for key in keys} == {"1", "2"}


async def test_heartbeats_do_no_harm_and_refuse_what_is_no_json(place: Place) -> None:
    def beat(ctx: Context) -> str:
        ctx.heartbeat()
        ctx.heartbeat({"done": 0.5})
        ctx.heartbeat({1, 2})
        return "not reached"

    result = await run(place, Flow("beat").node("beat", beat))

    assert result.errors[0]["code"] == "VALUE_REFUSED"


async def test_a_cpu_bound_node_runs_in_a_process_where_the_worker_has_some(place: Place) -> None:
    import os

    app = App("contract").add(Flow("cpu").node("pid", os.getpid, cpu_bound=True))

    async with place.work(app, processes_max=1) as client:
        await client.submit(c.Start("r", "cpu"))
        result = await client.result("r", 30)

        assert result is not None
        assert result.status == "completed", result.errors
        assert result.output != os.getpid()


# Whatever a node does, the run ends.


class ExitNode(Node):
    def exec(self, ctx: Context, prepared: Any) -> Any:
        raise SystemExit(3)


def recurse() -> Any:
    return recurse()


async def raise_cancelled() -> None:
    raise asyncio.CancelledError


class BadText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def raise_bad_text() -> None:
    raise BadText


@pytest.mark.parametrize(
    ("function", "code"),
    [
        (lambda: 1 / 0, "NODE_ERROR"),
        (recurse, "NODE_ERROR"),
        (ExitNode, "NODE_ERROR"),
        (raise_cancelled, "CANCELLED"),
        (raise_bad_text, "NODE_ERROR"),
        (lambda: Result(error="declined"), "RESULT_ERROR"),
        (lambda: Result(action=5), "VALUE_REFUSED"),  # type: ignore[arg-type]
        (lambda: asyncio.sleep(0), "VALUE_REFUSED"),
    ],
    ids=["raises", "recursion", "exit", "cancels itself", "error without text", "error result", "action", "coroutine"],
)
async def test_whatever_a_node_does_is_its_own_failure(place: Place, function: Any, code: str) -> None:
    app = App("contract").add(Flow("bad").node("bad", function)).add(Flow("good").node("good", lambda: 1))

    async with place.work(app) as client:
        await client.submit(c.Start("bad", "bad"))
        await client.submit(c.Start("good", "good"))
        bad, good = await client.result("bad", RESULT_S), await client.result("good", RESULT_S)

        assert bad is not None
        assert [(error["nodeId"], error["code"]) for error in bad.errors] == [("bad", code)]
        assert bad.errors[0]["message"]
        assert good is not None
        assert good.status == "completed"
