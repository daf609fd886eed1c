"""A carrier whose commits are the records that a worker on Kafka writes, kept in lists: topics without a broker.

What a worker would put into its store is put into *store*; what stands in the changelogs can be applied elsewhere, by
``ChangelogCopy``, and has to be the same.
"""

from __future__ import annotations

__all__ = ["LogMessage", "RecordedCarrier", "layout_of", "messages_of"]

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import count
from typing import NamedTuple

from headrace.batch import Batch
from headrace.commands import Command
from headrace.limits import Limits
from headrace_adapters.base import Carrier, Job
from headrace_adapters.kafka.job_log import JobLog
from headrace_adapters.kafka.outgoing import BatchRecords
from headrace_adapters.kafka.topic_layout import TopicLayout
from headrace_adapters.local.layout import KeyValueStore
from headrace_adapters.local.reader import LocalReader
from headrace_topics.jobs_record import encode_command
from headrace_topics.partitioning import partition_of

HOUR_MS = 3_600_000
Log = list[tuple[bytes | None, bytes | None]]


class LogMessage(NamedTuple):
    """A record as a consumer gives it."""

    log: str
    number: int
    at: int
    record_key: bytes | None
    record_value: bytes | None

    def topic(self) -> str:
        return self.log

    def partition(self) -> int:
        return self.number

    def offset(self) -> int:
        return self.at

    def error(self) -> None:
        return None

    def key(self) -> bytes | None:
        return self.record_key

    def value(self) -> bytes | None:
        return self.record_value


def layout_of(partitions: int = 3, *, cluster: str = "cluster", created: str = "first") -> TopicLayout:
    """The topics of an app; those that were *created* again have other ids."""
    names = ("jobs", "context-changelog", "coordination-changelog", "events", "results", "blueprints", "dead-letters")
    topics = {name: f"app.{name}" for name in names}
    return TopicLayout(
        jobs=topics["jobs"],
        context=topics["context-changelog"],
        coordination=topics["coordination-changelog"],
        events=topics["events"],
        results=topics["results"],
        blueprints=topics["blueprints"],
        dead_letters=topics["dead-letters"],
        partitions=partitions,
        topic_ids={topic: f"{created}-{topic}" for topic in topics.values()},
        cluster_id=cluster,
        tombstones_kept_ms=24 * HOUR_MS,
    )


def messages_of(topic: str, number: int, log: Log, start: int = 0) -> list[LogMessage]:
    """What a consumer gives of a partition, from the offset *start* on."""
    return [LogMessage(topic, number, at, *log[at]) for at in range(start, len(log))]


class RecordedCarrier(Carrier):
    """Owns all partitions from the beginning. Its logs grow with every commit."""

    delivers = False

    def __init__(self, store: KeyValueStore, limits: Limits, layout: TopicLayout | None = None) -> None:
        self.layout = layout or layout_of()
        self.partitions = self.layout.partitions
        self.store = store
        self.logs: dict[tuple[str, int], Log] = defaultdict(list)
        self.limits = limits
        self.now_ms = 0
        self._rejections = count()
        self._log = JobLog(self.layout, limits.value_bytes_max, lambda: self.now_ms)
        self._log.next = dict.fromkeys(range(self.partitions), 0)

    def say(self, command: Command) -> None:
        """What a producer writes."""
        self.logs[self.layout.jobs, self.partition_of(command.run_id)].append(
            (command.run_id.encode(), encode_command(command))
        )

    def partition_of(self, run_id: str) -> int:
        return partition_of(run_id, self.partitions)

    def reader(self, partition: int) -> LocalReader:
        return LocalReader(self.store, partition)

    def poll(self, limit: int) -> Sequence[Job]:
        messages: list[LogMessage] = []
        for number in range(self.partitions):
            log = self.logs[self.layout.jobs, number]
            messages += messages_of(self.layout.jobs, number, log, self._log.next[number])
        return self._log.read(messages[:limit])

    def commit(self, batches: Sequence[tuple[int, Batch]], taken: Sequence[bytes], now_ms: int) -> None:
        records = BatchRecords(self.layout, self._rejections, self.limits.dedup_window_ms)
        for number, batch in batches:
            records.add(number, batch, self._log.next[number])
            records.records += [self._log.refuse(number, *letter, now_ms) for letter in batch.dead_letters]
        for topic, number, key, value in [*records.records, *self._log.aside]:
            self.logs[topic, max(number, 0)].append((key, value))
        self.store.write(records.puts, records.deletes)
        self._log.committed(records.jobs)

    def changelog(self, number: int, start: Iterable[int] = (0, 0)) -> list[LogMessage]:
        """The two changelogs of a partition, the coordination changelog first."""
        topics = (self.layout.coordination, self.layout.context)
        return [
            message
            for topic, at in zip(topics, start, strict=True)
            for message in messages_of(topic, number, self.logs[topic, number], at)
        ]

    def ends(self, number: int) -> list[int]:
        """How far the two changelogs of a partition go."""
        return [len(self.logs[topic, number]) for topic in (self.layout.coordination, self.layout.context)]

    def close(self) -> None:
        """Nothing is open."""
