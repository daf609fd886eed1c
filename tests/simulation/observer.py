"""Reads what the topics of the app hold, as a reader of committed records, from outside of everything that may fail."""

from __future__ import annotations

__all__ = ["Observer"]

from collections.abc import Callable, Sequence

import orjson

from headrace_adapters.kafka.topic_layout import TopicLayout
from tests.kafka.topic_log import Record, TopicLog

from .broker.messages import Place, Stored
from .broker.server import Server
from .kernel import Kernel

FETCHED_MAX = 10_000

OFFSET_KEY = b'["","offset"]'


class Observer:
    """Follows topics, and gives everything that they hold at the end. *told* gets what is new in those that are followed.

    What retention and compaction take away was there: :meth:`keep` reads it before.
    """

    def __init__(
        self,
        kernel: Kernel,
        server: Server,
        layout: TopicLayout,
        followed: Sequence[str],
        told: Callable[[str, Stored], None],
    ) -> None:
        self._kernel = kernel
        self._server = server
        self._layout = layout
        self._told = told
        self._positions: dict[Place, int] = {(topic, n): 0 for topic in followed for n in range(layout.partitions)}
        self._behind: dict[Place, bool] = {}
        self._kept: dict[Place, dict[int, Stored]] = {}
        for place in self._positions:
            server.watch(place, lambda place=place: self._is_behind(place))  # type: ignore[misc]

    def _is_behind(self, place: Place) -> None:
        # A server's callback makes no requests, so what is new is read in a turn of its own.
        if not self._behind:
            self._kernel.call_in(0, self._read_on)
        self._behind[place] = True

    def _read_on(self) -> None:
        behind, self._behind = self._behind, {}
        for place in behind:
            self._positions[place] = self._read(place, self._positions[place], self._told)

    def _read(self, place: Place, position: int, told: Callable[[str, Stored], object]) -> int:
        while True:
            fetched = self._server.fetch(place, position, True, FETCHED_MAX)
            for record in fetched.records:
                told(place[0], record)
            if fetched.next_offset == position:
                return position
            position = fetched.next_offset

    def keep(self, place: Place, before: int) -> None:
        """Records before this offset are about to be deleted, or some of them."""
        kept = self._kept.setdefault(place, {})
        start = self._server.list_offsets(place, "earliest", False)
        self._read(place, start, lambda _, it: kept.setdefault(it.offset, it) if it.offset < before else None)

    def read_all(self, app: str, group: str) -> TopicLog:
        """Everything that is and was there, and how far the group is."""
        layout = self._layout
        records: dict[str, list[Record]] = {}
        for topic in (
            layout.jobs, layout.context, layout.coordination, layout.events, layout.results, layout.dead_letters,
        ):  # fmt: skip
            name = topic.removeprefix(f"{app}.")
            for number in range(layout.partitions):
                place = (topic, number)
                start = self._server.list_offsets(place, "earliest", False)
                found = self._kept.get(place, {})
                self._read(place, start, lambda _, it: found.setdefault(it.offset, it))  # noqa: B023
                records.setdefault(name, []).extend(
                    Record(name, number, it.offset, it.key, it.value, it.at_ms)
                    for it in (found.values() if place not in self._kept else sorted(found.values()))
                )
        return TopicLog(app, layout.partitions, records, self.committed(group))

    @property
    def is_complete(self) -> bool:
        """Whether everybody can read all that was written: no transaction is open, or about to end."""
        layout = self._layout
        topics = (layout.jobs, layout.context, layout.coordination, layout.events, layout.results, layout.dead_letters)
        return all(
            self._server.list_offsets((topic, number), "latest", True)
            == self._server.list_offsets((topic, number), "latest", False)
            for topic in topics
            for number in range(layout.partitions)
        )

    def committed(self, group: str) -> dict[int, int]:
        """By partition of the jobs, the offset that the group has committed; where it knows none, that of the changelog."""
        places = [(self._layout.jobs, number) for number in range(self._layout.partitions)]
        answers = self._server.offset_fetch(group, places, False)
        known = {place[1]: answer[0] for place, answer in answers.items() if isinstance(answer, tuple)}
        return {number: offset if offset >= 0 else self._told_of(number) for number, offset in known.items()}

    def _told_of(self, number: int) -> int:
        """The offset of the next job as the changelog tells it: from there jobs are read where the group knows nothing."""
        place = (self._layout.coordination, number)
        told: list[Stored] = []
        if self._server.list_offsets(place, "latest", False):
            start = self._server.list_offsets(place, "earliest", False)
            self._read(place, start, lambda _, it: told.append(it) if it.key == OFFSET_KEY else None)
        return int(orjson.loads(told[-1].value or b"")["next"]) if told else 0

    def jobs_left(self, group: str) -> dict[int, int]:
        """By partition, the first job behind the committed offset; what ends a log may be the mark of a transaction."""
        left: dict[int, int] = {}
        for number, committed in self.committed(group).items():
            place = (self._layout.jobs, number)
            start = max(committed, self._server.list_offsets(place, "earliest", False))
            end = self._server.list_offsets(place, "latest", False)
            if start < end:
                records = self._server.fetch(place, start, True, 1).records
                if records:
                    left[number] = records[0].offset
        return left
