"""A simulated cluster and processes with clients, for tests of the clients alone."""

from __future__ import annotations

__all__ = ["SmallCluster"]

import random
from collections.abc import Callable
from typing import Any, TypeVar

from confluent_kafka import KafkaError

from tests.simulation.broker.clients import SimulatedClients
from tests.simulation.broker.network import Network
from tests.simulation.broker.options import ServerOptions
from tests.simulation.broker.server import Server
from tests.simulation.kernel import Kernel, Process, Task

_T = TypeVar("_T")

SECOND_US = 1_000_000


class SmallCluster:
    """One topic, ``jobs``, with *partitions* of them."""

    def __init__(self, partitions: int = 4, seed: int = 1, **options: Any) -> None:
        self.kernel = Kernel(random.Random(seed))
        self.network = Network(self.kernel)
        self.server = Server(
            lambda: self.kernel.now_ms,
            lambda delay_ms, callback: self.kernel.call_in(delay_ms * 1_000, callback),
            self.kernel.draw,
            ServerOptions(**options),
        )
        self.server.create_topic("jobs", partitions)
        self.processes: dict[str, Process] = {}

    def process(self, name: str) -> Process:
        """The process of this name."""
        if name not in self.processes:
            self.processes[name] = Process(name)
        return self.processes[name]

    def clients(self, name: str = "a") -> SimulatedClients:
        """The clients of a process."""
        return SimulatedClients(self.kernel, self.server, self.network, self.process(name))

    def begin(self, run: Callable[[], Any], name: str = "a") -> Task:
        """Have something done by a process."""
        return self.kernel.spawn(run, name, self.process(name))

    def do(self, run: Callable[[], _T], name: str = "a", within_s: float = 120) -> _T:
        """Have something done by a process, and let the world go on until it is."""
        given: list[_T] = []
        task = self.begin(lambda: given.append(run()), name)
        assert self.kernel.run(lambda: task.done, self.kernel.now_us + int(within_s * SECOND_US)), "it does not end"
        if task.error is not None:
            raise task.error
        return given[0]

    def pass_time(self, seconds: float) -> None:
        """Let the world go on for so long."""
        self.kernel.run(lambda: False, self.kernel.now_us + int(seconds * SECOND_US))

    def error_of(self, call: Callable[[], Any], name: str = "a") -> tuple[str, str]:
        """What a call raises: the name of the error, and its flags."""

        def run() -> KafkaError | None:
            try:
                call()
            except Exception as error:  # noqa: BLE001 (KafkaException, of which the first argument is looked at)
                return error.args[0] if isinstance(error.args[0], KafkaError) else None
            return None

        error = self.do(run, name)
        return described(error) if error is not None else ("", "")


def described(error: KafkaError) -> tuple[str, str]:
    """Name and flags of an error."""
    flags = ("retriable", error.retriable()), ("fatal", error.fatal()), ("abort", error.txn_requires_abort())
    return error.name(), " ".join(name for name, is_set in flags if is_set)
