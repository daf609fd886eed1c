"""The log of one partition: records, transactions over them, and what producers may append.

Offsets are taken by control records as well (the markers that end a transaction), and compaction leaves gaps, so the next
offset to read is not always behind the last record that was read. Two views are kept, for the two kinds of readers:
everything, and what is committed below the last stable offset. A record moves into the second one when its transaction
is decided and everything before it is, so no reader ever filters.
"""

from __future__ import annotations

__all__ = ["PartitionLog"]

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence

from confluent_kafka import KafkaError

from tests.simulation.broker.messages import Cancel, Fetched, Stored
from tests.simulation.broker.refused import Refused

_SEQUENCES = 2**31
"""Sequences of batches begin anew at 0 behind the largest one."""

_BATCHES_KNOWN = 5
"""How many of a producer's batches are remembered, to recognise them when they come again."""


class _Transaction:
    """A transaction that has written here; *committed* is None until its marker is written."""

    __slots__ = ("committed",)

    def __init__(self) -> None:
        self.committed: bool | None = None


class _Producer:
    """What is known of a producer: its epoch, its last batches (first and last sequence, offset), its open transaction."""

    __slots__ = ("batches", "epoch", "transaction")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.batches: deque[tuple[int, int, int]] = deque(maxlen=_BATCHES_KNOWN)
        self.transaction: _Transaction | None = None


class _Watch:
    __slots__ = ("_number", "_watchers")

    def __init__(self, watchers: dict[int, Callable[[], None]], number: int) -> None:
        self._watchers = watchers
        self._number = number

    def cancel(self) -> None:
        self._watchers.pop(self._number, None)


