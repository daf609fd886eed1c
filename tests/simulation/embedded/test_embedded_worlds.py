"""Worlds of the embedded adapter: they see what goes wrong, and are the same each time. ``test_worlds.py`` runs many."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.simulation.compilation import share_compilation
from tests.simulation.disk import SimulatedDisk, SimulatedStore
from tests.simulation.kernel import Process
from tests.simulation.running import silent
from tests.simulation.shrink import shrink

from .faults import NOBODY
from .mutants import MUTANTS
from .plan import Fault, Plan, make_plan, smaller
from .world import EmbeddedWorld, run_plan

# Each mistake is found within so many worlds; most of them within a few.
SEEDS = range(1, 2_001)


@pytest.fixture(autouse=True)
def _quiet_workers() -> Iterator[None]:
    share_compilation()
    with silent():
        yield


def first_that_fails(seeds: range = SEEDS) -> Plan | None:
    return next((plan for plan in map(make_plan, seeds) if fails(plan)), None)


def fails(plan: Plan) -> bool:
    try:
        run_plan(plan)
    except Exception:  # noqa: BLE001 (whatever a mistake leads to)
        return True
    return False


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mistake_in_the_product_is_found(name: str) -> None:
    with MUTANTS[name].planted():
        assert first_that_fails() is not None, MUTANTS[name].says


def test_a_disk_that_says_it_has_what_it_has_not_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without *sync* a loss of power may take what was acknowledged, and the world tells that from what must not be."""
    opened = SimulatedDisk.open

    def open_unsynced(self: SimulatedDisk, name: str, process: Process, **_: Any) -> SimulatedStore:
        return opened(self, name, process, sync=False)

    monkeypatch.setattr(SimulatedDisk, "open", open_unsynced)
    plan = first_that_fails()
    assert plan is not None
    assert plan.sync
    assert not fails(plan._replace(sync=False))


def test_the_same_seed_gives_the_same_world() -> None:
    for seed in range(5):
        told: list[list[str]] = [[], []]
        for lines in told:
            run_plan(make_plan(seed), lines.append)
        assert told[0] == told[1]


def test_a_plan_becomes_smaller_and_keeps_what_fails() -> None:
    with MUTANTS["job_not_removed"].planted():
        plan = next(
            plan for plan in map(make_plan, SEEDS) if len(plan.case.starts) > 1 and len(plan.faults) > 1 and fails(plan)
        )
        small = shrink(plan, smaller, fails)
        assert fails(small)
    assert len(small.case.starts) == 1
    assert len(small.faults) < len(plan.faults)
    assert str(small.case.starts[0]) in str(small)


@pytest.mark.parametrize("sync", [True, False])
def test_what_a_world_is_for_happens_in_some(sync: bool) -> None:
    """A fault that never hits, or a way that nobody takes, would prove nothing."""
    lines: list[str] = []
    for seed in range(60):
        EmbeddedWorld(make_plan(seed)._replace(sync=sync), lines.append).run()
    text = "\n".join(lines)
    for sign in (
        "is killed",
        "loses power",
        "writes are lost",
        "gives up",
        "has stopped",
        "command",
        "RunParked",
        "RunDuplicate",
    ):
        assert sign in text, sign


def test_dead_letters_are_written_again_and_carried_out() -> None:
    world = EmbeddedWorld(make_plan(1)._replace(faults=(Fault("bad", 5, 50, 2), Fault("redrive", 300, 5))))
    world.run()
    # Of three records one was too large at first, and two stay what they are.
    assert world.truth.seen[NOBODY, "signal"] == 1
    assert sorted(world.truth.letters.values()) == [False] * 2 + [True] * 6
