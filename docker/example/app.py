"""Parcels: what a flow in the worker's image may look like.

weigh ──> price ──┐
    └───> route ──┴──> label

headrace run app.py --input '{"to": "Bergen", "grams": [400, 1200]}'
"""

from __future__ import annotations

import os
from typing import Any

from headrace import App, Context, Flow

ZONES = {"Bergen": 1, "Wien": 2, "Osaka": 5}

parcel = Flow("parcel", version="1")

# The name is also the prefix of the topics: with a variable for it, one image serves several environments on one cluster.
# It is the one that commands read too, which then need no --app.
app = App(os.environ.get("HEADRACE_APP", "parcels"), dependencies={"zones": ZONES}).add(parcel)


@parcel.node
def weigh(ctx: Context) -> dict[str, Any]:
    """A plain function: it runs in a thread."""
    return {"to": ctx.input["to"], "grams": sum(ctx.input["grams"])}


@parcel.node(after=weigh, max_retries=3, retry_delay="500ms", timeout="10s")
async def price(ctx: Context) -> int:
    """Cents; it would ask a service, and such calls fail now and then."""
    return 300 + ctx.input["grams"] // 100 * 25 * ctx.dependencies["zones"].get(ctx.input["to"], 9)


@parcel.node(after=weigh)
def route(ctx: Context) -> list[str]:
    """Runs beside the price."""
    return ["depot", f"zone {ctx.dependencies['zones'].get(ctx.input['to'], 9)}", ctx.input["to"]]


@parcel.node(after=[price, route])
def label(ctx: Context) -> str:
    """Runs when both are there; their outputs come by their names."""
    return f"{' > '.join(ctx.input['route'])}: {ctx.input['price'] / 100:.2f}"
