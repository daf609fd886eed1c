"""Every scenario, on every adapter: what must be observable (``README.md`` beside this says how to read one)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from headrace.blueprint import from_json
from headrace.commands import Cancel, Pause, Resume, RunNode, Signal, Start, Unpause
from headrace.errors import BlueprintInvalid
from headrace.execution import NO_ITEM
from headrace.state import RunState
from headrace.validation import validate
from headrace.values import NULL, encode

from .backends import BACKENDS
from .scripted import Script
from .world import World

HERE = Path(__file__).parent

# Adapters whose workers outlive a scenario, by how many of them there are.
GROUPS = {"kafka-1": 1, "kafka-3": 3}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each file and adapter; ``--scenarios DIR`` and ``--adapter NAME`` choose others."""
    if "scenario_file" not in metafunc.fixturenames:
        return
    folder = metafunc.config.getoption("scenarios") or HERE
    chosen = metafunc.config.getoption("adapter") or [*BACKENDS, "kafka"]
    adapters = [known for name in chosen for known in (GROUPS if name == "kafka" else [name])]
    files = sorted(Path(folder).glob("*.json"))
    assert files, f"there are no scenarios in {folder}"
    # One adapter after the other: workers of a group that nobody steps would lose their place in it.
    cases = [pytest.param(name, file, id=f"{file.stem}-{name}") for name in adapters for file in files]
    metafunc.parametrize(("adapter_name", "scenario_file"), cases)