class PartitionLog:
    """The log of one partition. *leader* is the number of the broker that leads it."""

    __slots__ = (
        "_committed",
        "_committed_watchers",
        "_expected",
        "_producers",
        "_records",
        "_undecided",
        "_watch_number",
        "_watchers",
        "compacted",
        "end",
        "leader",
        "stable_end",
        "start",
    )

    def __init__(self, leader: int = 0, *, compacted: bool = False) -> None:
        self.leader = leader
        self.compacted = compacted
        self.start = 0
        self.end = 0
        """The high watermark; replicas are always in step."""
        self.stable_end = 0
        """The last stable offset: where the first transaction that is open begins, or the end."""
        self._records: list[Stored] = []
        self._committed: list[Stored] = []
        # Batches from the last stable offset on, each with its transaction or None.
        self._undecided: deque[tuple[_Transaction | None, list[Stored]]] = deque()
        self._producers: dict[int, _Producer] = {}
        # Epoch and lowest sequence of those who tried to begin a transaction and have not written yet.
        self._expected: dict[int, tuple[int, int]] = {}
        self._watchers: dict[int, Callable[[], None]] = {}
        self._committed_watchers: dict[int, Callable[[], None]] = {}
        self._watch_number = 0

    # Writing.

    def has_open(self, producer_id: int) -> bool:
        """Whether a transaction of this producer is open here."""
        producer = self._producers.get(producer_id)
        return producer is not None and producer.transaction is not None

    def expect(self, producer_id: int, epoch: int, first_sequence: int) -> None:
        """Somebody tries to begin a transaction here; whatever fails of that, it begins with the lowest sequence tried."""
        known = self._expected.get(producer_id)
        if known is None or epoch > known[0] or (epoch == known[0] and first_sequence < known[1]):
            self._expected[producer_id] = (epoch, first_sequence)

    def append(
        self,
        records: Sequence[tuple[bytes | None, bytes | None]],
        at_ms: int,
        producer_id: int = -1,
        epoch: int = -1,
        first_sequence: int = -1,
        transactional: bool = False,
    ) -> int:
        """Append a batch; gives the offset of its first record, the old one if the batch is here already.

        Raises INVALID_PRODUCER_EPOCH, OUT_OF_ORDER_SEQUENCE_NUMBER, INVALID_TXN_STATE.
        """
        transaction = None
        if producer_id >= 0:
            producer = self._producers.get(producer_id)
            last_sequence = (first_sequence + len(records) - 1) % _SEQUENCES
            if producer is None:
                # Of a producer that is not known, which may have been forgotten, any sequence is taken.
                self._check_expected(producer_id, first_sequence)
                self._producers[producer_id] = producer = _Producer(epoch)
            else:
                if epoch == producer.epoch:
                    for first, last, base in producer.batches:
                        if first == first_sequence and last == last_sequence:
                            return base
                self._check(producer, epoch, first_sequence)
                self._check_expected(producer_id, first_sequence)
                if producer.transaction is not None and not transactional:
                    raise Refused(KafkaError.INVALID_TXN_STATE)
                if epoch > producer.epoch:
                    producer.epoch = epoch
                    producer.batches.clear()
            producer.batches.append((first_sequence, last_sequence, self.end))
            self._expected.pop(producer_id, None)
            if transactional:
                transaction = producer.transaction
                if transaction is None:
                    producer.transaction = transaction = _Transaction()
        base = self.end
        rows = [Stored(offset, key, value, at_ms) for offset, (key, value) in enumerate(records, base)]
        self.end = base + len(rows)
        self._records += rows
        if transaction is None and not self._undecided:
            self._committed += rows
            self.stable_end = self.end
            self._tell(self._committed_watchers)
        else:
            self._undecided.append((transaction, rows))
        self._tell(self._watchers)
        return base

    def mark(self, producer_id: int, epoch: int, committed: bool) -> None:
        """Write the marker that ends a producer's transaction; it fences lower epochs of that producer here."""
        producer = self._producers.get(producer_id)
        if producer is None:
            self._producers[producer_id] = producer = _Producer(epoch)
        elif epoch < producer.epoch:
            raise Refused(KafkaError.INVALID_PRODUCER_EPOCH)
        elif epoch > producer.epoch:
            producer.epoch = epoch
            producer.batches.clear()
        self.end += 1
        self._expected.pop(producer_id, None)
        if producer.transaction is not None:
            producer.transaction.committed = committed
            producer.transaction = None
        self._settle()
        self._tell(self._watchers)

    @staticmethod
    def _check(producer: _Producer, epoch: int, first_sequence: int) -> None:
        if epoch < producer.epoch:
            raise Refused(KafkaError.INVALID_PRODUCER_EPOCH)
        if epoch > producer.epoch or not producer.batches:
            expected = 0
        else:
            expected = (producer.batches[-1][1] + 1) % _SEQUENCES
        if first_sequence != expected:
            raise Refused(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER)

    def _check_expected(self, producer_id: int, first_sequence: int) -> None:
        if self._expected:
            expected = self._expected.get(producer_id)
            if expected is not None and first_sequence > expected[1]:
                raise Refused(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER)

    def _settle(self) -> None:
        """What is decided, up to the first transaction that is open, is there for readers of committed records."""
        undecided = self._undecided
        before = self.stable_end
        while undecided:
            transaction, rows = undecided[0]
            if transaction is not None and transaction.committed is None:
                break
            undecided.popleft()
            if transaction is None or transaction.committed:
                self._committed += (
                    rows if rows[0].offset >= self.start else [row for row in rows if row.offset >= self.start]
                )
        self.stable_end = max(undecided[0][1][0].offset, self.start) if undecided else self.end
        if self.stable_end != before:
            self._tell(self._committed_watchers)

    # Reading.

    def fetch(self, offset: int, read_committed: bool, records_max: int) -> Fetched:
        """Records from *offset* on, at most so many. Raises OFFSET_OUT_OF_RANGE."""
        if offset < self.start or offset > self.end:
            raise Refused(KafkaError.OFFSET_OUT_OF_RANGE)
        if read_committed:
            rows, bound = self._committed, self.stable_end
        else:
            rows, bound = self._records, self.end
        if offset >= bound:
            return Fetched([], offset, self.end, self.stable_end)
        at = bisect_left(rows, (offset,))
        found = rows[at : at + records_max]
        # Behind the last record there may be markers, aborted records and gaps, which are read over.
        position = bound if at + records_max >= len(rows) else found[-1].offset + 1
        return Fetched(found, position, self.end, self.stable_end)

    def watch(self, callback: Callable[[], None], read_committed: bool) -> Cancel:
        """Call back whenever a fetch may give more than before."""
        watchers = self._committed_watchers if read_committed else self._watchers
        self._watch_number += 1
        watchers[self._watch_number] = callback
        return _Watch(watchers, self._watch_number)

    @staticmethod
    def _tell(watchers: dict[int, Callable[[], None]]) -> None:
        if watchers:
            for callback in list(watchers.values()):
                callback()

    # What becomes of old records.

    def truncate_before(self, offset: int) -> None:
        """The log begins at *offset*; transactions that were open stay so. Raises OFFSET_OUT_OF_RANGE behind the end."""
        if offset > self.end:
            raise Refused(KafkaError.OFFSET_OUT_OF_RANGE)
        if offset <= self.start:
            return
        self.start = offset
        del self._records[: bisect_left(self._records, (offset,))]
        del self._committed[: bisect_left(self._committed, (offset,))]
        self._settle()
        self._tell(self._watchers)

    def compact(self, keep_tombstones: bool, before: int | None = None) -> None:
        """Below the last stable offset only the last record of a key stays; what is still written to begins at *before*.

        What was aborted goes as well, and with *keep_tombstones* unset keys whose last record has no value. Offsets stay as
        they are, the end too: it may stand far behind the last record that is left.
        """
        bound = self.stable_end if before is None else min(before, self.stable_end)
        until = bisect_left(self._committed, (bound,))
        rows = self._committed[:until]
        last = {row.key: row.offset for row in rows}
        kept = [row for row in rows if last[row.key] == row.offset and (keep_tombstones or row.value is not None)]
        self._committed[:until] = kept
        self._records[: bisect_left(self._records, (bound,))] = kept
