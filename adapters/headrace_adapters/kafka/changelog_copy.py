"""The local copy of the two changelogs of a partition: what a changelog record means to the store, and how far the copy is.

Records go to the places that ``headrace_adapters.local.layout`` gives them. Beside them stands, in the same atomic write,
the offset behind the last one, so a copy always knows how far it is:

    M k <partition>   {"cluster", "topics": [id, id], "next": [coordination, context], "at": ms since 1970}
    M o <partition>   the coordination record of the jobs that were taken

The indexes (timers, active and parked runs) follow from each record by itself, without a look at what was there before,
so that copying is fast. They may so hold entries that mean nothing any more, and never lack one: the engine recognises a
stale timer when it is due, and :meth:`ChangelogCopy.finish` takes runs out that are not active.
"""

from __future__ import annotations

__all__ = ["ChangelogCopy", "Progress", "offset_place"]

import logging
import re
from collections.abc import Callable, Iterable
from typing import Any

import orjson

from headrace.execution import NO_ITEM
from headrace.ports import TimerEntry
from headrace.state import RunState
from headrace_adapters.kafka.topic_layout import TopicLayout
from headrace_adapters.local.layout import KeyValueStore, Layout, timer_key
from headrace_adapters.local.reader import LocalReader
from headrace_topics.names import OFFSET_KEY
from headrace_topics.state_records import decode_offset

_LOGGER = logging.getLogger(__name__)

META = b"Mk"
OFFSET = b"Mo"

# The key of a head is that of its run and one part more; a node may be called "r" too, but has a kind before its name.
_HEAD = re.compile(rb'\["(?:[^"\\]|\\.)*","r"\]')
_RUN = re.compile(rb'\["(?:[^"\\]|\\.)*",')
_ACTIVE = re.compile(rb'"status":"(?:scheduled|running)"')

# How far a copy is, in the two changelogs: the offset behind the last record that it holds.
Progress = list[int]


class ChangelogCopy:
    """The copies of all partitions in one store."""

    def __init__(self, store: KeyValueStore, layout: TopicLayout, clock: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock
        self._kept_ms = layout.tombstones_kept_ms
        self.topics = (layout.coordination, layout.context)
        self._origin = {
            "cluster": layout.cluster_id,
            "topics": [layout.topic_ids.get(topic, "") for topic in self.topics],
        }

    def progress(self, number: int) -> Progress | None:
        """How far the copy of a partition is; None where there is none, or where it is of other topics than these."""
        record = self._store.get(_meta_key(number))
        if record is None:
            return None
        try:
            known = orjson.loads(record)
            origin = {"cluster": known["cluster"], "topics": known["topics"]}
            done = [int(offset) for offset in known["next"]]
            age_ms = self._clock() - int(known["at"])
        except (ValueError, KeyError, TypeError):
            _LOGGER.warning("partition %d: the local copy does not say what it is, and is made anew", number)
            return None
        if origin != self._origin or len(done) != len(self.topics):
            _LOGGER.error("partition %d: the local copy is one of other topics, and is made anew", number)
            return None
        if age_ms > self._kept_ms:
            _LOGGER.warning(
                "partition %d: the local copy is %d hours old and made anew, because changelogs do not tell for so long "
                "which keys are gone", number, age_ms // 3_600_000,
            )  # fmt: skip
            return None
        return done

    def jobs_offset(self, number: int) -> int | None:
        """The offset of the next job, as the changelog tells it."""
        record = self._store.get(offset_place(number))
        return None if record is None else decode_offset(record)

    def wipe(self, number: int) -> None:
        """Drop the copy of a partition."""
        layout = Layout(number)
        spaces = (layout.head, layout.coordination, layout.context, layout.timer, layout.active, layout.parked)
        self._store.write([], [_meta_key(number), offset_place(number)], [(space, space + b"\xff") for space in spaces])

    def meta(self, number: int, progress: Progress) -> tuple[bytes, bytes]:
        """The record that says how far a copy is."""
        return _meta_key(number), orjson.dumps({**self._origin, "next": progress, "at": self._clock()})

    def apply(self, messages: Iterable[Any], progress: dict[int, Progress]) -> int:
        """Put changelog records into the store, with how far each partition in *progress* is then; how many they were."""
        places: dict[bytes, bytes | None] = {}
        layouts = {number: Layout(number) for number in progress}
        coordination = self.topics[0]
        count = 0
        for message in messages:
            key, value = message.key(), message.value()
            layout = layouts[message.partition()]
            count += 1
            if message.topic() != coordination:
                places[layout.context + key] = value
            elif key == OFFSET_KEY:
                places[offset_place(message.partition())] = value
            elif key.endswith(b',"r"]') and _HEAD.fullmatch(key):
                _head(places, layout, key[:-4], value)
            else:
                places[layout.coordination + key] = value
                if value is not None:
                    _index(places, layout, key, value)
        puts = [(key, value) for key, value in places.items() if value is not None]
        puts += [self.meta(number, done) for number, done in progress.items()]
        self._store.write(puts, [key for key, value in places.items() if value is None])
        return count

    def finish(self, number: int) -> None:
        """The copy is up to date and is to be worked on: take out of the index which runs are not active."""
        layout, reader = Layout(number), LocalReader(self._store, number)
        gone = []
        for run_id in reader.active_runs():
            run = reader.load(run_id)
            if not (isinstance(run, RunState) and run.active):
                gone.append(layout.active + b"[" + orjson.dumps(run_id) + b",")
        self._store.write([], gone)


def offset_place(number: int) -> bytes:
    """Where the store keeps the offset of the next job of a partition."""
    return OFFSET + number.to_bytes(2, "big")


def _meta_key(number: int) -> bytes:
    return META + number.to_bytes(2, "big")


def _head(places: dict[bytes, bytes | None], layout: Layout, prefix: bytes, value: bytes | None) -> None:
    """The head of a run, or its dedup marker; *prefix* is what the keys of the run begin with."""
    places[layout.head + prefix] = value
    parked = False
    if value is None:
        places[layout.active + prefix] = None
    elif b'"ended":' in value and "ended" in (data := orjson.loads(value)):
        run_id = orjson.loads(prefix[:-1] + b"]")[0]
        places[timer_key(layout.timer, TimerEntry(data["until"], run_id, "", NO_ITEM))] = b""
        places[layout.active + prefix] = None
    else:
        parked = b'"parked":' in value
    places[layout.parked + prefix] = b"" if parked else None


def _index(places: dict[bytes, bytes | None], layout: Layout, key: bytes, value: bytes) -> None:
    """The index entries of a part other than the head."""
    if _ACTIVE.search(value):
        run = _RUN.match(key)
        assert run is not None, f"a changelog record has the key {key!r}"
        places[layout.active + run[0]] = b""
    if b'"due":' in value:
        due_ms = orjson.loads(value).get("due")
        if due_ms is not None:
            part = orjson.loads(key)
            item = int(part[3]) if part[1] == "m" else NO_ITEM
            places[timer_key(layout.timer, TimerEntry(due_ms, part[0], part[2], item))] = b""
