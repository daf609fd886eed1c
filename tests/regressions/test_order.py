"""What is decided about several nodes at once does not depend on whether the run was just read from the store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.scenarios.backends import Backend
from tests.scenarios.scripted import Script
from tests.scenarios.world import World

from headrace.commands import Cancel, Command, Pause, Resume, Signal, Start, Unpause
from headrace.values import NULL
from headrace_adapters.local.layout import EVENTS
from headrace_adapters.memory import MemoryStore
from headrace_topics.events_record import decode_events

CHILD = {"id": "child", "nodes": [{"id": "w", "uses": "wait", "params": {"event": "paid"}}], "edges": []}


def wait(node_id: str) -> dict[str, Any]:
    return {"id": node_id, "uses": "wait", "params": {"event": "paid"}}


def subflow(node_id: str) -> dict[str, Any]:
    return {"id": node_id, "uses": "subflow", "params": {"blueprintId": "child"}}


# Nodes are touched in the order of the blueprint, and a store gives them back in the order of their ids.
FLOW = {
    "id": "flow",
    "nodes": [wait("z"), subflow("y"), wait("first"), subflow("x"), wait("b"), wait("a")],
    "edges": [{"source": "first", "target": "b"}, {"source": "first", "target": "a"}],
}


def history(what: list[Command], touch: Callable[[World], None]) -> list[tuple[str, Any]]:
    """All events of all runs, in the order in which they were written for each."""
    store = MemoryStore()
    world = World(Backend(lambda: store), [FLOW, CHILD], Script({}))
    world.submit(Start("run", "flow"))
    world.settle()
    world.submit(Resume("run", "first"))
    world.settle()
    for command in what:
        touch(world)
        world.submit(command)
        world.settle()
    records = [(key, record) for key, record in store.scan(EVENTS) if b'"decisions"' in record]
    return [(key.decode("latin-1"), event) for key, record in records for _, _, event in decode_events(record)]


@pytest.mark.parametrize(
    "what",
    [
        [Signal("run", "paid", NULL)],
        [Cancel("run")],
        [Pause("run"), Unpause("run")],
        [Resume("run", "z"), Signal("run", "paid", NULL), Signal("run", "paid", NULL)],
    ],
    ids=lambda what: "-".join(type(command).__name__ for command in what),
)
def test_a_run_that_was_just_read_goes_the_same_way(what: list[Command]) -> None:
    assert history(what, lambda world: world.crash()) == history(what, lambda _: None)
