"""One transactional producer for each worker: what a step decided and the offsets of what it took, at once or not at all.

    begin -> produce -> send offsets with the group's metadata -> commit

The transactional id belongs to the slot of the worker and outlives it, so a worker that starts again aborts what its
predecessor left open. What fences a worker that was left behind is the generation in the group's metadata, so every
transaction carries offsets, those that only timers caused too, and the metadata is taken when the offsets are sent:
never from before a rebalance, and only for partitions that the assignment held at that moment (the broker checks that a
committer is a member of the group, and not that it owns the partition).

How a transaction can end:

    committed            :meth:`Transactions.commit` returns where each topic partition that was written goes on
    :class:`Undone`      it was aborted, and nothing of it has happened
    :class:`InDoubt`     nobody knows: a commit or an abort timed out, or the producer was fenced. The producer has been
                         replaced by a new one under the same id, and by that the transaction has ended one way or the other;
                         which way, the changelog and the committed offsets tell
    ``StoreError``       neither can be reached: the worker has to stop
"""

from __future__ import annotations

__all__ = ["VALUE_BYTES_MAX", "InDoubt", "Outgoing", "Transactions", "Undone"]

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from headrace.errors import StoreError
from headrace_adapters.base.host import THIS_HOST, Host
from headrace_adapters.kafka.clients import Clients, Consumer, Member, Producer
from headrace_adapters.kafka.connection import transactional_producer
from headrace_adapters.kafka.failures import store_error
from headrace_adapters.kafka.passing import passes
from headrace_adapters.kafka.settings import RECORD_BYTES_MAX, KafkaSettings

_LOGGER = logging.getLogger(__name__)

VALUE_BYTES_MAX = RECORD_BYTES_MAX - 64 * 1024
"""The largest value of a record: beside it stand its key, with ids that may be long, and what the protocol adds."""

# One attempt of a call that waits for the broker; between two attempts it is looked whether the worker is to stop.
ATTEMPT_S = 5.0

# How long a call is repeated before the producer is given up for a new one.
PATIENCE_S = 8.0

# Between two calls, where the first one was refused at once.
AGAIN_S = 0.02

_FENCED = (KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED)

# A worker that is fenced again and again shares its slot with another one that lives.
FENCED_MAX = 5
FENCED_WINDOW_S = 60.0


