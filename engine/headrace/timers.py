"""The timers of one partition: those that are due soon in memory, all of them in the store's index.

A worker may hold a million waiting runs, so only timers that are due before the *horizon* are in memory. The index is
read from the horizon on and never from its beginning, where the traces of timers that have fired lie.
"""

from __future__ import annotations

__all__ = ["Timers"]

import heapq

from headrace.ports import RunReader, TimerEntry

WINDOW_MS = 60_000
LOAD_MAX = 10_000


class Timers:
    """Durable timers, in order of their due time."""

    def __init__(self, reader: RunReader) -> None:
        self._reader = reader
        self._heap: list[TimerEntry] = []
        self._horizon_ms = -1
        # Timers beyond the horizon that the index may not hold yet: set since the last commit, or being committed.
        self._fresh: list[TimerEntry] = []
        self._taken: list[TimerEntry] = []

    def set(self, entry: TimerEntry) -> None:
        """A timer was set in a decision that is not durable yet."""
        if entry.due_ms <= self._horizon_ms:
            heapq.heappush(self._heap, entry)
        else:
            self._fresh.append(entry)

    def taken(self) -> None:
        """What was set so far is being committed."""
        self._taken += self._fresh
        self._fresh = []

    def committed(self) -> None:
        """What was being committed is in the index now."""
        self._taken = []

    def forget(self) -> None:
        """Only what is in the index counts: begin anew from there."""
        self.__init__(self._reader)  # type: ignore[misc]

    def due(self, now_ms: int) -> TimerEntry | None:
        """Take the next timer that is due; None where there is none."""
        while now_ms >= self._horizon_ms - WINDOW_MS // 2:
            if not self._load(now_ms):
                break
        if self._heap and self._heap[0].due_ms <= now_ms:
            return heapq.heappop(self._heap)
        return None

    def next_due_ms(self) -> int:
        """When :meth:`due` has to be asked again at the latest."""
        look_ms = self._horizon_ms - WINDOW_MS // 2
        return min(self._heap[0].due_ms, look_ms) if self._heap else look_ms

    def _load(self, now_ms: int) -> bool:
        """Move the horizon on by a window, or as far as one read goes; whether there may be more within reach."""
        until_ms = max(now_ms, self._horizon_ms) + WINDOW_MS
        found = self._reader.timers(self._horizon_ms, until_ms, LOAD_MAX)
        full = len(found) >= LOAD_MAX
        if full:
            # Entries with the same due time as the last one may be missing: leave all of those for the next read.
            last_ms = found[-1].due_ms
            earlier = [entry for entry in found if entry.due_ms < last_ms]
            if earlier:
                found, until_ms = earlier, last_ms - 1
            else:
                found = self._reader.timers(last_ms - 1, last_ms, 2**62)
                until_ms = last_ms
        self._horizon_ms = until_ms
        for entry in found:
            heapq.heappush(self._heap, entry)
        for fresh in (self._fresh, self._taken):
            for entry in fresh:
                if entry.due_ms <= until_ms:
                    heapq.heappush(self._heap, entry)
            fresh[:] = [entry for entry in fresh if entry.due_ms > until_ms]
        return full
