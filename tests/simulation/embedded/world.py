"""One world of the embedded adapter: one worker after the other on one disk, and command lines in between.

    load and faults     until all faults have begun
    calm                nothing goes wrong any more; all that was started comes to its end, within a bounded time
    oblivion            the dedup window passes, and what was left of the runs goes
    the end             the worker is told to stop; then everything that is left is looked at

The worker is put together as ``headrace_adapters.local.worker`` does it, without its threads. What is wrong is an
AssertionError; ``truth.py`` finds it on the disk, ``load.py`` in what was answered, and this module in the worker itself.
"""

from __future__ import annotations

__all__ = ["EmbeddedWorld", "run_plan"]

import random
from collections.abc import Callable
from typing import Final

from headrace.batch import Batch
from headrace.errors import StoreError, StoreLocked
from headrace.limits import Limits
from headrace_adapters.base import WorkerLoop
from headrace_adapters.local.carrier import LocalCarrier, fixed_partitions
from headrace_adapters.local.client import LocalClient
from headrace_adapters.local.worker import load_plans
from tests.simulation.disk import SimulatedDisk, SimulatedStore
from tests.simulation.executor import SimulatedExecutor
from tests.simulation.host import SimulatedHost
from tests.simulation.kernel import Kernel, Killed, Process, Task

from .faults import VALUE_BYTES_MAX, Faults
from .load import HELD_LOOK_US, STORE, Load
from .plan import Plan
from .release import Release
from .truth import Record, Truth

EPOCH_MS: Final = 1_700_000_000_000

# How long everything may take to come to its end when nothing goes wrong any more.
LIVELY_US: Final = 90_000_000
STOPPED_US: Final = 30_000_000
STRIKING_US: Final = 5_000_000
HELP_US: Final = 500_000

# More looks at the clock than any world needs: one that turns round for ever at one instant is to be found.
LOOKS_MAX: Final = 100_000

# Of so many commits one is compared value by value; the keys of the whole store are looked at after every write.
VALUES_EVERY: Final = 4


