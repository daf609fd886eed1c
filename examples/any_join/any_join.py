"""An ``any`` join whose predecessor fails, written in the chained style.

``A`` and ``B`` both lead to ``C``, which runs once, at the first arrival. ``A`` fails first, and that cancels ``C``: it
cannot be taken by ``B`` any more, so nobody has to ask later whether ``C`` ran on half of what it was meant to see. ``B``
is healthy and finishes; the run ends ``failed`` and names ``A``, which failed, and ``C``, which was cancelled because of it.

    headrace run examples/any_join/any_join.py
"""

from __future__ import annotations

import asyncio

from headrace import App, Context, Flow


async def fail(ctx: Context) -> None:
    raise RuntimeError("A failed")


async def succeed(ctx: Context) -> str:
    # Long enough that A has failed for good when this arrives.
    await asyncio.sleep(0.5)
    return "B succeeded"


async def combine(ctx: Context) -> str:
    return f"Result: {ctx.input}"


any_join = (
    Flow("any-join")
    .node("A", fail)
    .node("B", succeed)
    .node("C", combine, join="any")
    .edge("A", "C")
    .edge("B", "C")
)  # fmt: skip

app = App("any-join").add(any_join)
