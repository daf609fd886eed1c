"""Children whose run ids are in use: each node has its own, and no parent waits for ever for one that cannot begin."""

from __future__ import annotations

import pytest
from tests.scenarios import backends, world
from tests.scenarios.backends import Backend
from tests.scenarios.scripted import Script
from tests.scenarios.world import World

from headrace.commands import Resume, Start
from headrace.execution import NO_ITEM, Execution
from headrace.limits import Limits
from headrace.values import NULL
from headrace_adapters.memory import MemoryStore

PARENT = {
    "id": "flow",
    "nodes": [{"id": "s", "uses": "subflow", "params": {"blueprintId": "child"}}, {"id": "w", "uses": "wait"}],
    "edges": [{"source": "s", "target": "w"}],
}
CHILD = {"id": "child", "nodes": [{"id": "n", "uses": "n"}], "edges": []}


def test_a_run_that_begins_anew_does_not_wait_for_a_child_of_its_former_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dedup window was shortened in between, so the run is forgotten and its former child is not."""
    store = MemoryStore()
    lived = World(Backend(lambda: store), [PARENT, CHILD], Script({"n": [{"output": 1}]}))
    lived.submit(Start("run", "flow"))
    lived.settle()
    assert lived.awaited("run") == ["w"]

    for module in (backends, world):
        monkeypatch.setattr(module, "Limits", lambda: Limits(dedup_window_ms=1_000))
    lived.crash()
    lived.submit(Resume("run", "w"))
    lived.advance(2_000)
    lived.settle()
    assert lived.run("run") is None

    lived.checks.folded.clear()
    lived.finals.clear()
    assert lived.submit(Start("run", "flow")).outcome == "applied"
    lived.settle()

    assert lived.status("run") == "failed"
    assert "taken by another run" in lived.result("run").errors[0]["message"]


def test_node_ids_with_slashes_do_not_share_a_child() -> None:
    """The child of node ``s/t`` is not the child of node ``t`` in the child of node ``s``."""
    outer = {
        "id": "flow",
        "nodes": [
            {"id": "s", "uses": "subflow", "params": {"blueprintId": "middle"}},
            {"id": "s/t", "uses": "subflow", "params": {"blueprintId": "child"}},
        ],
        "edges": [],
    }
    middle = {"id": "middle", "nodes": [{"id": "t", "uses": "subflow", "params": {"blueprintId": "child"}}], "edges": []}
    store = MemoryStore()
    lived = World(Backend(lambda: store), [outer, middle, CHILD], Script({"n": [{"output": 1}]}))

    lived.submit(Start("run", "flow"))
    lived.settle()

    assert lived.result("run").output == {"s": 1, "s/t": 1}


def test_idempotency_keys_of_different_attempts_differ_whatever_the_ids_hold() -> None:
    keys = {
        execution(run_id, node_id, item).idempotency_key
        for run_id, node_id, item in (
            ("a", "b/c", NO_ITEM),
            ("a/b", "c", NO_ITEM),
            ("a", "b%2Fc", NO_ITEM),
            ("a", "n", 0),
            ("a", "n[0]", NO_ITEM),
        )
    }

    assert len(keys) == 5


def execution(run_id: str, node_id: str, item: int) -> Execution:
    return Execution(1, run_id, "flow", node_id, item, 0, 1, "uses", NULL, NULL, {}, None, None)
