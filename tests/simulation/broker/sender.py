"""The records of a producer on their way to the brokers: queues, batches, sequences, and reports of what became of them.

Each partition has one batch under way at a time. Where the answer to it is lost the same batch is sent again, with the same
sequence, until the brokers say what became of it or its time is over. What a record's fate means for a transaction, or for
the producer as a whole, is decided by ``Sender.on_failure``.
"""

from __future__ import annotations

__all__ = ["Sender"]

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from confluent_kafka import OFFSET_INVALID, KafkaError, KafkaException

from tests.simulation.broker.client_context import Context
from tests.simulation.broker.client_message import Message
from tests.simulation.broker.messages import Place, Stored
from tests.simulation.broker.network import Line
from tests.simulation.broker.refused import Refused
from tests.simulation.kernel import Signal

OnDelivery = Callable[[KafkaError | None, Message], None]

# What stands around a record in a batch.
RECORD_FRAME_BYTES = 70

RETRIED = frozenset((
    KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError.NOT_ENOUGH_REPLICAS, KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.REQUEST_TIMED_OUT,
    KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND, KafkaError.KAFKA_STORAGE_ERROR,
))  # fmt: skip


class _Record(NamedTuple):
    """One record that waits."""

    key: bytes | None
    value: bytes | None
    on_delivery: OnDelivery | None
    due_us: int


def _size(record: _Record) -> int:
    return len(record.key or b"") + len(record.value or b"") + RECORD_FRAME_BYTES


class _Batch:
    """Records of one partition that are sent together."""

    __slots__ = ("epoch", "first", "given_up", "records")

    def __init__(self, records: list[_Record], first: int, epoch: int) -> None:
        self.records = records
        self.first = first
        self.epoch = epoch
        self.given_up = False


