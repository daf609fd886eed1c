"""The app of the workers in these tests: one flow for each kind of thing that a run may be in the middle of.

Nodes whose id begins with ``count`` add one to the context value ``counted``, and nothing else does, so that value
must be the number of their recorded completions, however often they were executed.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from headrace import App, Context, Flow

app = App("process")

# Long enough that a kill finds some nodes in progress, short enough that a thousand runs take seconds.
NODE_S = 0.005


async def count(ctx: Context) -> str:
    """What most nodes do."""
    ctx.increment("counted")
    await asyncio.sleep(NODE_S)
    return f"{ctx.node_id}/{ctx.attempt}"


def count_in_thread(ctx: Context) -> str:
    """The same, in a thread."""
    time.sleep(NODE_S)
    ctx.increment("counted")
    return ctx.node_id


async def fail_once(ctx: Context) -> int:
    """Fails its first attempt; an attempt that a crash cuts short must not count as one."""
    ctx.increment("counted")
    await asyncio.sleep(NODE_S)
    if ctx.attempt == 1:
        raise ConnectionError("the first attempt never works")
    return ctx.attempt


def chain(flow: Flow, *ids: str, after: str | tuple[()] = ()) -> Flow:
    """Nodes one behind the other, some of them plain functions."""
    for number, node_id in enumerate(ids):
        flow.node(node_id, count_in_thread if number % 3 == 1 else count, after=after)
        after = node_id
    return flow


chained = chain(Flow("chained"), "count_1", "count_2", "count_3", "count_4", "count_5")

fanned = Flow("fanned").node("count_start", count)
for branch in range(4):
    fanned.node(f"count_branch_{branch}", count, after="count_start")
fanned.node("count_join", count, after=[f"count_branch_{branch}" for branch in range(4)])
fanned.node("count_first", count, after=[f"count_branch_{branch}" for branch in range(4)], join="any")

retried = Flow("retried").node("count_flaky", fail_once, max_retries=2, retry_delay="150ms")
chain(retried, "count_after", after="count_flaky")

slept = chain(Flow("slept"), "count_before")
slept.sleep("nap", "300ms", after="count_before")
chain(slept, "count_after", after="nap")

inner = chain(Flow("inner"), "count_1", "count_2")
outer = chain(Flow("outer"), "count_before")
outer.subflow("child", inner, outputs={"inner": "count_2"}, after="count_before")
chain(outer, "count_after", after="child")

asked = chain(Flow("asked"), "count_before")
asked.wait("answer", event="answered", after="count_before")


@asked.node(after="answer")
def count_answer(ctx: Context) -> object:
    ctx.increment("counted")
    return ctx.input


looped = Flow("looped").node("begin", lambda: 0)


@looped.node
async def count_round(ctx: Context) -> int:
    ctx.increment("counted")
    await asyncio.sleep(NODE_S)
    return int(ctx.input) + 1


looped.loop("rounds", "input < 3", body=count_round).edge("begin", "rounds")
chain(looped, "count_after", after="rounds")

batched = Flow("batched").node("items", lambda: list(range(6)))
batched.batch("count", count, after="items", chunk_size=3)
chain(batched, "count_after", after="count")

for flow in (chained, fanned, retried, slept, outer, asked, looped, batched):
    app.add(flow)

# What the tests of stopping ask for: nodes that say where they are, and go on until a file lets them go.


def begin(ctx: Context) -> Path:
    """Write down that the node begins; gives the file that frees it."""
    folder = Path(ctx.input)
    with (folder / "begun").open("a", encoding="utf-8") as begun:
        begun.write(f"{os.getpid()} {ctx.attempt} {ctx.idempotency_key}\n")
    return folder / "free"


async def hold(ctx: Context) -> str:
    """Async, so it can be cancelled."""
    free = begin(ctx)
    while not free.exists():  # noqa: ASYNC110 (another process frees it)
        await asyncio.sleep(0.01)
    return "freed"


def hold_in_thread(ctx: Context) -> str:
    """A plain function, which nobody can interrupt."""
    free = begin(ctx)
    while not free.exists():
        time.sleep(0.01)
    return "freed"


def hold_in_process(ctx: Context) -> str:
    """In a process of its own, where the worker has any."""
    return hold_in_thread(ctx)


held = Flow("held").node("hold", hold)
held_in_thread = Flow("held_in_thread").node("hold", hold_in_thread)
held_in_process = Flow("held_in_process").node("hold", hold_in_process, cpu_bound=True)
for flow in (held, held_in_thread, held_in_process):
    flow.node("behind", lambda ctx: ctx.input, after="hold")
    app.add(flow)

app.add(Flow("held_alone").node("hold", hold))
