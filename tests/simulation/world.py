"""One world, from its plan to the verdict: it is built, driven until nothing is left to do, and judged.

    load and faults     until all faults have begun and been mended
    calm                nothing goes wrong any more; all that was started comes to its end, within a bounded time
    the end             all workers are told to stop; then everything that is left is looked at (``verdict.py``)

What is wrong is an AssertionError that says when it was seen. It holds on the way already that histories have no gap, no
second end and no node that is decided twice, that a commit leaves the store and the live state alike, and that nothing
grows without a bound.
"""

from __future__ import annotations

__all__ = ["World", "run_plan"]

import random
from collections.abc import Callable
from dataclasses import replace

import orjson

from headrace.batch import Batch
from headrace.blueprint import Blueprint
from headrace.errors import StoreError
from headrace.limits import Limits
from headrace.plans import Plans
from headrace.state import RunState
from headrace_adapters.base import WorkerLoop
from headrace_adapters.kafka.clients import Clients
from headrace_adapters.kafka.settings import KafkaSettings
from headrace_adapters.kafka.topic_layout import TopicLayout
from headrace_topics.events_record import decode_events
from headrace_topics.partitioning import partition_of
from headrace_topics.results_record import decode_result
from tests.kafka.local_records import layout as layout_of
from tests.scenarios.checks import assert_same, snapshot

from .broker.clients import SimulatedClients
from .broker.messages import Stored
from .broker.network import Network
from .broker.refused import Refused
from .broker.server import Server, ServerOptions
from .cases import Judge
from .compilation import blueprint_of, plans_of
from .disk import SimulatedDisk
from .executor import HASTE, SLUGGISH, SimulatedExecutor
from .faults import TOMBSTONES_KEPT_MS, Faults
from .kernel import Kernel, Process
from .load import Load
from .machine import Machine
from .observer import Observer
from .plan import CALM_MS, HOLD_MS_MAX, Plan
from .retold import Retold
from .verdict import check_end

EPOCH_MS = 1_700_000_000_000
APP = "app"

# When nothing goes wrong any more, and how long everything may take to come to its end after that.
CALM_US = (CALM_MS + HOLD_MS_MAX) * 1_000
LIVELY_US = 90_000_000
STOPPED_US = 20_000_000
LOOK_US = 20_000
UNOWNED_US = 20_000_000

# What is to happen in a world at all: requests, answers, timers, turns.
PENDING_MAX = 20_000

SESSION_MS = 1_500
HEARTBEAT_MS = 300
TRANSACTION_MS = 5_000
MACHINES_BEGIN_US = 300_000


class Everything:
    """Every implementation is there: what an execution does, a case says."""

    def __contains__(self, _: object) -> bool:
        return True


