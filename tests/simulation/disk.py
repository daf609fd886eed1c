"""The disk of one machine, and the stores on it: whole batches, of which a machine that loses power may lose the last.

A write has moments at which something may happen to it (:meth:`SimulatedDisk.strike`):

    BEFORE    nothing of it has happened
    WRITTEN   it can be read and outlives its process; with *sync* the disk has not confirmed it yet
    DONE      it is as durable as it will be, and nobody has been told

What happens is the caller's: whoever kills the process there has it die between two writes, and whoever raises a
:class:`StoreError` has the disk refuse the write (BEFORE) or its confirmation (WRITTEN). A loss of power takes batches
away, the latest first: with *sync* only the one that is under way, without it any number of those that are not on the
disk yet. A process that dies alone loses nothing. Whoever opens or closes a store has the disk confirm what is in it.

The stores do what ``headrace_adapters.rocks.RocksStore`` does, errors included. Nothing is ever copied as a whole but by
:meth:`SimulatedDisk.copy`: an unsynced batch is kept as what it replaced.
"""

from __future__ import annotations

__all__ = ["BEFORE", "DONE", "WRITTEN", "Copy", "SimulatedDisk", "SimulatedStore", "Strike"]

import random
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Final, NamedTuple

from headrace.errors import StoreError, StoreLocked

from .kernel import Killed, Process

BEFORE: Final = "before"
WRITTEN: Final = "written"
DONE: Final = "done"

Record = tuple[bytes, bytes]
Replaced = list[tuple[bytes, bytes | None]]

# What an operating system has written by itself long ago: no machine loses more batches than this.
UNSYNCED_MAX: Final = 1_000


class Strike(NamedTuple):
    """What is to happen at one *moment* of the write after *skipped* others, to any store of the disk."""

    skipped: int
    moment: str
    happen: Callable[[SimulatedStore], None]


class Copy(NamedTuple):
    """A store as it was."""

    values: dict[bytes, bytes]


class Volume:
    """What one store has on the disk."""

    __slots__ = ("generation", "holder", "keys", "unsynced", "values", "writes")

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.keys: list[bytes] = []
        # Of each batch that a loss of power may take, what it replaced; the earliest one first.
        self.unsynced: deque[Replaced] = deque(maxlen=UNSYNCED_MAX)
        self.writes = 0
        self.holder: SimulatedStore | None = None
        # Counts what no handle survives.
        self.generation = 0

    def apply(self, puts: Iterable[Record], deletes: Iterable[bytes], ranges: Iterable[tuple[bytes, bytes]]) -> None:
        """Ranges and deletes first, then puts; what was there before is remembered."""
        values, keys = self.values, self.keys
        replaced: Replaced = []
        for lower, upper in ranges:
            first, last = bisect_left(keys, lower), bisect_left(keys, upper)
            replaced += [(key, values.pop(key)) for key in keys[first:last]]
            del keys[first:last]
        for key in deletes:
            value = values.pop(key, None)
            if value is not None:
                replaced.append((key, value))
                del keys[bisect_left(keys, key)]
        for key, value in puts:
            before = values.get(key)
            if before is None:
                insort(keys, key)
            replaced.append((key, before))
            values[key] = value
        self.unsynced.append(replaced)
        self.writes += 1

    def take_back(self, batches: int) -> None:
        """The last *batches* never happened."""
        for _ in range(batches):
            for key, value in reversed(self.unsynced.pop()):
                if value is None:
                    del self.values[key]
                    del self.keys[bisect_left(self.keys, key)]
                else:
                    if key not in self.values:
                        insort(self.keys, key)
                    self.values[key] = value
        self.writes -= batches


