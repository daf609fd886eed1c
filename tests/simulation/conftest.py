"""What is asked for on the command line: the seeds of worlds, and how much time there is for them."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable

import pytest

from tests.process.saying import say

from .running import Kind, Ran, report, run_many

__all__ = ["run_worlds", "say"]

# How long fresh worlds of one kind are run where nobody says which ones.
HERE_S = 10.0
IN_CI_S = {"kafka": 90.0, "embedded": 30.0}

_SEEDS = re.compile(r"(\d+)\.\.(\d+)")


@pytest.fixture
def run_worlds(request: pytest.FixtureRequest, say: Callable[[str], None]) -> Callable[[Kind], None]:
    """Runs the worlds of a kind that were asked for, says which ones they were, and fails with the first that failed."""
    option = request.config.option

    def run(kind: Kind) -> None:
        within_s: float | None = None
        if option.seeds is not None:
            seeds = _seeds_of(option.seeds)
        elif option.seed_given:
            seeds = range(option.seed, option.seed + 1)
        else:
            first = random.Random(f"{kind.name} {option.seed}").randrange(10**9)
            seeds = range(first, first + 10**9)
            within_s = IN_CI_S[kind.name] if os.environ.get("CI") else HERE_S
        jobs = min(option.jobs, len(seeds))
        ran = run_many(kind, seeds, jobs, within_s)
        say(_told(kind, seeds, ran))
        if ran.failures:
            pytest.fail("\n\n".join([report(ran.failures[0]), *map(str, ran.failures[1:])]), pytrace=False)
        assert ran.worlds, "no world was run"

    return run


def _seeds_of(text: str) -> range:
    found = _SEEDS.fullmatch(text)
    if found is None or int(found[1]) > int(found[2]):
        raise pytest.UsageError(f"--seeds must be two numbers with two dots between them, as 1..1000, not {text!r}")
    return range(int(found[1]), int(found[2]) + 1)


def _told(kind: Kind, seeds: range, ran: Ran) -> str:
    first, last = seeds.start, seeds.start + ran.worlds - 1
    speed = ran.worlds / ran.seconds if ran.seconds else 0.0
    return (
        f"{ran.worlds} {kind.name} worlds, seeds {first}..{last}: {len(ran.failures)} failed; "
        f"{speed:.0f} worlds a second and core"
    )