class Outgoing(NamedTuple):
    """One record on its way out."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None


class Undone(Exception):
    """The transaction was aborted: nothing of it has happened."""


class InDoubt(Exception):
    """It is not known whether the transaction has happened; by now it has ended."""


class Transactions:
    """The transactional producer of a worker. *give_up* tells whether the worker is to stop waiting for brokers."""

    def __init__(
        self,
        clients: Clients,
        settings: KafkaSettings,
        transactional_id: str,
        jobs_topic: str,
        give_up: Callable[[], bool],
        host: Host = THIS_HOST,
    ) -> None:
        self._clients = clients
        self._settings = settings
        self.transactional_id = transactional_id
        self._jobs_topic = jobs_topic
        self._give_up = give_up
        self._host = host
        self._fenced_at: deque[float] = deque(maxlen=FENCED_MAX)
        self._producer: Producer | None = None
        self._begun_s = 0.0
        self.fencings = 0

    def open(self) -> None:
        """Make the producer; what a predecessor under this id left open is aborted by that.

        Raises :class:`StoreError` when the brokers refuse it, or cannot be reached until *give_up* says so.
        """
        self.close()
        producer = self._clients.producer(transactional_producer(self._settings, self.transactional_id))
        while True:
            try:
                producer.init_transactions(ATTEMPT_S)
            except KafkaException as error:
                if not passes(error.args[0]) or self._give_up():
                    raise store_error("beginning transactions", error, self._settings) from error
                _LOGGER.warning("waiting for the brokers to admit transactions: %s", error.args[0].str())
            else:
                self._producer = producer
                return

    def commit(
        self, records: Iterable[Outgoing], offsets: Mapping[int, int], consumer: Member, last_of: frozenset[str]
    ) -> dict[tuple[str, int], int]:
        """Commit *records* and the *offsets* (of the jobs topic, by partition) in one transaction.

        Gives, for each partition that was written of the topics *last_of*, the offset behind its last record.
        """
        assert offsets, "every transaction carries offsets, because they carry the generation that fences"
        producer = self._producer
        assert producer is not None, "the producer was not opened"
        written: dict[tuple[str, int], int] = {}
        failed: list[KafkaError] = []
        self._begun_s = self._host.now_s()
        try:
            producer.begin_transaction()
            hand_over(producer, records, last_of, written, failed)
            positions = [
                TopicPartition(self._jobs_topic, number, offset, metadata=self.transactional_id)
                for number, offset in offsets.items()
            ]
            metadata = consumer.consumer_group_metadata()
            # After a time-out it is not called again: librdkafka has been seen never to return from a later call.
            self._insist(lambda: producer.send_offsets_to_transaction(positions, metadata, ATTEMPT_S), resumes=False)
            self._insist(lambda: producer.commit_transaction(ATTEMPT_S))
        except KafkaException as error:
            self._end(producer, error.args[0])
        assert not failed, f"a transaction was committed without a record of its own: {failed[0]}"
        return written

    def settle(self, offsets: Mapping[int, int], consumer: Consumer) -> bool:  # noqa: ARG002
        """Whether the group knows these: nothing is left to do, because they moved with the transaction."""
        return True

    def _insist(self, call: Callable[[], None], *, resumes: bool = True) -> None:
        """Repeat a call that the brokers put off, or where it *resumes* did not answer in time; but not for long.

        A producer that met an outage in the middle of a transaction may wait for ever, long after the brokers are back.
        """
        deadline_s = self._host.now_s() + PATIENCE_S
        while True:
            try:
                call()
                return
            except KafkaException as error:
                reason: KafkaError = error.args[0]
                if not reason.retriable() or reason.txn_requires_abort() or reason.fatal() or self._give_up():
                    raise
                if self._host.now_s() > deadline_s or not (resumes or reason.code() != KafkaError._TIMED_OUT):
                    raise
                if reason.code() == KafkaError._CONFLICT:
                    raise  # A commit that was given up goes on, and nothing but a new producer ends that.
                _LOGGER.warning("a transaction waits for the brokers: %s", reason.str())
                self._host.sleep(AGAIN_S)

    def _end(self, producer: Producer, reason: KafkaError) -> None:
        """End a transaction that failed; always raises."""
        if not reason.fatal():
            try:
                self._insist(lambda: producer.abort_transaction(ATTEMPT_S))
            except KafkaException as error:
                _LOGGER.warning("a transaction could not be aborted: %s", error.args[0].str())
                # It may be only here that a producer learns of another one under its id.
                reason = error.args[0]
            else:
                _LOGGER.warning("a transaction was undone, and what was in it is decided again: %s", reason.str())
                raise Undone(reason.str()) from None
        self._replace(reason)
        raise InDoubt(reason.str()) from None

    def _replace(self, reason: KafkaError) -> None:
        """A new producer under the same id; what the old one left open ends with that."""
        now_s = self._host.now_s()
        # Whose transaction has lasted too long for the broker is told exactly what he is told whose place somebody took.
        may_be_late = now_s - self._begun_s >= self._settings.transaction_timeout_ms / 1_000
        if reason.code() in _FENCED and not may_be_late:
            self.fencings += 1
            self._fenced_at.append(now_s)
            if len(self._fenced_at) == FENCED_MAX and now_s - self._fenced_at[0] < FENCED_WINDOW_S:
                raise StoreError(
                    f"the transactions of this worker ({self.transactional_id}) were taken over {FENCED_MAX} times within "
                    f"{FENCED_WINDOW_S:g} s: another worker runs on a copy of its state folder; give each one a folder of "
                    "its own (setting 'state'), and remove the copy"
                )
        _LOGGER.warning("the transactional producer is replaced: %s", reason.str())
        self.open()

    def close(self) -> None:
        """Let go of the producer; nothing may be open any more."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()


def hand_over(
    producer: Producer,
    records: Iterable[Outgoing],
    last_of: frozenset[str],
    written: dict[tuple[str, int], int],
    failed: list[KafkaError],
) -> None:
    """Hand the records over; the last one of each partition of *last_of* tells its offset when it is written."""
    held: dict[tuple[str, int], Outgoing] = {}

    def note(error: KafkaError | None, message: Any) -> None:
        if error is not None:
            failed.append(error)
        else:
            written[message.topic(), message.partition()] = message.offset() + 1

    produce = producer.produce
    for record in records:
        topic, partition, key, value = record
        if topic in last_of:
            if partition < 0:
                # The client chooses where it stands, so no other record tells of it.
                send(producer, record, on_delivery=note)
                continue
            before = held.get((topic, partition))
            held[topic, partition] = record
            if before is None:
                continue
            topic, partition, key, value = before
        try:
            produce(topic, value, key, partition)
        except BufferError:
            send(producer, Outgoing(topic, partition, key, value))
    for last in held.values():
        send(producer, last, on_delivery=note)


def send(producer: Producer, record: Outgoing, **others: Any) -> None:
    """Hand one record over, as soon as the producer has room for it."""
    while True:
        try:
            producer.produce(record.topic, record.value, record.key, record.partition, **others)
            return
        except BufferError:
            producer.poll(0.1)
