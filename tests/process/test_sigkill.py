"""A worker that is killed again and again, in the middle of a thousand runs, and nothing is lost or recorded twice."""

from __future__ import annotations

import asyncio
import bisect
import random
import statistics
from collections.abc import Callable

import pytest

from .histories import History, read_histories
from .load import Load, check_everything
from .programs import HANG_S, Program, Programs

RUNS = 1_000
KILLS = 10


async def kill_in_the_middle(programs: Programs, load: Load, how: str, draw: random.Random) -> Program:
    """One life of a worker, from its start to its violent end."""
    worker = programs.worker()
    if how == "starting":
        # It has just taken the folder, and is reading what its predecessor left.
        await worker.until_async(lambda: programs.is_held_by(worker), "holding the folder")
        await asyncio.sleep(draw.random() * 0.08)
    else:
        await worker.until_async(lambda: worker.is_ready, "ready")
        if how == "ready":
            await asyncio.sleep(draw.random() * 0.05)
        else:
            enough = len(load.ledger.started) + draw.randint(20, 120)
            working = asyncio.create_task(load.press())
            await worker.until_async(lambda: len(load.ledger.started) >= enough, f"asked to start {enough} runs")
            worker.kill()
            await asyncio.wait_for(working, HANG_S)
    worker.kill()
    return worker


@pytest.mark.slow
async def test_a_worker_that_is_killed_ten_times_loses_nothing_and_records_nothing_twice(
    programs: Programs, seed: int, say: Callable[[str], None]
) -> None:
    draw = random.Random(seed)
    load = Load(programs.url, draw, RUNS)
    ways = ["working"] * 5 + ["starting"] * 2 + ["ready"] * 2
    draw.shuffle(ways)
    # The first one has nothing to recover, so it is given something.
    ways.insert(0, "working")
    assert len(ways) == KILLS
    lives: list[Program] = []

    for number, how in enumerate(ways):
        lives.append(await kill_in_the_middle(programs, load, how, draw))
        if number % 3 == 1:
            await load.append(10)
    last = programs.worker()
    await last.until_async(lambda: last.is_ready, "ready")
    lives.append(last)
    await load.finish()
    last.stop()

    histories = read_histories(programs.store)
    check_everything(load, histories)
    begun_again = sum(history.begun_again for history in histories.values())
    assert begun_again, "no kill hit an execution"
    recoveries_ms = recoveries(lives, histories)
    say(
        f"{KILLS} kills: {len(histories)} runs, {begun_again} executions cut short, {load.lost} requests lost; "
        f"restart to first event: median {statistics.median(recoveries_ms):.0f} ms, max {max(recoveries_ms)} ms"
    )


def recoveries(lives: list[Program], histories: dict[str, History]) -> list[int]:
    """For each worker that took over and got that far: ms from its start to the first event that it recorded."""
    times_ms = sorted(at_ms for history in histories.values() for at_ms in history.times_ms)
    taken: list[int] = []
    ends = [later.begun_ns // 1_000_000 for later in lives[1:]] + [times_ms[-1] + 1]
    for life, end_ms in zip(lives[1:], ends[1:], strict=True):
        begun_ms = life.begun_ns // 1_000_000
        index = bisect.bisect_left(times_ms, begun_ms)
        if index < len(times_ms) and times_ms[index] < end_ms:
            taken.append(times_ms[index] - begun_ms)
    return taken