class _Queue:
    """What waits for one partition, and what is under way to it."""

    __slots__ = ("acknowledged", "next", "size", "under_way", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[_Record] = deque()
        self.size = 0
        self.under_way: _Batch | None = None
        # Sequences: of the next record, and behind the last one that is acknowledged.
        self.next = 0
        self.acknowledged = 0

    def put_back(self, batch: _Batch) -> None:
        """What was under way is to be sent anew."""
        batch.given_up = True
        self.under_way = None
        self.waiting.extendleft(reversed(batch.records))
        self.size += sum(_size(record) for record in batch.records)


def _by_place(item: tuple[Place, _Queue]) -> Place:
    return item[0]


class Sender:
    """See the module's text. *may_send* tells whether records of a place may leave; *ids* are the producer's."""

    def __init__(self, context: Context, configuration: dict[str, Any], transactional_id: str | None) -> None:
        def option(*names: str, otherwise: float) -> float:
            return next((float(configuration[name]) for name in names if name in configuration), otherwise)

        self._context = context
        self._server = context.server
        self._line: Line = context.line()
        self.transactional_id = transactional_id
        self.ids: tuple[int, int] | None = None
        """The producer id and its epoch; None while there are none, (-1, -1) where none are used."""
        self.changed = Signal()
        """Comes when something is to be reported."""
        self.outstanding = 0
        """Records that the application was not told of yet."""
        self.count_max = int(option("queue.buffering.max.messages", otherwise=100_000))
        self._bytes_max = int(option("queue.buffering.max.kbytes", otherwise=1_048_576)) * 1_024
        self._linger_us = int(option("linger.ms", "queue.buffering.max.ms", otherwise=5) * 1_000)
        self._batch_count = int(option("batch.num.messages", otherwise=10_000))
        self._batch_bytes = int(option("batch.size", otherwise=1_000_000))
        self.backoff_us = int(option("retry.backoff.ms", otherwise=100) * 1_000)
        self.backoff_us_max = int(option("retry.backoff.max.ms", otherwise=1_000) * 1_000)
        lasts_ms = option("delivery.timeout.ms", "message.timeout.ms", otherwise=300_000)
        if transactional_id is not None:
            lasts_ms = min(lasts_ms or 1 << 40, option("transaction.timeout.ms", otherwise=60_000))
        self._lasts_us = int(lasts_ms * 1_000)
        self._bytes = 0
        self._queues: dict[Place, _Queue] = {}
        self._reports: deque[tuple[Place, list[_Record], int, int] | KafkaError] = deque()
        self._lingering = False
        self._expiring = False
        self._flushes = 0
        self._drained: Callable[[], None] | None = None
        self.failures = 0
        """Records that were not written."""
        self.may_send: Callable[[Place], bool] = lambda place: True
        self.on_failure: Callable[[int, bool], None] = lambda code, is_first: None
        """Told of the error of a batch; *is_first* where all before it in its partition is acknowledged."""
        self.on_time_out: Callable[[], None] = lambda: None

    # Records.

    def put(self, place: Place, key: bytes | None, value: bytes | None, on_delivery: OnDelivery | None) -> None:
        """One more record. Raises ``BufferError`` where there is no room for it."""
        size = len(key or b"") + len(value or b"")
        if self.outstanding >= self.count_max or (self._bytes and self._bytes + size > self._bytes_max):
            raise BufferError("Local: Queue full")
        queue = self._queues.get(place)
        if queue is None:
            queue = _Queue()
            # In the order of places, so that nothing depends on which one was written to first.
            self._queues = dict(sorted([*self._queues.items(), (place, queue)], key=_by_place))
        due_us = self._context.kernel.now_us + self._lasts_us if self._lasts_us else 0
        queue.waiting.append(_Record(key, value, on_delivery, due_us))
        queue.size += size + RECORD_FRAME_BYTES
        self._bytes += size
        self.outstanding += 1
        if due_us and not self._expiring:
            self._expiring = True
            self._context.later(self._lasts_us, self._expire)
        if len(queue.waiting) >= self._batch_count or queue.size >= self._batch_bytes or not self._linger_us:
            self._context.later(self._context.network.local(), lambda: self.send(place))
        elif not self._lingering:
            self._lingering = True
            self._context.later(self._linger_us, self._linger)

    def _linger(self) -> None:
        self._lingering = False
        self.send_all()

    def flushing(self, begins: bool) -> None:
        """While somebody flushes, nothing waits for more records."""
        self._flushes += 1 if begins else -1
        if begins:
            self.send_all()

    def send_all(self) -> None:
        """Send what waits, as far as it may leave."""
        for place, queue in self._queues.items():
            if queue.waiting and queue.under_way is None:
                self.send(place)

    def send(self, place: Place) -> None:
        """Send what waits for one place, if it may leave and nothing is under way there."""
        queue = self._queues[place]
        if not queue.waiting or queue.under_way is not None or self._drained is not None:
            return
        if self.ids is None or not self.may_send(place):
            return
        records: list[_Record] = []
        size = 0
        while queue.waiting and len(records) < self._batch_count:
            record_size = _size(queue.waiting[0])
            if records and size + record_size > self._batch_bytes:
                break
            size += record_size
            records.append(queue.waiting.popleft())
        queue.size -= size
        queue.under_way = _Batch(records, queue.next, self.ids[1])
        queue.next += len(records)
        self._send_batch(place, queue.under_way, 0)

    def _send_batch(self, place: Place, batch: _Batch, tries: int) -> None:
        assert self.ids is not None
        producer_id, epoch = self.ids
        if batch.given_up or batch.epoch != epoch:
            return
        pairs = [(record.key, record.value) for record in batch.records]
        first = -1 if producer_id < 0 else batch.first
        self._line.request(
            "produce",
            (place, len(pairs), producer_id, epoch, first),
            lambda: self._server.produce(
                place, pairs, producer_id=producer_id, epoch=epoch, first_sequence=first,
                transactional_id=self.transactional_id,
            ),
            lambda result: self._answered(place, batch, tries, result),
        )  # fmt: skip

    def _answered(self, place: Place, batch: _Batch, tries: int, result: Any) -> None:
        if batch.given_up:
            return
        queue = self._queues[place]
        if type(result) is not Refused:
            queue.under_way = None
            queue.acknowledged = batch.first + len(batch.records)
            self.report(place, batch.records, KafkaError.NO_ERROR, result)
            if self._drained is not None:
                self._check_drained()
            elif queue.waiting and (self._flushes or len(queue.waiting) >= self._batch_count or not self._lingering):
                self.send(place)
        elif result.code in RETRIED:
            self._context.later(self.backoff(tries), lambda: self._send_batch(place, batch, tries + 1))
        else:
            self._fail(place, queue, batch, result.code)

    def backoff(self, tries: int) -> int:
        """How long to wait after so many tries."""
        share = 0.8 + 0.4 * self._context.kernel.draw.random()
        return int(min(self.backoff_us * (1 << min(tries, 20)) * share, self.backoff_us_max))

    def _fail(self, place: Place, queue: _Queue, batch: _Batch, code: int) -> None:
        is_first = batch.first == queue.acknowledged
        goes_again = code == KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER and not is_first
        if goes_again:
            # Something before it was not written, so this one was not either: it goes out with a new epoch.
            queue.put_back(batch)
        else:
            batch.given_up = True
            queue.under_way = None
        # What it means for the producer is told before what became of the records.
        self.on_failure(code, is_first)
        if not goes_again:
            self.report(place, batch.records, code)
        if self._drained is not None:
            self._check_drained()

    def drain(self, drained: Callable[[], None]) -> None:
        """Send nothing more until all that is under way is answered, and then call *drained*."""
        self._drained = drained
        self._check_drained()

    def _check_drained(self) -> None:
        if self._drained is not None and all(queue.under_way is None for queue in self._queues.values()):
            drained, self._drained = self._drained, None
            drained()

    # Time and failures.

    def _expire(self) -> None:
        """Records whose time is over are given up, also those that are under way: they may be written."""
        self._expiring = False
        now_us = self._context.kernel.now_us
        next_us = 0
        expired = False
        for place, queue in self._queues.items():
            batch = queue.under_way
            if batch is not None and batch.records[0].due_us <= now_us:
                batch.given_up = True
                queue.under_way = None
                expired = True
                self.report(place, batch.records, KafkaError._MSG_TIMED_OUT)
            late: list[_Record] = []
            while queue.waiting and queue.waiting[0].due_us <= now_us:
                late.append(queue.waiting.popleft())
            if late:
                expired = True
                self.report(place, late, KafkaError._MSG_TIMED_OUT)
            oldest = queue.under_way.records[0] if queue.under_way else queue.waiting[0] if queue.waiting else None
            if oldest is not None:
                next_us = min(next_us or oldest.due_us, oldest.due_us)
        if next_us:
            self._expiring = True
            self._context.later(next_us - now_us, self._expire)
        if expired:
            self.on_time_out()

    def purge(self, *, under_way: bool) -> None:
        """Give up what waits, and if wanted what is under way, which may be written nevertheless."""
        for place, queue in self._queues.items():
            batch = queue.under_way
            if under_way and batch is not None:
                batch.given_up = True
                queue.under_way = None
                self.report(place, batch.records, KafkaError._PURGE_INFLIGHT)
            if queue.waiting:
                waiting = list(queue.waiting)
                queue.waiting.clear()
                queue.size = 0
                self.report(place, waiting, KafkaError._PURGE_QUEUE)

    def begin_epoch(self, ids: tuple[int, int]) -> None:
        """New ids: sequences begin anew."""
        self.ids = ids
        for queue in self._queues.values():
            queue.next = queue.acknowledged = 0
            if queue.under_way is not None:
                queue.put_back(queue.under_way)
        self.send_all()

    # Reports.

    def report(self, place: Place, records: list[_Record], code: int, first_offset: int = OFFSET_INVALID) -> None:
        """What became of records is to be told to the application."""
        self._reports.append((place, records, code, first_offset))
        if code:
            self.failures += len(records)
        for record in records:
            self._bytes -= len(record.key or b"") + len(record.value or b"")
        self.changed.notify()

    def report_failure(self, error: KafkaError) -> None:
        """That the producer has failed is to be told to the application, once and in its turn."""
        self._reports.append(error)
        self.changed.notify()

    def serve(self) -> int:
        """Tell the application what is to be told, in its own call; gives how many records that were.

        Raises the error of a producer that has failed, which leaves what is behind it for the next call.
        """
        served = 0
        while self._reports:
            report = self._reports.popleft()
            if isinstance(report, KafkaError):
                raise KafkaException(report)
            place, records, code, offset = report
            self.outstanding -= len(records)
            served += len(records)
            error = KafkaError(code) if code else None
            now_ms = self._context.kernel.now_ms
            for at, (key, value, on_delivery, _) in enumerate(records):
                if on_delivery is not None:
                    at_offset = OFFSET_INVALID if code else offset + at
                    on_delivery(error, Message(place, Stored(at_offset, key, value, now_ms), error))
        return served
