"""Fills the changelogs of an app with the state of runs that wait, as workers would have written it, only quicker.

What is written comes from the engine and from the product's own writer of records, in transactions as large as those of a
busy worker. Nothing is written of jobs, events and results, which no restore reads.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from typing import Any

from kafka_places import FLOWS, producer

from headrace.blueprint import from_json
from headrace.commands import Start
from headrace.execution import Operation, Succeeded
from headrace.limits import Limits
from headrace.partition import Partition
from headrace.plans import Plans
from headrace.ports import TimerEntry
from headrace_adapters.kafka.outgoing import BatchRecords
from headrace_adapters.kafka.topic_layout import TopicLayout
from headrace_adapters.kafka.worker import now_ms
from headrace_topics.partitioning import partition_of

RUNS_AT_ONCE = 2_000
DONE = Succeeded(b'{"order": 1234, "customer": "c-77", "items": [1, 2, 3]}', None, (Operation("set", "total", b"99.5"),))


class NoRecords:
    """A partition of which nothing was ever committed."""

    def load(self, run_id: str) -> None:  # noqa: ARG002
        return None

    def active_runs(self) -> Iterable[str]:
        return ()

    def parked_runs(self) -> Iterable[str]:
        return ()

    def timers(self, after_ms: int, until_ms: int, limit: int) -> list[TimerEntry]:  # noqa: ARG002
        return []


class Filler:
    """Writes state. *written* counts the changelog records so far, and *runs* the runs that they are of."""

    def __init__(self, servers: str, layout: TopicLayout) -> None:
        self._layout = layout
        self._changelogs = (layout.coordination, layout.context)
        plans = Plans({"step"})
        plans.add(from_json(FLOWS["waiting"]))
        self._limits = Limits()
        self._partitions = [
            Partition(number, NoRecords(), plans, self._limits, count(number + layout.partitions, layout.partitions))
            for number in range(layout.partitions)
        ]
        self._rejections = count()
        self._producer = producer(servers, **{"transactional.id": f"{layout.jobs}.filler", "retry.backoff.ms": 1})
        self._producer.init_transactions()
        self.written = self.runs = 0

    def fill(self, records: int) -> None:
        """Start runs that wait until so many records are there, or a few more."""
        while self.written < records:
            for _ in range(RUNS_AT_ONCE):
                run_id = f"waiting-{self.runs:08d}"
                home = self._partitions[partition_of(run_id, self._layout.partitions)]
                home.receive(Start(run_id, "waiting", input=b'{"order": 1234}'), now_ms())
                self.runs += 1
            # A start, its first node begun and done, and the wait: three commits, as in a worker.
            while self._commit():
                for partition in self._partitions:
                    for execution in partition.begin(RUNS_AT_ONCE, now_ms()):
                        partition.finished(execution.token, DONE, now_ms())

    def _commit(self) -> bool:
        batches = [(partition.number, batch) for partition in self._partitions if (batch := partition.take())]
        if not batches:
            return False
        records = BatchRecords(self._layout, self._rejections, self._limits.dedup_window_ms)
        for number, batch in batches:
            records.add(number, batch, 0)
        self._write([record for record in records.records if record.topic in self._changelogs])
        for number, _ in batches:
            self._partitions[number].committed()
        return True

    def _write(self, records: list[Any]) -> None:
        self._producer.begin_transaction()
        for topic, partition, key, value in records:
            self._producer.produce(topic, value, key, partition)
        self._producer.commit_transaction()
        self.written += len(records)