class SimulatedStore:
    """A store that a process holds open (``headrace_adapters.local.layout.KeyValueStore``)."""

    __slots__ = ("_closed", "_disk", "_failure", "_generation", "_volume", "name", "process", "sync")

    def __init__(self, disk: SimulatedDisk, name: str, volume: Volume, process: Process, sync: bool) -> None:
        self.name = name
        self.process = process
        self.sync = sync
        self._disk = disk
        self._volume = volume
        self._generation = volume.generation
        self._closed = False
        self._failure: StoreError | None = None

    @property
    def held(self) -> bool:
        """Whether a process that lives has it open."""
        return self.process.alive and not self._closed and self._generation == self._volume.generation

    def _check(self) -> None:
        if not self.held or self._failure is not None:
            if not self.process.alive or self._generation != self._volume.generation:
                raise Killed(self.process.name)
            if self._closed:
                raise StoreError(f"the store {self.name} is closed; open it again")
            assert self._failure is not None
            raise StoreError(str(self._failure))

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, or None."""
        self._check()
        return self._volume.values.get(key)

    def scan(self, prefix: bytes, start: bytes | None = None, limit: int | None = None) -> Iterator[Record]:
        """The records whose keys begin with *prefix*, from *start* on, as they are now."""
        return self.scan_between(prefix if start is None or start < prefix else start, _after(prefix), limit)

    def scan_between(self, lower: bytes, upper: bytes | None, limit: int | None = None) -> Iterator[Record]:
        """The records with ``lower <= key < upper``, as they are now."""
        self._check()
        keys, values = self._volume.keys, self._volume.values
        first = bisect_left(keys, lower)
        last = len(keys) if upper is None else bisect_left(keys, upper, first)
        if limit is not None:
            last = min(last, first + limit)
        return iter([(key, values[key]) for key in islice(keys, first, last)])

    def write(
        self,
        puts: Iterable[Record] = (),
        deletes: Iterable[bytes] = (),
        ranges: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        """Apply one batch, all or nothing."""
        self._check()
        puts, deletes, ranges = list(puts), list(deletes), list(ranges)
        if not (puts or deletes or ranges):
            return
        disk, volume = self._disk, self._volume
        happen = disk.next_strike()
        self._reach(BEFORE, happen)
        volume.apply(puts, deletes, ranges)
        if disk.on_write is not None:
            disk.on_write(self.name, puts, deletes, ranges)
        try:
            self._reach(WRITTEN, happen)
        except StoreError as failure:
            # Nobody knows what is on the disk, so nobody gets to read what is in memory.
            self._failure = failure
            raise
        if disk.pause is not None:
            disk.pause(self)
            self._check()
        if self.sync:
            volume.unsynced.clear()
        self._reach(DONE, happen)

    def _reach(self, moment: str, strike: Strike | None) -> None:
        if strike is not None and strike.moment == moment:
            strike.happen(self)
            self._check()

    def close(self) -> None:
        """Let go of it; a second time changes nothing. What was written is on the disk then."""
        if self.held:
            self._closed = True
            self._volume.holder = None
            if self._failure is None:
                self._volume.unsynced.clear()
        elif not self.process.alive:
            raise Killed(self.process.name)


class SimulatedDisk:
    """Stores by name. *draw* decides how much a loss of power takes.

    *on_write* is told of every batch that has just been applied: the name of the store, puts, deletes and ranges. *pause*
    is called while a batch is on its way to the disk, and may let time pass.
    """

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self._volumes: dict[str, Volume] = {}
        self._strikes: list[Strike] = []
        self.on_write: Callable[[str, list[Record], list[bytes], list[tuple[bytes, bytes]]], None] | None = None
        self.pause: Callable[[SimulatedStore], None] | None = None

    # What processes do.

    def open(self, name: str, process: Process, *, sync: bool = False) -> SimulatedStore:
        """Open a store, which is made where there is none. Raises :class:`StoreLocked` where another process has it."""
        process.check_alive()
        volume = self._volumes.setdefault(name, Volume())
        if volume.holder is not None and volume.holder.held:
            raise StoreLocked(f"{volume.holder.process.name} holds the store {name}: stop it first")
        # RocksDB makes a table of what its log holds when it opens, and syncs that (seen by its system calls).
        volume.unsynced.clear()
        volume.holder = SimulatedStore(self, name, volume, process, sync)
        return volume.holder

    # What happens to them.

    def strike(self, skipped: int, moment: str, happen: Callable[[SimulatedStore], None]) -> None:
        """Have something happen at a moment of one of the next writes, before which *skipped* others go well."""
        self._strikes.append(Strike(skipped, moment, happen))

    def calm(self) -> None:
        """Nothing that was to happen happens any more."""
        self._strikes.clear()

    def next_strike(self) -> Strike | None:
        """What is to happen to the write that begins."""
        found: Strike | None = None
        if self._strikes:
            left: list[Strike] = []
            for strike in self._strikes:
                if not strike.skipped and found is None:
                    found = strike
                else:
                    left.append(strike._replace(skipped=max(0, strike.skipped - 1)))
            self._strikes = left
        return found

    def lose_power(self) -> dict[str, int]:
        """The machine is off: no handle works any more. Gives how many batches each store has lost."""
        lost: dict[str, int] = {}
        for name, volume in self._volumes.items():
            lost[name] = len(volume.unsynced) - self._draw.randint(0, len(volume.unsynced))
            volume.take_back(lost[name])
            # What is read after this was read from the disk.
            volume.unsynced.clear()
            volume.generation += 1
        return lost

    def delete(self, name: str) -> None:
        """Somebody removes the folder; a process that has it open does not live on."""
        volume = self._volumes.pop(name, None)
        if volume is not None:
            volume.generation += 1

    def copy(self, name: str) -> Copy:
        """The store as it is, for :meth:`bring_back`."""
        return Copy(dict(self.look(name)))

    def bring_back(self, name: str, copy: Copy) -> None:
        """An earlier copy takes the place of the store."""
        self.delete(name)
        volume = self._volumes[name] = Volume()
        volume.values = dict(copy.values)
        volume.keys = sorted(volume.values)

    # What others see of it.

    def view(self, name: str) -> SimulatedStore:
        """The store as it is, for somebody who is not in the world; nobody is kept from it by that."""
        return SimulatedStore(self, name, self._volumes.setdefault(name, Volume()), Process("onlooker"), False)

    def __contains__(self, name: str) -> bool:
        return name in self._volumes

    def look(self, name: str) -> Mapping[bytes, bytes]:
        """What can be read now; not to be kept over a write."""
        return self._volumes[name].values if name in self._volumes else {}

    def unsynced(self, name: str) -> int:
        """How many batches a loss of power may take now."""
        return len(self._volumes[name].unsynced) if name in self._volumes else 0

    def writes(self, name: str) -> int:
        """How many batches the store consists of: what was taken back does not count."""
        return self._volumes[name].writes if name in self._volumes else 0


def _after(prefix: bytes) -> bytes | None:
    """The first key behind all that begin with *prefix*; None where there is none."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes((stem[-1] + 1,)) if stem else None
