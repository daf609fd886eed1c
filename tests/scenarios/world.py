"""One worker, one scripted executor and virtual time, driven step by step; with the checks that hold always."""

from __future__ import annotations

__all__ = ["RUN", "START_MS", "ScenarioWorld", "World", "assert_same", "snapshot"]

from abc import ABC, abstractmethod
from collections import Counter
from typing import Any

from headrace.adapter import Answer, RunResult
from headrace.batch import Batch
from headrace.blueprint import from_json
from headrace.commands import Command
from headrace.limits import Limits
from headrace.plans import Plans
from headrace.ports import Ended
from headrace.state import RunState
from headrace.values import decode
from headrace.waits import open_waits
from headrace_adapters.base import WorkerLoop
from headrace_adapters.local.layout import RESULT
from headrace_topics.names import run_prefix
from headrace_topics.results_record import decode_result

from .backends import Backend
from .checks import Checks, assert_same, snapshot
from .scripted import Script, ScriptedExecutor

START_MS = 1_700_000_000_000
RUN = "run"


class ScenarioWorld(ABC):
    """What is asked of the runs of a scenario, whatever carries them."""

    checks: Checks

    @abstractmethod
    def run(self, run_id: str) -> RunState | Ended | None:
        """A run, from the partition that owns it."""

    @abstractmethod
    def result(self, run_id: str) -> RunResult:
        """The final result, from its record."""

    @property
    def finals(self) -> Counter[str]:
        """How many final states each run has."""
        return self.checks.finals

    @property
    def outputs(self) -> dict[str, Any]:
        """The last output of each node."""
        return self.checks.outputs

    @property
    def skipped(self) -> set[str]:
        """The nodes that were skipped."""
        return self.checks.skipped

    def status(self, run_id: str) -> str:
        """The visible state of a run."""
        run = self.run(run_id)
        assert run is not None, f"there is no run {run_id}"
        return run.status

    def awaited(self, run_id: str) -> list[str]:
        """The paths of the open waits."""
        run = self.run(run_id)
        return [path for path, _ in open_waits(run)] if isinstance(run, RunState) else []

    def context(self, run_id: str) -> dict[str, Any]:
        """The context of a run, also after its end."""
        run = self.run(run_id)
        if isinstance(run, RunState):
            return {key: decode(value) for key, value in run.context.items()}
        return self.result(run_id).context


class World(ScenarioWorld):
    """A worker that can be stepped, killed and asked."""

    def __init__(self, backend: Backend, blueprints: list[dict[str, Any]], script: Script) -> None:
        self._backend = backend
        self._script = script
        self._blueprints = blueprints
        self.run_id = RUN
        self.now_ms = self.started_ms = START_MS
        self.checks = Checks()
        self._open()

    def _open(self) -> None:
        plans = Plans(self._script._behaviours)
        for blueprint in self._blueprints:
            plans.add(from_json(blueprint))
        self.executor = ScriptedExecutor(self._script)
        self.carrier = self._backend.carrier()
        self.loop = WorkerLoop(self.carrier, plans, self.executor, lambda: self.now_ms, Limits())
        self.loop.on_commit(self._committed)
        self.loop.open()

    # Driving.

    def deliver(self, command: Command) -> None:
        """Hand a command over that nobody waits for."""
        self.loop.submit(command)

    def submit(self, command: Command) -> Answer:
        """Hand a command over, and step until it is answered."""
        answers: list[Answer] = []
        self.loop.submit(command, answers.append)
        for _ in range(1_000):
            if answers:
                return answers[0]
            self.loop.step()
        raise AssertionError(f"{command} was not answered")

    def settle(self) -> None:
        """Step until nothing changes any more without the operator."""
        for _ in range(100_000):
            if self.loop.step():
                continue
            if not self.executor.pass_time():
                self.loop.commit_begun()
                if self.loop.idle:
                    return
        raise AssertionError("the world does not come to rest")

    def advance(self, by_ms: int) -> None:
        """Let virtual time pass."""
        self.now_ms += by_ms

    def crash(self) -> None:
        """The worker dies without warning, and another one takes over."""
        self._backend.die()
        self._open()

    # Looking.

    def run(self, run_id: str) -> RunState | Ended | None:
        """A run, from the partition that owns it."""
        return self.loop.partitions[self.carrier.partition_of(run_id)].run(run_id)

    def result(self, run_id: str) -> RunResult:
        """The final result, from its record."""
        record = self._backend.store.get(RESULT + run_prefix(run_id))
        assert record is not None, f"run {run_id} has no result"
        return decode_result(record)

    def _committed(self, batch: Batch) -> None:
        for run_id, change in batch.runs.items():
            self.checks.committed(run_id, change, self.carrier.reader(self.carrier.partition_of(run_id)))

    def check_end(self) -> None:
        """When all runs have ended, the store holds nothing of them but their dedup markers, results and history."""
        for key, value in self._backend.store.scan(b""):
            space = key[:1]
            assert space not in b"CXAPJD", f"left in the store: {key!r} {value[:200]!r}"
            if space == b"H":
                assert b'"ended"' in value, f"a run that has not ended is left: {key!r}"
            elif space == b"T":
                assert key.endswith(b',"",-1]'), f"a timer is left: {key!r}"
