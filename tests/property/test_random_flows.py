"""Whatever the flow, its behaviour, the schedule and the faults: what must hold, holds at every commit.

``WatchedWorld`` asserts after every commit that the folded events equal the live state and the stored one byte for byte,
that every result is recorded once in an activation, joins fire once, nothing starts in a pause, and nothing happens
after the end. ``--seed N`` repeats a run of this file; ``HEADRACE_EXAMPLES=20`` makes it twenty times as long.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from headrace_adapters.memory import MemoryStore
from tests.scenarios.backends import Backend

from .flows import Case, cases
from .operator_steps import RUNS, Operator, Step, steps
from .watched_world import DEDUP_WINDOW_MS, Pace, WatchedWorld

FACTOR = float(os.environ.get("HEADRACE_EXAMPLES", "1"))
# Without the explanation of failures, which calls a failing example many times more.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)
SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)

paces = st.builds(
    Pace,
    slots=st.sampled_from((1_000, 1, 3)),
    outcomes_at_once=st.sampled_from((1_000, 1, 2)),
    runs_cached_max=st.sampled_from((10_000, 1)),
    partitions=st.sampled_from((3, 1)),
    stubborn=st.booleans(),
)


def examples(number: int) -> settings:
    return settings(max_examples=max(1, int(number * FACTOR)), suppress_health_check=SLOW, phases=PHASES)


def memory() -> Backend:
    store = MemoryStore()
    return Backend(lambda: store)


def check_runs(world: WatchedWorld) -> None:
    """After the end: every run that began has one final state and one result, and nothing else is left."""
    assert RUNS[0] in world.folded
    for run_id, state in world.folded.items():
        assert world.finals[run_id] == 1
        result = world.result(run_id)
        assert (result.status, result.run_id) == (state.ended, run_id)
    world.check_end()
    world.advance(DEDUP_WINDOW_MS)
    world.settle()
    assert not any(world.run(run_id) for run_id in world.folded), "a run is remembered for ever"


@examples(1000)
@given(cases(), steps(), paces)
def test_runs_end_once_whatever_happens_to_them(case: Case, what: list[Step], pace: Pace) -> None:
    world = WatchedWorld(memory(), case, pace)
    operator = Operator(world, case)
    world.order(operator.start(RUNS[0]))

    for step in what:
        operator.do(step)
    operator.finish()

    check_runs(world)
