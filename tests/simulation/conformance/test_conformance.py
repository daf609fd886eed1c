"""The model answers as the real broker does: each program of calls is run on both.

Where they differ, the model is wrong. What the real broker once answered is kept in ``answers.json`` (``recording.py``
rewrites it), so that the model is checked without one as well. Beside the programs that somebody has thought of there are
some at random, with other seeds in each session.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.simulation.conformance.catalogue import PROGRAMS
from tests.simulation.conformance.drawn_programs import DRAWN
from tests.simulation.conformance.modelled import run_on_model
from tests.simulation.conformance.program import Program
from tests.simulation.conformance.real import run_on_real
from tests.simulation.conformance.recording import ABREAST, lines, read_recording

SEEDS = range(3)
TURNS = {"transactions": 4, "reading": 2, "groups_classic": 2, "groups_consumer": 2}
AT_RANDOM = [f"{subject} {turn}" for subject in DRAWN for turn in range(TURNS[subject])]


@pytest.fixture(scope="module")
def programs(seed: int) -> Mapping[str, Program]:
    """All programs of this session, by name."""
    drawn = {name: DRAWN[name.split()[0]](seed + int(name.split()[1])) for name in AT_RANDOM}
    return {**PROGRAMS, **drawn}


@pytest.fixture(scope="module")
def real_answers(
    broker: str, programs: Mapping[str, Program], request: pytest.FixtureRequest
) -> Iterator[Callable[[str], list[str]]]:
    """What the broker answers to a program. All that are asked for are under way already: they mostly wait."""
    wanted = [
        item.callspec.params["name"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and "real_answers" in item.fixturenames
    ]
    pool = ThreadPoolExecutor(ABREAST, "program")
    running = {name: pool.submit(run_on_real, programs[name], broker) for name in wanted}
    yield lambda name: lines(running[name].result())
    pool.shutdown(cancel_futures=True)


@pytest.mark.broker
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_model_answers_as_the_broker_does(name: str, real_answers: Callable[[str], list[str]]) -> None:
    assert lines(run_on_model(PROGRAMS[name])) == real_answers(name)


@pytest.mark.broker
@pytest.mark.parametrize("name", AT_RANDOM)
def test_the_model_answers_to_calls_at_random_as_the_broker_does(
    name: str, programs: Mapping[str, Program], real_answers: Callable[[str], list[str]]
) -> None:
    assert lines(run_on_model(programs[name])) == real_answers(name)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_model_answers_as_a_broker_once_did(name: str) -> None:
    """However long things take on the way: each seed draws other delays."""
    recorded = lines(read_recording()[name])
    for seed in SEEDS:
        assert lines(run_on_model(PROGRAMS[name], seed)) == recorded, f"seed {seed}"


def test_what_is_recorded_is_what_there_is() -> None:
    assert list(read_recording()) == list(PROGRAMS)
