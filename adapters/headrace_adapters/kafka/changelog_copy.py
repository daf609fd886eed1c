"""The local copy of the two changelogs of a partition: what a changelog record means to the store, and how far the copy is.

Records go to the places that ``headrace_adapters.local.layout`` gives them. Beside them stands, in the same atomic write,
the offset behind the last one, so a copy always knows how far it is:

    M k <partition>   {"cluster", "topics": [id, id], "next": [coordination, context], "at": when it was complete}
    M o <partition>   the coordination record of the jobs that were taken

The index of timers follows from each record by itself, without a look at what was there before, so that copying is fast.
It may so hold entries that mean nothing any more, and never lacks one: the engine recognises a stale timer when it is due.
Which runs are active or parked is exact, because whoever takes the partition over loads each of them. It is kept in memory
while records are copied (:class:`_Marks`), and the store is told of what has changed at the end of each slice.
"""

from __future__ import annotations

__all__ = ["ChangelogCopy", "Progress", "by_place", "offset_place"]

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from headrace.execution import NO_ITEM
from headrace.ports import TimerEntry
from headrace.state import ACTIVE
from headrace_adapters.kafka.topic_layout import TopicLayout
from headrace_adapters.local.layout import KeyValueStore, Layout, timer_key
from headrace_topics.names import OFFSET_KEY
from headrace_topics.state_records import decode_offset

_LOGGER = logging.getLogger(__name__)

META = b"Mk"
OFFSET = b"Mo"

# The key of a head is that of its run and one part more; a node may be called "r" too, but has a kind before its name.
_TEXT = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_HEAD = re.compile(rb"\[" + _TEXT + rb',"r"\]')
_RUN = re.compile(rb"\[" + _TEXT + rb",")

# What a record has to hold to be that of active work, or to have a time; a value in it may look the same.
_MAY_BE_ACTIVE = re.compile(rb'"status":"(?:scheduled|running)"')
_ACTIVE = re.compile(rb'\{"seq":\d+,"status":"(?:scheduled|running)"')
_MAY_BE_DUE = re.compile(rb'"due":\d')

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
        self._marks: dict[int, _Marks] = {}
        # Of copies that are being made or brought up to date, when they began or were complete last. What is deleted after
        # that time is told for as long as tombstones are kept; a part that was copied later does not make it any later.
        self._complete_ms: dict[int, int] = {}

    def progress(self, number: int) -> Progress | None:
        """How far the copy of a partition is; None where there is none, or where it is of other topics than these."""
        record = self._store.get(_meta_key(number))
        if record is None:
            return None
        try:
            known = orjson.loads(record)
            origin = {"cluster": known["cluster"], "topics": known["topics"]}
            done = [int(offset) for offset in known["next"]]
            at_ms = int(known["at"])
            age_ms = self._clock() - at_ms
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
        self._complete_ms[number] = at_ms
        return done

    def jobs_offset(self, number: int) -> int | None:
        """The offset of the next job, as the changelog tells it."""
        record = self._store.get(offset_place(number))
        return None if record is None else decode_offset(record)

    def wipe(self, number: int) -> None:
        """Drop the copy of a partition."""
        self.leave(number)
        self._complete_ms[number] = self._clock()
        layout = Layout(number)
        spaces = (layout.head, layout.coordination, layout.context, layout.timer, layout.active, layout.parked)
        self._store.write([], [_meta_key(number), offset_place(number)], [(space, space + b"\xff") for space in spaces])

    def meta(self, number: int, progress: Progress) -> tuple[bytes, bytes]:
        """The record that says how far a copy is."""
        at_ms = self._complete_ms.get(number, self._clock())
        return _meta_key(number), orjson.dumps({**self._origin, "next": progress, "at": at_ms})

    def apply(self, records: Mapping[tuple[str, int], list[Any]], progress: Mapping[int, Progress]) -> None:
        """Put changelog records, by topic and partition, into the store, with how far each one in *progress* is then."""
        places: dict[bytes, bytes | None] = {}
        for (topic, number), messages in records.items():
            layout = Layout(number)
            # Of several records of a key only the last one counts, and in a busy log most keys come several times.
            latest: dict[bytes, bytes | None] = {message.key(): message.value() for message in messages}
            if topic != self.topics[0]:
                prefix = layout.context
                places.update([(prefix + key, value) for key, value in latest.items()])
                continue
            marks = self._marks.get(number)
            if marks is None:
                marks = self._marks[number] = _Marks(self._store, layout)
            if OFFSET_KEY in latest:
                places[offset_place(number)] = latest.pop(OFFSET_KEY)
            _coordinate(places, layout, marks, latest)
            marks.tell(places)
        puts = [(key, value) for key, value in places.items() if value is not None]
        puts += [self.meta(number, done) for number, done in progress.items()]
        deletes = [key for key, value in places.items() if value is None]
        self._store.write(puts, deletes)

    def reaches_end(self, number: int) -> bool:
        """With what is applied next the copy is complete.

        False where it was complete so long ago that changelogs need not have told what was deleted since then: reading may
        have rested meanwhile, with the worker or with the brokers.
        """
        now_ms = self._clock()
        if now_ms - self._complete_ms.get(number, now_ms) > self._kept_ms:
            return False
        self._complete_ms[number] = now_ms
        return True

    def leave(self, number: int) -> None:
        """Nothing more is copied for now: the partition is worked on, or is somebody else's and not kept warm."""
        self._marks.pop(number, None)
        self._complete_ms.pop(number, None)


