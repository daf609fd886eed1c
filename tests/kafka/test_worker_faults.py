"""Workers that die, hang, come and go under load: no run notices, and nothing is recorded twice."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from tests.kafka.checker import Checked, check
from tests.kafka.load import Load
from tests.kafka.stores import check_stores
from tests.kafka.topic_log import TopicLog, read_log
from tests.kafka.workers import HANG_S, Workers, until

pytestmark = [pytest.mark.broker, pytest.mark.slow]

AppName = Callable[[str], str]
MakeWorkers = Callable[..., Workers]
Say = Callable[[str], None]
Runs = Callable[[int], int]


def recovery_s(log: TopicLog, at_ms: float) -> float:
    """How long after a fault the last partition of those that had work went on with it."""
    first: dict[int, int] = {}
    for record in log.of("events"):
        if record.at_ms > at_ms:
            first[record.partition] = min(record.at_ms, first.get(record.partition, record.at_ms))
    return max((moment - at_ms for moment in first.values()), default=0) / 1_000


def finish(workers: Workers, load: Load, faults_ms: list[float], say: Say, what: str) -> Checked:
    """Let everything come to its end, and look at all that is left."""
    load.press()
    workers.stop()
    load.close()
    log = read_log(workers.servers, workers.app)
    found = check(log, load.expected, executions=workers.executions())
    compared = check_stores(workers.state, log)
    assert compared
    recovered = [recovery_s(log, at_ms) for at_ms in faults_ms]
    worst = f", recovered after at most {max(recovered):.1f} s" if recovered else ""
    say(f"{what}: {len(found.histories)} runs, {found.begun_again} executions cut short, {compared} copies compared{worst}")
    return found


def after_some(load: Load, draw: random.Random, least: int, most: int) -> Callable[[], bool]:
    """Whether a few more runs have ended than now."""
    enough = min(len(load.ended) + draw.randint(least, most), len(load.expected) - 1)
    return lambda: len(load.ended) >= enough


def test_workers_that_are_killed_at_random_lose_nothing_and_record_nothing_twice(
    broker: str, app_name: AppName, make_workers: MakeWorkers, runs: Runs, seed: int, say: Say, turn: int
) -> None:
    draw = random.Random(seed + turn)
    workers = make_workers(app_name("killed"), broker)
    for _ in range(2):
        workers.begin().ready()
    load = Load(broker, workers.app, draw, runs(600))

    faults = []
    for _ in range(4):
        load.press(after_some(load, draw, len(load.expected) // 12, len(load.expected) // 6))
        faults.append(time.time() * 1_000)
        draw.choice(workers.alive).kill()
        workers.begin()

    finish(workers, load, faults, say, "4 workers killed and replaced")
