"""Crashes, pauses, redeliveries and slow workers change when things happen, and nothing of what happens."""

from __future__ import annotations

from typing import Any

from hypothesis import given

from .flows import Case
from .operator_steps import RUNS, Operator, Step, steps
from .plain_flows import plain_cases
from .reference import UNKNOWN, Reference
from .steady import AttemptScript, steady_cases
from .test_random_flows import check_runs, examples, memory, paces
from .watched_world import Pace, WatchedWorld

INTERRUPTIONS = (
    *("settle", "step", "step", "advance", "redeliver", "redeliver", "pause", "unpause", "start again"),
    *("crash", "crash", "die before", "die before", "die after", "die after", "undo", "undo", "undo"),
)
UNDISTURBED = Pace()


def run_of(case: Case, what: list[Step], pace: Pace) -> WatchedWorld:
    world = WatchedWorld(memory(), case, pace, AttemptScript(case.behaviours))
    operator = Operator(world, case)
    world.order(operator.start(RUNS[0]))
    for step in what:
        operator.do(step)
    operator.finish()
    return world


def end_of(world: WatchedWorld) -> dict[str, Any]:
    """What became of the run; texts of errors aside, which name children by ids that tell when they began."""
    result = world.result(RUNS[0])
    return {
        "states": {node: work.status for node, work in world.folded[RUNS[0]].nodes.items()},
        "status": result.status,
        "output": result.output,
        "context": result.context,
        "errors": sorted((error["nodeId"], error["code"]) for error in result.errors),
    }


@examples(500)
@given(steady_cases(), steps(INTERRUPTIONS), paces)
def test_an_interrupted_run_ends_as_an_undisturbed_one(case: Case, what: list[Step], pace: Pace) -> None:
    expected = end_of(run_of(case, [], UNDISTURBED))

    world = run_of(case, what, pace)

    assert end_of(world) == expected
    check_runs(world)


@examples(350)
@given(plain_cases(), steps(INTERRUPTIONS), paces)
def test_an_interrupted_run_does_what_the_rules_say(case: Case, what: list[Step], pace: Pace) -> None:
    expected = Reference(case.blueprints[0], case.behaviours, case.input)

    world = run_of(case, what, pace)

    result, script = world.result(RUNS[0]), world.script
    known = {node: value for node, value in expected.inputs.items() if value is not UNKNOWN}
    assert {node: script.inputs[node] for node in known} == known
    assert script.calls.keys() == expected.attempts.keys()
    assert all(script.calls[node] >= attempts for node, attempts in expected.attempts.items())
    assert world.outputs == expected.outputs
    assert (result.status, result.output) == (expected.status, expected.output)
    assert {error["nodeId"] for error in result.errors} == expected.errors