def by_place(messages: Iterable[Any]) -> dict[tuple[str, int], list[Any]]:
    """Messages by topic and partition, in their order; they come in long rows from the same one."""
    places: dict[tuple[str, int], list[Any]] = {}
    topic, number = "", -1
    row: list[Any] = []
    for message in messages:
        if message.partition() != number or message.topic() != topic:
            topic, number = message.topic(), message.partition()
            row = places.setdefault((topic, number), [])
        row.append(message)
    return places


class _Marks:
    """Which runs of a partition are active or parked, as far as it is copied; and what of that the store says.

    A run is active as long as one of its parts is. Runs are named by what their keys begin with.
    """

    def __init__(self, store: KeyValueStore, layout: Layout) -> None:
        self._layout = layout
        self.parts: dict[bytes, bytes] = {}
        """The keys of the parts that are active, with their run."""
        self.parked: set[bytes] = set()
        self._counts: Counter[bytes] = Counter()
        self._changed: set[bytes] = set()
        skip = len(layout.active)
        self._told_active = {key[skip:] for key, _ in store.scan(layout.active)}
        self._told_parked = {key[skip:] for key, _ in store.scan(layout.parked)}
        self.parked |= self._told_parked
        for run in self._told_active:
            # Where the store names one that is not active (any more), the next slice says so.
            self._changed.add(run)
            for key, value in store.scan(layout.coordination + run):
                if _is_active(value):
                    self.begin(key[skip:])

    def begin(self, key: bytes) -> None:
        """A part is active now."""
        found = _RUN.match(key)
        assert found is not None, f"a changelog record has the key {key!r}"
        if key not in self.parts:
            run = self.parts[key] = found[0]
            self._counts[run] += 1
            self._changed.add(run)

    def end(self, key: bytes) -> None:
        """A part that was active is so no more."""
        run = self.parts.pop(key)
        self._counts[run] -= 1
        self._changed.add(run)

    def tell(self, places: dict[bytes, bytes | None]) -> None:
        """What the store does not know yet."""
        for run in self._changed:
            active = self._counts[run] > 0
            if not active:
                del self._counts[run]
            if active != (run in self._told_active):
                places[self._layout.active + run] = b"" if active else None
                self._told_active ^= {run}
        self._changed.clear()
        if self.parked != self._told_parked:
            for run in self.parked ^ self._told_parked:
                places[self._layout.parked + run] = b"" if run in self.parked else None
            self._told_parked = set(self.parked)


def offset_place(number: int) -> bytes:
    """Where the store keeps the offset of the next job of a partition."""
    return OFFSET + number.to_bytes(2, "big")


def _meta_key(number: int) -> bytes:
    return META + number.to_bytes(2, "big")


def _coordinate(
    places: dict[bytes, bytes | None], layout: Layout, marks: _Marks, latest: Mapping[bytes, bytes | None]
) -> None:
    """Coordination records of runs: here is most of what a restore does, so it does little for each."""
    prefix, parts = layout.coordination, marks.parts
    may_be_active, may_be_due = _MAY_BE_ACTIVE.search, _MAY_BE_DUE.search
    for key, value in latest.items():
        if key.endswith(b',"r"]') and _HEAD.fullmatch(key):
            _head(places, layout, marks, key[:-4], value)
            continue
        places[prefix + key] = value
        if value is not None:
            if may_be_due(value):
                _set_timer(places, layout, key, value)
            if may_be_active(value) and _is_active(value):
                marks.begin(key)
                continue
        if key in parts:
            marks.end(key)


def _head(places: dict[bytes, bytes | None], layout: Layout, marks: _Marks, prefix: bytes, value: bytes | None) -> None:
    """The head of a run, or its dedup marker; *prefix* is what the keys of the run begin with."""
    places[layout.head + prefix] = value
    if value is None:
        marks.parked.discard(prefix)
    elif b'"ended":' in value and "ended" in (data := orjson.loads(value)):
        run_id = orjson.loads(prefix[:-1] + b"]")[0]
        places[timer_key(layout.timer, TimerEntry(data["until"], run_id, "", NO_ITEM))] = b""
        marks.parked.discard(prefix)
    elif b'"parked":' in value and "parked" in orjson.loads(value):
        marks.parked.add(prefix)
    else:
        marks.parked.discard(prefix)


def _is_active(value: bytes) -> bool:
    # As it is written; anything else that may be active is looked at closely.
    if _ACTIVE.match(value):
        return True
    return _MAY_BE_ACTIVE.search(value) is not None and orjson.loads(value).get("status") in ACTIVE


def _set_timer(places: dict[bytes, bytes | None], layout: Layout, key: bytes, value: bytes) -> None:
    due_ms = orjson.loads(value).get("due")
    if due_ms is not None:
        part = orjson.loads(key)
        item = int(part[3]) if part[1] == "m" else NO_ITEM
        places[timer_key(layout.timer, TimerEntry(due_ms, part[0], part[2], item))] = b""
