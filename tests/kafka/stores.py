"""What a stopped worker has on its disk: for each partition the changelogs up to where the copy says to be, and no more."""

from __future__ import annotations

__all__ = ["META", "check_stores", "compare", "copies_of"]

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import orjson

from headrace_adapters.rocks import RocksStore
from tests.kafka.topic_log import TopicLog

META = b"Mk"
OFFSET = b"Mo"
OFFSET_KEY = b'["","offset"]'


class Readable(Protocol):
    """What is asked of a store."""

    def get(self, key: bytes) -> bytes | None: ...
    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]: ...


def copies_of(state: Path) -> list[Path]:
    """The stores of all workers of an app whose folder for state this is."""
    return sorted(path for path in state.glob("**/slot-*/store") if path.is_dir())


def check_stores(state: Path, log: TopicLog) -> int:
    """Compare each copy with the changelogs; gives how many partitions were compared."""
    wrong: list[str] = []
    compared = 0
    for folder in copies_of(state):
        with RocksStore(folder) as store:
            for key, value in store.scan(META):
                number = int.from_bytes(key[len(META) :], "big")
                wrong += [f"{folder.parent.name}, partition {number}: {line}" for line in compare(store, log, number, value)]
                compared += 1
    assert not wrong, f"{len(wrong)} differences between stores and changelogs:\n" + "\n".join(wrong[:25])
    return compared


def compare(store: Readable, log: TopicLog, number: int, meta: bytes) -> list[str]:
    """How the copy of a partition differs from the changelogs up to where *meta* says that it is."""
    coordination, context = orjson.loads(meta)["next"]
    meant: dict[bytes, bytes] = {}
    offset: bytes | None = None
    for topic, space, end in (("coordination-changelog", b"C", coordination), ("context-changelog", b"X", context)):
        for record in log.of(topic):
            if record.partition != number or record.offset >= end:
                continue
            assert record.key is not None
            if record.key == OFFSET_KEY:
                offset = record.value
                continue
            place = (b"H", record.key[:-4]) if space == b"C" and _is_head(record.key) else (space, record.key)
            if record.value is None:
                meant.pop(b"".join(place), None)
            else:
                meant[b"".join(place)] = record.value
    there = {
        space + key[3:]: value
        for space in (b"H", b"C", b"X")
        for key, value in store.scan(space + number.to_bytes(2, "big"))
    }
    lines = [
        f"{key!r} is {there.get(key)!r}, and {meant.get(key)!r} in the changelog"
        for key in sorted(there.keys() | meant.keys())
        if there.get(key) != meant.get(key)
    ]
    if store.get(OFFSET + number.to_bytes(2, "big")) != offset:
        lines.append(f"the next job is {store.get(OFFSET + number.to_bytes(2, 'big'))!r}, and {offset!r} in the changelog")
    return lines + _check_indexes(store, number, there)


def _is_head(key: bytes) -> bool:
    return list(orjson.loads(key)[1:]) == ["r"]


def _check_indexes(store: Readable, number: int, there: dict[bytes, bytes]) -> list[str]:
    """Work that is due or scheduled is found by the indexes. They may hold more than that, and never less."""
    partition = number.to_bytes(2, "big")
    timers = {key[3:] for key, _ in store.scan(b"T" + partition)}
    active = {key[3:] for key, _ in store.scan(b"A" + partition)}
    lines = []
    for key, value in there.items():
        data = orjson.loads(value) if key[:1] != b"X" else None
        if key[:1] == b"C" and isinstance(data, dict):
            run_id, _, *rest = orjson.loads(key[1:])
            if data.get("status") in ("scheduled", "running") and b"[" + orjson.dumps(run_id) + b"," not in active:
                lines.append(f"{key!r} is {data['status']}, and the run is not among the active ones")
            if data.get("due") is not None:
                name = [run_id, rest[0], int(rest[1]) if len(rest) > 1 else -1]
                if data["due"].to_bytes(8, "big") + orjson.dumps(name) not in timers:
                    lines.append(f"{key!r} is due at {data['due']}, and has no timer")
    return lines
