"""What is said of worlds: the same seed says the same, and one that fails says how to repeat it, and what happened."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest

from headrace_adapters.kafka.job_log import JobLog

from .plan import Plan, make_plan, smaller
from .processes import ROOT
from .running import KINDS, Failure, report, run_many, run_one, silent
from .shrink import shrink
from .world import run_plan

KAFKA = KINDS[0]


def steps_of(plan: Plan) -> list[str]:
    """All steps of a world, without the names that members of groups get, which are random."""
    steps: list[str] = []
    with silent():
        run_plan(plan, steps.append)
    return steps


@pytest.mark.parametrize("seed", [3, 14, 159])
def test_the_same_seed_gives_the_same_world_step_by_step(seed: int) -> None:
    plan = make_plan(seed)

    assert steps_of(plan) == steps_of(plan)
    assert make_plan(seed) == plan


@contextmanager
def no_dead_letters() -> Iterator[None]:
    """A mistake of the product: what cannot be read is passed over."""
    with patch.object(JobLog, "_put_aside", lambda *arguments: None):
        yield


def first_failure(seeds: range) -> Failure:
    return next(failure for seed in seeds if (failure := run_one(KAFKA, seed)) is not None)


def test_a_world_that_fails_is_told_with_its_command_the_smallest_like_it_and_its_last_steps() -> None:
    with no_dead_letters():
        failure = first_failure(range(200))
        told = report(failure)

    assert f"python -m pytest tests/simulation -k kafka --seed {failure.seed}" in told
    assert "is no dead letter" in failure.error
    (shrunk,) = re.findall(r"^    Plan\(.*\)$", told, re.MULTILINE)
    assert len(shrunk) < len(str(make_plan(failure.seed)))
    assert "faults=()" in shrunk
    assert "> produce" in told
    assert "log: info: partitions revoked" in told, "what the product logs is among the steps"


def test_worlds_that_fail_are_counted_and_named() -> None:
    with no_dead_letters():
        failure = first_failure(range(200))
        ran = run_many(KAFKA, range(failure.seed - 1, failure.seed + 2))

    assert ran.worlds == 3
    assert failure.seed in [known.seed for known in ran.failures]


def test_several_processes_run_the_same_worlds_wherever_tests_are_imported_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [place for place in sys.path if place not in ("", ROOT)])

    ran = run_many(KAFKA, range(1, 9), jobs=2)

    assert (ran.worlds, ran.failures) == (8, [])


def test_a_number_of_worlds_ends_when_the_time_is_over() -> None:
    assert run_many(KAFKA, range(10**6), within_s=0.0).worlds == 0


def test_plans_become_smaller_until_next_to_nothing_is_left() -> None:
    plan = make_plan(7)

    least = shrink(plan, smaller, lambda _: True, tries=1_000)

    assert (least.faults, least.strays, least.machines, len(least.case.starts)) == ((), (), 1, 1)
