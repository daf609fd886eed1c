"""The factory of simulated clients: what ``headrace_adapters.kafka.clients`` is given in a simulated world."""

from __future__ import annotations

__all__ = ["SimulatedClients"]

from collections.abc import Mapping
from typing import Any

from tests.simulation.broker.admin import SimulatedAdmin
from tests.simulation.broker.client_context import Context
from tests.simulation.broker.consumer import SimulatedConsumer
from tests.simulation.broker.network import Network
from tests.simulation.broker.producer import SimulatedProducer
from tests.simulation.broker.server import Server
from tests.simulation.kernel import Kernel, Process


class SimulatedClients:
    """The clients of one process: they die, freeze and go on with it."""

    def __init__(self, kernel: Kernel, server: Server, network: Network, process: Process) -> None:
        self._context = Context(kernel, server, network, process)

    def consumer(self, configuration: Mapping[str, Any]) -> SimulatedConsumer:
        """A consumer."""
        self._context.enter()
        return SimulatedConsumer(self._context, configuration)

    def producer(self, configuration: Mapping[str, Any]) -> SimulatedProducer:
        """A producer."""
        self._context.enter()
        return SimulatedProducer(self._context, configuration)

    def admin(self, configuration: Mapping[str, Any]) -> SimulatedAdmin:
        """An admin client."""
        self._context.enter()
        return SimulatedAdmin(self._context, configuration)