class EmbeddedWorld:
    """The world of a plan. *told* gets lines about what happens, with their time, where somebody wants to read them."""

    def __init__(self, plan: Plan, told: Callable[[str], None] | None = None) -> None:
        self.plan = plan
        self._told = told
        kernel = self.kernel = Kernel(random.Random(plan.seed))
        self.disk = SimulatedDisk(kernel.draw)
        self.disk.on_write = self._written
        self.disk.pause = self._pause
        self.loop: WorkerLoop | None = None
        self.calm = False
        self.skew_ms = 0
        self.takes_large = False
        """Whether values may be as large as usual."""
        self._latest_ms = EPOCH_MS
        self._looks = 0
        self.process = Process("nobody")
        self.process.alive = False
        self._workers = 0
        self._commands: list[Process] = []
        self._commits = 0
        self._under_way = 0
        self._stopping = False
        self._grace_us = 0
        self._rest_us = 0
        self._wrong: BaseException | None = None
        self._task: Task | None = None
        self._over = False
        self.release = Release(plan.case)
        if plan.lacking is not None:
            self.release.lack_blueprint(plan.lacking)
        disk = self.disk
        self.truth = Truth(plan.case, plan.partitions, plan.window_ms, lambda: self._latest_ms, lambda: disk.writes(STORE))
        self.load = Load(self, plan.case)
        self.faults = Faults(self, plan.faults)

    # What its parts need.

    def clock_ms(self) -> int:
        """The time on the machine's clock, which may jump."""
        self._looks += 1
        assert self._looks < LOOKS_MAX, "something turns round for ever"
        now_ms = EPOCH_MS + self.kernel.now_us // 1_000 + self.skew_ms
        self._latest_ms = max(self._latest_ms, now_ms)
        return now_ms

    @property
    def _limits(self) -> Limits:
        plan = self.plan
        value_bytes_max = 1_000_000 if self.takes_large else VALUE_BYTES_MAX
        return Limits(value_bytes_max, runs_cached_max=plan.runs_cached_max, dedup_window_ms=plan.window_ms)

    def open_client(self, process: Process) -> LocalClient:
        """A client where nobody works, as the adapter makes it."""
        store = self.disk.open(STORE, process, sync=self.plan.sync)
        partitions = fixed_partitions(store, self.plan.partitions)
        plans = load_plans(self.release.app(), store)
        bytes_max = self._limits.value_bytes_max
        return LocalClient(store, partitions, plans, self.clock_ms, None, store.close, value_bytes_max=bytes_max)

    def tell(self, line: str) -> None:
        if self._told is not None:
            self._told(f"{self.kernel.now_us / 1_000:10.3f} ms  {line}")

    def run_command(self, run: Callable[[Process], None]) -> None:
        """Run a command line in a process of its own."""
        process = Process("command")
        self._commands = [command for command in self._commands if command.alive and command.tasks]
        self._commands.append(process)
        self._spawn(lambda: run(process), process)

    def _spawn(self, run: Callable[[], None], process: Process) -> Task:
        def work() -> None:
            try:
                run()
            except Killed:
                raise
            except BaseException as error:
                self._wrong = self._wrong or error
                raise

        return self.kernel.spawn(work, process.name, process)

    # The worker.

    def _start(self) -> None:
        """Start a worker, unless one runs."""
        if self._task is None or self._task.done:
            self._workers += 1
            process = self.process = Process(f"worker {self._workers}")
            self.tell(f"{process.name} starts, and lacks {self.release.lacking or 'nothing'}")
            self._task = self._spawn(lambda: self._work(process), process)
        elif not self.process.alive:
            # The last one has not noticed yet that it is dead.
            self._start_in(1)

    def _start_in(self, for_ms: int) -> None:
        self.kernel.call_in(for_ms * 1_000, self._start)

    def _work(self, process: Process) -> None:
        try:
            self._take_up(process)
        except StoreLocked:
            self.kernel.call_in(HELD_LOOK_US, self._start)
        except StoreError as error:
            self.tell(f"{process.name} gives up: {error}")
            self.lose_unconfirmed()
            self._start_in(1)
        else:
            self.tell(f"{process.name} has stopped")
            self.load.hear_of_death(process)
            if not self._over:
                self.kernel.call_in(self._rest_us, self._start)
        finally:
            if self.process is process:
                self.loop = None

    def _take_up(self, process: Process) -> None:
        plan, limits = self.plan, self._limits
        store = self.disk.open(STORE, process, sync=plan.sync)
        self._check_store()
        try:
            plans = load_plans(self.release.app(), store)
            carrier = LocalCarrier(store, limits, plan.partitions)
        except StoreError:
            store.close()
            raise
        loop: WorkerLoop
        executor = SimulatedExecutor(
            self.kernel,
            process,
            self.kernel.draw,
            plan.case.behaviours,
            wake=lambda: loop.wake(),  # noqa: PLW0108 (the loop comes after its executor)
            seen=self.truth.check_begun,
        )
        host = SimulatedHost(self.kernel, process)
        bounds = {"slots": plan.slots, "backlog_max": plan.backlog_max, "batch_max": plan.batch_max}
        loop = WorkerLoop(carrier, plans, executor, self.clock_ms, limits, host=host, **bounds)
        loop.on_commit(self._committed)
        self.executor = executor
        try:
            loop.open()
            self.loop = loop
            self._stopping = False
            self.load.tell_events()
            self.load.hand_over()
            loop.run(lambda: self.kernel.now_us < self._grace_us)
            self._check_store()
        except StoreError as error:
            loop.stopped = error
            raise
        finally:
            self.loop = None
            if process.alive:
                carrier.close()

    def _pause(self, store: SimulatedStore) -> None:
        least, most = self.plan.writes_us
        if most and self.kernel.current is not None:
            self._under_way += 1
            try:
                self.kernel.pause(least + int(self.kernel.draw.random() * (most - least)))
            finally:
                self._under_way -= 1

    # What happens to it.

    def kill(self, for_ms: int, process: Process | None = None) -> None:
        """A process is gone at once, the worker where none is named; what it wrote stays."""
        process = process or self.process
        if process.alive:
            self.tell(f"{process.name} is killed")
            if process is self.process:
                self.loop = None
                self._start_in(for_ms)
            self.load.hear_of_death(process)
            self.kernel.kill(process)

    def lose_power(self, for_ms: int) -> None:
        """The machine is off; what its disk had not written yet is gone, and its processes."""
        self.tell("the machine loses power")
        self.loop = None
        self.lose_unconfirmed()
        self._start_in(for_ms)
        current = self.kernel.current
        processes = [process for process in (self.process, *self._commands) if process.alive]
        # Whoever asks for it dies last.
        for process in sorted(processes, key=lambda process: current is not None and current.process is process):
            self.kernel.kill(process)

    def lose_unconfirmed(self) -> None:
        """Nobody knows what the disk has of what it did not confirm, until that is read again."""
        lost = self.disk.lose_power().get(STORE, 0)
        if lost:
            self.tell(f"{lost} writes are lost")
            self.load.hear_of_loss(self.truth.read_again(self.disk.look(STORE)), sync=self.plan.sync)
        self.load.hear_of_death(None)

    def stop(self, grace_ms: int, for_ms: int) -> None:
        """The worker is told to stop."""
        if self.loop is not None:
            self._grace_us = self.kernel.now_us + grace_ms * 1_000
            self._rest_us = for_ms * 1_000
            self._stopping = True
            self.loop.stop()

    # What is looked at.

    def _written(self, _: str, puts: list[Record], deletes: list[bytes], ranges: list[tuple[bytes, bytes]]) -> None:
        truth = self.truth
        known = len(truth.untold)
        try:
            truth.written(puts, deletes, ranges)
            truth.check_keys(self.disk.look(STORE))
        except AssertionError as error:
            # Whoever writes may catch it.
            self._wrong = self._wrong or error
            raise
        finally:
            if self._told is not None:
                self.tell(f"write {truth.writes}: {len(puts)} puts, {len(deletes)} deletes, {len(ranges)} ranges")
                for run_id, seq, event in truth.untold[known:]:
                    self.tell(f"    {run_id} {seq}: {event}")

    def _check_store(self) -> None:
        """Whatever died: the store is what its events make."""
        self.truth.check_keys(self.disk.look(STORE))
        self.truth.check_values(self.disk.view(STORE), self.truth.judge.runs)

    def _committed(self, batch: Batch) -> None:
        self._commits += 1
        self.load.tell_events()
        if self._commits % VALUES_EVERY == 0:
            self.truth.check_values(self.disk.view(STORE), batch.runs)
            for change in batch.runs.values():
                if not change.state.ended:
                    self.truth.check_same(change.state, "the live state")
            loop = self.loop
            if loop is not None:
                assert self.executor.in_progress >= sum(partition.executing for partition in loop.partitions.values())
                assert self.executor.in_progress <= self.plan.slots, "more is executed than there are slots"

    # Driving.

    def run(self) -> None:
        """All of it. Raises AssertionError for whatever is wrong."""
        kernel = self.kernel
        try:
            kernel.call_in(self.plan.first_ms * 1_000, self._start)
            self._go_on(lambda: not self.faults.left, LIVELY_US)
            self._go_on(self._settled, kernel.now_us + STRIKING_US)
            self._calm_down()
            if not self._go_on(self._settled, kernel.now_us + LIVELY_US):
                raise AssertionError(f"{self.load.what_hangs()}; a worker works: {self.loop is not None}")
            self._forget()
            self._end()
        finally:
            self._told = None
            kernel.close()

    def _go_on(self, until: Callable[[], bool], deadline_us: int) -> bool:
        ended = self.kernel.run(lambda: self._wrong is not None or until(), deadline_us)
        if self._wrong is not None:
            raise self._wrong
        return ended

    def _settled(self) -> bool:
        works = self.loop is not None and not self._stopping and not self._under_way
        truth = self.truth
        return not (truth.open_runs or truth.jobs or truth.untold) and self.load.done and works

    def _calm_down(self) -> None:
        self.tell("nothing goes wrong any more")
        self.calm = True
        self.disk.calm()
        if self.release.lacking:
            self.release.lacking = ""
            self.kill(1)
        self._help(HELP_US)

    def _help(self, every_us: int) -> None:
        """Somebody looks after runs that lost an order, now and then."""
        if not self._over and self.load.unsure:
            self.load.help_on()
        if not self._over:
            self.kernel.call_in(every_us, lambda: self._help(every_us * 2))

    def _forget(self) -> None:
        """The dedup window is over."""
        self._over = True
        # The clock may be behind what it once was.
        self.skew_ms += self.plan.window_ms + 60_000
        if self.loop is not None:
            self.loop.wake()
        remembered = self.truth.remembered
        if not self._go_on(lambda: not remembered(), self.kernel.now_us + STOPPED_US):
            raise AssertionError(f"these are remembered for ever: {remembered()}")

    def _end(self) -> None:
        loop = self.loop
        assert loop is not None
        executor, partitions = self.executor, loop.partitions.values()
        # What was cancelled takes its slot until it comes back, and what is over may stand behind it.
        if not self._go_on(
            lambda: not executor.in_progress and all(partition.idle for partition in partitions),
            self.kernel.now_us + STOPPED_US,
        ):
            raise AssertionError("work is left of no run")
        loop.stop()
        self._grace_us = self.kernel.now_us + STOPPED_US
        task = self._task
        assert task is not None
        if not self._go_on(lambda: task.done, self.kernel.now_us + 2 * STOPPED_US):
            raise AssertionError("the worker does not stop")
        assert not loop._answers, f"nobody was answered: {loop._answers}"
        self._check_store()
        self.truth.check_end()


def run_plan(plan: Plan, told: Callable[[str], None] | None = None) -> None:
    """Run one world. Raises AssertionError, or what a worker died of as no worker may."""
    EmbeddedWorld(plan, told).run()
