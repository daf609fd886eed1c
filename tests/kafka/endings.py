"""How every test of faults ends: all runs come to their end, and all that is left is looked at."""

from __future__ import annotations

__all__ = ["AppName", "MakeWorkers", "Runs", "Say", "after_some", "finish", "now_ms", "recovery_s"]

import random
import time
from collections.abc import Callable, Sequence

from tests.kafka.checker import Checked, check
from tests.kafka.load import Load
from tests.kafka.stores import check_stores
from tests.kafka.topic_log import TopicLog, read_log
from tests.kafka.workers import Workers

AppName = Callable[[str], str]
MakeWorkers = Callable[..., Workers]
Say = Callable[[str], None]
Runs = Callable[[int], int]


def now_ms() -> float:
    """The moment of a fault."""
    return time.time() * 1_000


def recovery_s(log: TopicLog, at_ms: float) -> float:
    """How long after a fault the last partition of those that had work went on with it."""
    first: dict[int, int] = {}
    for record in log.of("events"):
        if record.at_ms > at_ms:
            first[record.partition] = min(record.at_ms, first.get(record.partition, record.at_ms))
    return max((moment - at_ms for moment in first.values()), default=0) / 1_000


def after_some(load: Load, draw: random.Random, least: int, most: int) -> Callable[[], bool]:
    """Whether a few more runs have ended than now."""
    enough = min(len(load.ended) + draw.randint(least, most), len(load.expected) - 1)
    return lambda: len(load.ended) >= enough


def finish(workers: Workers, load: Load, say: Say, what: str, faults_ms: Sequence[float] = ()) -> Checked:
    """Let everything come to its end, and check what the topics, the disks and the nodes themselves say."""
    load.press()
    workers.stop()
    load.close()
    log = read_log(workers.servers, workers.app)
    found = check(log, load.expected, executions=workers.executions())
    compared = check_stores(workers.state, log)
    assert compared, "there is no store to compare"
    recovered = ", ".join(f"{recovery_s(log, at_ms):.1f}" for at_ms in faults_ms)
    say(
        f"{what}: {len(found.histories)} runs, {found.begun_again} executions cut short, {compared} copies compared"
        + (f", recovered after {recovered} s" if recovered else "")
    )
    return found
