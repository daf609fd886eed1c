"""Virtual time and the turns that tasks take in it: nothing here runs at once, and nothing waits in earnest.

    task       code that may block: a greenlet of its own, which gives its turn away in ``pause`` and ``wait``
    callback   code that may not: it runs between the turns of tasks, at its instant
    process    tasks and callbacks that die, freeze and go on together
    signal     what a task waits for

Whatever is to happen stands in one heap, by its instant and, within one, in the order in which it was asked for. So the
same seed gives the same world, turn by turn.
"""

from __future__ import annotations

__all__ = ["Kernel", "Killed", "Process", "Signal", "Task", "Timer"]

import random
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any

from greenlet import getcurrent, greenlet


class Killed(BaseException):
    """Raised in the tasks of a process that was killed, and by whatever such a process still tries to do."""


class Process:
    """What can be killed, frozen and thawed as a whole."""

    __slots__ = ("alive", "frozen", "held", "name", "tasks")

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.frozen = False
        self.tasks: list[Task] = []
        # What came due while it was frozen.
        self.held: list[tuple[Task | Timer, int]] = []

    def check_alive(self) -> None:
        """Raises :class:`Killed` where it is dead."""
        if not self.alive:
            raise Killed(self.name)


class Task:
    """Code that may block."""

    __slots__ = ("_greenlet", "_turn", "_woken", "done", "error", "name", "process")

    def __init__(self, name: str, process: Process | None) -> None:
        self.name = name
        self.process = process
        self.done = False
        self.error: BaseException | None = None
        self._greenlet: Any = None
        # Counts waits, so that what would have ended an earlier one is recognised.
        self._turn = 0
        self._woken = False


class Timer:
    """A callback that is to come."""

    __slots__ = ("_callback", "process")

    def __init__(self, callback: Callable[[], None], process: Process | None) -> None:
        self._callback: Callable[[], None] | None = callback
        self.process = process

    def cancel(self) -> None:
        """Have it not come."""
        self._callback = None


class Signal:
    """Wakes the tasks that wait for it."""

    __slots__ = ("_kernel", "_waiting")

    def __init__(self) -> None:
        self._waiting: list[tuple[Task, int]] = []
        self._kernel: Kernel | None = None

    def notify(self) -> None:
        """Wake all that wait, at this instant and in the order in which they began to."""
        if self._waiting and self._kernel is not None:
            waiting, self._waiting = self._waiting, []
            for task, turn in waiting:
                if task._turn == turn:
                    task._woken = True
                    self._kernel._push(self._kernel.now_us, task, turn)


class Kernel:
    """The heap and the clock. *draw* is the one source of chance of everything in the world."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.now_us = 0
        self.current: Task | None = None
        self.turns = 0
        self._hub = getcurrent()
        self._heap: list[tuple[int, int, Task | Timer, int]] = []
        self._order = count()
        self._tasks: list[Task] = []

    @property
    def now_ms(self) -> int:
        """Milliseconds since the world began."""
        return self.now_us // 1_000

    @property
    def pending(self) -> int:
        """How much is to happen."""
        return len(self._heap)

    # For everybody.

    def spawn(self, run: Callable[[], None], name: str, process: Process | None = None) -> Task:
        """Begin a task at this instant. Gives it; its ``error`` is what it died of, other than by being killed."""
        task = Task(name, process)

        def work() -> None:
            try:
                if process is not None:
                    process.check_alive()
                run()
            except Killed:
                pass
            except BaseException as error:  # noqa: BLE001 (whoever made the task looks at it)
                task.error = error
            finally:
                task.done = True
                self._tasks.remove(task)
                if process is not None:
                    process.tasks.remove(task)

        task._greenlet = greenlet(work, self._hub)
        self._tasks.append(task)
        if process is not None:
            process.tasks.append(task)
        self._push(self.now_us, task, 0)
        return task

    def call_in(self, delay_us: int, callback: Callable[[], None], process: Process | None = None) -> Timer:
        """Have *callback* called between turns after so long; it must not block."""
        timer = Timer(callback, process)
        self._push(self.now_us + max(0, delay_us), timer, 0)
        return timer

    # For the task that has its turn.

    def pause(self, delay_us: int) -> None:
        """Go on after so long; with 0, when those that are ready have had their turns."""
        task = self._begin_wait()
        self._push(self.now_us + max(0, delay_us), task, task._turn)
        self._give_away(task)

    def wait(self, signal: Signal, timeout_us: int) -> bool:
        """Wait until the signal comes, True, or the time is over, False."""
        task = self._begin_wait()
        signal._kernel = self
        signal._waiting.append((task, task._turn))
        self._push(self.now_us + max(0, timeout_us), task, task._turn)
        self._give_away(task)
        return task._woken

    def _begin_wait(self) -> Task:
        task = self.current
        assert task is not None, "only a task can wait"
        if task.process is not None:
            task.process.check_alive()
        task._turn += 1
        task._woken = False
        return task

    def _give_away(self, task: Task) -> None:
        self._hub.switch()
        if task.process is not None:
            task.process.check_alive()

    # What happens to processes.

    def kill(self, process: Process) -> None:
        """End it at once. Where a task of its own asks for that, it does not come back from here."""
        if process.alive:
            process.alive = False
            process.frozen = False
            process.held.clear()
            for task in list(process.tasks):
                if task is not self.current:
                    # It wakes up where it waits, and finds itself dead.
                    task._turn += 1
                    self._push(self.now_us, task, task._turn)
        if self.current is not None and self.current.process is process:
            raise Killed(process.name)

    def freeze(self, process: Process) -> None:
        """Nothing of it goes on; it does not notice."""
        process.frozen = process.alive

    def thaw(self, process: Process) -> None:
        """All that came due meanwhile happens now."""
        process.frozen = False
        held, process.held = process.held, []
        for what, turn in held:
            self._push(self.now_us, what, turn)

    # Driving.

    def run(self, until: Callable[[], bool], deadline_us: int) -> bool:
        """Let the world go on *until* holds, True; or until the deadline, or until nothing is left to happen, False."""
        assert self.current is None, "the world is driven from outside"
        heap = self._heap
        while not until():
            if not heap or heap[0][0] > deadline_us:
                self.now_us = max(self.now_us, deadline_us)
                return until()
            at_us, _, what, turn = heappop(heap)
            self.now_us = max(self.now_us, at_us)
            process = what.process
            if process is not None and process.frozen:
                process.held.append((what, turn))
            elif type(what) is Timer:
                callback = what._callback
                if callback is not None and (process is None or process.alive):
                    what._callback = None
                    callback()
            else:
                self._turn_of(what, turn)  # type: ignore[arg-type]
        return True

    def _turn_of(self, task: Task, turn: int) -> None:
        if task.done or task._turn != turn:
            return
        self.turns += 1
        # What else would have ended this wait comes too late.
        task._turn += 1
        self.current = task
        try:
            task._greenlet.switch()
        finally:
            self.current = None

    def close(self) -> None:
        """End every task that is left, as if all had been killed."""
        for task in list(self._tasks):
            if task.process is None:
                task.process = Process(task.name)
                task.process.tasks.append(task)
            if task.process.alive:
                self.kill(task.process)
        self.run(lambda: not self._tasks, self.now_us)
        self._heap.clear()

    def _push(self, at_us: int, what: Task | Timer, turn: int) -> None:
        heappush(self._heap, (at_us, next(self._order), what, turn))
