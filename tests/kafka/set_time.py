"""A machine whose time the test sets, behind the port ``headrace_adapters.base.host``; all else is the real one's."""

from __future__ import annotations

__all__ = ["SetTime"]

from collections.abc import Callable

from headrace_adapters.base.host import THIS_HOST, Aside, Event


class SetTime:
    """Time goes on when somebody says so, or sleeps."""

    def __init__(self, at_s: float = 0.0) -> None:
        self.at_s = at_s

    def now_s(self) -> float:
        return self.at_s

    def sleep(self, seconds: float) -> None:
        self.at_s += seconds

    def event(self) -> Event:
        return THIS_HOST.event()

    def run_aside(self, call: Callable[[], None], name: str) -> Aside:
        return THIS_HOST.run_aside(call, name)
