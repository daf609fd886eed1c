"""The log of a partition: what readers of both kinds see, what producers may append, and what goes with time."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from tests.simulation.broker.cluster import refusal
from tests.simulation.broker.partition_log import PartitionLog

A, B = 7, 8
"""Producers."""


@pytest.fixture
def log() -> PartitionLog:
    return PartitionLog(compacted=True)


def rows(*keys: str) -> list[tuple[bytes, bytes]]:
    return [(key.encode(), b"v") for key in keys]


def written(log: PartitionLog, producer: int, sequence: int, *keys: str) -> int:
    """A batch of a transaction."""
    return log.append(rows(*keys), 0, producer, 0, sequence, transactional=True)


def seen(log: PartitionLog, read_committed: bool, offset: int = 0, records_max: int = 100) -> tuple[list[str], int]:
    fetched = log.fetch(offset, read_committed, records_max)
    return [f"{record.offset}{(record.key or b'').decode()}" for record in fetched.records], fetched.next_offset


def test_a_log_without_transactions_is_read_alike_by_all(log: PartitionLog) -> None:
    assert log.append(rows("a", "b"), 5) == 0
    assert log.append(rows("c"), 6) == 2
    for read_committed in (True, False):
        assert seen(log, read_committed) == (["0a", "1b", "2c"], 3)
        assert seen(log, read_committed, 1, records_max=1) == (["1b"], 2)
        assert seen(log, read_committed, 3) == ([], 3)
    assert [record.at_ms for record in log.fetch(0, True, 9).records] == [5, 5, 6]


def test_who_reads_outside_of_the_log_is_told(log: PartitionLog) -> None:
    log.append(rows("a", "b"), 0)
    log.truncate_before(1)
    assert refusal(lambda: log.fetch(0, True, 1)) == KafkaError.OFFSET_OUT_OF_RANGE
    assert refusal(lambda: log.fetch(3, True, 1)) == KafkaError.OFFSET_OUT_OF_RANGE
    assert refusal(lambda: log.truncate_before(3)) == KafkaError.OFFSET_OUT_OF_RANGE


def test_committed_records_are_read_up_to_the_first_transaction_that_is_open(log: PartitionLog) -> None:
    log.append(rows("a"), 0)
    written(log, A, 0, "b")
    log.append(rows("c"), 0)
    written(log, B, 0, "d")
    assert (log.stable_end, log.end) == (1, 4)
    assert seen(log, True) == (["0a"], 1)
    assert seen(log, False) == (["0a", "1b", "2c", "3d"], 4)
    log.mark(B, 0, committed=True)
    assert seen(log, True) == (["0a"], 1), "another one before it is still open"
    assert seen(log, True, 3) == ([], 3), "behind the last stable offset nothing is read, and nothing is refused"
    log.mark(A, 0, committed=True)
    assert seen(log, True) == (["0a", "1b", "2c", "3d"], 6)


def test_aborted_records_and_markers_are_read_over(log: PartitionLog) -> None:
    written(log, A, 0, "a")
    written(log, B, 0, "b")
    log.mark(A, 0, committed=False)
    assert log.stable_end == 1
    log.mark(B, 0, committed=True)
    assert seen(log, True) == (["1b"], 4)
    assert seen(log, True, 2) == ([], 4)
    assert seen(log, False) == (["0a", "1b"], 4)


def test_a_transaction_that_wrote_nothing_here_leaves_a_marker(log: PartitionLog) -> None:
    log.mark(A, 0, committed=True)
    assert (log.stable_end, log.end) == (1, 1)
    assert seen(log, True) == ([], 1)


def test_watchers_are_called_when_they_may_see_more(log: PartitionLog) -> None:
    told: list[str] = []
    log.watch(lambda: told.append("all"), read_committed=False)
    watch = log.watch(lambda: told.append("committed"), read_committed=True)
    written(log, A, 0, "a")
    assert told == ["all"]
    log.mark(A, 0, committed=True)
    assert told == ["all", "committed", "all"]
    watch.cancel()
    log.append(rows("b"), 0)
    assert told == ["all", "committed", "all", "all"]


def test_a_batch_that_comes_again_is_not_appended_twice(log: PartitionLog) -> None:
    bases = [log.append(rows("a", "b"), 0, A, 0, sequence) for sequence in range(0, 12, 2)]
    assert bases == [0, 2, 4, 6, 8, 10]
    assert log.append(rows("a", "b"), 0, A, 0, 2) == 2
    assert log.end == 12
    again = refusal(lambda: log.append(rows("a", "b"), 0, A, 0, 0))
    assert again == KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "five batches are remembered"


def test_a_gap_in_the_sequence_is_refused(log: PartitionLog) -> None:
    log.append(rows("a"), 0, A, 0, 0)
    assert refusal(lambda: log.append(rows("c"), 0, A, 0, 2)) == KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert log.append(rows("b"), 0, A, 0, 1) == 1
    assert log.append(rows("x"), 0, B, 0, 40) == 2, "of a producer that is not known any sequence is taken"


def test_sequences_go_on_at_zero_behind_the_largest(log: PartitionLog) -> None:
    last = 2**31 - 1
    log.append(rows("a", "b"), 0, A, 0, last)
    assert log.append(rows("c"), 0, A, 0, 1) == 2


def test_a_new_epoch_begins_at_zero_and_fences_the_old_one(log: PartitionLog) -> None:
    log.append(rows("a"), 0, A, 0, 0)
    assert refusal(lambda: log.append(rows("b"), 0, A, 1, 1)) == KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER
    log.append(rows("b"), 0, A, 1, 0)
    assert refusal(lambda: log.append(rows("c"), 0, A, 0, 1)) == KafkaError.INVALID_PRODUCER_EPOCH


def test_a_marker_of_a_higher_epoch_fences_the_producer(log: PartitionLog) -> None:
    written(log, A, 0, "a")
    log.mark(A, 1, committed=False)
    assert refusal(lambda: written(log, A, 1, "b")) == KafkaError.INVALID_PRODUCER_EPOCH
    assert refusal(lambda: log.mark(A, 0, committed=True)) == KafkaError.INVALID_PRODUCER_EPOCH
    assert refusal(lambda: log.append(rows("b"), 0, A, 2, 5)) == KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert log.append(rows("b"), 0, A, 2, 0) == 2


def test_sequences_go_on_from_transaction_to_transaction(log: PartitionLog) -> None:
    written(log, A, 0, "a")
    log.mark(A, 0, committed=True)
    assert refusal(lambda: written(log, A, 0, "b", "c")) == KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert written(log, A, 1, "b") == 2


def test_nothing_is_written_beside_an_open_transaction_by_its_producer(log: PartitionLog) -> None:
    written(log, A, 0, "a")
    assert refusal(lambda: log.append(rows("b"), 0, A, 0, 1)) == KafkaError.INVALID_TXN_STATE


def test_compaction_keeps_the_last_of_each_key_and_every_offset(log: PartitionLog) -> None:
    log.append([(b"a", b"1"), (b"b", b"1"), (b"a", b"2"), (b"b", None)], 0)
    log.compact(keep_tombstones=True)
    assert seen(log, True) == (["2a", "3b"], 4)
    log.compact(keep_tombstones=False)
    assert seen(log, True) == (["2a"], 4)
    assert seen(log, True, 3) == ([], 4)
    assert (log.start, log.end) == (0, 4)


def test_compaction_takes_what_was_aborted_and_leaves_what_is_not_stable(log: PartitionLog) -> None:
    written(log, A, 0, "a")
    written(log, B, 0, "a")
    log.mark(B, 0, committed=False)
    log.mark(A, 0, committed=True)
    written(log, A, 1, "a")
    log.append(rows("a"), 0)
    log.compact(keep_tombstones=True)
    assert seen(log, False) == (["0a", "4a", "5a"], 6)
    log.mark(A, 0, committed=True)
    assert seen(log, True) == (["0a", "4a", "5a"], 7)
    log.compact(keep_tombstones=True, before=5)
    assert seen(log, True) == (["4a", "5a"], 7)


def test_behind_the_last_record_of_a_compacted_log_only_markers_may_have_been(log: PartitionLog) -> None:
    written(log, A, 0, "a")
    log.mark(A, 0, committed=True)
    written(log, A, 1, "b")
    log.mark(A, 0, committed=False)
    log.compact(keep_tombstones=True)
    assert seen(log, True) == (["0a"], 4)
    assert seen(log, True, 1) == ([], 4)


def test_a_log_that_is_cut_keeps_its_open_transactions(log: PartitionLog) -> None:
    log.append(rows("a"), 0)
    written(log, A, 0, "b", "c")
    log.append(rows("d"), 0)
    log.truncate_before(2)
    assert (log.start, log.stable_end) == (2, 2)
    assert seen(log, False, 2) == (["2c", "3d"], 4)
    log.mark(A, 0, committed=True)
    assert seen(log, True, 2) == (["2c", "3d"], 5)
    log.truncate_before(5)
    assert (log.start, log.end, seen(log, True, 5)) == (5, 5, ([], 5))
