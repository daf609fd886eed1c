"""Where records stand in a key-value store: one letter for what they are, the partition, then their key.

    H  head or dedup marker     partition, run          C  coordination (nodes, items, ...)   partition, key
    X  context value            partition, key          T  timer                              partition, due, run, node, item
    A  run with active work     partition, run          P  parked run                         partition, run
    E  events                   run, sequence           R  result                             run
    B  blueprint                number                  D  dead letter                        number
    J  job log (inbox)          number                  M  what is said about the store

``T``, ``A`` and ``P`` are indexes: they can be made again from the others. The records under C, X, E, R, B, D and J are
those of ``headrace_topics``.
"""

from __future__ import annotations

__all__ = ["KeyValueStore", "Layout", "number_key", "numbered", "timer_key"]

from collections.abc import Iterable, Iterator
from typing import Protocol

import orjson

from headrace.ports import TimerEntry

BLUEPRINT = b"B"
DEAD_LETTER = b"D"
JOB = b"J"
EVENTS = b"E"
RESULT = b"R"
META_PARTITIONS = b"Mpartitions"

# A key has two bytes for the partition.
PARTITIONS_MAX = 2**16


class KeyValueStore(Protocol):
    """A sorted store of bytes with atomic batches: ``headrace_adapters.rocks.RocksStore``, or one in memory."""

    def get(self, key: bytes) -> bytes | None: ...
    def scan(self, prefix: bytes, start: bytes | None = None, limit: int | None = None) -> Iterator[tuple[bytes, bytes]]: ...
    def scan_between(self, lower: bytes, upper: bytes | None, limit: int | None = None) -> Iterator[tuple[bytes, bytes]]: ...
    def write(
        self,
        puts: Iterable[tuple[bytes, bytes]] = (),
        deletes: Iterable[bytes] = (),
        ranges: Iterable[tuple[bytes, bytes]] = (),
    ) -> None: ...
    def close(self) -> None: ...


class Layout:
    """The key prefixes of one partition."""

    __slots__ = ("active", "context", "coordination", "head", "parked", "timer")

    def __init__(self, partition: int) -> None:
        number = partition.to_bytes(2, "big")
        self.head = b"H" + number
        self.coordination = b"C" + number
        self.context = b"X" + number
        self.timer = b"T" + number
        self.active = b"A" + number
        self.parked = b"P" + number


def timer_key(prefix: bytes, entry: TimerEntry) -> bytes:
    """The key of a timer: in the order of due times."""
    return prefix + entry.due_ms.to_bytes(8, "big") + orjson.dumps(entry[1:])


def timer_entry(prefix: bytes, key: bytes) -> TimerEntry:
    """The timer of a key."""
    start = len(prefix)
    return TimerEntry(int.from_bytes(key[start : start + 8], "big"), *orjson.loads(key[start + 8 :]))


def number_key(space: bytes, number: int) -> bytes:
    """The key of a record that is numbered."""
    return space + number.to_bytes(8, "big")


def numbered(space: bytes, key: bytes) -> int:
    """The number in a key."""
    return int.from_bytes(key[len(space) : len(space) + 8], "big")
