"""The figures of one worker, in a registry of their own: several workers may live in one process.

They are fed from three sides:

    loop.on_commit(metrics.batch_committed)    every batch that is durable: what became of nodes and runs
    metrics is a carrier's watcher             ``committed``, ``counted``, ``restoring``, ``warm`` and ``left``
                                               (``headrace_adapters.kafka.watcher.Watcher``)
    metrics.watch(executing=..., backlog=..., partitions=...)
                                               functions that are asked when somebody looks: from any thread, so they only
                                               read, and give a number

``text()`` gives what Prometheus reads and its content type, for the HTTP server.
"""

from __future__ import annotations

__all__ = ["WorkerMetrics"]

from collections import Counter as Tally
from collections.abc import Callable
from typing import Any, Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from headrace import events as e
from headrace.batch import Batch

# A commit takes a few ms; one that takes seconds is a broker in trouble.
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_RECORDS: Final = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000)

# What is counted of events: the figure, and its label.
_COUNTED: Final[dict[type[Any], tuple[str, str]]] = {
    e.NodeCompleted: ("nodes", "completed"),
    e.NodeFailed: ("nodes", "failed"),
    e.NodeCancelled: ("nodes", "cancelled"),
    e.NodeSkipped: ("nodes", "skipped"),
    e.NodeRetrying: ("retries", ""),
    e.RunStarted: ("started", ""),
    e.RunCompleted: ("ended", "completed"),
    e.RunFailed: ("ended", "failed"),
    e.RunCancelled: ("ended", "cancelled"),
}


class WorkerMetrics:
    """Counts for one worker. All names begin with ``headrace_``."""

    def __init__(self, *, process: bool = True) -> None:
        """With *process*, memory, CPU time and open files of this process are there too."""
        self.registry = registry = CollectorRegistry()
        if process:
            ProcessCollector(registry=registry)

        def counter(name: str, what: str, *labels: str) -> Counter:
            return Counter(f"headrace_{name}", what, labels, registry=registry)

        def gauge(name: str, what: str, *labels: str) -> Gauge:
            return Gauge(f"headrace_{name}", what, labels, registry=registry)

        self._nodes = counter("nodes_finished", "Nodes, and items of batches, that have come to an end", "outcome")
        self._retries = counter("node_retries", "Attempts that failed and are followed by another one")
        self._started = counter("runs_started", "Runs that have begun")
        self._ended = counter("runs_ended", "Runs that have come to their end", "status")
        self._jobs = counter("jobs_taken", "Records of the jobs topic that were taken into the state")
        self._rejected = counter("commands_rejected", "Commands that met no run")
        self._commits = Histogram("headrace_commit_seconds", "How long commits took", buckets=_SECONDS, registry=registry)
        self._records = Histogram(
            "headrace_commit_records", "How many records commits wrote", buckets=_RECORDS, registry=registry
        )
        self._executing = gauge("executions_in_progress", "Executions of nodes that have begun and not ended")
        self._backlog = gauge("backlog", "Work that is ready and has not begun, of runs that this worker has")
        self._partitions = gauge("partitions_owned", "Partitions that this worker has")
        self._restored = gauge("restore_records", "Records of changelogs that were read, by the last restore", "partition")
        self._remaining = gauge("restore_remaining", "Records of changelogs that are still to be read", "partition")
        self._lag = gauge("standby_lag", "Records of changelogs that a warm copy lacked when last looked at", "partition")
        self._moved = counter("records_moved", "Records that stood on the wrong partition and were moved")
        self._dead_letters = counter("dead_letters", "Records that could not be read or handled")
        self._aborted = counter("transactions_aborted", "Transactions that were aborted, to be done again")
        self._in_doubt = counter(
            "transactions_in_doubt", "Transactions of which it had to be found out whether they happened"
        )
        self._fenced = counter("fencings", "How often another process took the place of this worker's producer")
        self._rare = {
            "moved": self._moved,
            "dead_letter": self._dead_letters,
            "undone": self._aborted,
            "in_doubt": self._in_doubt,
            "fenced": self._fenced,
        }
        # Before the first of them there is a zero, so that a rate can be taken of it.
        for figure, label in _COUNTED.values():
            if label:
                (self._nodes if figure == "nodes" else self._ended).labels(label)

    # While it works, from the loop's thread.

    def batch_committed(self, batch: Batch) -> None:
        """A batch is durable: for ``loop.on_commit``."""
        tally: Tally[tuple[str, str]] = Tally()
        counted = _COUNTED
        for change in batch.runs.values():
            for _, events in change.events:
                for event in events:
                    found = counted.get(type(event))
                    if found is not None:
                        tally[found] += 1
        for (figure, label), number in tally.items():
            if figure == "nodes":
                self._nodes.labels(label).inc(number)
            elif figure == "ended":
                self._ended.labels(label).inc(number)
            else:
                (self._started if figure == "started" else self._retries).inc(number)
        if batch.rejections:
            self._rejected.inc(len(batch.rejections))

    def committed(self, records: int, jobs: int, took_s: float) -> None:
        """One commit of so many records, with so many jobs taken."""
        self._commits.observe(took_s)
        self._records.observe(records)
        self._jobs.inc(jobs)

    def watch(self, *, executing: Callable[[], int], backlog: Callable[[], int], partitions: Callable[[], int]) -> None:
        """Ask these whenever somebody looks."""
        self._executing.set_function(executing)
        self._backlog.set_function(backlog)
        self._partitions.set_function(partitions)

    # What happens rarely.

    def counted(self, what: str) -> None:
        """One of: ``moved``, ``dead_letter``, ``undone``, ``in_doubt``, ``fenced``."""
        self._rare[what].inc()

    def restoring(self, number: int, records: int, remaining: int) -> None:
        """A partition has read so many changelog records, and so many offsets are left."""
        self._restored.labels(str(number)).set(records)
        self._remaining.labels(str(number)).set(remaining)

    def warm(self, number: int, lacking: int | None) -> None:
        """The copy of another worker's partition lacks so many changelog records; None: no warm copy is kept any more."""
        if lacking is None:
            self._lag.remove(str(number))
        else:
            self._lag.labels(str(number)).set(lacking)

    def left(self, number: int) -> None:
        """The partition is not this worker's any more."""
        for figure in (self._restored, self._remaining):
            figure.remove(str(number))

    # For those who look.

    def text(self) -> tuple[bytes, str]:
        """All figures as Prometheus reads them, and the content type. From any thread."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST
