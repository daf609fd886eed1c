"""A broker of one or three nodes on 127.0.0.1.

Each node is broker and controller at once (KRaft), and the nodes know each other from their settings, so starting
needs no steps in an order. Nothing of it outlives this process: it is closed at exit, and guarded where exit does not
come to that (``guard.py``).
"""

from __future__ import annotations

__all__ = ["Cluster", "check_shape"]

import atexit
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from headrace.errors import DefinitionError
from headrace_adapters.devbroker.folder import DataFolder
from headrace_adapters.devbroker.node import READY_S_MAX, BrokerNode
from headrace_adapters.devbroker.ports import free_ports
from headrace_adapters.devbroker.program import KafkaProgram
from headrace_adapters.devbroker.settings import node_settings
from headrace_adapters.devbroker.waits import Unwanted, never

# One node is enough to develop; three are the fewest of which one may fail. Two are worse than one.
NODES = (1, 3)
PORT_MAX = 65_535


def check_shape(nodes: int, port: int | None) -> None:
    """Raises :class:`DefinitionError` where there is no such cluster."""
    if nodes not in NODES:
        raise DefinitionError(f"nodes: a broker has 1 or 3, not {nodes}; give one of these")
    port_max = PORT_MAX - nodes + 1
    if port is not None and not 0 < port <= port_max:
        raise DefinitionError(f"port: {port} is none; give a number from 1 to {port_max}")


class Cluster:
    """The nodes on one data folder, which this process holds until :meth:`close`.

    *port* is that of the first node, and the others follow it; None takes free ones. *settings* are Kafka's own, by
    its names, and override those of ``settings.py``. *unwanted* is asked while something is waited for: when it says
    so, the wait ends with :class:`StoreError`.
    """

    def __init__(
        self,
        data: Path,
        program: KafkaProgram,
        *,
        nodes: int = 1,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        unwanted: Unwanted = never,
    ) -> None:
        check_shape(nodes, port)
        numbers = range(1, nodes + 1)
        ports = free_ports(nodes) if port is None else [port + number - 1 for number in numbers]
        controller_ports = dict(zip(numbers, free_ports(nodes), strict=True))
        self._folder = DataFolder(data, nodes)
        self._owner = os.getpid()
        atexit.register(self._close_at_exit)
        self.nodes = tuple(
            BrokerNode(
                number,
                port=own_port,
                folder=self._folder.node(number),
                program=program,
                cluster_id=self._folder.cluster_id,
                settings=node_settings(
                    number,
                    port=own_port,
                    controller_ports=controller_ports,
                    folder=self._folder.node(number) / "data",
                    overrides=settings or {},
                ),
                unwanted=unwanted,
            )
            for number, own_port in zip(numbers, ports, strict=True)
        )

    @property
    def data(self) -> Path:
        """The folder, whole."""
        return self._folder.path

    @property
    def bootstrap(self) -> str:
        """The addresses of all nodes, as clients take them."""
        return ",".join(node.bootstrap for node in self.nodes)

    def start(self, timeout_s: float = READY_S_MAX) -> None:
        """Start the nodes that do not run, and wait until every node knows all to be alive; raises :class:`StoreError`."""
        for node in self.nodes:
            node.go_on()
            node.start(wait=False)
        everybody = frozenset(node.number for node in self.nodes)
        for node in self.nodes:
            node.wait_ready(timeout_s, among=everybody)

    def close(self, *, gracefully: bool = True) -> None:
        """End all nodes and let the folder go; its data stays, and is whole even where it is not done *gracefully*."""
        atexit.unregister(self._close_at_exit)
        running = [node for node in self.nodes if node.is_running]
        for node in running:
            node.go_on()
        for node in reversed(running):
            # A node leaves when a majority of controllers agrees. Once two of three are gone, none would ever agree.
            if gracefully and (len(self.nodes) == 1 or node is not running[0]):
                node.stop()
            else:
                node.kill()
        self._folder.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _close_at_exit(self) -> None:
        # A forked child runs what its parent registered, and must not end what is the parent's.
        if os.getpid() == self._owner:
            self.close(gracefully=False)
