"""Offsets that the group would not take were not offered again, and stood still where nothing else came."""

from __future__ import annotations

__all__ = ["REGRESSION"]

from tests.simulation.case_types import Case, Expectation, Order, RunStart
from tests.simulation.plan import Fault, Plan

from .regression import Regression

REGRESSION = Regression(
    "offsets that the group would not take were not offered again, and stood still where nothing else came",
    279,
    Plan(
        seed=810,
        case=Case(
            blueprints=[
                {
                    "id": "outer asked",
                    "nodes": [
                        {"id": "a", "uses": "outer asked a"},
                        {"id": "sub", "uses": "subflow", "params": {"blueprintId": "asking"}, "config": {}},
                        {"id": "b", "uses": "outer asked b"},
                    ],
                    "edges": [{"source": "a", "target": "sub"}, {"source": "sub", "target": "b"}],
                    "metadata": {"version": "1"},
                },
                {
                    "id": "asking",
                    "nodes": [
                        {"id": "a", "uses": "asking a"},
                        {"id": "asks", "uses": "wait", "params": {"event": "answered"}},
                        {"id": "b", "uses": "asking b"},
                    ],
                    "edges": [{"source": "a", "target": "asks"}, {"source": "asks", "target": "b"}],
                    "metadata": {"version": "1"},
                },
            ],
            behaviours={
                "outer asked a": [{"append": {"trail": "a"}, "add": 1, "incr": {"counted": 1}}],
                "outer asked b": [{"append": {"trail": "b"}, "add": 1, "incr": {"counted": 1}}],
                "asking a": [{"append": {"trail": "a"}, "add": 1, "incr": {"counted": 1}}],
                "asking b": [{"append": {"trail": "b"}, "add": 1, "incr": {"counted": 1}}],
            },
            starts=[RunStart(run_id="run-0", flow="outer asked", input=6, context={}, at_ms=4100, copies=1)],
            orders=[
                Order(
                    run_id="run-0",
                    kind="signal",
                    when="open",
                    after_ms=0,
                    nodes=("sub/asks",),
                    opening=1,
                    target="",
                    action=None,
                    value=5,
                    event="answered",
                    key=None,
                    copies=1,
                )
            ],
            expected={
                "run-0": Expectation(
                    flow="outer asked",
                    statuses=("completed",),
                    output=7,
                    context={"counted": 2, "trail": ["a", "b"]},
                    absent=(),
                    outputs={},
                    completions={"a": 1, "b": 1},
                    attempts={},
                    skipped=(),
                    errors=(),
                    whole=True,
                    unordered=("trail",),
                    cancelled=False,
                ),
                "run-0/sub": Expectation(
                    flow="asking",
                    statuses=("completed",),
                    output=6,
                    context={"counted": 2, "trail": ["a", "b"]},
                    absent=(),
                    outputs={},
                    completions={"a": 1, "b": 1},
                    attempts={},
                    skipped=(),
                    errors=(),
                    whole=True,
                    unordered=("trail",),
                    cancelled=False,
                ),
            },
        ),
        partitions=1,
        machines=3,
        guarantee="at_least_once",
        protocol="classic",
        static=False,
        standby=0,
        slots=100,
        runs_cached_max=1000,
        delays_us=(100, 100),
        markers_ms=(1, 1),
        leaders=1,
        sync=False,
        faults=(Fault(kind="stop", at_ms=4486, machine=2, for_ms=935, amount=602),),
        strays=((5851, 371),),
    ),
)
