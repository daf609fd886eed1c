"""How every test of faults ends: all runs come to their end, and all that is left is looked at."""

from __future__ import annotations

__all__ = [
    "AppName",
    "MakeLoad",
    "MakeTyped",
    "MakeWorkers",
    "Say",
    "Typed",
    "after_some",
    "finish",
    "now_ms",
    "recovery_s",
    "settled",
]

import time
from collections.abc import Callable, Sequence

from tests.kafka.checker import Checked, check
from tests.kafka.load import Load
from tests.kafka.stores import check_stores
from tests.kafka.topic_log import TopicLog, read_log
from tests.kafka.workers import Workers, beats

AppName = Callable[[str], str]
MakeWorkers = Callable[..., Workers]
Say = Callable[[str], None]
MakeLoad = Callable[..., Load]

# A command as somebody types it; gives its code, output and errors.
Typed = Callable[..., tuple[int, str, str]]
MakeTyped = Callable[[str, str, str], Typed]


def now_ms() -> float:
    """The moment of a fault."""
    return time.time() * 1_000


# What a worker had sent when it was stopped arrives within this time.
ECHO_MS = 300


def recovery_s(log: TopicLog, at_ms: float) -> float:
    """How long after a fault the last partition went on with its work, of those that had work before and after it."""
    moments: dict[int, list[int]] = {}
    for record in log.of("events"):
        moments.setdefault(record.partition, []).append(record.at_ms)
    later = [min((moment for moment in each if moment > at_ms + ECHO_MS), default=at_ms) for each in moments.values()]
    return max((moment - at_ms for moment in later), default=0) / 1_000


def after_some(load: Load, part: float) -> Callable[[], bool]:
    """Allow such a part of all runs, and say when a third of these have ended: the others are in the middle of something."""
    load.allow(part)
    enough = min(len(load.ended) + max(1, round(len(load.expected) * part / 3)), len(load.begun) + 1)
    assert not load.done, "the load is too small for this test: everything has ended before the next fault"
    return lambda: len(load.ended) >= enough


def settled(workers: Workers) -> TopicLog:
    """The topics, once every record of the jobs is taken: those that change nothing too, such as a second start."""
    for _ in beats():
        log = read_log(workers.servers, workers.app)
        if all(record.offset < log.committed[record.partition] for record in log.of("jobs")):
            return log
    left = [str(record) for record in log.of("jobs") if record.offset >= log.committed[record.partition]]
    raise AssertionError(f"these are not taken: {left[:20]}")


def finish(workers: Workers, load: Load, say: Say, what: str, faults_ms: Sequence[float] = ()) -> Checked:
    """Let everything come to its end, and check what the topics, the disks and the nodes themselves say."""
    load.finish()
    settled(workers)
    workers.stop()
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
