"""One worker loop on virtual time, stepped by hand, with real node functions that end as soon as they are begun."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from headrace.adapter import Answer, RunResult
from headrace.blueprint import Blueprint, from_json
from headrace.commands import Command
from headrace.context import Context
from headrace.execution import Execution, Outcome
from headrace.invoke import invoke_sync
from headrace.limits import Limits
from headrace.plans import Plans
from headrace.ports import Ended
from headrace.registry import Registry
from headrace.state import RunState
from headrace_adapters.base import Carrier, WorkerLoop
from headrace_adapters.local.layout import EVENTS, RESULT, KeyValueStore
from headrace_topics.events_record import decode_events
from headrace_topics.names import run_prefix
from headrace_topics.results_record import decode_result

START_MS = 1_700_000_000_000
Functions = Mapping[str, Callable[..., Any]]


class InlineExecutor:
    """Runs each function at once, in the loop's thread; those in *hanging* never end."""

    def __init__(self, functions: Functions, hanging: Iterable[str] = ()) -> None:
        self.registry = Registry()
        for key, function in functions.items():
            self.registry.add(key, function)
        self._hanging = frozenset(hanging)
        self._done: deque[tuple[int, Outcome]] = deque()
        self.live: dict[int, Execution] = {}
        self.begun: list[Execution] = []

    @property
    def in_progress(self) -> int:
        return len(self.live) + len(self._done)

    def submit(self, executions: Sequence[Execution]) -> None:
        for execution in executions:
            self.begun.append(execution)
            if execution.uses in self._hanging:
                self.live[execution.token] = execution
                continue
            implementation = self.registry.get(execution.uses)
            assert implementation is not None, f"{execution.uses} was to be parked"
            self._done.append((execution.token, invoke_sync(implementation, Context(execution))))

    def cancel(self, tokens: Iterable[int]) -> None:
        for token in tokens:
            self.live.pop(token, None)

    def drain(self) -> list[tuple[int, Outcome]]:
        done = list(self._done)
        self._done.clear()
        return done


class Driven:
    """A loop over a carrier. *clock* is shared by the workers that follow one another."""

    def __init__(
        self,
        carrier: Carrier,
        blueprints: Iterable[dict[str, Any] | Blueprint],
        functions: Functions,
        *,
        limits: Limits | None = None,
        now_ms: int = START_MS,
        hanging: Iterable[str] = (),
        **bounds: int,
    ) -> None:
        self.carrier = carrier
        self.now_ms = now_ms
        self.executor = InlineExecutor(functions, hanging)
        self.plans = Plans(self.executor.registry)
        for blueprint in blueprints:
            self.plans.add(blueprint if isinstance(blueprint, Blueprint) else from_json(blueprint))
        self.loop = WorkerLoop(carrier, self.plans, self.executor, lambda: self.now_ms, limits or Limits(), **bounds)
        self.loop.open()

    def submit(self, command: Command) -> Answer:
        """Hand over one command, and step until it is answered."""
        answers: list[Answer] = []
        self.loop.submit(command, answers.append)
        for _ in range(100):
            self.loop.step()
            if answers:
                return answers[0]
        raise AssertionError(f"{command} was not answered")

    def settle(self) -> None:
        """Step until nothing is left to do."""
        for _ in range(100_000):
            if not self.loop.step():
                self.loop.commit_begun()
                if self.loop.idle:
                    return
        raise AssertionError("the loop does not come to rest")

    def settle_busy(self) -> None:
        """Step until a step changes nothing, though commands may wait for room."""
        for _ in range(1_000):
            if not self.loop.step():
                return
        raise AssertionError("the loop is never done")

    def advance(self, by_ms: int) -> None:
        """Let virtual time pass, and everything happen that is due."""
        self.now_ms += by_ms
        self.loop.wake()
        self.settle()

    def run(self, run_id: str) -> RunState | Ended | None:
        """A run as its partition has it."""
        return self.loop.partitions[self.carrier.partition_of(run_id)].run(run_id)

    def status(self, run_id: str) -> str:
        """The visible state of a run; empty where nothing is known of it."""
        run = self.run(run_id)
        return "" if run is None else run.status


def result_of(store: KeyValueStore, run_id: str) -> RunResult | None:
    """The record of a run's result."""
    record = store.get(RESULT + run_prefix(run_id))
    return None if record is None else decode_result(record)


def history_of(store: KeyValueStore, run_id: str) -> list[str]:
    """The types of a run's events, from their records."""
    prefix = EVENTS + run_prefix(run_id)
    records = [record for key, record in store.scan(prefix) if key[len(prefix)] < 0x80]
    return [type(event).__name__ for record in records for _, _, event in decode_events(record)]
