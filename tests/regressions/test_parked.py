"""Runs that lack an implementation: parked wherever they are, and on their way again when it appears."""

from __future__ import annotations

from tests.scenarios.backends import Backend
from tests.scenarios.scripted import Script
from tests.scenarios.world import World

from headrace.commands import Pause, Resume, Start, Unpause
from headrace_adapters.memory import MemoryStore

FLOW = {
    "id": "flow",
    "nodes": [
        {"id": "a", "uses": "a", "config": {"maxRetries": 2, "retryDelay": 1_000}},
        {"id": "w", "uses": "wait", "params": {"timeout": 5_000}},
        {"id": "s", "uses": "subflow", "params": {"blueprintId": "child"}},
        {"id": "z", "uses": "z"},
    ],
    "edges": [{"source": "a", "target": "z"}, {"source": "w", "target": "z"}, {"source": "s", "target": "z"}],
}
CHILD = {"id": "child", "nodes": [{"id": "n", "uses": "n"}], "edges": []}


def test_a_run_that_is_parked_midway_goes_on_with_what_happened_meanwhile() -> None:
    behaviours = {"a": [{"raise": "first"}, {"output": 1}], "z": [{"output": 2}], "n": [{"output": 3}]}
    store = MemoryStore()
    script = Script(behaviours)
    world = World(Backend(lambda: store), [FLOW, CHILD], script)
    world.submit(Start("run", "flow"))
    world.loop.step()
    world.loop.step()

    missing = {key: behaviours.pop(key) for key in ("a", "n")}
    world.crash()
    world.settle()
    world.advance(1_000)
    world.settle()
    assert world.status("run") == "parked"

    world.submit(Pause("run"))
    world.advance(5_000)
    world.settle()
    world.submit(Unpause("run"))
    world.settle()
    assert world.status("run") == "parked"
    assert world.submit(Resume("run", "w")).outcome == "ignored"

    behaviours.update(missing)
    world.crash()
    world.settle()
    world.advance(1_000)
    world.settle()
    assert world.status("run") == "completed"
    assert world.result("run").output == 2
    world.check_end()
