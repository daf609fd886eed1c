"""Carries the partitions that the group gives to this worker: jobs in, one transaction out, and the store after it.

    poll     jobs of the partitions that are restored; partitions that were gained are restored meanwhile, slice by slice
    commit   1. one transaction: changelogs, events, results, jobs, dead letters, and the offsets of what was taken
             2. the store: the same changes, with how far the changelogs are, in one atomic write
             3. only now the loop tells anybody

The store is written after the commit and never before, so it holds nothing that has not happened. What a crash leaves out
between 1 and 2 is read from the changelog when the partition is restored. How a transaction may fail is told in
``transactions.py``: after one that is undone, jobs are read again from the last commit; after one that is in doubt, the
partitions are restored, which finds out, since changelogs and offsets moved together or not at all.
"""

from __future__ import annotations

__all__ = ["KafkaCarrier"]

import logging
from collections.abc import Callable, Iterable, Sequence
from itertools import count

from headrace.batch import Batch
from headrace.errors import StoreError
from headrace.limits import Limits
from headrace_adapters.base import Carrier, CommitUndone, Job, Owner
from headrace_adapters.base.host import THIS_HOST, Event, Host
from headrace_adapters.kafka.appends import Appends
from headrace_adapters.kafka.blueprint_log import BlueprintLog
from headrace_adapters.kafka.changelog_copy import ChangelogCopy
from headrace_adapters.kafka.clients import Clients
from headrace_adapters.kafka.connection import admin
from headrace_adapters.kafka.job_consumer import JobConsumer
from headrace_adapters.kafka.job_log import JobLog
from headrace_adapters.kafka.outgoing import BatchRecords
from headrace_adapters.kafka.restore import Restored, Restorer
from headrace_adapters.kafka.settings import KafkaSettings
from headrace_adapters.kafka.standby import Standby
from headrace_adapters.kafka.topic_layout import TopicLayout
from headrace_adapters.kafka.transactions import InDoubt, Outgoing, Transactions, Undone
from headrace_adapters.kafka.watcher import Unwatched, Watcher
from headrace_adapters.local.layout import KeyValueStore
from headrace_adapters.local.reader import LocalReader
from headrace_topics.partitioning import partition_of

_LOGGER = logging.getLogger(__name__)

# How often it is looked for blueprints that others published.
BLUEPRINTS_S = 1.0

# Offsets that the group would not take are offered again after this time, also where there is nothing else to commit.
SETTLE_S = 0.5

# After a transaction that was undone: the group may be about to say why.
PAUSE_S = 0.02
PAUSE_S_MAX = 1.0


