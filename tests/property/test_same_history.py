"""The same flow, driven by the same schedule, leaves the same history wherever it is carried and whatever is cached."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given

from tests.scenarios.backends import BACKENDS, Backend

from .flows import Case, cases
from .operator_steps import GENTLE, KINDS_OF_STEPS, RUNS, STERN, Operator, Step, steps
from .test_random_flows import check_runs, examples, memory, paces
from .watched_world import Pace, WatchedWorld

# Only a store in memory can be told to die at its n-th write.
WITHOUT_FAULTS = (*GENTLE, *STERN, "crash", "jobs")


def history(backend: Backend, case: Case, what: list[Step], pace: Pace) -> tuple[dict[str, list[str]], dict[str, Any]]:
    """What happened to every run, by the types of its events, and how each of them ended."""
    world = WatchedWorld(backend, case, pace)
    operator = Operator(world, case)
    world.order(operator.start(RUNS[0]))
    for step in what:
        operator.do(step)
    operator.finish()
    types, results = world.event_types(), world.results()
    check_runs(world)
    return types, results


@examples(60)
@given(cases(), steps(WITHOUT_FAULTS), paces)
def test_memory_and_embedded_record_the_same_history(case: Case, what: list[Step], pace: Pace) -> None:
    in_memory = history(memory(), case, what, pace)
    with tempfile.TemporaryDirectory() as folder:
        backend = BACKENDS["embedded"](Path(folder))
        try:
            embedded = history(backend, case, what, pace)
        finally:
            backend.close()

    assert embedded == in_memory


@examples(150)
@given(cases(), steps(KINDS_OF_STEPS), paces)
def test_a_worker_that_caches_next_to_nothing_records_the_same_history(case: Case, what: list[Step], pace: Pace) -> None:
    cached = history(memory(), case, what, pace._replace(runs_cached_max=10_000))
    read_again = history(memory(), case, what, pace._replace(runs_cached_max=1))

    assert read_again == cached
