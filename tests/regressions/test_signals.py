"""Signals on their way between runs of a family: none is lost, and whoever sent one is answered."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from tests.scenarios.backends import Backend
from tests.scenarios.scripted import Script
from tests.scenarios.world import World

from headrace.adapter import Answer
from headrace.commands import Signal, Start
from headrace.state import RunState
from headrace.values import encode
from headrace_adapters.memory import MemoryStore


def wait(node_id: str) -> dict[str, Any]:
    return {"id": node_id, "uses": "wait", "params": {"event": "paid"}}


def subflow(node_id: str, blueprint_id: str) -> dict[str, Any]:
    return {"id": node_id, "uses": "subflow", "params": {"blueprintId": blueprint_id}}


def world_of(*blueprints: dict[str, Any]) -> World:
    store = MemoryStore()
    return World(Backend(lambda: store), list(blueprints), Script({}))


def chain(flow_id: str, *nodes: dict[str, Any]) -> dict[str, Any]:
    edges = [{"source": one["id"], "target": other["id"]} for one, other in pairwise(nodes)]
    return {"id": flow_id, "nodes": list(nodes), "edges": edges}


def test_a_signal_that_names_its_wait_is_answered() -> None:
    world = world_of(chain("flow", wait("w")))
    world.submit(Start("run", "flow"))
    world.settle()

    answer = world.submit(Signal("run", "paid", encode(1), "w"))

    assert answer.outcome == "applied"
    assert world.result("run").output == 1


def test_the_second_of_two_signals_for_a_wait_in_a_child_is_kept_for_the_next_wait() -> None:
    """Both are taken in one step, so the parent still believes that the child waits when the second one comes."""
    world = world_of(chain("flow", subflow("s", "child"), wait("next")), chain("child", wait("w")))
    world.submit(Start("run", "flow"))
    world.settle()

    answers: list[Answer] = []
    for payload in (1, 2):
        world.loop.submit(Signal("run", "paid", encode(payload)), answers.append)
    world.settle()

    assert [answer.outcome for answer in answers] == ["applied", "applied"]
    assert (world.outputs["w"], world.outputs["next"]) == (1, 2)


def test_a_signal_that_comes_back_from_a_grandchild_is_kept_by_the_run_that_it_was_sent_to() -> None:
    world = world_of(
        chain("flow", subflow("s", "child"), wait("next")),
        chain("child", subflow("t", "grandchild"), {"id": "nap", "uses": "sleep", "params": {"duration": 1_000}}),
        chain("grandchild", wait("w"), {"id": "rest", "uses": "sleep", "params": {"duration": 1_000}}),
    )
    world.submit(Start("run", "flow"))
    world.settle()

    for payload in (1, 2):
        world.loop.submit(Signal("run", "paid", encode(payload)))
    world.settle()

    run = world.run("run")
    assert isinstance(run, RunState)
    assert [payload for _, payload in run.signals.values()] == [b"2"]
    for _ in range(2):
        world.advance(1_000)
        world.settle()
    assert (world.outputs["w"], world.outputs["next"]) == (1, 2)
