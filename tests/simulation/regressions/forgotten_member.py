"""A worker that was frozen past its session came back under another member id and committed what others had done."""

from __future__ import annotations

__all__ = ["REGRESSION"]

from tests.simulation.case_types import Case, Expectation, Order, RunStart
from tests.simulation.plan import Fault, Plan

from .regression import Regression

REGRESSION = Regression(
    "a worker that was frozen past its session came back under another member id and committed what others had done",
    278,
    Plan(
        seed=1186,
        case=Case(
            blueprints=[
                {
                    "id": "told in turn",
                    "nodes": [
                        {"id": "a", "uses": "told in turn a"},
                        {"id": "first", "uses": "wait", "params": {"event": "answered"}},
                        {"id": "b", "uses": "told in turn b"},
                        {"id": "second", "uses": "wait", "params": {"event": "answered"}},
                        {"id": "c", "uses": "told in turn c"},
                    ],
                    "edges": [
                        {"source": "a", "target": "first"},
                        {"source": "first", "target": "b"},
                        {"source": "b", "target": "second"},
                        {"source": "second", "target": "c"},
                    ],
                    "metadata": {"version": "1"},
                }
            ],
            behaviours={
                "told in turn a": [{"append": {"trail": "a"}, "add": 1, "sleep_ms": 30, "incr": {"counted": 1}}],
                "told in turn b": [{"append": {"trail": "b"}, "add": 1, "incr": {"counted": 1}}],
                "told in turn c": [{"append": {"trail": "c"}, "add": 1, "incr": {"counted": 1}}],
            },
            starts=[RunStart(run_id="run-1", flow="told in turn", input=3, context={}, at_ms=500, copies=1)],
            orders=[
                Order(
                    run_id="run-1",
                    kind="signal",
                    when="begun",
                    after_ms=150,
                    nodes=(),
                    opening=1,
                    target="",
                    action=None,
                    value=3,
                    event="answered",
                    key=None,
                    copies=1,
                ),
                Order(
                    run_id="run-1",
                    kind="signal",
                    when="open",
                    after_ms=20,
                    nodes=("second",),
                    opening=1,
                    target="",
                    action=None,
                    value=5,
                    event="answered",
                    key=None,
                    copies=1,
                ),
            ],
            expected={
                "run-1": Expectation(
                    flow="told in turn",
                    statuses=("completed",),
                    output=6,
                    context={"counted": 3, "trail": ["a", "b", "c"]},
                    absent=(),
                    outputs={},
                    completions={"a": 1, "b": 1, "c": 1},
                    attempts={},
                    skipped=(),
                    errors=(),
                    whole=True,
                    unordered=("trail",),
                    cancelled=False,
                )
            },
        ),
        partitions=1,
        machines=2,
        guarantee="exactly_once",
        protocol="classic",
        static=True,
        standby=0,
        slots=100,
        runs_cached_max=1000,
        delays_us=(100, 100),
        markers_ms=(5, 60),
        leaders=1,
        sync=False,
        faults=(Fault(kind="cut_off", at_ms=550, machine=0, for_ms=1466, amount=303),),
        strays=(),
    ),
)