class KafkaCarrier(Carrier):
    """See the module's text. *store* is the slot's, and *client_id* tells the group how this worker is reached."""

    delivers = False
    logs_first = True
    gather_s = 0.01

    # How long the loop waits for one of its two sources before it looks at the other: for the outcomes of executions, which
    # wake it, and for records, of which nothing tells it. An execution that takes long is looked after less often.
    glance_s = 0.001
    glance_s_max = 0.005
    idle_s = 0.02
    restoring_glance_s = 0.002

    def __init__(
        self,
        clients: Clients,
        settings: KafkaSettings,
        layout: TopicLayout,
        store: KeyValueStore,
        blueprints: BlueprintLog,
        *,
        slot_id: str,
        client_id: str,
        clock: Callable[[], int],
        give_up: Callable[[], bool],
        plans_changed: Callable[[], None],
        watcher: Watcher | None = None,
        host: Host = THIS_HOST,
    ) -> None:
        self.partitions = layout.partitions
        self._clients = clients
        self._settings = settings
        self._layout = layout
        self._limits: Limits = settings.limits
        self._store = store
        self._blueprints = blueprints
        self._client_id = client_id
        self._host = host
        self._give_up = give_up
        self._plans_changed = plans_changed
        self._watcher: Watcher = watcher or Unwatched()
        self._copy = ChangelogCopy(store, layout, clock)
        transactional_id = f"{settings.app}.{slot_id}"
        self._writer: Transactions | Appends = (
            Transactions(clients, settings, transactional_id, layout.jobs, give_up, host)
            if settings.guarantee == "exactly_once"
            else Appends(clients, settings, layout.jobs, layout.coordination, give_up)
        )
        self._restorer = Restorer(clients, settings, layout, self._copy, transactional_id, self._watcher, host)
        self._standby = Standby(clients.admin(admin(settings)), settings.group, layout.jobs, settings.standby, host)
        self._log = JobLog(layout, self._limits.value_bytes_max, clock, self._watcher.counted)
        self._rejections = count()
        self._changelogs = frozenset(self._copy.topics)
        # By partition that is read: the offset behind the last job that was committed; and how far the copy is.
        self._committed: dict[int, int] = {}
        self._copied: dict[int, list[int]] = {}
        self._beginning: dict[int, int] = {}
        self._unsettled: dict[int, int] = {}
        self._settle_due_s = 0.0
        self._joined = False
        self._undone = 0
        self._fencings = 0
        self._reads_again = False
        self._restored: list[Restored] = []
        self._glance_s = self.glance_s
        self._blueprints_due_s = 0.0

    def bind(self, owner: Owner) -> None:
        """Join the group; *owner* is told of partitions once their state is restored."""
        self._owner = owner
        # What a predecessor in this slot left open ends here, before anybody waits for it.
        self._writer.open()
        self._consumer = JobConsumer(
            self._clients, self._settings, self._layout.jobs, self._client_id, owner, self._released, self._host
        )
        self._joined = True

    def partition_of(self, run_id: str) -> int:
        """The partition that owns a run."""
        return partition_of(run_id, self.partitions)

    def reader(self, partition: int) -> LocalReader:
        """The committed state of a partition that is owned."""
        return LocalReader(self._store, partition)

    @property
    def restoring(self) -> dict[int, int]:
        """The partitions that are assigned and not worked on yet, with how many changelog records are left at most."""
        return dict.fromkeys([known.number for known in self._restored] + [*self._beginning], 0) | self._restorer.restoring

    @property
    def warm(self) -> set[int]:
        """The partitions of other workers that are kept warm."""
        return self._restorer.warm

    def wait(self, wake: Event, timeout_s: float, executing: int) -> None:
        """Wait for outcomes and for records, whichever comes first."""
        if self.restoring:
            wake.wait(min(timeout_s, self.restoring_glance_s))
        elif executing:
            if wake.wait(min(timeout_s, self._glance_s)):
                self._glance_s = self.glance_s
            else:
                self._glance_s = min(self.glance_s_max, self._glance_s * 1.2)
        elif not wake.is_set():
            self._consumer.wait(min(timeout_s, self.idle_s))

    def poll(self, limit: int) -> Sequence[Job]:
        """Jobs of the partitions that are worked on; serves the group, restores, and reads blueprints on the way."""
        if self._reads_again:
            self._read_again()
        messages = self._consumer.poll(limit)
        if self._reads_again:
            # A hand-over within that call was undone: these come again, behind those that were undone.
            messages = []
        self._restore()
        now_s = self._host.now_s()
        if self._unsettled and now_s >= self._settle_due_s:
            self._settle()
        if now_s >= self._blueprints_due_s:
            self._blueprints_due_s = now_s + BLUEPRINTS_S
            if self._blueprints.poll():
                self._plans_changed()
        if messages:
            self._glance_s = self.glance_s
            return self._log.read(messages)
        return ()

    def commit(self, batches: Sequence[tuple[int, Batch]], taken: Sequence[bytes], now_ms: int) -> None:
        """One transaction, then the store."""
        began_s = self._host.now_s()
        records = BatchRecords(self._layout, self._rejections, self._limits.dedup_window_ms)
        for number, batch in batches:
            assert number in self._consumer.assigned, f"partition {number} is not this worker's"
            records.add(number, batch, self._log.next[number])
            records.records += [self._log.refuse(number, command, reason, now_ms) for command, reason in batch.dead_letters]
        offsets = {number: self._log.next[number] for number, _ in batches}
        for number, offset in self._log.next.items():
            if number not in offsets and offset != self._committed.get(number):
                offsets[number] = offset
                records.move(number, offset)
        if not offsets:
            return
        outgoing: list[Outgoing] = records.records + self._log.aside
        try:
            self._check_standing(began_s)
            if records.unwritable:
                raise Undone("; ".join(f"run {run_id!r}: {reason}" for _, run_id, reason in records.unwritable.values()))
            written = self._writer.commit(outgoing, offsets, self._consumer, self._changelogs)
        except Undone as error:
            self._undone += 1
            self._reads_again = True
            # At once: a commit may come before the jobs are read again, and must not move offsets past what was undone.
            self._log.go_back(dict(self._committed))
            self._watcher.counted("undone")
            raise CommitUndone(str(error), list(records.unwritable.values())) from None
        except InDoubt as error:
            self._watcher.counted("in_doubt")
            for _ in range(self._writer.fencings - self._fencings):
                self._watcher.counted("fenced")
            self._fencings = self._writer.fencings
            self._restore_all()
            raise CommitUndone(str(error)) from None
        self._undone = 0
        self._keep(records, written)
        self._unsettled |= offsets
        self._settle()
        self._committed |= offsets
        self._log.committed(records.jobs)
        self._watcher.committed(len(outgoing), len(taken), self._host.now_s() - began_s)

    def _settle(self) -> None:
        """Let the group know how far the state is, where the commit did not."""
        if self._writer.settle(self._unsettled, self._consumer.client):
            self._unsettled.clear()
        self._settle_due_s = self._host.now_s() + SETTLE_S

    def _check_standing(self, now_s: float) -> None:
        """Without a transaction no broker refuses what comes from a worker that stood still while others took its place."""
        still_s = now_s - self._consumer.polled_s
        if self._settings.guarantee != "exactly_once" and still_s * 1_000 > self._settings.session_timeout_ms:
            raise Undone(f"this worker stood still for {still_s:.0f} s, and its partitions may be others' by now")

    def _keep(self, records: BatchRecords, written: dict[tuple[str, int], int]) -> None:
        """The store takes over what was committed, and how far the changelogs are."""
        moved = set()
        for (topic, number), offset in written.items():
            self._copied[number][self._copy.topics.index(topic)] = offset
            moved.add(number)
        records.puts += [self._copy.meta(number, self._copied[number]) for number in moved]
        self._store.write(records.puts, records.deletes)

    # Partitions that come and go.

    def _restore(self) -> None:
        gained, self._consumer.gained = self._consumer.gained, []
        for number in gained:
            self._restorer.add(number)
        warm = self._standby.look(self._consumer.client.memberid() or "") if self._settings.standby else None
        if warm is not None:
            self._restorer.keep_warm(warm - self._consumer.assigned)
        self._restored += self._restorer.step()
        if self._restored and self._blueprints_read():
            restored, self._restored = self._restored, []
            self._take_over(restored)
            _LOGGER.info("working on partitions %s", sorted(self._committed))
        for number, offset in list(self._beginning.items()):
            if self._consumer.begin(number, offset):
                del self._beginning[number]

    def _blueprints_read(self) -> bool:
        """Whether every blueprint is known that runs of a restored partition may be pinned to."""
        try:
            # Other partitions wait for it, so it is rather tried again.
            self._blueprints.read_to_end(self._give_up, BLUEPRINTS_S)
        except StoreError as error:
            _LOGGER.warning("restored partitions wait for the blueprints: %s", error)
            return False
        self._plans_changed()
        return True

    def _take_over(self, restored: Iterable[Restored]) -> None:
        for number, offset, progress in restored:
            self._copied[number] = progress
            self._committed[number] = self._log.next[number] = offset
            self._beginning[number] = offset
            self._owner.take_over(number)

    def _released(self, numbers: Iterable[int]) -> None:
        """The group took these partitions away."""
        self._restored = [known for known in self._restored if known.number not in numbers]
        self._restorer.drop(numbers)
        self._log.forget(numbers)
        self._forget(numbers)
        for number in numbers:
            self._watcher.left(number)

    def _forget(self, numbers: Iterable[int]) -> None:
        """How far these partitions are is no longer known here, or no longer true."""
        for number in numbers:
            for known in (self._beginning, self._unsettled, self._committed, self._copied):
                known.pop(number, None)

    def _read_again(self) -> None:
        """After a transaction that was undone: everything since the last commit comes again."""
        self._consumer.wait(min(PAUSE_S * self._undone, PAUSE_S_MAX))
        reading = [number for number in self._consumer.reading if number in self._committed]
        self._consumer.stop_reading(reading)
        self._log.go_back({number: self._committed[number] for number in self._committed})
        self._beginning |= {number: self._committed[number] for number in reading}
        self._reads_again = False

    def _restore_all(self) -> None:
        """After a transaction in doubt: its changelog records are there or not, and so are its offsets."""
        numbers = list(self._committed)
        self._owner.drop(numbers)
        self._consumer.stop_reading(numbers)
        self._log.go_back({})
        self._forget(numbers)
        self._consumer.gained += [number for number in numbers if number in self._consumer.assigned]

    def close(self) -> None:
        """Leave the group, and let go of the clients and of the store."""
        try:
            if self._joined:
                self._consumer.close()
        finally:
            self._writer.close()
            self._restorer.close()
            self._blueprints.close()
            self._store.close()
