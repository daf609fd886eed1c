"""Orders of a small shop: attempts, a fallback, a timer, a signal, and failures that are meant.

    reserve ──card──────> charge ──────────────┐
       │                  └ fails: invoice ────┤
       └──bank transfer─> payment (a wait) ────┴──> cooling_off (a sleep) ──> ship
                          └ timeout ──> give_back

What goes wrong is said by the orders themselves, in ``orders.jsonl``, so that everybody sees the same: ``busy`` is how
many times the warehouse is too busy to answer, ``card`` is ``declined`` or ``slow``. An order of what is not in stock
fails at once. See ``README.md`` beside this for the commands.
"""

from __future__ import annotations

import asyncio
from typing import Any

from headrace import App, Context, FatalError, Flow, Node, Result

PRICES = {"lamp": 40, "desk": 220, "chair": 95, "shelf": 60}

# Above this nobody gets goods before the money is there.
INVOICE_MAX = 500

order = Flow("order", version="1")
# What nodes share within a worker: clients and pools, and here a price list.
app = App("orders", dependencies={"prices": PRICES}).add(order)


@order.node(max_retries=3, retry_delay="200ms", retry_backoff=2)
def reserve(ctx: Context) -> Result:
    """Put the goods aside, and choose the way of payment: its action selects the edge."""
    wanted = ctx.input
    price = ctx.dependencies["prices"].get(wanted["item"])
    if price is None:
        # No further attempt and no fallback would help.
        raise FatalError(f"there is no {wanted['item']!r} in stock")
    if ctx.attempt <= wanted.get("busy", 0):
        return Result(error=f"the warehouse is busy (attempt {ctx.attempt})")
    # A counter, not a value that is read and written: nodes side by side would lose nothing.
    ctx.increment("reserved", wanted["quantity"])
    amount = price * wanted["quantity"]
    return Result({"item": wanted["item"], "quantity": wanted["quantity"], "amount": amount}, action=wanted["pay"])


@order.node(after=reserve, action="card", max_retries=2, retry_delay="100ms", timeout="1s", fallback="invoice")
async def charge(ctx: Context) -> dict[str, Any] | Result:
    """Charge the card. The node's input is what came over the edge; how the card behaves is in the context."""
    card = ctx.get("card", "good")
    if card == "declined":
        return Result(error="the card was declined")
    if card == "slow" and ctx.attempt == 1:
        await asyncio.sleep(60)  # The timeout ends this attempt; the next one is answered at once.
    # A payment service that gets the same key twice charges once: an attempt may run again after a crash.
    return {"by": "card", "amount": ctx.input["amount"], "key": ctx.idempotency_key}


@order.node
def invoice(ctx: Context) -> dict[str, Any]:
    """Takes over when charging has failed for good; it gets the same input and finds the error in the context."""
    if ctx.input["amount"] > INVOICE_MAX:
        raise FatalError(f"{ctx.input['amount']} is too much for an invoice ({ctx.get('_error')['message']})")
    return {"by": "invoice", "amount": ctx.input["amount"], "because": ctx.get("_error")["message"]}


order.wait("payment", event="paid", timeout="2h", after=reserve, action="transfer")


@order.node(after="payment", action="timeout")
def give_back(ctx: Context) -> dict[str, Any]:
    """The money did not come: what was reserved is free again."""
    ctx.set("reserved", 0)
    return {"shipped": False, "because": "no payment within two hours"}


# Either side may come, the other one is not waited for. A fallback that took over leads to where its node would.
order.sleep("cooling_off", "500ms", after=[charge, "payment"])


@order.node(after="cooling_off", inputs={"order": reserve, "card": charge, "transfer": "payment"})
class ship(Node):  # noqa: N801 (a class that is a node is named as nodes are)
    """A node with a life cycle: only ``exec`` is tried again."""

    def prep(self, ctx: Context) -> dict[str, Any]:
        return {"parcel": f"parcel-{ctx.run_id}"}

    def exec(self, ctx: Context, prepared: dict[str, Any]) -> dict[str, Any]:
        ctx.log.info("%s leaves the house", prepared["parcel"])
        return prepared

    def post(self, ctx: Context, prepared: dict[str, Any], executed: dict[str, Any]) -> dict[str, Any]:
        given = ctx.input
        payment = given["card"] or {"by": "transfer", "reference": (given["transfer"] or {}).get("reference")}
        return {"shipped": True, "parcel": executed["parcel"], "payment": payment, **given["order"]}
