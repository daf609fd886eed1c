"""A static member that came back under another member id wrote a dead letter twice."""

from __future__ import annotations

__all__ = ["REGRESSION"]

from tests.simulation.case_types import UNKNOWN, Case, Expectation, Order, RunStart
from tests.simulation.plan import Fault, Plan

from .regression import Regression

REGRESSION = Regression(
    "a static member that came back under another member id wrote a dead letter twice",
    10025,
    Plan(
        seed=10025,
        case=Case(
            blueprints=[
                {
                    "id": "f0.a",
                    "nodes": [
                        {
                            "id": "a0",
                            "uses": "subflow",
                            "params": {
                                "blueprintId": "f0.b",
                                "inputs": {"n": "n", "items": "items", "k": "k.a"},
                                "outputs": {"k": "b0"},
                            },
                            "config": {"maxRetries": 2, "retryDelay": 0},
                        },
                        {
                            "id": "a1",
                            "uses": "loop-controller",
                            "params": {"condition": "true", "maxIterations": 1},
                            "config": {"joinStrategy": "any"},
                        },
                        {"id": "a2", "uses": "f0.a2", "config": {"maxRetries": 2, "retryDelay": 0}},
                        {
                            "id": "a3",
                            "uses": "f0.a3",
                            "config": {
                                "maxRetries": 1,
                                "retryDelay": 200,
                                "runAhead": True,
                                "timeout": 1000,
                                "fallback": "a4",
                            },
                        },
                        {
                            "id": "a4",
                            "uses": "f0.a4",
                            "config": {"maxRetries": 1, "retryDelay": 0, "retryJitter": 0.5, "runAhead": True},
                        },
                        {
                            "id": "a5",
                            "uses": "f0.a5",
                            "inputs": "items.1",
                            "config": {"maxRetries": 2, "retryDelay": 0, "joinStrategy": {"atLeast": 1}, "fallback": "a6"},
                        },
                        {"id": "a6", "uses": "f0.a6", "config": {"fallback": "a7"}},
                        {"id": "a7", "uses": "f0.a7", "config": {"timeout": 200}},
                    ],
                    "edges": [
                        {"source": "a1", "target": "a2", "action": "continue"},
                        {"source": "a2", "target": "a3", "condition": "size(outputs) > 2"},
                        {"source": "a2", "target": "a5"},
                        {"source": "a5", "target": "a1"},
                        {"source": "a0", "target": "a1"},
                        {"source": "a0", "target": "a1"},
                    ],
                    "metadata": {"version": "1", "onFailure": "fail-fast"},
                },
                {
                    "id": "f0.b",
                    "nodes": [
                        {
                            "id": "b0",
                            "uses": "subflow",
                            "params": {
                                "blueprintId": "f0.c",
                                "inputs": {"n": "n", "items": "items", "k": "k"},
                                "outputs": {"k": "n"},
                            },
                            "config": {},
                        },
                        {"id": "b1", "uses": "f0.b1", "config": {"maxRetries": 1, "retryDelay": 0, "timeout": 50}},
                    ],
                    "edges": [{"source": "b0", "target": "b1"}],
                    "metadata": {"version": "1", "runAhead": True, "onFailure": "fail-fast"},
                },
                {
                    "id": "f0.c",
                    "nodes": [{"id": "c0", "uses": "f0.c0", "config": {}}],
                    "edges": [],
                    "metadata": {"version": "1", "onFailure": "fail-fast"},
                },
            ],
            behaviours={
                "f0.c0": [{"output": [1, 2, 3], "incr": {"counted": 1}}, {"raise": "boom", "incr": {"counted": 1}}],
                "f0.b1": [{"incr": {"n": 1, "counted": 1}, "hang": True}],
                "f0.a2": [
                    {"output": "text", "incr": {"c2": 1, "counted": 1}},
                    {"raise": "boom", "fatal": True, "incr": {"c2": 1, "counted": 1}},
                ],
                "f0.a3": [
                    {"read": ["n", "k", "_error"], "incr": {"counted": 1}},
                    {"hang": True, "incr": {"counted": 1}},
                    {"set": {"k": True}, "output": [1, 2, 3], "incr": {"counted": 1}},
                ],
                "f0.a4": [{"incr": {"n": 1, "counted": 1}, "output": 4}, {"raise": "boom", "incr": {"counted": 1}}],
                "f0.a5": [{"output": 4, "action": "x", "incr": {"counted": 1}}],
                "f0.a6": [{"echo": True, "incr": {"counted": 1}}, {"sleep_ms": 20, "output": 4, "incr": {"counted": 1}}],
                "f0.a7": [{"output": 1, "incr": {"counted": 1}}],
            },
            starts=[
                RunStart(
                    run_id="run-0",
                    flow="f0.a",
                    input={"a": {"b": [5]}},
                    context={"n": 2, "items": [], "k": {"a": 1}},
                    at_ms=100,
                    copies=1,
                )
            ],
            orders=[
                Order(
                    run_id="run-0",
                    kind="resume",
                    when="open",
                    after_ms=20,
                    nodes=("*",),
                    opening=1,
                    target="",
                    action=None,
                    value=1,
                    event="",
                    key=None,
                    copies=1,
                ),
                Order(
                    run_id="run-0",
                    kind="signal",
                    when="sent",
                    after_ms=0,
                    nodes=(),
                    opening=1,
                    target="",
                    action=None,
                    value={"payload": 1},
                    event="paid",
                    key=None,
                    copies=1,
                ),
                Order(
                    run_id="run-0",
                    kind="signal",
                    when="sent",
                    after_ms=0,
                    nodes=(),
                    opening=1,
                    target="",
                    action=None,
                    value={"payload": 1},
                    event="sent",
                    key=None,
                    copies=1,
                ),
            ],
            expected={
                "run-0": Expectation(
                    flow="f0.a",
                    statuses=("completed", "failed", "cancelled"),
                    output=UNKNOWN,
                    context={},
                    absent=(),
                    outputs={},
                    completions={},
                    attempts={},
                    skipped=(),
                    errors=None,
                    whole=False,
                    unordered=(),
                    cancelled=False,
                )
            },
        ),
        partitions=3,
        machines=2,
        guarantee="exactly_once",
        protocol="classic",
        static=True,
        standby=1,
        slots=100,
        runs_cached_max=1000,
        delays_us=(50, 300),
        markers_ms=(0, 1),
        leaders=3,
        sync=False,
        faults=(
            Fault(kind="freeze", at_ms=496, machine=0, for_ms=6295, amount=210),
            Fault(kind="work_slowly", at_ms=789, machine=1, for_ms=961, amount=195),
            Fault(kind="freeze_short", at_ms=3419, machine=0, for_ms=1055, amount=505),
        ),
        strays=((579, 778),),
    ),
)
