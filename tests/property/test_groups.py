"""Workers that share partitions, which go to and fro between them: what holds for one worker holds for a group."""

from __future__ import annotations

from hypothesis import given

from .flows import Case, cases
from .group_world import GroupWorld
from .operator_steps import FAULTY, GENTLE, OF_GROUPS, RUNS, STERN, Operator, Step, steps
from .steady import AttemptScript, steady_cases
from .test_interruptions import INTERRUPTIONS, UNDISTURBED, end_of, run_of
from .test_random_flows import check_runs, examples, memory, paces
from .watched_world import Pace


@examples(500)
@given(cases(), steps((*GENTLE, *STERN, *FAULTY, *OF_GROUPS, *OF_GROUPS)), paces)
def test_runs_end_once_whatever_happens_to_their_partitions(case: Case, what: list[Step], pace: Pace) -> None:
    world = GroupWorld(memory(), case, pace)
    operator = Operator(world, case)
    world.order(operator.start(RUNS[0]))

    for step in what:
        operator.do(step)
    operator.finish()

    check_runs(world)


@examples(300)
@given(steady_cases(), steps((*INTERRUPTIONS, *OF_GROUPS)), paces)
def test_a_run_that_moves_between_workers_ends_as_an_undisturbed_one(case: Case, what: list[Step], pace: Pace) -> None:
    expected = end_of(run_of(case, [], UNDISTURBED))
    world = GroupWorld(memory(), case, pace, AttemptScript(case.behaviours))
    operator = Operator(world, case)
    world.order(operator.start(RUNS[0]))

    for step in what:
        operator.do(step)
    operator.finish()

    assert end_of(world) == expected
    check_runs(world)