def test_the_run_shows_what_the_scenario_expects(
    adapter_name: str, scenario_file: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Start the run, do what the operator does, and look."""
    scenario: dict[str, Any] = orjson.loads(scenario_file.read_bytes())
    expect = scenario["expect"]
    if "invalid" in expect:
        assert set(expect["invalid"]) <= problem_codes(scenario)
        return
    assert problem_codes(scenario) == set()

    script = Script(scenario.get("behaviours", {}))
    blueprints = [scenario["blueprint"], *scenario.get("subflows", [])]
    if adapter_name in GROUPS:
        world = request.getfixturevalue("scenario_groups").world(
            GROUPS[adapter_name], scenario_file.stem, blueprints, script
        )
        run_scenario(world, scenario, script)
        return
    backend = BACKENDS[adapter_name](tmp_path)
    try:
        run_scenario(World(backend, blueprints, script), scenario, script)
    finally:
        backend.close()


def run_scenario(world: World, scenario: dict[str, Any], script: Script) -> None:
    """Drive the run to its end, and compare."""
    start = Start(
        world.run_id,
        scenario["blueprint"]["id"],
        input=encode(scenario.get("input")),
        context={key: encode(value) for key, value in scenario.get("context", {}).items()},
    )
    assert world.submit(start).outcome == "applied"
    for step in scenario.get("drive", []):
        drive(world, script, start, step)
    world.settle()
    check(world, script, scenario["expect"])
    assert world.finals[world.run_id] == 1
    world.check_end()


def problem_codes(scenario: dict[str, Any]) -> set[str]:
    """The codes of all problems of the scenario's blueprints."""
    subflows = scenario.get("subflows", [])
    codes: set[str] = set()
    for blueprint in [scenario["blueprint"], *subflows]:
        try:
            problems = validate(
                from_json(blueprint),
                implementations=scenario.get("behaviours", {}),
                blueprints={flow["id"] for flow in [scenario["blueprint"], *subflows]},
            )
        except BlueprintInvalid as error:
            problems = error.problems
        codes |= {problem.code for problem in problems if not problem.warning}
    return codes


def drive(world: World, script: Script, start: Start, step: dict[str, Any]) -> None:
    """One step of the operator."""
    if "settle" in step:
        world.settle()
    elif "advance_ms" in step:
        world.advance(step["advance_ms"])
    elif "expect" in step:
        check(world, script, step["expect"])
    elif "await_state" in step:
        world.settle()
        assert world.status(world.run_id) == step["await_state"]
        if "awaiting" in step:
            assert sorted(world.awaited(world.run_id)) == sorted(step["awaiting"])
    elif "crash" in step:
        world.crash()
    elif "redeliver" in step:
        world.settle()
        world.deliver(node_job(world, step["redeliver"]))
    elif "start_again" in step:
        assert world.submit(start).outcome == step["result"]
    elif "resume" in step:
        given = step["resume"]
        output = encode(given["output"]) if "output" in given else NULL
        answer = world.submit(Resume(world.run_id, given["node"], given.get("action"), output, given.get("key")))
        assert answer.outcome == step["result"], answer
    else:
        operate(world, step)


def operate(world: World, step: dict[str, Any]) -> None:
    """Commands whose answer is not looked at."""
    if "signal" in step:
        world.submit(Signal(world.run_id, step["signal"]["event"], encode(step["signal"].get("payload"))))
    elif "cancel" in step:
        world.submit(Cancel(world.run_id, step["cancel"]))
    elif "pause" in step:
        world.submit(Pause(world.run_id))
    elif "unpause" in step:
        world.submit(Unpause(world.run_id))
    else:
        raise AssertionError(f"unknown step {step}")


def node_job(world: World, node_id: str) -> RunNode:
    """The job event of a node, as it was delivered before."""
    run = world.run(world.run_id)
    work = run.nodes.get(node_id) if isinstance(run, RunState) else None
    activation, attempt = (work.activation, work.attempt) if work is not None else (0, 1)
    return RunNode(world.run_id, "", node_id, NO_ITEM, activation, attempt)


def check(world: World, script: Script, expect: dict[str, Any]) -> None:
    """Compare what is to be observed with what was."""
    known = {*EXPECTED_FIELDS, *CALL_CHECKS}
    assert set(expect) <= known, f"the harness does not know {set(expect) - known}"
    if "status" in expect:
        assert world.status(world.run_id) == expect["status"]
    if "output" in expect:
        assert world.result(world.run_id).output == expect["output"]
    context = world.context(world.run_id)
    for key, value in expect.get("context", {}).items():
        assert context.get(key) == value, f"context key {key}"
    assert not set(expect.get("absent", [])) & set(context)
    for node, value in expect.get("outputs", {}).items():
        assert world.outputs[node] == value, f"output of {node}"
    for node, value in expect.get("inputs", {}).items():
        assert script.inputs[node] == value, f"input of {node}"
    assert set(expect.get("skipped", [])) <= world.skipped
    for name, compare in CALL_CHECKS.items():
        for node, number in expect.get(name, {}).items():
            assert compare(script.calls[node], number), f"{node} was executed {script.calls[node]} times, {name} {number}"
    for node in expect.get("never", []):
        assert script.calls[node] == 0, f"{node} was executed"
    check_order(script, expect)
    check_errors(world, expect)
    if "within_ms" in expect:
        assert world.now_ms - world.started_ms <= expect["within_ms"]


EXPECTED_FIELDS = [
    "status",
    "output",
    "context",
    "absent",
    "outputs",
    "inputs",
    "skipped",
    "never",
    "before",
    "overlap",
    "errors",
    "error_text",
    "within_ms",
]
CALL_CHECKS = {
    "executions": lambda calls, number: calls == number,
    "at_least": lambda calls, number: calls >= number,
    "at_most": lambda calls, number: calls <= number,
}


def check_order(script: Script, expect: dict[str, Any]) -> None:
    """``before``: a completed before b started, every time; ``overlap``: both were running at one moment."""
    for first, second in expect.get("before", []):
        starts = [n for n, entry in enumerate(script.timeline) if entry == ("start", second)]
        ends = [n for n, entry in enumerate(script.timeline) if entry == ("end", first)]
        assert ends, f"{first} did not end"
        assert starts, f"{second} did not start"
        assert ends[0] < starts[0], f"{first} before {second}"
        assert all(any(end < start for end in ends) for start in starts)
    for pair in expect.get("overlap", []):
        running: set[str] = set()
        together = False
        for what, name in script.timeline:
            (running.add if what == "start" else running.discard)(name)
            together = together or running >= set(pair)
        assert together, f"{pair} were not running at one moment"


def check_errors(world: World, expect: dict[str, Any]) -> None:
    """The run's errors name these nodes, and their text holds these parts."""
    if "errors" not in expect and "error_text" not in expect:
        return
    errors = world.result(world.run_id).errors
    assert set(expect.get("errors", [])) <= {error["nodeId"] for error in errors}
    text = "\n".join(error["message"] for error in errors)
    for part in expect.get("error_text", []):
        assert part in text
