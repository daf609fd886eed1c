"""Bringing the local copy of a partition up to date, before the partition is worked on or while it is kept warm.

A partition that was assigned goes through these states; others are worked on meanwhile, since every step is short:

    offsets    from where the jobs are to be read: the committed offset, once no transaction is open over it. Where the
               last committer is dead its transaction would stay open until it times out; so its transactional id, which
               stands beside the offset, is taken over, and that ends the transaction at once
    ends       how far the changelogs go: the high watermark, as a reader of uncommitted records sees it. (What a reader of
               committed ones is told ends at the first open transaction, and committed records lie behind it.)
    reading    committed records, from where the copy is to the end or past it. A transaction that the last committer left
               open before it got to its offsets holds up these, and is ended as well
    done       :meth:`Restorer.step` gives the partition and the offset

A copy that ends behind the changelog or begins before it is none of this changelog: it is dropped, loudly, and made anew.
*Warm* partitions are other workers': their changelogs are read without an end.
"""

from __future__ import annotations

__all__ = ["Restored", "Restorer"]

import logging
from collections.abc import Iterable
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from headrace_adapters.base.host import THIS_HOST, Host
from headrace_adapters.kafka.changelog_copy import ChangelogCopy, Progress, by_place
from headrace_adapters.kafka.clients import Admin, Clients, Consumer
from headrace_adapters.kafka.connection import admin, reader
from headrace_adapters.kafka.failures import store_error
from headrace_adapters.kafka.fencing import Fencing
from headrace_adapters.kafka.passing import passes
from headrace_adapters.kafka.restore_task import ENDS, FENCING, OFFSETS, READING, WARM, Restored, RestoreTask
from headrace_adapters.kafka.settings import KafkaSettings
from headrace_adapters.kafka.topic_layout import TopicLayout
from headrace_adapters.kafka.watcher import Unwatched, Watcher

_LOGGER = logging.getLogger(__name__)

# Records in one slice; other partitions wait for it.
SLICE_RECORDS = 10_000

# How long an offset may stay under an open transaction before its owner is fenced. A commit takes milliseconds.
UNSTABLE_S = 0.5

# One request to the brokers.
REQUEST_S = 5.0

# Who was not answered asks again after this time: a broker that refuses does so at once.
AGAIN_S = 0.05

# How often progress is told, and when a restore that does not move asks again how far it has to go.
TOLD_S = 2.0
STALLED_S = 30.0

# How often it is asked how far a warm copy is behind.
LOOK_S = 5.0


