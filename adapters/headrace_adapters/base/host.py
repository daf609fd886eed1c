"""What a worker needs of its machine, beside brokers and a store: time that only goes on, waking, and threads.

Everything that drives a worker waits through a :class:`Host`, so whoever hands over another one (a simulation, in which time
is virtual and nothing runs at once) sees and decides every wait.
"""

from __future__ import annotations

__all__ = ["THIS_HOST", "Aside", "Event", "Host"]

import threading
import time
from collections.abc import Callable
from typing import Protocol


class Event(Protocol):
    """What is used of ``threading.Event``."""

    def is_set(self) -> bool: ...
    def set(self) -> None: ...
    def clear(self) -> None: ...
    def wait(self, timeout: float) -> bool: ...


class Aside(Protocol):
    """A call that runs beside the loop."""

    def is_alive(self) -> bool: ...


class Host(Protocol):
    """Time and threads. Seconds are those of a clock that nobody sets, and of which only differences mean something."""

    def now_s(self) -> float: ...
    def sleep(self, seconds: float) -> None: ...
    def event(self) -> Event: ...
    def run_aside(self, call: Callable[[], None], name: str) -> Aside: ...


class _ThisHost:
    """The machine itself."""

    now_s = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)
    event = staticmethod(threading.Event)

    @staticmethod
    def run_aside(call: Callable[[], None], name: str) -> Aside:
        """Run *call* in a thread that does not keep the process alive."""
        thread = threading.Thread(target=call, name=name, daemon=True)
        thread.start()
        return thread


THIS_HOST: Host = _ThisHost()
