"""Commands that met no run: each is told in the history, whatever else happens in the same millisecond."""

from __future__ import annotations

from tests.scenarios.backends import Backend
from tests.scenarios.scripted import Script
from tests.scenarios.world import World

from headrace.commands import Resume
from headrace_adapters.local.layout import EVENTS
from headrace_adapters.memory import MemoryStore
from headrace_topics.names import run_prefix


def test_every_rejection_of_one_moment_is_recorded() -> None:
    store = MemoryStore()
    world = World(Backend(lambda: store), [], Script({}))

    for _ in range(3):
        assert world.submit(Resume("nobody", "w")).outcome == "unknown"

    assert len(list(store.scan(EVENTS + run_prefix("nobody")))) == 3
