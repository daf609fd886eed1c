"""A world in which two workers share the partitions, which go to and fro between them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import NamedTuple

from headrace.adapter import Answer
from headrace.batch import Batch
from headrace.commands import Command, EngineCommand
from headrace.limits import Limits
from headrace.plans import Plans
from headrace.ports import Ended
from headrace.state import RunState
from headrace_adapters.base import WorkerLoop
from headrace_adapters.memory import MemoryStore
from tests.contract.job_logs import Countdown, JobLogs, LogCarrier
from tests.scenarios.backends import Backend

from .flows import Case
from .watched_world import SETTLE_STEPS_MAX, Pace, PacedExecutor, WatchedScript, WatchedWorld, check_executions

WORKERS = 2


class Worker(NamedTuple):
    """One of the workers that share the partitions."""

    carrier: LogCarrier
    executor: PacedExecutor
    loop: WorkerLoop


class GroupWorld(WatchedWorld):
    """Commands go into the job log, and are answered by whoever owns the run that they reach."""

    def __init__(self, backend: Backend, case: Case, pace: Pace, script: WatchedScript | None = None) -> None:
        assert isinstance(backend.store, MemoryStore)
        self.logs = JobLogs(backend.store, pace.partitions)
        self._undo = Countdown()
        self.answers: dict[str, Answer] = {}
        self._requests = count(1)
        super().__init__(backend, case, pace, script)

    def _open_workers(self, plans: Plans, limits: Limits) -> None:
        self.undo(0)
        self.workers: list[Worker] = []
        for _ in range(WORKERS):
            carrier = LogCarrier(self._backend.store, self.logs, limits, self._undo)
            executor = PacedExecutor(self.script, self.pace)
            self.workers.append(Worker(carrier, executor, self._loop(carrier, plans, executor, limits)))
            self.workers[-1].loop.open()
        # Committed state is the same for whoever reads it.
        self.carrier = self.workers[0].carrier  # type: ignore[assignment]
        self.spread()

    # Partitions.

    def spread(self) -> None:
        """Give every partition that nobody has to a worker."""
        owned = {number for worker in self.workers for number in worker.carrier.owned}
        for number in range(self.pace.partitions):
            if number not in owned:
                self.workers[number % WORKERS].carrier.gain(number)

    def lose(self, number: int, *, gently: bool) -> None:
        """Take a partition from whoever has it."""
        for worker in self.workers:
            if number in worker.carrier.owned:
                worker.carrier.lose(number, gently=gently)
                self.survive(worker.loop.step)

    def move(self, number: int, to: int, *, gently: bool) -> None:
        """Take a partition from whoever has it, and give it to another worker, or to the same one again."""
        self.lose(number, gently=gently)
        if not any(number in worker.carrier.owned for worker in self.workers):
            self.workers[to % WORKERS].carrier.gain(number)

    # Commands.

    def deliver(self, command: Command) -> None:
        self.logs.append([command])

    def _append(self, jobs: Sequence[Command]) -> None:
        self.logs.append(jobs)

    def submit(self, command: Command) -> Answer:
        request_id = self.send(command)
        for _ in range(1_000):
            if request_id in self.answers:
                return self.answers[request_id]
            self.spread()
            self.step()
        raise AssertionError(f"{command} was not answered")

    def send(self, command: Command) -> str:
        """Put a command into the log; gives the name under which it is answered."""
        assert not isinstance(command, EngineCommand)
        request_id = f"q{next(self._requests)}"
        self.logs.append([command._replace(request_id=request_id)])
        return request_id

    def _committed(self, batch: Batch) -> None:
        super()._committed(batch)
        for reply in batch.replies:
            self.answers[reply.request_id] = Answer(reply.outcome, reply.reason)

    def undo(self, which: int) -> None:
        self._undo.left = which

    # Driving.

    def step(self) -> bool:
        """One step of every worker; whether there was anything to do."""
        return any([worker.loop.step() for worker in self.workers])  # noqa: C419 (all of them)

    def steps(self, number: int) -> None:
        for _ in range(number):
            self.survive(self.step)

    def settle(self) -> None:
        self.spread()
        for _ in range(SETTLE_STEPS_MAX):
            if self.step() or self._pass_time():
                continue
            for worker in self.workers:
                worker.loop.commit_begun()
            full = [worker.executor.in_progress >= self.pace.slots for worker in self.workers]
            if not self.logs and all(worker.loop.idle or full[n] for n, worker in enumerate(self.workers)):
                for worker in self.workers:
                    check_executions(worker.loop, worker.executor)
                self._check_families()
                self._check_indexes()
                return
        raise AssertionError("the world does not come to rest")

    def _pass_time(self) -> bool:
        return any([worker.executor.pass_time() for worker in self.workers])  # noqa: C419 (all of them)

    def run(self, run_id: str) -> RunState | Ended | None:
        number = self.carrier.partition_of(run_id)
        for worker in self.workers:
            if number in worker.loop.partitions:
                return worker.loop.partitions[number].run(run_id)
        return self.carrier.reader(number).load(run_id)
