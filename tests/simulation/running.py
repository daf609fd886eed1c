"""Running many worlds, in several processes, and saying of one that failed what somebody needs to repeat and to read it."""

from __future__ import annotations

__all__ = ["KINDS", "Failure", "Kind", "Ran", "report", "run_many", "run_one"]

import importlib
import logging
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import takewhile
from typing import Any, NamedTuple

from .compilation import share_compilation
from .processes import in_order
from .shrink import shrink

# A world that takes so long has met a loop that does not end; a small one takes some hundredths of that.
WORLD_S_MAX = 60

CHUNK = 40
LAST_STEPS = 120

# What members say all the time, and what says nothing to a reader.
DULL = "heartbeat"
SHRINKING_S = 120.0


class Kind(NamedTuple):
    """A kind of world: its name, and the module that has ``make_plan``, ``smaller`` and ``run_plan``."""

    name: str
    module: str

    def load(self) -> Any:
        return importlib.import_module(self.module)


KINDS = (
    Kind("kafka", "tests.simulation.kafka_worlds"),
    Kind("embedded", "tests.simulation.embedded.worlds"),
)


class Failure(NamedTuple):
    """A world that failed."""

    kind: str
    seed: int
    error: str


class Ran(NamedTuple):
    """What many worlds came to. *seconds* is the time of all processes together."""

    worlds: int
    seconds: float
    failures: list[Failure]


@contextmanager
def bounded(seconds: int = WORLD_S_MAX) -> Iterator[None]:
    """Raises AssertionError in what takes longer; in the main thread of a process only."""

    def over(*_: object) -> None:
        raise AssertionError(f"the world has taken {seconds} s: something goes round and round at one instant")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def silent() -> Iterator[None]:
    """Workers that meet faults warn all the time."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def run_one(kind: Kind, seed: int) -> Failure | None:
    """Run the world of a seed."""
    module = kind.load()
    share_compilation()
    with silent(), bounded():
        return _failure(kind, seed, lambda: module.run_plan(module.make_plan(seed)))


def _failure(kind: Kind, seed: int, run: Callable[[], None]) -> Failure | None:
    try:
        run()
    except Exception as error:  # noqa: BLE001 (whatever a world dies of is its failure)
        return Failure(kind.name, seed, "".join(traceback.format_exception_only(error)).strip())
    return None


def _run_chunk(kind: Kind, until_s: float, seeds: range) -> Ran:
    begun_s = time.monotonic()
    failures: list[Failure] = []
    worlds = 0
    for seed in seeds:
        if time.time() > until_s:
            break
        worlds += 1
        failure = run_one(kind, seed)
        if failure is not None:
            failures.append(failure)
    return Ran(worlds, time.monotonic() - begun_s, failures)


def run_many(kind: Kind, seeds: range, jobs: int = 1, within_s: float | None = None, failures_max: int = 3) -> Ran:
    """Run the worlds of *seeds*, in order, until the time is over or so many have failed. *worlds* are the first ones."""
    until_s = time.time() + (within_s if within_s is not None else 10**9)
    ran = Ran(0, 0.0, [])
    # One by one: a range of seeds may have no end that matters.
    chunks = (range(start, min(start + CHUNK, seeds.stop)) for start in range(seeds.start, seeds.stop, CHUNK))
    in_time = takewhile(lambda _: time.time() < until_s, chunks)
    for part in in_order(partial(_run_chunk, kind, until_s), in_time, jobs, ahead=2 * jobs):
        ran = Ran(ran.worlds + part.worlds, ran.seconds + part.seconds, ran.failures + part.failures)
        if len(ran.failures) >= failures_max:
            break
    return ran


def report(failure: Failure) -> str:
    """How to repeat it, the smallest world like it, and its last steps."""
    kind = next(kind for kind in KINDS if kind.name == failure.kind)
    module = kind.load()
    share_compilation()
    deadline_s = time.monotonic() + SHRINKING_S

    def fails(plan: Any) -> bool:
        if time.monotonic() > deadline_s:
            return False
        with silent(), bounded():
            return _failure(kind, failure.seed, lambda: module.run_plan(plan)) is not None

    plan = shrink(module.make_plan(failure.seed), module.smaller, fails)
    steps: list[str] = []
    with _told(steps), bounded():
        last = _failure(kind, failure.seed, lambda: module.run_plan(plan, steps.append))
    return "\n".join(
        (
            f"the {kind.name} world of seed {failure.seed} failed; repeat it with",
            f"    python -m pytest tests/simulation -k {kind.name} --seed {failure.seed}",
            failure.error,
            "",
            "the smallest world like it that was found:",
            f"    {plan}",
            "its last steps:",
            *(f"    {step}" for step in [step for step in steps if DULL not in step][-LAST_STEPS:]),
            last.error if last is not None else "(with its steps written down it does not fail)",
        )
    )


class _Steps(logging.Handler):
    """Puts what the product logs among the steps of the world."""

    def __init__(self, steps: list[str]) -> None:
        super().__init__(logging.INFO)
        self._steps = steps

    def emit(self, record: logging.LogRecord) -> None:
        self._steps.append(f"               log: {record.levelname.lower()}: {record.getMessage()}")


@contextmanager
def _told(steps: list[str]) -> Iterator[None]:
    logger = logging.getLogger("headrace_adapters")
    level, handler = logger.level, _Steps(steps)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
