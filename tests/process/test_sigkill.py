"""A worker that is killed again and again, in the middle of a thousand runs, and nothing is lost or recorded twice."""

from __future__ import annotations

import asyncio
import bisect
import itertools
import random
import statistics
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from typing import Any

import pytest

from headrace import App
from headrace import events as e
from headrace.app import Handle
from headrace.errors import StoreError

from .histories import History, read_histories
from .programs import HANG_S, Program, Programs

RUNS = 1_000
KILLS = 10
IN_FLIGHT = 48

# By hand from ``flows.py``: how many counting nodes each flow has.
COUNTED = {"chained": 5, "fanned": 7, "retried": 2, "slept": 2, "outer": 2, "asked": 2, "looped": 4, "batched": 7}
INNER_COUNTED = 2


class Ledger:
    """What the client was told, and what it does not know."""

    def __init__(self) -> None:
        self.started: dict[str, str] = {}
        """Acknowledged starts, with the outcome."""
        self.unsure: set[str] = set()
        """Runs whose start was sent at least once without an answer."""
        self.signals: dict[str, list[int]] = defaultdict(list)
        self.unsure_signals: Counter[tuple[str, int]] = Counter()
        self.resumed: dict[str, str] = {}
        self.results: dict[str, dict[str, Any]] = {}


class Client:
    """Starts runs, answers those that ask, and looks at results, through as many deaths of the worker as there are."""

    def __init__(self, url: str, draw: random.Random) -> None:
        self.ledger = Ledger()
        self._url = url
        self._draw = draw
        flows = itertools.islice(itertools.cycle(COUNTED), RUNS)
        self.runs = {f"run-{number}": flow for number, flow in enumerate(flows)}
        self.to_start = deque(self.runs)
        self._to_answer: deque[tuple[str, int]] = deque()
        self._payloads = itertools.count(1)
        self.lost = 0

    async def work(self, app: App, *, until_done: bool = False) -> None:
        """Do what there is to do until the worker is lost, or nothing is left."""
        async with app.connect(self._url):
            steps = [self._steps(app, until_done=until_done) for _ in range(IN_FLIGHT)]
            await asyncio.gather(*steps)

    async def append(self, app: App, number: int) -> None:
        """Start *number* runs while nobody works: the folder takes them."""
        async with app.connect(self._url):
            for _ in range(min(number, len(self.to_start))):
                await self._start(app, self.to_start.popleft())

    async def _steps(self, app: App, *, until_done: bool) -> None:
        while self.to_start or (until_done and self._to_answer):
            try:
                if self._to_answer and (not self.to_start or self._draw.random() < 0.2):
                    await self._answer(app, *self._to_answer.popleft())
                else:
                    await self._start(app, self.to_start.popleft())
            except StoreError:
                self.lost += 1
                return

    async def _start(self, app: App, run_id: str) -> None:
        try:
            handle = await app.start(self.runs[run_id], run_id=run_id)
        except StoreError:
            self.ledger.unsure.add(run_id)
            self.to_start.append(run_id)
            raise
        assert handle.answer is not None
        self.ledger.started[run_id] = handle.answer.outcome
        if self.runs[run_id] == "asked":
            self._to_answer.append((run_id, next(self._payloads)))
        elif self._draw.random() < 0.1 and handle.answer.outcome == "applied":
            result = await handle.result(HANG_S)
            assert result is not None, f"{run_id} hangs: {await handle.status()}"
            self.ledger.results[run_id] = result.to_json()

    async def _answer(self, app: App, run_id: str, payload: int) -> None:
        """Every other run is signalled, which may come before its wait; the others are resumed, which may not."""
        handle = app.handle(run_id)
        try:
            if payload % 2:
                answer = await handle.signal("answered", payload)
                # One that is sent again may find that the first one did its work, unknown to us.
                assert answer.outcome == "applied" or self.ledger.unsure_signals[(run_id, payload)], answer
                if answer.outcome == "applied":
                    self.ledger.signals[run_id].append(payload)
            else:
                await self._resume(handle, payload)
        except StoreError:
            if payload % 2:
                self.ledger.unsure_signals[(run_id, payload)] += 1
            self._to_answer.append((run_id, payload))
            raise

    async def _resume(self, handle: Handle, payload: int) -> None:
        key, deadline = f"key-{payload}", time.monotonic() + HANG_S
        while time.monotonic() < deadline:
            answer = await handle.resume("answer", output=payload, key=key)
            if answer.outcome == "applied":
                self.ledger.resumed[handle.run_id] = key
                return
            assert answer.outcome in ("ignored", "unknown"), answer
            # It does not wait yet, or an earlier resume was applied and its answer got lost.
            if await handle.result(0.02) is not None:
                return
        raise AssertionError(f"{handle.run_id} cannot be resumed: {await handle.status()}")


