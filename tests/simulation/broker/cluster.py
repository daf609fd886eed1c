"""A cluster for tests of the broker's side: the server with a clock that is put forward by hand."""

from __future__ import annotations

__all__ = ["Cluster", "refusal"]

import random
from collections.abc import Callable

from tests.simulation.broker.options import ServerOptions
from tests.simulation.broker.refused import Refused
from tests.simulation.broker.server import Server
from tests.simulation.kernel import Kernel


class Cluster:
    """A server, and the time in which it lives."""

    def __init__(self, options: ServerOptions) -> None:
        self.kernel = Kernel(random.Random(1))
        self.server = Server(
            lambda: self.kernel.now_ms,
            lambda delay_ms, callback: self.kernel.call_in(delay_ms * 1_000, callback),
            self.kernel.draw,
            options,
        )

    def pass_ms(self, delay_ms: int) -> None:
        """Let so much time go by."""
        self.kernel.run(lambda: False, self.kernel.now_us + delay_ms * 1_000)


def refusal(request: Callable[[], object]) -> int:
    """The code with which a request is refused; 0 where it is not."""
    try:
        request()
    except Refused as refused:
        return refused.code
    return 0
