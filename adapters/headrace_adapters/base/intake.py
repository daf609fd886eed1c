"""Commands on their way from clients, which hand them over from any thread, to the loop of a worker.

They are taken in the order in which they came, as long as the worker has room for more work. Where it has none, starts
are held back, and so is what was said to their runs after them. Everything else passes them: a worker whose slots are
all taken by nodes that hang could otherwise not even be told to cancel their runs.
"""

from __future__ import annotations

__all__ = ["AnswerCallback", "Intake"]

from collections import Counter, deque
from collections.abc import Callable, Iterable

from headrace.adapter import Answer
from headrace.commands import Command, Start

AnswerCallback = Callable[[Answer], None]
_Entry = tuple[Command, AnswerCallback | None]


class Intake:
    """A queue that starts do not block."""

    def __init__(self) -> None:
        self._came: deque[_Entry] = deque()
        self._held: deque[_Entry] = deque()
        self._runs_held: Counter[str] = Counter()

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._came or self._held)

    def put(self, command: Command, on_answer: AnswerCallback | None) -> None:
        """From any thread: add a command."""
        self._came.append((command, on_answer))

    def put_back(self, commands: Iterable[Command]) -> None:
        """These were taken, and nothing came of it: they are the first again. Their answers are known to who took them."""
        self._came.extendleft(reversed([*((command, None) for command in commands), *self._held]))
        self._held.clear()
        self._runs_held.clear()

    def take(self) -> _Entry | None:
        """The next command in order; None where there is none."""
        if self._held:
            entry = self._held.popleft()
            run_id = entry[0].run_id
            self._runs_held[run_id] -= 1
            if not self._runs_held[run_id]:
                del self._runs_held[run_id]
            return entry
        return self._came.popleft() if self._came else None

    def take_urgent(self) -> _Entry | None:
        """The next command that brings no new work; what stands before it is held back. None where there is none."""
        while self._came:
            entry = self._came.popleft()
            command = entry[0]
            if not isinstance(command, Start) and command.run_id not in self._runs_held:
                return entry
            self._held.append(entry)
            self._runs_held[command.run_id] += 1
        return None