async def kill_in_the_middle(programs: Programs, client: Client, app: App, how: str, draw: random.Random) -> Program:
    """One life of a worker, from its start to its violent end."""
    lock = programs.store / "store" / "LOCK.headrace"
    worker = programs.worker()
    if how == "starting":
        # It has just taken the folder, and is reading what its predecessor left.
        mine = str(worker.process.pid)
        await worker.until_async(lambda: lock.exists() and lock.read_text().strip() == mine, "holding the folder")
        await asyncio.sleep(draw.random() * 0.08)
    else:
        await worker.until_async(lambda: worker.is_ready, "ready")
        if how == "ready":
            await asyncio.sleep(draw.random() * 0.05)
        else:
            enough = len(client.ledger.started) + draw.randint(20, 120)
            working = asyncio.create_task(client.work(app))
            await worker.until_async(lambda: len(client.ledger.started) >= enough, f"asked to start {enough} runs")
            worker.kill()
            await asyncio.wait_for(working, HANG_S)
    worker.kill()
    return worker


@pytest.mark.slow
async def test_a_worker_that_is_killed_ten_times_loses_nothing_and_records_nothing_twice(
    programs: Programs, seed: int, say: Callable[[str], None]
) -> None:
    draw = random.Random(seed)
    client, app = Client(programs.url, draw), App("process")
    ways = ["working"] * 5 + ["starting"] * 2 + ["ready"] * 2
    draw.shuffle(ways)
    # The first one has nothing to recover, so it is given something.
    ways.insert(0, "working")
    assert len(ways) == KILLS
    lives: list[Program] = []

    for number, how in enumerate(ways):
        lives.append(await kill_in_the_middle(programs, client, app, how, draw))
        if number % 3 == 1:
            await client.append(app, 10)
    last = programs.worker()
    await last.until_async(lambda: last.is_ready, "ready")
    lives.append(last)
    await asyncio.wait_for(client.work(app, until_done=True), 2 * HANG_S)
    await asyncio.wait_for(wait_for_all(client, app, programs.url), 2 * HANG_S)
    last.stop()

    histories = read_histories(programs.store)
    check_everything(client, histories)
    begun_again = sum(history.begun_again for history in histories.values())
    assert begun_again, "no kill hit an execution"
    recoveries_ms = recoveries(lives, histories)
    say(
        f"{KILLS} kills: {len(histories)} runs, {begun_again} executions cut short, {client.lost} requests lost; "
        f"restart to first event: median {statistics.median(recoveries_ms):.0f} ms, max {max(recoveries_ms)} ms"
    )


async def wait_for_all(client: Client, app: App, url: str) -> None:
    """Wait for every result, and look that none differs from what was told before."""
    async with app.connect(url):
        for run_id in client.runs:
            result = await app.handle(run_id).result(HANG_S)
            assert result is not None, f"{run_id} hangs: {await app.handle(run_id).status()}"
            told = client.ledger.results.setdefault(run_id, result.to_json())
            assert result.to_json() == told


def check_everything(client: Client, histories: dict[str, History]) -> None:
    """All runs are there, each with what the client was told, and each node counted once."""
    ledger = client.ledger
    children = [event.child for history in histories.values() for event in history.of_type(e.ChildStarted)]
    assert len(set(children)) == len(children)
    assert set(histories) == set(client.runs) | set(children)
    for run_id, history in histories.items():
        flow = client.runs.get(run_id, "inner")
        assert history.state.ended == "completed", f"{run_id} of {flow}: {history.state.errors}"
        assert history.counted == COUNTED.get(flow, INNER_COUNTED), f"{run_id} of {flow}"
        assert history.state.context["counted"] == b"%d" % history.counted, f"{run_id} of {flow}"
        retries = history.of_type(e.NodeRetrying)
        assert len(retries) == (flow == "retried"), f"{run_id} of {flow}: {retries}"
    for run_id in client.runs:
        outcome = ledger.started[run_id]
        # A start that was sent once is no duplicate of anything.
        assert outcome in ("applied", "accepted") or run_id in ledger.unsure, f"{run_id}: {outcome}"
        if client.runs[run_id] == "asked":
            check_answers(ledger, histories[run_id])


def check_answers(ledger: Ledger, history: History) -> None:
    """Every acknowledged answer is in the history once; one without an answer may be there, and not twice a sending."""
    run_id = history.run_id
    received = [int(event.payload) for event in history.of_type(e.SignalReceived)]
    for payload in ledger.signals[run_id]:
        unsure = ledger.unsure_signals[(run_id, payload)]
        assert 1 <= received.count(payload) <= 1 + unsure, f"{run_id}: signal {payload} came {received.count(payload)} times"
    keys = [event.key for event in history.of_type(e.WaitResumed)]
    assert len(keys) == len(set(keys)) <= 1
    if run_id in ledger.resumed:
        assert keys == [ledger.resumed[run_id]]
    assert bool(received) != bool(keys)
    (answer,) = (event for event in history.of_type(e.NodeCompleted) if event.node == "count_answer")
    assert int(answer.output) == (received[0] if received else int(keys[0].removeprefix("key-")))


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
