"""The engine and a second reading of the rules agree on what becomes of a flow."""

from __future__ import annotations

from hypothesis import given

from .flows import Case
from .operator_steps import RUNS, Operator
from .plain_flows import plain_cases
from .reference import UNKNOWN, Reference
from .test_random_flows import examples, memory, paces
from .watched_world import Pace, WatchedWorld


@examples(700)
@given(plain_cases(), paces)
def test_the_engine_does_what_the_rules_say(case: Case, pace: Pace) -> None:
    expected = Reference(case.blueprints[0], case.behaviours, case.input)
    world = WatchedWorld(memory(), case, pace)
    operator = Operator(world, case)

    world.order(operator.start(RUNS[0]))
    operator.finish()

    run, result, script = world.folded[RUNS[0]], world.result(RUNS[0]), world.script
    states = {node: "recovered" if work.fallback else work.status for node, work in run.nodes.items()}
    assert states == expected.states
    assert dict(script.calls) == expected.attempts
    assert {n: v for n, v in script.inputs.items() if expected.inputs[n] is not UNKNOWN} == {
        n: v for n, v in expected.inputs.items() if v is not UNKNOWN
    }
    assert world.outputs == expected.outputs
    assert result.status == expected.status
    assert {error["nodeId"] for error in result.errors} == expected.errors
    assert result.output == expected.output
