"""Programs on the model: simulated clients of a simulated cluster, in virtual time."""

from __future__ import annotations

__all__ = ["ModelledWorld", "run_on_model"]

import random
from collections.abc import Sequence
from typing import Any

from headrace_adapters.kafka.clients import Clients
from tests.simulation.broker.clients import SimulatedClients
from tests.simulation.broker.network import Network
from tests.simulation.broker.options import ServerOptions
from tests.simulation.broker.server import Server
from tests.simulation.conformance.program import Broker, Program
from tests.simulation.kernel import Kernel, Process

# As the brokers of ``headrace dev broker`` are set, and a topic that sets nothing itself.
OPTIONS = ServerOptions(
    transaction_scan_ms=1_000,
    message_bytes_max=1_048_588,
    session_min_ms=1_000,
    consumer_session_ms=6_000,
    consumer_heartbeat_ms=1_000,
)
DELAYS_US = (100, 1_000)
LONGEST_US = 300_000_000


class ModelledWorld:
    """A cluster of its own, with nothing in it, and one process that all clients belong to."""

    def __init__(self, seed: int) -> None:
        self.servers = "brokers:1"
        kernel = self.kernel = Kernel(random.Random(seed))
        self._server = Server(lambda: kernel.now_ms, lambda ms, call: kernel.call_in(ms * 1_000, call), kernel.draw, OPTIONS)
        self.process = Process("program")
        self.clients: Clients = SimulatedClients(  # type: ignore[assignment]
            kernel, self._server, Network(kernel, DELAYS_US), self.process
        )

    def now_s(self) -> float:
        return self.kernel.now_us / 1e6

    def pause(self, seconds: float) -> None:
        self.kernel.pause(int(seconds * 1e6))

    def create_topic(self, topic: str, partitions: int) -> None:
        self._server.create_topic(topic, partitions)

    def put(self, topic: str, number: int, values: Sequence[bytes]) -> None:
        for value in values:
            self._server.produce((topic, number), [(None, value)])

    def delete_before(self, topic: str, number: int, offset: int) -> None:
        self._server.truncate_before((topic, number), offset)


def run_on_model(program: Program, seed: int = 0) -> list[list[Any]]:
    """What the program is told by the model. The seed decides how long everything takes on the way."""
    world = ModelledWorld(seed)
    broker = Broker(world, "model")
    answers: list[list[Any]] = []

    def run() -> None:
        try:
            program(broker)
            answers.extend(broker.answers)
        finally:
            broker.close()

    task = world.kernel.spawn(run, "program", world.process)
    world.kernel.run(lambda: task.done, LONGEST_US)
    if task.error is not None:
        raise task.error
    assert task.done, f"the program did not end; so far {broker.answers}"
    return answers
