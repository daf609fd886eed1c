"""The ends of attempts that have a timeout. Only in memory: an attempt that begins again has all its time again."""

from __future__ import annotations

__all__ = ["Deadlines"]

import heapq
from collections.abc import Container, Sized
from typing import Protocol

# So many deadlines of attempts that have ended cost nothing.
SPARE = 1_000


class Tokens(Container[int], Sized, Protocol):
    """The executions in progress."""


class Deadlines:
    """When each of the executions in *tokens* is to end at the latest; those of others are dropped in time."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._heap: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def set(self, due_ms: int, token: int) -> None:
        """The execution *token* may go on until *due_ms*."""
        if len(self._heap) > 2 * len(self._tokens) + SPARE:
            # Most attempts end long before their time, and a timeout of a day would else hold those of a whole day.
            self._heap = [entry for entry in self._heap if entry[1] in self._tokens]
            heapq.heapify(self._heap)
        heapq.heappush(self._heap, (due_ms, token))

    def due(self, now_ms: int) -> int | None:
        """Take the next execution whose time is over; None where there is none."""
        if self._heap and self._heap[0][0] <= now_ms:
            return heapq.heappop(self._heap)[1]
        return None

    def next_due_ms(self, otherwise_ms: int) -> int:
        """When :meth:`due` has to be asked again at the latest, and no later than *otherwise_ms*."""
        return min(self._heap[0][0], otherwise_ms) if self._heap else otherwise_ms

    def clear(self) -> None:
        """No execution is in progress any more."""
        self._heap.clear()
