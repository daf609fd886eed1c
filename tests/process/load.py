"""A client that keeps a worker busy with runs of every kind, and remembers what it was told."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter, defaultdict, deque
from typing import Any

from headrace import App
from headrace import events as e
from headrace.app import Handle
from headrace.errors import StoreError

from .histories import History
from .programs import HANG_S

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


class Load:
    """Starts runs, answers those that ask, and looks at results, through as many deaths of the worker as there are."""

    def __init__(self, url: str, draw: random.Random, runs: int) -> None:
        self.ledger = Ledger()
        self.app = App("process")
        self._url = url
        self._draw = draw
        flows = itertools.islice(itertools.cycle(COUNTED), runs)
        self.runs = {f"run-{number}": flow for number, flow in enumerate(flows)}
        self.to_start = deque(self.runs)
        self._to_answer: deque[tuple[str, int]] = deque()
        self._payloads = itertools.count(1)
        self.lost = 0

    async def press(self, *, until_done: bool = False) -> None:
        """Do what there is to do until the worker is lost, or all is started (*until_done*: and answered)."""
        async with self.app.connect(self._url):
            await asyncio.gather(*(self._steps(until_done=until_done) for _ in range(IN_FLIGHT)))

    async def append(self, number: int) -> None:
        """Start *number* runs while nobody works: the folder takes them."""
        async with self.app.connect(self._url):
            for _ in range(min(number, len(self.to_start))):
                await self._start(self.to_start.popleft())

    async def finish(self) -> None:
        """Start and answer what is left, wait for every result, and look that none differs from what was told before."""
        await asyncio.wait_for(self.press(until_done=True), 2 * HANG_S)
        await asyncio.wait_for(self._wait_for_all(), 2 * HANG_S)

    async def _steps(self, *, until_done: bool) -> None:
        while self.to_start or (until_done and self._to_answer):
            try:
                if self._to_answer and (not self.to_start or self._draw.random() < 0.2):
                    await self._answer(*self._to_answer.popleft())
                else:
                    await self._start(self.to_start.popleft())
            except StoreError:
                self.lost += 1
                return

    async def _start(self, run_id: str) -> None:
        try:
            handle = await self.app.start(self.runs[run_id], run_id=run_id)
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

    async def _answer(self, run_id: str, payload: int) -> None:
        """Every other run is signalled, which may come before its wait; the others are resumed, which may not."""
        handle = self.app.handle(run_id)
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

    async def _wait_for_all(self) -> None:
        async with self.app.connect(self._url):
            for run_id in self.runs:
                handle = self.app.handle(run_id)
                result = await handle.result(HANG_S)
                assert result is not None, f"{run_id} hangs: {await handle.status()}"
                told = self.ledger.results.setdefault(run_id, result.to_json())
                assert result.to_json() == told


def check_everything(load: Load, histories: dict[str, History], *, others: frozenset[str] = frozenset()) -> None:
    """All runs are there (and *others*), each with what the client was told, and each node counted once."""
    ledger = load.ledger
    children = [event.child for history in histories.values() for event in history.of_type(e.ChildStarted)]
    assert len(set(children)) == len(children)
    assert set(histories) == set(load.runs) | set(children) | others
    for run_id in histories.keys() - others:
        history = histories[run_id]
        flow = load.runs.get(run_id, "inner")
        assert history.state.ended == "completed", f"{run_id} of {flow}: {history.state.errors}"
        assert history.counted == COUNTED.get(flow, INNER_COUNTED), f"{run_id} of {flow}"
        assert history.state.context["counted"] == b"%d" % history.counted, f"{run_id} of {flow}"
        retries = history.of_type(e.NodeRetrying)
        assert len(retries) == (flow == "retried"), f"{run_id} of {flow}: {retries}"
    for run_id in load.runs:
        outcome = ledger.started[run_id]
        # A start that was sent once is no duplicate of anything.
        assert outcome in ("applied", "accepted") or run_id in ledger.unsure, f"{run_id}: {outcome}"
        if load.runs[run_id] == "asked":
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
