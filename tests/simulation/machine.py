"""A machine with a disk and a clock of its own, and the worker that runs on it: the code of the product, put together.

What is put together here is what ``headrace_adapters.kafka.worker`` puts together, without the HTTP server and the threads.
Somebody starts the worker again when it has died, as a supervisor does.
"""

from __future__ import annotations

__all__ = ["Machine", "Surroundings"]

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from headrace.batch import Batch
from headrace.blueprint import Blueprint
from headrace.errors import StoreError
from headrace.plans import Plans
from headrace_adapters.base import WorkerLoop
from headrace_adapters.kafka.blueprint_log import BlueprintLog
from headrace_adapters.kafka.carrier import KafkaCarrier
from headrace_adapters.kafka.clients import Clients
from headrace_adapters.kafka.settings import KafkaSettings
from headrace_adapters.kafka.topic_layout import TopicLayout

from .disk import SimulatedDisk
from .executor import SimulatedExecutor
from .host import SimulatedHost
from .kernel import Kernel, Process, Task

STORE = "store"

# A supervisor waits a moment before it starts a worker again that has given up.
SUPERVISED_US = 300_000

# A loop that looks in vain costs as much as one that does something: in a world without hurry it looks less often.
IDLE_S = 0.1
GLANCE_S_MAX = 0.02
RESTORING_GLANCE_S = 0.02


class Surroundings(Protocol):
    """What a machine needs of its world."""

    kernel: Kernel
    settings: KafkaSettings
    layout: TopicLayout
    blueprints: list[Blueprint]

    def clients(self, process: Process) -> Clients: ...
    def executor(self, process: Process, wake: Callable[[], None]) -> SimulatedExecutor: ...
    def plans(self) -> Plans: ...
    def clock_ms(self) -> int: ...
    def committed(self, machine: Machine, batch: Batch) -> None: ...
    def found(self, error: BaseException, machine: Machine) -> None: ...


class Machine:
    """One machine. *instance* is the name of its worker, where workers have names."""

    def __init__(self, world: Surroundings, number: int, disk: SimulatedDisk, instance: str | None) -> None:
        self._world = world
        self.number = number
        self.disk = disk
        self.skew_ms = 0
        """How far its clock is off."""
        self.slot = 0
        """Counts the folders for state that it has had; each one has an id of its own."""
        self.wanted = True
        """Whether a worker is to run here."""
        self.settings = replace(world.settings, instance=instance) if instance else world.settings
        self.process = Process(f"worker-{number}")
        self.process.alive = False
        self.loop: WorkerLoop | None = None
        self.carrier: KafkaCarrier | None = None
        self._task: Task | None = None
        self._graceless = False
        self._stopping = False
        self._again = False

    def __repr__(self) -> str:
        return self.process.name

    @property
    def runs(self) -> bool:
        """Whether a worker runs here, in whatever state."""
        return self._task is not None and not self._task.done

    def clock_ms(self) -> int:
        """The time on this machine's clock."""
        return self._world.clock_ms() + self.skew_ms

    # What somebody does to it.

    def start(self) -> None:
        """Start a worker, unless one runs or none is wanted; where one is about to stop, after that."""
        self._again = self.runs and self._stopping
        if self.wanted and not self.runs:
            process = self.process = Process(f"worker-{self.number}")
            self._graceless = self._stopping = False
            self._task = self._world.kernel.spawn(lambda: self._work(process), process.name, process)

    def start_in(self, delay_us: int) -> None:
        """Start a worker after so long."""
        self._world.kernel.call_in(delay_us, self.start)

    def kill(self) -> None:
        """The worker is gone at once; what it wrote stays."""
        self.loop = self.carrier = None
        self._world.kernel.kill(self.process)

    def stop(self, grace_us: int) -> None:
        """Have the worker finish what it does within *grace_us*, and leave."""
        if self.loop is not None and self.runs:
            self._stopping = True
            self.loop.stop()
            self._world.kernel.call_in(grace_us, self._end_grace, self.process)
        else:
            self.kill()

    def _end_grace(self) -> None:
        self._graceless = True

    # The worker.

    def _work(self, process: Process) -> None:
        try:
            self._run(process)
        except StoreError as error:
            self._world.found(error, self)
            self.start_in(SUPERVISED_US)
        except Exception as error:  # noqa: BLE001 (a defect, which ends the world)
            self._world.found(error, self)
        finally:
            if self.process is process:
                self.loop = self.carrier = None
                if self._again:
                    self.start_in(1)

    def _run(self, process: Process) -> None:
        world = self._world
        host = SimulatedHost(world.kernel, process)
        clients, plans = world.clients(process), world.plans()
        store = self.disk.open(STORE, process)
        blueprints = BlueprintLog(clients, self.settings, world.layout, plans, host)
        try:
            blueprints.read_to_end()
            blueprints.publish(world.blueprints)
        except StoreError:
            blueprints.close()
            store.close()
            raise
        executor = world.executor(process, lambda: loop.wake())  # noqa: PLW0108 (the loop comes after its executor)
        carrier = KafkaCarrier(
            clients,
            self.settings,
            world.layout,
            store,
            blueprints,
            slot_id=f"slot-{self.number}-{self.slot}",
            client_id=f"machine-{self.number}",
            clock=self.clock_ms,
            give_up=lambda: self._graceless,
            plans_changed=lambda: loop.plans_changed(),  # noqa: PLW0108
            host=host,
        )
        carrier.idle_s, carrier.glance_s_max, carrier.restoring_glance_s = IDLE_S, GLANCE_S_MAX, RESTORING_GLANCE_S
        settings = self.settings
        loop = WorkerLoop(carrier, plans, executor, self.clock_ms, settings.limits, slots=settings.slots, host=host)
        loop.on_commit(lambda batch: world.committed(self, batch))
        self.loop, self.carrier = loop, carrier
        try:
            loop.open()
            loop.run(lambda: not self._graceless)
        except StoreError as error:
            loop.stopped = error
            raise
        finally:
            carrier.close()
