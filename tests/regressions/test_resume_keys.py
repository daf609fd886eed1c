"""A resume key that a family of runs has applied, wherever in it, is applied once."""

from __future__ import annotations

from pathlib import Path

from tests.scenarios.backends import BACKENDS
from tests.scenarios.scripted import Script
from tests.scenarios.world import World

from headrace.adapter import Answer
from headrace.commands import Resume, Start

CHILD = {"id": "asking", "nodes": [{"id": "wait", "uses": "wait"}], "edges": []}
PARENT = {
    "id": "parent",
    "nodes": [{"id": name, "uses": "subflow", "params": {"blueprintId": "asking"}} for name in ("one", "two")],
    "edges": [],
}


def test_two_resumes_with_one_key_for_two_children_at_once_are_applied_once(tmp_path: Path) -> None:
    world = World(BACKENDS["memory"](tmp_path), [CHILD, PARENT], Script({}))
    world.submit(Start("run", "parent"))
    world.settle()

    answers: list[Answer] = []
    for path in ("one/wait", "two/wait"):
        world.loop.submit(Resume("run", path, key="once"), answers.append)
    world.settle()

    assert [answer.outcome for answer in answers] == ["applied", "ignored"]
    assert world.awaited("run") == ["two/wait"]
