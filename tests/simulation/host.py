"""The machine of a simulated process: virtual time, and threads that are tasks of the kernel."""

from __future__ import annotations

__all__ = ["SimulatedHost"]

from collections.abc import Callable

from .kernel import Kernel, Process, Signal, Task


class _Event:
    __slots__ = ("_is_set", "_kernel", "_signal")

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._signal = Signal()
        self._is_set = False

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        self._signal.notify()

    def clear(self) -> None:
        self._is_set = False

    def wait(self, timeout: float) -> bool:
        if not self._is_set:
            self._kernel.wait(self._signal, round(timeout * 1_000_000))
        return self._is_set


class _Aside:
    __slots__ = ("_task",)

    def __init__(self, task: Task) -> None:
        self._task = task

    def is_alive(self) -> bool:
        if self._task.error is not None:
            raise self._task.error
        return not self._task.done


class SimulatedHost:
    """What a worker needs of its machine (``headrace_adapters.base.host.Host``)."""

    def __init__(self, kernel: Kernel, process: Process) -> None:
        self._kernel = kernel
        self._process = process

    def now_s(self) -> float:
        return self._kernel.now_us / 1_000_000

    def sleep(self, seconds: float) -> None:
        self._kernel.pause(round(seconds * 1_000_000))

    def event(self) -> _Event:
        return _Event(self._kernel)

    def run_aside(self, call: Callable[[], None], name: str) -> _Aside:
        return _Aside(self._kernel.spawn(call, name, self._process))
