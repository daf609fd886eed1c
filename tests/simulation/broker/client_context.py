"""What every simulated client of one process has in common: where it is, and what a call costs."""

from __future__ import annotations

__all__ = ["FOREVER_US", "Context", "failure", "microseconds"]

from collections.abc import Callable

from confluent_kafka import KafkaError, KafkaException

from tests.simulation.broker.network import Line, Network
from tests.simulation.broker.server import Server
from tests.simulation.kernel import Kernel, Process, Signal, Timer

FOREVER_US = 1 << 60

# A call that does not wait costs so much of virtual time, and the caller gives its turn away when this much has come
# together: a loop that never waits must not keep time from going on.
CALL_US = 20
TURN_US = 200


class Context:
    """One for all clients of a process."""

    __slots__ = ("_owed_us", "kernel", "network", "process", "server")

    def __init__(self, kernel: Kernel, server: Server, network: Network, process: Process) -> None:
        self.kernel = kernel
        self.server = server
        self.network = network
        self.process = process
        self._owed_us = 0

    def line(self) -> Line:
        """A new connection."""
        return Line(self.network, self.process)

    def enter(self) -> None:
        """A call begins; raises ``Killed`` where the process is dead."""
        if not self.process.alive:
            self.process.check_alive()
        self._owed_us += CALL_US
        if self._owed_us >= TURN_US and self.kernel.current is not None:
            owed_us, self._owed_us = self._owed_us, 0
            self.kernel.pause(owed_us)

    def later(self, delay_us: int, callback: Callable[[], None]) -> Timer:
        """Have something done in the background of the process."""
        return self.kernel.call_in(delay_us, callback, self.process)

    def wait(self, signal: Signal, until_us: int) -> bool:
        """Wait for a signal; False where the time is over."""
        left_us = until_us - self.kernel.now_us
        return left_us > 0 and self.kernel.wait(signal, left_us)

    def until(self, timeout_s: float | None) -> int:
        """When a call is over that may take so long; without an end for less than none."""
        return self.kernel.now_us + microseconds(timeout_s)


def microseconds(timeout_s: float | None) -> int:
    """A time-out as confluent-kafka takes it."""
    return FOREVER_US if timeout_s is None or timeout_s < 0 else int(timeout_s * 1_000_000)


def failure(code: int, reason: str = "", **flags: bool) -> KafkaException:
    """What a call raises. *flags* are ``fatal``, ``retriable`` and ``txn_requires_abort``."""
    return KafkaException(KafkaError(code, reason, **flags) if reason else KafkaError(code, **flags))
