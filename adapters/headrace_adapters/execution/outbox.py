"""Where executions in progress are known, and where their outcomes wait for the engine's thread.

Every execution that was begun comes out exactly once, whoever ends it: taking it out of :attr:`Outbox.live`, which is
atomic, decides. So an execution that was given up for lost and ends after all changes nothing.

Outcomes and the news of them are apart: whoever finishes many executions in a row tells once. A wake-up costs a system
call and a change of threads, more than a small node does.
"""

from __future__ import annotations

__all__ = ["Outbox"]

from collections import deque
from collections.abc import Callable

from headrace.context import Context
from headrace.execution import Failed, Outcome


class Outbox:
    """Shared by the parts of an executor and the engine's thread; what is not said to be for the latter may be called
    from any thread."""

    __slots__ = ("_added", "_drained", "_finished", "_told", "_wake", "live")

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._finished: deque[tuple[int, Outcome]] = deque()
        self._told = False
        self._added = 0
        self._drained = 0
        self.live: dict[int, Context] = {}
        """The executions in progress, queued ones included, by token."""

    @property
    def in_progress(self) -> int:
        """How many executions have no outcome that :meth:`drain` would find. For the engine's thread."""
        # Not the size of ``live``: an execution leaves that a moment before its outcome can be taken.
        return self._added - self._drained - len(self._finished)

    def add(self, ctx: Context) -> None:
        """An execution begins. For the engine's thread."""
        self._added += 1
        self.live[ctx.execution.token] = ctx

    @property
    def untold(self) -> bool:
        """Whether outcomes wait of which nobody was told."""
        return bool(self._finished) and not self._told

    def finish(self, ctx: Context, outcome: Outcome) -> bool:
        """Put the outcome of *ctx* where :meth:`drain` finds it; False if the execution had come out already."""
        token = ctx.execution.token
        if self.live.pop(token, None) is None:
            return False
        self._finished.append((token, outcome))
        return True

    def give_up(self, ctx: Context) -> bool:
        """End a withdrawn execution without waiting for its code; False if it had come out already."""
        return self.finish(ctx, Failed("the attempt was cancelled", "CANCELLED"))

    def tell(self) -> None:
        """Wake the engine's thread, unless it was woken for what waits already."""
        if self._finished and not self._told:
            self._told = True
            self._wake()

    def drain(self) -> list[tuple[int, Outcome]]:
        """Take all outcomes out, in the order in which they came."""
        # The flag goes first: what is added from here on is either in this drain or told anew.
        self._told = False
        finished = self._finished
        outcomes = [finished.popleft() for _ in range(len(finished))]
        self._drained += len(outcomes)
        return outcomes
