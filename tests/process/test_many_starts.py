"""As many starts as another process can send: nothing hangs, and nothing is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from headrace import App

from .histories import read_histories
from .load import COUNTED
from .programs import HANG_S, Programs

RUNS = 2_000
IN_FLIGHT = 256


@pytest.mark.slow
async def test_two_thousand_runs_that_another_process_starts_as_fast_as_it_can_all_end(
    programs: Programs, say: Callable[[str], None]
) -> None:
    worker = programs.worker()
    await worker.until_async(lambda: worker.is_ready, "ready")
    app = App("process")
    flows = [flow for flow in COUNTED if flow != "asked"]
    runs = {f"run-{number}": flows[number % len(flows)] for number in range(RUNS)}
    waiting = iter(runs.items())

    async def start() -> None:
        for run_id, flow in waiting:
            handle = await app.start(flow, run_id=run_id)
            assert handle.answer is not None
            assert handle.answer.outcome == "applied"

    async def end(run_id: str) -> str:
        result = await app.handle(run_id).result(2 * HANG_S)
        assert result is not None, f"{run_id} hangs: {await app.handle(run_id).status()}"
        return result.status

    begun = time.monotonic()
    async with app.connect(programs.url):
        await asyncio.wait_for(asyncio.gather(*(start() for _ in range(IN_FLIGHT))), 2 * HANG_S)
        started_s = time.monotonic() - begun
        ended = await asyncio.wait_for(asyncio.gather(*map(end, runs)), 3 * HANG_S)
        ended_s = time.monotonic() - begun
        # The worker still has time for others.
        assert len(await app.client.runs(limit=10)) == 10
    worker.stop()

    assert set(ended) == {"completed"}
    histories = read_histories(programs.store)
    nodes = sum(history.counted for history in histories.values())
    assert {run_id for run_id in histories if run_id in runs} == set(runs)
    assert nodes == sum(COUNTED[flow] + (2 if flow == "outer" else 0) for flow in runs.values())
    assert not any(history.begun_again for history in histories.values())
    say(
        f"{RUNS} starts from another process, {IN_FLIGHT} in flight: {RUNS / started_s:.0f} starts/s; all ended after "
        f"{ended_s:.1f} s ({RUNS / ended_s:.0f} runs/s, {nodes / ended_s:.0f} nodes of 5 ms/s)"
    )
