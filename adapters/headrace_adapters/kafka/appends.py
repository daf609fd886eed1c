"""Writing without transactions, for the guarantee ``at_least_once``: cheaper, and what a crash cuts short happens again.

Everything that a step decided is written and acknowledged before the store is, and the store before the offsets move:

    1. jobs, results, events, context values, dead letters        acknowledged by the brokers
    2. the coordination changelog                                 acknowledged
    3. which context values are gone                              acknowledged
    4. the local store (by the carrier)
    5. the offsets of what was taken                              :meth:`Appends.settle`

Whatever stops a worker between two of these, the coordination changelog is never ahead of what it speaks of, nothing is gone
that it still speaks of, and jobs are delivered again that may have been taken. The coordination records of one run and one
step go out in one batch of the producer, which a broker appends whole or not at all, so a run is never half a step further.
A step may so be decided twice: its events then stand twice in the history, under the same sequence numbers.
"""

from __future__ import annotations

__all__ = ["Appends"]

import logging
import re
from collections.abc import Callable, Iterable, Mapping

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from headrace.errors import StoreError
from headrace_adapters.kafka.clients import Clients, Consumer, Member, Producer
from headrace_adapters.kafka.connection import plain_producer
from headrace_adapters.kafka.failures import store_error
from headrace_adapters.kafka.settings import KafkaSettings
from headrace_adapters.kafka.transactions import InDoubt, Outgoing, hand_over
from headrace_topics.names import OFFSET_KEY

_LOGGER = logging.getLogger(__name__)

FLUSH_S = 1.0

# A batch of the producer is cut by nothing but a flush, and that stands between two runs.
BATCH_BYTES_MAX = 16 * 1024 * 1024
BATCH_BYTES = 4 * 1024 * 1024
_WHOLE_BATCHES = {"linger.ms": 1_000, "batch.num.messages": 1_000_000, "batch.size": BATCH_BYTES_MAX}

# A record that fails fails all that follow it in its partition, so the last one of each tells whether all are written. How
# long the brokers may take is looked after here, since a record whose time is over is not covered by that.
_WITHOUT_GAPS = {"enable.gapless.guarantee": True, "delivery.timeout.ms": 0}

_RUN = re.compile(rb'\["[^"\\]*(?:\\.[^"\\]*)*",')


class Appends:
    """The producer of a worker that promises *at least once*; used as ``Transactions`` is."""

    transactional_id = ""

    def __init__(
        self,
        clients: Clients,
        settings: KafkaSettings,
        jobs_topic: str,
        coordination_topic: str,
        give_up: Callable[[], bool],
    ) -> None:
        self._clients = clients
        self._settings = settings
        self._jobs_topic = jobs_topic
        self._coordination_topic = coordination_topic
        self._give_up = give_up
        self._producer: Producer | None = None
        self.fencings = 0

    def open(self) -> None:
        """Make the producer."""
        self.close()
        self._producer = self._clients.producer({**plain_producer(self._settings), **_WHOLE_BATCHES, **_WITHOUT_GAPS})

    def commit(
        self,
        records: Iterable[Outgoing],
        offsets: Mapping[int, int],  # noqa: ARG002 (they move with ``settle``, when the store is written)
        consumer: Member,  # noqa: ARG002
        last_of: frozenset[str],
    ) -> dict[tuple[str, int], int]:
        """Write *records*; gives, for each partition of the topics *last_of*, the offset behind its last record.

        Raises :class:`InDoubt` when some of them may not be written.
        """
        written: dict[tuple[str, int], int] = {}
        producer = self._producer
        assert producer is not None, "the producer was not opened"
        values: list[Outgoing] = []
        states: list[Outgoing] = []
        gone: list[Outgoing] = []
        for record in records:
            if record.topic == self._coordination_topic:
                states.append(record)
            else:
                (gone if record.value is None else values).append(record)
        self._write(producer, values, written)
        self._write_states(producer, states, written)
        if gone:
            self._write(producer, gone, written)
        return {place: offset for place, offset in written.items() if place[0] in last_of}

    def _write_states(self, producer: Producer, states: list[Outgoing], written: dict[tuple[str, int], int]) -> None:
        """Coordination records, those of each run together in one batch."""
        part: list[Outgoing] = []
        size, run = 0, b""
        # What a step deletes stands behind what it puts, of all runs; here the records of each run stand together.
        for record in sorted(states, key=_place):
            found = _run_of(record)
            if size > BATCH_BYTES and found != run:
                self._write(producer, part, written)
                part, size = [], 0
            run = found
            size += len(record.key or b"") + len(record.value or b"")
            part.append(record)
        self._write(producer, part, written)

    def _write(self, producer: Producer, records: list[Outgoing], written: dict[tuple[str, int], int]) -> None:
        """Write these, and wait until they are; the last one of a partition tells for those before it."""
        failed: list[KafkaError] = []
        try:
            hand_over(producer, records, frozenset(record.topic for record in records), written, failed)
        except KafkaException as error:
            failed.append(error.args[0])  # A producer that has failed for good takes nothing more.
        self._flush(producer, failed)

    def _flush(self, producer: Producer, failed: list[KafkaError]) -> None:
        try:
            while producer.flush(FLUSH_S) and not failed:
                if self._give_up():
                    servers = self._settings.servers
                    raise StoreError(f"the brokers at {servers} did not take records in time: look after them")
        except KafkaException as error:
            failed.append(error.args[0])  # The producer has failed for good while it waited.
        if failed:
            _LOGGER.warning("records could not be written: %s", failed[0].str())
            self.open()
            raise InDoubt(failed[0].str())

    def settle(self, offsets: Mapping[int, int], consumer: Consumer) -> bool:
        """Move the offsets, and tell whether they have moved; as long as they have not, jobs may be delivered once more."""
        positions = [TopicPartition(self._jobs_topic, number, offset) for number, offset in offsets.items()]
        try:
            consumer.commit(offsets=positions, asynchronous=False)
        except KafkaException as error:
            reason: KafkaError = error.args[0]
            if reason.fatal():
                raise store_error("committing offsets", error, self._settings) from error
            _LOGGER.warning("offsets were not committed, so some jobs may be delivered again: %s", reason.str())
            return False
        return True

    def close(self) -> None:
        """Let go of the producer."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()


def _run_of(record: Outgoing) -> bytes:
    found = _RUN.match(record.key or b"")
    assert found is not None, f"a coordination record has the key {record.key!r}"
    return found[0]


def _place(record: Outgoing) -> tuple[bool, int, bytes]:
    """Run by run; the offset of a partition stands behind the state that it is of."""
    return record.key == OFFSET_KEY, record.partition, _run_of(record)
