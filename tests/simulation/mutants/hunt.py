"""Looks for the first world that finds a mistake, and says how it was found."""

from __future__ import annotations

__all__ = ["SEEDS", "Find", "hunt", "sort_of"]

import re
import time
from functools import partial
from typing import NamedTuple

from tests.simulation.processes import in_order
from tests.simulation.running import CHUNK, KINDS, Failure, run_one

from .catalogue import named
from .mutant import planted

SEEDS = range(1, 2_001)

KAFKA = next(kind for kind in KINDS if kind.name == "kafka")

SHOWN_MAX = 110


class Find(NamedTuple):
    """A mistake and the first world that fails because of it, if any; *seconds* is the time of all processes together."""

    name: str
    failure: Failure | None
    worlds: int
    seconds: float


def hunt(name: str, seeds: range = SEEDS, jobs: int = 1) -> Find:
    """Run the worlds of *seeds* with the mistake in the product, in order, until one fails that does not fail without it."""
    begun_s, seconds = time.monotonic(), 0.0
    chunks = (range(start, min(start + CHUNK, seeds.stop)) for start in range(seeds.start, seeds.stop, CHUNK))
    for chunk in in_order(partial(hunt_chunk, name), chunks, jobs, ahead=jobs):
        seconds += chunk.seconds
        if chunk.failure is not None:
            return Find(name, chunk.failure, chunk.failure.seed - seeds.start + 1, seconds)
    return Find(name, None, len(seeds), max(seconds, time.monotonic() - begun_s))


def hunt_chunk(name: str, seeds: range) -> Find:
    """Some of the worlds, in this process."""
    begun_s = time.monotonic()
    found: Failure | None = None
    seed = seeds.start
    for seed in seeds:
        with planted(named(name)):
            found = run_one(KAFKA, seed)
        # A world that fails by itself says nothing about the mistake.
        if found is not None and run_one(KAFKA, seed) is None:
            break
        found = None
    return Find(name, found, seed - seeds.start + 1, time.monotonic() - begun_s)


def sort_of(failure: Failure) -> str:
    """What somebody sees first of a failure, in one short line."""
    lines = [line.strip() for line in failure.error.splitlines()]
    line = lines[0]
    if re.search(r"\b(violations|differences)\b", line) and len(lines) > 1:
        line = lines[1]
    line = line.removeprefix("AssertionError: ")
    return line if len(line) <= SHOWN_MAX else line[: SHOWN_MAX - 4].rstrip() + " ..."
