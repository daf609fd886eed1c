"""The app of the workers in these tests: one flow for each kind of thing that a run may be in the middle of.

Nodes whose id begins with ``count`` add one to the context value ``counted``, and nothing else does, so that value
must be the number of their recorded completions, however often they were executed. Every execution is written down in a
file of its process, outside of Kafka. Outputs follow from inputs alone.
"""

from __future__ import annotations

__all__ = ["EXECUTIONS_VARIABLE", "make_app"]

import asyncio
import os
import time
from functools import cache
from pathlib import Path

from headrace import App, Context, Flow
from headrace.errors import FatalError

EXECUTIONS_VARIABLE = "HEADRACE_TEST_EXECUTIONS"

# Long enough that a kill finds some nodes in progress, short enough that a thousand runs take seconds.
NODE_S = 0.003


def note(ctx: Context) -> None:
    """Write down that the node is executed; what one write gave to the system survives SIGKILL."""
    folder = os.environ.get(EXECUTIONS_VARIABLE)
    if folder:
        os.write(_file_of(folder, os.getpid()), f"{ctx.run_id}\t{ctx.node_id}\t{ctx.attempt}\n".encode())


@cache
def _file_of(folder: str, pid: int) -> int:
    return os.open(Path(folder, f"{pid}.executions"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


async def count(ctx: Context) -> object:
    """What most nodes do: a number goes up by one, anything else goes through."""
    note(ctx)
    ctx.increment("counted")
    await asyncio.sleep(NODE_S)
    return ctx.input + 1 if isinstance(ctx.input, int) else ctx.input


def count_in_thread(ctx: Context) -> object:
    """The same, in a thread."""
    note(ctx)
    time.sleep(NODE_S)
    ctx.increment("counted")
    return ctx.input + 1 if isinstance(ctx.input, int) else ctx.input


async def fail_once(ctx: Context) -> object:
    """Fails its first attempt; an attempt that a crash cuts short must not count as one."""
    note(ctx)
    ctx.increment("counted")
    await asyncio.sleep(NODE_S)
    if ctx.attempt == 1:
        raise ConnectionError("the first attempt never works")
    return ctx.input + ctx.attempt


async def fail_always(ctx: Context) -> object:
    """Fails each of its attempts."""
    note(ctx)
    ctx.increment("counted")
    raise ConnectionError(f"attempt {ctx.attempt} does not work")


def fail_for_good(ctx: Context) -> object:
    """Fails so that nobody tries again."""
    note(ctx)
    raise FatalError("this never works")


def add_up(ctx: Context) -> int:
    """The sum of what came over all edges."""
    note(ctx)
    ctx.increment("counted")
    return sum(ctx.input.values())


def say_first(ctx: Context) -> str:
    """Who came first depends on the moment, so it is not told."""
    note(ctx)
    ctx.increment("counted")
    return "first"


def chain(flow: Flow, *ids: str, after: str | tuple[()] = ()) -> Flow:
    """Nodes one behind the other, some of them plain functions."""
    for number, node_id in enumerate(ids):
        flow.node(node_id, count_in_thread if number % 3 == 1 else count, after=after)
        after = node_id
    return flow


def make_app(name: str) -> App:
    """The app under a name of its own, as its topics need one."""
    app = App(name)
    for flow in (
        _chained(),
        _fanned(),
        _conditional(),
        _retried(),
        _failed(),
        _slept(),
        _asked(),
        _outer(),
        _looped(),
        _batched(),
    ):
        app.add(flow)
    return app


def _chained() -> Flow:
    return chain(Flow("chained"), "count_1", "count_2", "count_3", "count_4", "count_5")


def _fanned() -> Flow:
    flow = Flow("fanned").node("count_start", count)
    branches = [f"count_branch_{branch}" for branch in range(4)]
    for branch in branches:
        flow.node(branch, count, after="count_start")
    flow.node("count_join", add_up, after=branches)
    return flow.node("count_first", say_first, after=branches, join="any")


def _conditional() -> Flow:
    flow = chain(Flow("conditional"), "count_begin")
    flow.node("count_even", count).node("count_odd", count)
    flow.edge("count_begin", "count_even", when="result.output % 2 == 0")
    flow.edge("count_begin", "count_odd", when="result.output % 2 == 1")
    return chain(flow, "count_end", after="count_odd")


def _retried() -> Flow:
    flow = Flow("retried").node("count_flaky", fail_once, max_retries=2, retry_delay="60ms")
    flow.node("count_rescue", count)
    flow.node("count_broken", fail_always, after="count_flaky", max_retries=2, retry_delay="40ms", fallback="count_rescue")
    return chain(flow, "count_after", after="count_broken")


def _failed() -> Flow:
    flow = chain(Flow("failed"), "count_before")
    flow.node("broken", fail_for_good, after="count_before")
    return chain(flow, "count_never", after="broken")


def _slept() -> Flow:
    flow = chain(Flow("slept"), "count_before").sleep("nap", "150ms", after="count_before")
    return chain(flow, "count_after", after="nap")


def _asked() -> Flow:
    flow = chain(Flow("asked"), "count_before").wait("answer", event="answered", after="count_before")
    return chain(flow, "count_answer", after="answer")


def _outer() -> Flow:
    inner = chain(Flow("inner"), "count_1", "count_2")
    flow = chain(Flow("outer"), "count_before").subflow("child", inner, after="count_before")
    return chain(flow, "count_after", after="child")


def _looped() -> Flow:
    flow = chain(Flow("looped"), "count_begin").node("count_round", count)
    flow.loop("rounds", "input < 1000", body="count_round", max_iterations=10_000).edge("count_begin", "rounds")
    return chain(flow, "count_after", after="rounds")


def _batched() -> Flow:
    def items(ctx: Context) -> list[int]:
        return [ctx.input + number for number in range(6)]

    flow = Flow("batched").node("items", items)
    flow.batch("count", count, after="items", chunk_size=3)
    return chain(flow, "count_after", after="count")
