"""Carriers whose commits may be undone: one that delivers, and one whose partitions come and go.

The second one does what Kafka does, without Kafka. Every partition has a job log, on the store that holds the state. What
runs tell each other goes into the log of the other's partition with the commit that decides it, node jobs too, and comes
back by ``poll``. Workers share the partitions, which come and go within ``poll``, where a group would tell of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count

from headrace.batch import Batch
from headrace.commands import Command, RunNode
from headrace.limits import Limits
from headrace_adapters.base import Carrier, CommitUndone, Job, Owner
from headrace_adapters.local.carrier import LocalCarrier, next_number
from headrace_adapters.local.layout import JOB, KeyValueStore, Layout
from headrace_adapters.local.reader import LocalReader
from headrace_adapters.local.writer import BatchWriter
from headrace_adapters.memory import Faults, MemoryStore
from headrace_topics.jobs_record import decode_command, encode_command
from headrace_topics.partitioning import partition_of


class Countdown:
    """Which of the next commits is to be undone: 1 is the next one, 0 none."""

    def __init__(self) -> None:
        self.left = 0

    def reached(self) -> bool:
        if not self.left:
            return False
        self.left -= 1
        return not self.left


class UnsteadyCarrier(LocalCarrier):
    """Undoes a commit when it is told to, and then gives again what it gave since the one before."""

    def __init__(self, store: KeyValueStore, limits: Limits, partitions: int) -> None:
        super().__init__(store, limits, partitions)
        self.undo = Countdown()

    def commit(self, batches: Sequence[tuple[int, Batch]], taken: Sequence[bytes], now_ms: int) -> None:
        if self.undo.reached():
            self._polled = next_number(self._store, JOB, first=True)
            raise CommitUndone
        super().commit(batches, taken, now_ms)


class JobLogs:
    """The logs of all partitions. A job that is done is gone from its log."""

    def __init__(self, store: MemoryStore, partitions: int) -> None:
        self._store = store
        self.partitions = partitions
        self._numbers = count(1)

    def entry(self, command: Command) -> tuple[bytes, bytes]:
        """The record of a command, to be written behind all others of its partition."""
        number = partition_of(command.run_id, self.partitions)
        return prefix_of(number) + next(self._numbers).to_bytes(8, "big"), encode_command(command)

    def append(self, commands: Sequence[Command]) -> None:
        """Commands of clients, which live on whatever a worker dies of."""
        faults, self._store.faults = self._store.faults, Faults()
        self._store.write([self.entry(command) for command in commands])
        self._store.faults = faults

    def __bool__(self) -> bool:
        """Whether any job is not done yet."""
        return any(True for _ in self._store.scan(JOB, None, 1))


def prefix_of(number: int) -> bytes:
    return JOB + number.to_bytes(2, "big")


class LogCarrier(Carrier):
    """Carries the partitions that are given to one worker."""

    delivers = False
    logs_first = True

    def __init__(self, store: KeyValueStore, logs: JobLogs, limits: Limits, undo: Countdown) -> None:
        self.partitions = logs.partitions
        self._store = store
        self._logs = logs
        self._limits = limits
        self._undo = undo
        self._rejections = count()
        # By partition that is owned, the job that was polled last.
        self._polled: dict[int, bytes] = {}
        self._own: set[bytes] = set()
        self._undone = 0
        self._told: list[Callable[[], None]] = []

    # What the group does.

    def bind(self, owner: Owner) -> None:
        self._owner = owner

    @property
    def owned(self) -> list[int]:
        return list(self._polled)

    def gain(self, number: int) -> None:
        """The partition is this worker's."""
        self._polled[number] = b""
        self._owner.take_over(number)

    def lose(self, number: int, *, gently: bool) -> None:
        """The partition goes away in the next poll."""
        self._told.append(lambda: self._let_go(number, self._owner.hand_over if gently else self._owner.drop))

    def _let_go(self, number: int, how: Callable[[Sequence[int]], None]) -> None:
        how([number])
        del self._polled[number]

    # What the loop asks for.

    def partition_of(self, run_id: str) -> int:
        return partition_of(run_id, self.partitions)

    def reader(self, partition: int) -> LocalReader:
        return LocalReader(self._store, partition)

    def poll(self, limit: int) -> Sequence[Job]:
        found = [(number, key, record) for number in self._polled for key, record in self._scan(number, limit)][:limit]
        told, self._told = self._told, []
        undone = self._undone
        for tell in told:
            tell()
        if self._undone != undone:
            return ()
        jobs: list[Job] = []
        for number, key, record in found:
            if number in self._polled and key > self._polled[number]:
                self._polled[number] = key
                own = record in self._own
                self._own.discard(record)
                command = None if own else decode_command(record, value_bytes_max=self._limits.value_bytes_max)
                jobs.append(Job(command, key, number))
        return jobs

    def _scan(self, number: int, limit: int) -> list[tuple[bytes, bytes]]:
        prefix, polled = prefix_of(number), self._polled[number]
        return list(self._store.scan(prefix, polled + b"\x00" if polled else None, limit))

    def commit(self, batches: Sequence[tuple[int, Batch]], taken: Sequence[bytes], now_ms: int) -> None:
        if self._undo.reached():
            self._polled = dict.fromkeys(self._polled, b"")
            self._own.clear()
            self._undone += 1
            raise CommitUndone
        writer = BatchWriter(self._rejections)
        own: list[bytes] = []
        for number, batch in batches:
            assert number in self._polled, f"partition {number} is not this worker's"
            writer.add(Layout(number), batch, self._limits.dedup_window_ms)
            jobs = [self._logs.entry(job) for job in node_jobs(batch)]
            own += [record for _, record in jobs]
            writer.puts += [*jobs, *(self._logs.entry(command) for command in batch.publish)]
        for key in taken:
            assert any(map(key.startswith, map(prefix_of, self._polled))), "a job of another worker is called done"
        self._store.write(writer.puts, [*writer.deletes, *taken], writer.ranges)
        self._own.update(own)

    def close(self) -> None:
        """The store is the world's."""


def node_jobs(batch: Batch) -> list[RunNode]:
    """The jobs of the work that was scheduled."""
    jobs: list[RunNode] = []
    for run_id, node_id, item in batch.ready:
        state = batch.runs[run_id].state
        work = state.work(node_id, item)
        if work is not None and not state.ended:
            jobs.append(RunNode(run_id, state.blueprint_id, node_id, item, work.activation, work.attempt))
    return jobs