class World:
    """The world of a plan. *told* gets lines about what happens, with their time, where somebody wants to read them."""

    def __init__(self, plan: Plan, told: Callable[[str], None] | None = None) -> None:
        self.plan = plan
        self._told = told
        self.wrong: BaseException | None = None
        self.notes: list[str] = []
        """What workers gave up for, and what was injected: context for whoever reads a failure."""
        kernel = self.kernel = Kernel(random.Random(plan.seed))
        options = ServerOptions(
            leaders=plan.leaders,
            markers_ms=plan.markers_ms,
            slow_leader=plan.slow_leader if plan.leaders > 1 else -1,
            transaction_scan_ms=500,
            session_min_ms=300,
            initial_rebalance_ms=0,
            consumer_session_ms=SESSION_MS,
            consumer_heartbeat_ms=HEARTBEAT_MS,
        )
        self.network = Network(kernel, plan.delays_us)
        brokers = self.network.brokers
        self.server = Server(self.clock_ms, lambda ms, call: kernel.call_in(ms * 1_000, call, brokers), kernel.draw, options)
        self.settings = KafkaSettings(
            "brokers:1",
            APP,
            APP,
            guarantee=plan.guarantee,
            group_protocol=plan.protocol,
            standby=plan.standby,
            session_timeout_ms=SESSION_MS,
            heartbeat_ms=HEARTBEAT_MS,
            transaction_timeout_ms=TRANSACTION_MS,
            slots=plan.slots,
            limits=Limits(runs_cached_max=plan.runs_cached_max),
        )
        self.layout: TopicLayout = replace(layout_of(plan.partitions, APP), tombstones_kept_ms=TOMBSTONES_KEPT_MS)
        self._make_topics()
        self.blueprints: list[Blueprint] = [blueprint_of(blueprint) for blueprint in plan.case.blueprints]
        self.judge = Judge(plan.case, plans_of(plan.case), once=plan.guarantee == "exactly_once")
        self._heard: Judge | Retold = self.judge if plan.guarantee == "exactly_once" else Retold(plan.case)
        self._done = False
        self.load = Load(kernel, plan.case, plan.partitions, plan.strays, self._append)
        followed = (self.layout.events, self.layout.results)
        self.observer = Observer(kernel, self.server, self.layout, followed, self._seen)
        self.machines = [
            Machine(self, number, SimulatedDisk(kernel.draw), f"w{number}" if plan.static else None)
            for number in range(plan.machines)
        ]
        self.faults = Faults(kernel, self.server, self.network, self.layout, self.machines, self.observer, self.note)
        if told is not None:
            self.network.trace = self.tell

    def _make_topics(self) -> None:
        layout = self.layout
        for topic in (layout.jobs, layout.events, layout.dead_letters):
            self.server.create_topic(topic, layout.partitions)
        for topic in (layout.context, layout.coordination, layout.results):
            self.server.create_topic(topic, layout.partitions, compacted=True)
        self.server.create_topic(layout.blueprints, 1, compacted=True)

    # What its parts need.

    def clients(self, process: Process) -> Clients:
        return SimulatedClients(self.kernel, self.server, self.network, process)  # type: ignore[return-value]

    def executor(self, process: Process, wake: Callable[[], None]) -> SimulatedExecutor:
        haste = SLUGGISH if self.plan.sluggish else HASTE
        return SimulatedExecutor(self.kernel, process, self.kernel.draw, self.plan.case.behaviours, haste, wake=wake)

    def plans(self) -> Plans:
        return Plans(Everything())

    def clock_ms(self) -> int:
        return EPOCH_MS + self.kernel.now_us // 1_000

    def _append(self, number: int, key: bytes | None, value: bytes | None) -> bool:
        if not self.network.is_up:
            return False
        try:
            self.server.produce((self.layout.jobs, number), [(key, value)])
        except Refused:
            return False
        return True

    # What happens in it.

    def tell(self, line: str) -> None:
        if self._told is not None:
            self._told(f"{self.kernel.now_us / 1_000:10.3f} ms  {line}")

    def note(self, line: str) -> None:
        self.notes.append(f"{self.kernel.now_ms} ms: {line}")
        self.tell(line)

    def found(self, error: BaseException, machine: Machine) -> None:
        """A worker has ended with an error: one for its operator, or a defect."""
        self.note(f"{machine} gives up: {type(error).__name__}: {error}")
        if not isinstance(error, StoreError):
            self.wrong = self.wrong or error

    def _seen(self, topic: str, record: Stored) -> None:
        try:
            if topic == self.layout.results:
                self._heard.result(decode_result(record.value or b""))
            elif "rejected" not in orjson.loads(record.value or b"{}"):
                self._seen_events(record)
        except AssertionError as error:
            self.wrong = self.wrong or error

    def _seen_events(self, record: Stored) -> None:
        run_id = (record.key or b"").decode()
        for seq, at_ms, event in decode_events(record.value or b""):
            self.tell(f"        {run_id} {seq}: {event}")
            self._heard.event(run_id, seq, at_ms, event)
            self.load.seen(run_id, seq, event)

    def committed(self, machine: Machine, batch: Batch) -> None:
        """A commit leaves the store of its worker as the live state is."""
        loop, carrier = machine.loop, machine.carrier
        assert loop is not None, "a worker that was stopped has committed"
        assert carrier is not None
        self._check_bounds(machine, loop, {partition_of(run_id, self.plan.partitions) for run_id in batch.runs})
        for run_id, change in batch.runs.items():
            if not change.state.ended:
                stored = carrier.reader(partition_of(run_id, self.plan.partitions)).load(run_id)
                assert isinstance(stored, RunState), f"run {run_id} is not in the store after its commit"
                kept, live = snapshot(stored), snapshot(change.state)
                if self.plan.guarantee != "exactly_once":
                    # A step that is decided again may find what it has done to the context already.
                    del kept["context"], live["context"]
                assert_same(kept, live, f"run {run_id}, store == live state")

    def _check_bounds(self, machine: Machine, loop: WorkerLoop, told: set[int]) -> None:
        """Nothing grows with what has been: executions, runs in memory, and what is to happen at all."""
        executing = loop._executor.in_progress
        assert executing <= self.plan.slots, f"{machine} executes {executing} nodes at once"
        for partition in loop.partitions.values():
            if partition.number in told:
                growing = partition._growing.runs
                waiting = [run_id for run_id, run in partition._residents._runs.items() if not run.active]
                kept = sum(run_id not in growing for run_id in waiting)
                assert kept <= self.plan.runs_cached_max, f"{machine} keeps {kept} runs in memory that only wait"
        assert self.kernel.pending < PENDING_MAX, f"{self.kernel.pending} things are to happen"

    # Driving.

    def run(self) -> None:
        """All of it. Raises AssertionError for whatever is wrong."""
        try:
            self._drive()
        except AssertionError as error:
            if error.args and self.notes:
                error.add_note("\n".join(self.notes[-40:]))
            raise
        finally:
            self.network.trace = None
            self.kernel.close()

    def _drive(self) -> None:
        kernel = self.kernel
        for machine in self.machines:
            machine.start_in(0 if machine.number == 0 else kernel.draw.randrange(MACHINES_BEGIN_US))
        self.faults.plan(self.plan.faults)
        last = max((fault.at_ms + fault.for_ms for fault in self.plan.faults), default=0)
        self._go_on(lambda: self.wrong is not None, min(CALM_US, last * 1_000))
        self.faults.calm()
        self._look()
        if self.plan.static:
            kernel.call_in(UNOWNED_US, self._look_after_names)
        if not self._go_on(lambda: self._done, kernel.now_us + LIVELY_US):
            raise AssertionError(self._what_hangs())
        for machine in self.machines:
            machine.wanted = False
            machine.stop(STOPPED_US // 2)
        if not self._go_on(self._is_over, kernel.now_us + STOPPED_US):
            raise AssertionError(f"these do not stop: {[machine for machine in self.machines if machine.runs]}")
        # What could be read at last is told in a turn of its own.
        self._go_on(lambda: False, kernel.now_us + 1)
        if isinstance(self._heard, Retold):
            self._heard.hand_over(self.judge)
        self.judge.check_all()
        check_end(self.plan, self.layout.cluster_id, self.observer.read_all(APP, APP), self.machines)

    def _go_on(self, until: Callable[[], bool], deadline_us: int) -> bool:
        ended = self.kernel.run(lambda: self.wrong is not None or until(), deadline_us)
        if self.wrong is not None:
            raise self.wrong
        return ended

    def _look(self) -> None:
        """Whether nothing is left to do; looked at now and then, since it takes longer than a turn of a task."""
        self._done = (
            not self.load.to_send
            and not self._heard.open
            and self._is_settled()
            and not self.observer.jobs_left(APP)
            and self.observer.is_complete
        )
        self.kernel.call_in(LOOK_US, self._look)

    def _is_over(self) -> bool:
        return not any(machine.runs for machine in self.machines) and self.observer.is_complete

    def _look_after_names(self) -> None:
        """What docs/kafka.md asks of operators whose workers have names: a partition without an owner needs a rebalance."""
        owned = [number for machine in self.machines if machine.loop is not None for number in machine.loop.partitions]
        if len(owned) < self.plan.partitions:
            self.note("a partition has no owner: a worker is stopped for longer than its session")
            self.machines[0].kill()
            self.machines[0].start_in(3 * SESSION_MS * 1_000)

    def _is_settled(self) -> bool:
        """Whether every partition has an owner that works on it, and every worker has come to its place."""
        owned: list[int] = []
        for machine in self.machines:
            if machine.loop is None or machine.carrier is None or machine.carrier.restoring:
                return False
            owned += machine.loop.partitions
        return sorted(owned) == [*range(self.plan.partitions)]

    def _what_hangs(self) -> str:
        seconds = LIVELY_US // 1_000_000
        owned = {machine: sorted(machine.loop.partitions) for machine in self.machines if machine.loop is not None}
        return (
            f"{seconds} s after the last fault these have not ended: {self._heard.open}; to send: {self.load.to_send}; jobs "
            f"that were not taken, by partition: {self.observer.jobs_left(APP)}; partitions are with: {owned}"
        )


def run_plan(plan: Plan, told: Callable[[str], None] | None = None) -> None:
    """Run one world. Raises AssertionError, or what a worker died of as no worker may."""
    World(plan, told).run()
