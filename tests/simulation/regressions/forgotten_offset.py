"""A bad record was a dead letter twice when the group had forgotten an offset that nothing else had moved."""

from __future__ import annotations

__all__ = ["REGRESSION"]

from tests.simulation.case_types import UNKNOWN, Case, Expectation, Order, RunStart
from tests.simulation.plan import Fault, Plan

from .regression import Regression

REGRESSION = Regression(
    "a bad record was a dead letter twice when the group had forgotten an offset that nothing else had moved",
    2443,
    Plan(
        seed=2443,
        case=Case(
            blueprints=[
                {
                    "id": "payment-by-hand-after-three-tries: payment-by-hand-after-three-tries",
                    "nodes": [
                        {"id": "order", "uses": "payment-by-hand-after-three-tries: order"},
                        {
                            "id": "charge",
                            "uses": "payment-by-hand-after-three-tries: charge",
                            "config": {"maxRetries": 3, "retryDelay": 1000, "retryJitter": 0, "fallback": "invoice"},
                        },
                        {"id": "invoice", "uses": "payment-by-hand-after-three-tries: invoice"},
                        {"id": "clerk", "uses": "wait"},
                        {"id": "ship", "uses": "payment-by-hand-after-three-tries: ship"},
                    ],
                    "edges": [
                        {"source": "order", "target": "charge"},
                        {"source": "charge", "target": "clerk"},
                        {"source": "clerk", "target": "ship", "action": "paid"},
                    ],
                }
            ],
            behaviours={
                "payment-by-hand-after-three-tries: order": [{"output": {"id": 9, "total": 40}, "incr": {"counted": 1}}],
                "payment-by-hand-after-three-tries: charge": [{"error": "declined", "incr": {"counted": 1}}],
                "payment-by-hand-after-three-tries: invoice": [
                    {"set": {"invoice_no": "I-9"}, "output": "I-9", "incr": {"counted": 1}}
                ],
                "payment-by-hand-after-three-tries: ship": [{"output": "ship", "incr": {"counted": 1}}],
            },
            starts=[
                RunStart(
                    run_id="run-0",
                    flow="payment-by-hand-after-three-tries: payment-by-hand-after-three-tries",
                    input=None,
                    context={},
                    at_ms=4000,
                    copies=1,
                )
            ],
            orders=[
                Order(
                    run_id="run-0",
                    kind="resume",
                    when="open",
                    after_ms=0,
                    nodes=("clerk",),
                    opening=1,
                    target="clerk",
                    action="paid",
                    value={"cash": 40},
                    event="",
                    key="k1",
                    copies=1,
                )
            ],
            expected={
                "run-0": Expectation(
                    flow="payment-by-hand-after-three-tries: payment-by-hand-after-three-tries",
                    statuses=("completed",),
                    output=UNKNOWN,
                    context={"invoice_no": "I-9"},
                    absent=(),
                    outputs={},
                    completions={},
                    attempts={"order": 1, "charge": 3, "invoice": 1, "ship": 1},
                    skipped=(),
                    errors=None,
                    whole=False,
                    unordered=(),
                    cancelled=False,
                )
            },
        ),
        partitions=1,
        machines=2,
        guarantee="exactly_once",
        protocol="classic",
        static=False,
        standby=0,
        slots=100,
        runs_cached_max=1000,
        delays_us=(100, 100),
        markers_ms=(1, 1),
        leaders=1,
        sync=False,
        faults=(
            Fault(kind="forget_offsets", at_ms=4569, machine=1, for_ms=20, amount=917),
            Fault(kind="freeze_in_commit", at_ms=8000, machine=1, for_ms=10, amount=946),
        ),
        strays=((4461, 611),),
    ),
)