class Restorer:
    """Restores partitions into one store, and keeps others warm. Used from the loop's thread."""

    def __init__(
        self,
        clients: Clients,
        settings: KafkaSettings,
        layout: TopicLayout,
        copy: ChangelogCopy,
        transactional_id: str,
        watcher: Watcher | None = None,
        host: Host = THIS_HOST,
    ) -> None:
        self._clients = clients
        self._settings = settings
        self._layout = layout
        self._copy = copy
        self._watcher: Watcher = watcher or Unwatched()
        self._host = host
        self._admin: Admin = clients.admin(admin(settings))
        self._made: Consumer | None = None
        self._tasks: dict[int, RestoreTask] = {}
        self._fencing = Fencing(clients, settings, transactional_id, host)

    @property
    def restoring(self) -> dict[int, int]:
        """The partitions that are being restored, with how many offsets are left."""
        # A copy, because a server's thread asks this too.
        return {number: task.remaining for number, task in list(self._tasks.items()) if task.state != WARM}

    @property
    def warm(self) -> set[int]:
        """The partitions that are kept warm."""
        return {number for number, task in self._tasks.items() if task.state == WARM}

    @property
    def _reader(self) -> Consumer:
        # Made when it is first needed, because librdkafka looks for the leaders of what is new to a consumer at once while
        # that connects, and within a second later on.
        if self._made is None:
            self._made = self._clients.consumer(reader(self._settings))
        return self._made

    def add(self, number: int) -> None:
        """The partition is assigned: bring it up to date."""
        task = self._tasks.get(number)
        if task is not None and task.state == WARM:
            self._watcher.warm(number, None)
        else:
            self.drop([number])
            task = self._tasks[number] = RestoreTask(number, OFFSETS, self._host.now_s())
        task.state = OFFSETS
        # Ends that were asked for while the old owner still wrote say nothing: this time the offset comes first.
        task.asked_ends, task.asked_starts = {}, {}
        task.begun_s = task.moved_s = task.told_s = self._host.now_s()

    def keep_warm(self, numbers: Iterable[int]) -> None:
        """Follow the changelogs of just these partitions, beside those that are being restored."""
        wanted = set(numbers)
        self.drop(self.warm - wanted)
        for number in wanted - self._tasks.keys():
            self._tasks[number] = RestoreTask(number, WARM, self._host.now_s())

    def drop(self, numbers: Iterable[int]) -> None:
        """Stop with these; their copies stay as they are."""
        for number in list(numbers):
            task = self._tasks.pop(number, None)
            if task is not None and task.reading:
                self._reader.incremental_unassign([TopicPartition(topic, number) for topic in self._copy.topics])
                self._copy.leave(number)
            if task is not None and task.state == WARM:
                self._watcher.warm(number, None)

    def step(self) -> list[Restored]:
        """Do a slice of the work; gives the partitions that are up to date."""
        if not self._tasks:
            return []
        now_s = self._host.now_s()
        for task in self._tasks.values():
            if now_s < task.again_s:
                continue
            if task.state in (OFFSETS, FENCING):
                self._ask_offset(task)
            if task.state == ENDS or (task.state == WARM and now_s >= task.look_s):
                self._ask_ends(task)
        if any(task.reading for task in self._tasks.values()):
            self._read()
        return [self._finish(task) for task in list(self._tasks.values()) if self._is_done(task)]

    def close(self) -> None:
        """Let go of the clients."""
        self._tasks.clear()
        if self._made is not None:
            self._made.close()

    # From where the jobs are read.

    def _ask_offset(self, task: RestoreTask) -> None:
        if task.fencing is not None:
            if task.fencing.is_alive():
                return
            task.fencing, task.state, task.unstable_s = None, OFFSETS, None
        if task.asked is None:
            stable = task.state == OFFSETS
            request = ConsumerGroupTopicPartitions(self._settings.group, [TopicPartition(self._layout.jobs, task.number)])
            asked = self._admin.list_consumer_group_offsets([request], require_stable=stable, request_timeout=REQUEST_S)
            task.asked = asked[self._settings.group]
        if not task.asked.done():
            return
        asked_now, task.asked = task.asked, None
        try:
            answer = asked_now.result().topic_partitions[0]
        except KafkaException as error:
            self._passing("asking for the committed offset", error, task)
            return
        if answer.error is not None:
            self._passing("asking for the committed offset", KafkaException(answer.error), task)
        elif task.state == FENCING:
            self._fence(task, answer.metadata or "")
        else:
            task.offset, task.state, task.unstable_s = answer.offset, ENDS, None
            task.committer = answer.metadata or ""

    def _unstable(self, task: RestoreTask) -> None:
        """A transaction is open over the offset; its owner is about to end it, or is dead."""
        now_s = self._host.now_s()
        task.unstable_s = task.unstable_s or now_s
        if now_s - task.unstable_s > UNSTABLE_S:
            task.state = FENCING

    def _fence(self, task: RestoreTask, transactional_id: str) -> None:
        """End the transaction of the last committer, which is not the owner any more."""
        if not self._fencing.may_end(transactional_id):
            task.state, task.unstable_s = OFFSETS, None
            return
        _LOGGER.warning("partition %d: the transaction that %s left open is ended", task.number, transactional_id)
        task.state = FENCING
        task.fencing = self._fencing.end(transactional_id)

    # How far the changelogs go.

    def _ask_ends(self, task: RestoreTask) -> None:
        if not task.asked_ends:
            places = [TopicPartition(topic, task.number) for topic in self._copy.topics]
            uncommitted = {"isolation_level": IsolationLevel.READ_UNCOMMITTED, "request_timeout": REQUEST_S}
            task.asked_ends = self._admin.list_offsets({place: OffsetSpec.latest() for place in places}, **uncommitted)
            places.append(TopicPartition(self._layout.jobs, task.number))
            task.asked_starts = self._admin.list_offsets({place: OffsetSpec.earliest() for place in places}, **uncommitted)
        asked = [*task.asked_ends.values(), *task.asked_starts.values()]
        if not all(future.done() for future in asked):
            return
        ends, starts = task.asked_ends, task.asked_starts
        task.asked_ends, task.asked_starts = {}, {}
        try:
            last = [future.result().offset for future in ends.values()]
            first = [future.result().offset for future in starts.values()]
        except KafkaException as error:
            self._passing("asking how far the changelogs go", error, task)
            return
        if min(last + first) < 0:
            # A partition without a leader has no offsets, and the client says so by one that is none.
            task.again_s = self._host.now_s() + AGAIN_S
            return
        task.ends, task.first_job = last, first.pop()
        self._begin_reading(task, first)
        if task.state == WARM:
            task.look_s = self._host.now_s() + LOOK_S
            self._watcher.warm(task.number, task.remaining)

    def _begin_reading(self, task: RestoreTask, first: list[int]) -> None:
        if not task.reading:
            done = self._copy.progress(task.number)
            if done is not None:
                for at, begin, end, topic in zip(done, first, task.ends, self._copy.topics, strict=True):
                    if not begin <= at <= end:
                        _LOGGER.error(
                            "partition %d: the local copy of %s is at %d, and that has %d to %d: it is made anew",
                            task.number, topic, at, begin, end,
                        )  # fmt: skip
                        done = None
                        break
            if done is None:
                self._copy.wipe(task.number)
                done = first
            task.progress = done
            self._reader.incremental_assign(
                [TopicPartition(topic, task.number, at) for topic, at in zip(self._copy.topics, done, strict=True)]
            )
            task.reading = True
        if task.state != WARM:
            task.state = READING

    # Reading.

    def _read(self) -> None:
        messages = self._reader.consume(SLICE_RECORDS, 0)
        if not messages:
            self._watch_stalls()
            return
        now_s = self._host.now_s()
        moved: dict[int, Progress] = {}
        records: dict[tuple[str, int], list[Any]] = {}
        for (topic, number), row in by_place(messages).items():
            task = self._tasks.get(number)
            if task is None:
                continue
            if topic is None:
                self._end(row, task)  # What is wrong with the client as a whole: of no topic, and of partition 0.
                continue
            # Only what is no record has no key, so nothing more is asked of the many that are one.
            found = [message for message in row if message.key() is not None]
            at = found[-1].offset() + 1 if found else 0
            if len(found) < len(row):
                at = max(at, self._end(row, task))
            records[topic, number] = found
            which = self._copy.topics.index(topic)
            if task.state == READING and len(found) < len(row) and at < task.ends[which]:
                # For readers of committed records it ends here, so a transaction is open.
                task.held_s.setdefault(which, now_s)
            elif at > task.progress[which]:
                task.held_s.pop(which, None)
            if at > task.progress[which]:
                task.progress[which] = at
                moved[number] = task.progress
                task.moved_s = now_s
                task.records += len(found)
        outdated = [number for number in moved if not self._tasks[number].remaining and not self._copy.reaches_end(number)]
        if moved:
            self._copy.apply(records, moved)
        for number in moved:
            self._tell(self._tasks[number], now_s)
        for number in outdated:
            self._begin_anew(self._tasks[number])
        self._watch_stalls()

    def _end(self, messages: list[Any], task: RestoreTask) -> int:
        """How far a place goes by what came from it and is no record; 0 where nothing says so."""
        at = 0
        for message in messages:
            error = message.error()
            if error is None:
                continue
            if error.code() == KafkaError._PARTITION_EOF:
                at = message.offset()
            else:
                self._passing("reading the changelogs", KafkaException(error), task)
        return at

    def _is_done(self, task: RestoreTask) -> bool:
        return task.state == READING and not task.remaining

    def _begin_anew(self, task: RestoreTask) -> None:
        """The copy was brought up to date so late that it may have missed keys that are gone."""
        number = task.number
        _LOGGER.warning("partition %d: the local copy was not brought up to date in time, and is made anew", number)
        self.drop([number])
        self._copy.wipe(number)
        if task.state == WARM:
            self._tasks[number] = RestoreTask(number, WARM, self._host.now_s())
        else:
            self.add(number)

    def _finish(self, task: RestoreTask) -> Restored:
        self.drop([task.number])
        took_s = self._host.now_s() - task.begun_s
        if task.records:
            _LOGGER.info("partition %d: restored, %d records in %.1f s", task.number, task.records, took_s)
        self._watcher.restoring(task.number, task.records, 0)
        return Restored(task.number, self._first_job(task), task.progress)

    def _first_job(self, task: RestoreTask) -> int:
        """The committed offset; where the group has forgotten it, the one that stands in the changelog."""
        offset = task.offset
        known = self._copy.jobs_offset(task.number)
        if offset < 0 and known is not None:
            _LOGGER.warning("partition %d: the group has forgotten its offset, jobs are read from %d on", task.number, known)
            offset = known
        if 0 <= offset < task.first_job:
            _LOGGER.error(
                "partition %d: jobs %d to %d were deleted before anybody took them: raise the retention of topic %s",
                task.number, offset, task.first_job - 1, self._layout.jobs,
            )  # fmt: skip
        return max(offset, task.first_job)

    def _tell(self, task: RestoreTask, now_s: float) -> None:
        if task.state != READING:
            return
        self._watcher.restoring(task.number, task.records, task.remaining)
        if now_s - task.told_s > TOLD_S:
            task.told_s = now_s
            done = 100 * (1 - task.remaining / max(1, sum(task.ends)))
            _LOGGER.info("partition %d: restoring, %d records so far, %.0f %%", task.number, task.records, done)

    def _watch_stalls(self) -> None:
        now_s = self._host.now_s()
        for task in self._tasks.values():
            held_s = min(task.held_s.values(), default=now_s)
            if task.state == READING and now_s - held_s > UNSTABLE_S and self._fencing.may_end(task.committer):
                task.held_s.clear()
                self._fence(task, task.committer)
            if task.state == READING and now_s - task.moved_s > STALLED_S:
                _LOGGER.error(
                    "partition %d: restoring does not move, at %s of %s: is a transaction left open, or a broker down?",
                    task.number, task.progress, task.ends,
                )  # fmt: skip
                task.moved_s = now_s
                task.state = OFFSETS

    def _passing(self, doing: str, error: KafkaException, task: RestoreTask) -> None:
        """What passes by itself is tried again; the rest is the operator's."""
        reason: KafkaError = error.args[0]
        if not passes(reason):
            raise store_error(f"{doing} of partition {task.number}", error, self._settings) from error
        if reason.code() == KafkaError.UNSTABLE_OFFSET_COMMIT:
            self._unstable(task)
            return
        task.again_s = self._host.now_s() + AGAIN_S
        _LOGGER.warning("partition %d: %s: %s", task.number, doing, reason.str())
