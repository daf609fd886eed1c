"""A key-value store in memory, which can be told to fail: before a write, after it, or never."""

from __future__ import annotations

__all__ = ["Crash", "Faults", "MemoryStore"]

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator


class Crash(Exception):
    """Stands for the death of the process: whoever drives the worker lets it go and opens another one."""


class Faults:
    """When to crash: *before* or *after* the n-th write from now on (1 is the next one)."""

    def __init__(self) -> None:
        self.before = 0
        self.after = 0

    def reach_before(self) -> None:
        """A write is about to happen."""
        if self.before:
            self.before -= 1
            if not self.before:
                raise Crash("before a write")

    def reach_after(self) -> None:
        """A write has happened, and nobody has been told."""
        if self.after:
            self.after -= 1
            if not self.after:
                raise Crash("after a write")


def _after(prefix: bytes) -> bytes | None:
    """The first key behind all that begin with *prefix*; None where there is none."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes((stem[-1] + 1,)) if stem else None


class MemoryStore:
    """Sorted bytes in memory. What was written stays when its worker crashes: the store is the disk."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}
        self._keys: list[bytes] = []
        self.faults = Faults()

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, or None."""
        return self._values.get(key)

    def scan(self, prefix: bytes, start: bytes | None = None, limit: int | None = None) -> Iterator[tuple[bytes, bytes]]:
        """The records whose keys begin with *prefix*, from *start* on, in order of their keys."""
        yield from self.scan_between(prefix if start is None else max(prefix, start), _after(prefix), limit)

    def scan_between(self, lower: bytes, upper: bytes | None, limit: int | None = None) -> Iterator[tuple[bytes, bytes]]:
        """The records with ``lower <= key < upper``, in order of their keys."""
        first = bisect_left(self._keys, lower)
        last = len(self._keys) if upper is None else bisect_left(self._keys, upper)
        if limit is not None:
            last = min(last, first + limit)
        for key in self._keys[first:last]:
            yield key, self._values[key]

    def write(
        self,
        puts: Iterable[tuple[bytes, bytes]] = (),
        deletes: Iterable[bytes] = (),
        ranges: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        """Delete, then put, all at once."""
        self.faults.reach_before()
        for lower, upper in ranges:
            first, last = bisect_left(self._keys, lower), bisect_left(self._keys, upper)
            for key in self._keys[first:last]:
                del self._values[key]
            del self._keys[first:last]
        for key in deletes:
            if self._values.pop(key, None) is not None:
                del self._keys[bisect_left(self._keys, key)]
        for key, value in puts:
            if key not in self._values:
                insort(self._keys, key)
            self._values[key] = value
        self.faults.reach_after()

    def close(self) -> None:
        """Nothing is held."""

    def __len__(self) -> int:
        return len(self._keys)
