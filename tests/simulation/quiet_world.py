"""The smallest world in which a case runs: one worker that is stepped, on a store in memory. Its executor alone takes time.

For looking at cases themselves; worlds that try to break something are others. It may die now and then all the same, because
what a case expects must not depend on that.
"""

from __future__ import annotations

__all__ = ["QuietWorld"]

import random

from headrace.batch import Batch
from headrace.events import Event
from headrace.limits import Limits
from headrace.plans import Plans
from headrace_adapters.base import WorkerLoop
from headrace_adapters.local.carrier import LocalCarrier
from headrace_adapters.local.layout import RESULT
from headrace_adapters.memory import MemoryStore
from headrace_topics.events_record import decode_events, encode_events
from headrace_topics.names import run_prefix
from headrace_topics.results_record import decode_result

from .case_types import Case
from .compilation import blueprint_of, plans_of
from .executor import HASTE, Haste, SimulatedExecutor
from .judging import FINAL, Judge
from .kernel import Kernel, Process
from .orders import Due, OrderBook

START_MS = 1_700_000_000_000
US = 1_000


class QuietWorld:
    """One world. ``run`` until everything has ended; then ``judge`` has seen all of it."""

    def __init__(self, case: Case, draw: random.Random, haste: Haste = HASTE, deaths: int = 0) -> None:
        self._case = case
        self._draw = draw
        self._haste = haste
        self._store = MemoryStore()
        self.kernel = Kernel(draw)
        self.judge = Judge(case, plans_of(case))
        self._book = OrderBook(case)
        self._to_send = 0
        self._started: set[str] = set()
        self._awake = True
        self.history: list[tuple[str, int, int, Event]] = []
        self._begin_worker()
        for _ in range(deaths):
            self.kernel.call_in(int(draw.random() * 1_500_000), self._die)
        self._expect(self._book.begin())

    def run(self, within_ms: int = 600_000) -> None:
        """Raises AssertionError where something has not ended by then."""
        deadline = within_ms * US
        while self.judge.open or self._to_send:
            while self._loop.step():
                pass
            self._loop.commit_begun()
            if not self._loop.idle or not (self.judge.open or self._to_send):
                continue
            self._awake = False
            due_us = max(self.kernel.now_us + 1, (self._loop._due_ms - START_MS) * US)
            assert self.kernel.now_us < deadline, f"these have not ended: {self.judge.open}"
            self.kernel.run(lambda: self._awake, min(due_us, deadline))
        self.judge.check_all()

    def _begin_worker(self) -> None:
        self._process = Process("worker")
        plans = Plans(self._case.behaviours)
        for blueprint in self._case.blueprints:
            plans.add(blueprint_of(blueprint))
        executor = SimulatedExecutor(
            self.kernel, self._process, self._draw, self._case.behaviours, self._haste, wake=self._wake
        )
        limits = Limits()
        self._loop = WorkerLoop(LocalCarrier(self._store, limits, 3), plans, executor, self._now_ms, limits)
        self._loop.on_commit(self._committed)
        self._loop.open()

    def _now_ms(self) -> int:
        return START_MS + self.kernel.now_ms

    def _wake(self) -> None:
        self._awake = True

    def _die(self) -> None:
        self.kernel.kill(self._process)
        self._begin_worker()
        self._wake()

    def _expect(self, dues: list[Due]) -> None:
        for due in dues:
            self._to_send += 1
            self.kernel.call_in(due.after_ms * US, lambda due=due: self._send(due))  # type: ignore[misc]

    def _send(self, due: Due) -> None:
        self._to_send -= 1
        run_id = due.command.run_id
        for _ in range(due.copies):
            # A command that is not answered may be lost with the worker, so it is durable before anything else happens.
            answers: list[object] = []
            self._loop.submit(due.command, answers.append)
            while not answers:
                self._loop.step()
        if type(due.command).__name__ == "Start" and run_id not in self._started:
            self._started.add(run_id)
            self._expect(self._book.started(run_id))
        self._wake()

    def _committed(self, batch: Batch) -> None:
        for run_id, change in batch.runs.items():
            for seq, at_ms, event in decode_events(encode_events(run_id, change.first_seq, change.events)):
                self.history.append((run_id, seq, at_ms, event))
                self.judge.event(run_id, seq, at_ms, event)
                self._expect(self._book.seen(run_id, seq, event))
                if isinstance(event, FINAL):
                    record = self._store.get(RESULT + run_prefix(run_id))
                    assert record is not None, f"run {run_id} has ended and has no result"
                    self.judge.result(decode_result(record))
