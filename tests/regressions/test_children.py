"""Children that cannot begin: their parent does not wait for them for ever."""

from __future__ import annotations

import pytest

from headrace.commands import Resume, Start
from headrace.limits import Limits
from headrace_adapters.memory import MemoryStore
from tests.scenarios import backends, world
from tests.scenarios.backends import Backend
from tests.scenarios.scripted import Script
from tests.scenarios.world import World

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

    lived.folded.clear()
    lived.finals.clear()
    assert lived.submit(Start("run", "flow")).outcome == "applied"
    lived.settle()

    assert lived.status("run") == "failed"
    assert "taken by another run" in lived.result("run").errors[0]["message"]
