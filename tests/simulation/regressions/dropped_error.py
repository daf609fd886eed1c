"""A worker whose name was taken over was not told of it, because its error was dropped with records, and waited for ever."""

from __future__ import annotations

__all__ = ["REGRESSION"]

from tests.simulation.case_types import Case, Expectation, Order, RunStart
from tests.simulation.plan import Fault, Plan

from .regression import Regression

REGRESSION = Regression(
    "a worker whose name was taken over was not told of it, because its error was dropped with records, and waited for ever",
    73441,
    Plan(
        seed=73441,
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
            starts=[RunStart(run_id="run-0", flow="outer asked", input=2, context={}, at_ms=700, copies=1)],
            orders=[
                Order(
                    run_id="run-0",
                    kind="signal",
                    when="begun",
                    after_ms=150,
                    nodes=(),
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
        machines=1,
        guarantee="exactly_once",
        protocol="classic",
        static=True,
        standby=0,
        slots=100,
        sluggish=False,
        runs_cached_max=1000,
        delays_us=(50, 4000),
        markers_ms=(1, 1),
        leaders=1,
        slow_leader=-1,
        sync=False,
        faults=(
            Fault(kind="cut_off", at_ms=302, machine=0, for_ms=1984, amount=539),
            Fault(kind="power_loss", at_ms=1942, machine=0, for_ms=289, amount=280),
        ),
        strays=(),
    ),
)
