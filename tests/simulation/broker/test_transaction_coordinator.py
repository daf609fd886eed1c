"""Transactions: who may write in them, when they count, and what becomes of those who were left behind."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from tests.simulation.broker.cluster import Cluster, refusal
from tests.simulation.broker.messages import NO_OFFSET
from tests.simulation.broker.options import ServerOptions
from tests.simulation.broker.refused import Refused
from tests.simulation.broker.server import Server

IN, OUT, OTHER = ("in", 0), ("out", 0), ("out", 1)
TIMEOUT_MS = 5_000
LATER_MS = 10


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster(ServerOptions())
    made.server.create_topic("in", 1)
    made.server.create_topic("out", 2)
    return made


@pytest.fixture
def server(cluster: Cluster) -> Server:
    return cluster.server


def begun(server: Server, cluster: Cluster, name: str = "t") -> tuple[int, int]:
    """A producer of that transactional id, as a client gets it: it asks until nothing is in its way."""
    while True:
        try:
            return server.init_producer_id(name, TIMEOUT_MS)
        except Refused as refused:
            if refused.code != KafkaError.CONCURRENT_TRANSACTIONS:
                raise
            cluster.pass_ms(1)


def write(server: Server, producer: tuple[int, int], sequence: int, place: tuple[str, int] = OUT, name: str = "t") -> int:
    records = [(b"k", b"v")]
    producer_id, epoch = producer
    return server.produce(
        place, records, producer_id=producer_id, epoch=epoch, first_sequence=sequence, transactional_id=name
    )


def commit_offset(server: Server, producer: tuple[int, int], offset: int, name: str = "t") -> None:
    server.txn_offset_commit(name, *producer, "g", "", -1, None, {IN: (offset, "m")})


def offset_of(server: Server, require_stable: bool = True) -> tuple[int, str] | int:
    found = server.offset_fetch("g", [IN], require_stable)[IN]
    return found.code if isinstance(found, Refused) else found


def count_of(server: Server, place: tuple[str, int] = OUT) -> int:
    return len(server.fetch(place, 0, True, 100).records)


def test_records_and_offsets_count_when_the_markers_are_written(server: Server, cluster: Cluster) -> None:
    producer = begun(server, cluster)
    server.add_partitions("t", *producer, [OUT])
    assert write(server, producer, 0) == 0
    server.add_offsets("t", *producer, "g")
    commit_offset(server, producer, 4)
    assert (count_of(server), offset_of(server)) == (0, KafkaError.UNSTABLE_OFFSET_COMMIT)
    assert offset_of(server, require_stable=False) == (NO_OFFSET, "")
    server.end_txn("t", *producer, True)
    assert (count_of(server), offset_of(server)) == (0, KafkaError.UNSTABLE_OFFSET_COMMIT), "only the outcome is decided"
    cluster.pass_ms(LATER_MS)
    assert (count_of(server), offset_of(server)) == (1, (4, "m"))


def test_an_abort_leaves_nothing(server: Server, cluster: Cluster) -> None:
    producer = begun(server, cluster)
    server.add_partitions("t", *producer, [OUT])
    server.add_offsets("t", *producer, "g")
    write(server, producer, 0)
    commit_offset(server, producer, 4)
    server.end_txn("t", *producer, False)
    cluster.pass_ms(LATER_MS)
    assert (count_of(server), offset_of(server)) == (0, (NO_OFFSET, ""))
    assert server.list_offsets(OUT, "latest", True) == 2


def test_markers_are_written_place_by_place(server: Server, cluster: Cluster) -> None:
    orders = set()
    producer = begun(server, cluster)
    for number in range(60):
        server.add_partitions("t", *producer, [OUT, OTHER])
        write(server, producer, number, OUT)
        write(server, producer, number, OTHER)
        server.end_txn("t", *producer, True)
        while (counts := (count_of(server, OUT) - number, count_of(server, OTHER) - number)) != (1, 1):
            orders.add(counts)
            cluster.pass_ms(1)
        cluster.pass_ms(LATER_MS)
    assert {(0, 0), (1, 0), (0, 1)} <= orders


def test_the_next_transaction_waits_until_the_last_one_is_complete(server: Server, cluster: Cluster) -> None:
    producer = begun(server, cluster)
    server.add_partitions("t", *producer, [OUT])
    write(server, producer, 0)
    server.hold_markers(True)
    server.end_txn("t", *producer, True)
    cluster.pass_ms(1_000)
    concurrent = KafkaError.CONCURRENT_TRANSACTIONS
    assert refusal(lambda: server.add_partitions("t", *producer, [OUT])) == concurrent
    assert refusal(lambda: server.add_offsets("t", *producer, "g")) == concurrent
    assert refusal(lambda: server.init_producer_id("t", TIMEOUT_MS)) == concurrent
    assert refusal(lambda: server.end_txn("t", *producer, True)) == concurrent
    assert refusal(lambda: server.end_txn("t", *producer, False)) == KafkaError.INVALID_TXN_STATE
    assert refusal(lambda: write(server, producer, 0, OTHER)) == KafkaError.NOT_ENOUGH_REPLICAS
    assert count_of(server) == 0
    server.hold_markers(False)
    assert count_of(server) == 1
    server.end_txn("t", *producer, True)  # Once more, by a client that did not get the answer.
    server.add_partitions("t", *producer, [OUT])


def test_nothing_is_written_that_was_not_added(server: Server, cluster: Cluster) -> None:
    producer = begun(server, cluster)
    assert refusal(lambda: write(server, producer, 0)) == KafkaError.INVALID_TXN_STATE
    assert refusal(lambda: commit_offset(server, producer, 1)) == KafkaError.INVALID_TXN_STATE
    assert refusal(lambda: server.end_txn("t", *producer, True)) == KafkaError.INVALID_TXN_STATE
    server.add_partitions("t", *producer, [OUT])
    assert refusal(lambda: write(server, producer, 0, OTHER)) == KafkaError.INVALID_TXN_STATE
    assert refusal(lambda: server.add_partitions("t", *producer, [("none", 0)])) == KafkaError.UNKNOWN_TOPIC_OR_PART


def test_a_late_retry_of_an_ended_transaction_is_not_appended(server: Server, cluster: Cluster) -> None:
    producer = begun(server, cluster)
    server.add_partitions("t", *producer, [OUT])
    write(server, producer, 0)
    server.end_txn("t", *producer, False)
    cluster.pass_ms(LATER_MS)
    assert refusal(lambda: write(server, producer, 0)) == KafkaError.INVALID_TXN_STATE


def test_a_second_producer_of_the_same_id_ends_what_is_open_and_fences_the_first(server: Server, cluster: Cluster) -> None:
    old = begun(server, cluster)
    server.add_partitions("t", *old, [OUT])
    server.add_offsets("t", *old, "g")
    write(server, old, 0)
    commit_offset(server, old, 4)
    assert refusal(lambda: server.init_producer_id("t", TIMEOUT_MS)) == KafkaError.CONCURRENT_TRANSACTIONS
    new = begun(server, cluster)
    assert new[0] == old[0]
    assert new[1] > old[1]
    fenced = KafkaError.INVALID_PRODUCER_EPOCH
    assert refusal(lambda: server.add_partitions("t", *old, [OUT])) == fenced
    assert refusal(lambda: server.end_txn("t", *old, True)) == fenced
    assert refusal(lambda: write(server, old, 1)) == fenced
    assert refusal(lambda: commit_offset(server, old, 9)) == fenced
    assert (count_of(server), offset_of(server)) == (0, (NO_OFFSET, ""))
    server.add_partitions("t", *new, [OUT])
    write(server, new, 0)


def test_a_fenced_producer_still_writes_into_what_is_being_aborted(server: Server, cluster: Cluster) -> None:
    old = begun(server, cluster)
    server.add_partitions("t", *old, [OUT])
    server.add_offsets("t", *old, "g")
    write(server, old, 0)
    commit_offset(server, old, 4)
    server.hold_markers(True)
    assert refusal(lambda: server.init_producer_id("t", TIMEOUT_MS)) == KafkaError.CONCURRENT_TRANSACTIONS
    write(server, old, 1)
    commit_offset(server, old, 9)
    cluster.pass_ms(LATER_MS)
    server.hold_markers(False)
    assert (count_of(server), offset_of(server)) == (0, (NO_OFFSET, ""))


def test_a_transaction_whose_time_is_over_is_aborted_and_its_producer_fenced(server: Server, cluster: Cluster) -> None:
    producer = begun(server, cluster)
    server.add_partitions("t", *producer, [OUT])
    write(server, producer, 0)
    cluster.pass_ms(TIMEOUT_MS + 1_000)
    write(server, producer, 1)  # Nobody has looked yet.
    cluster.pass_ms(TIMEOUT_MS)
    assert server.list_offsets(OUT, "latest", True) == 3
    assert count_of(server) == 0
    assert refusal(lambda: server.end_txn("t", *producer, True)) == KafkaError.INVALID_PRODUCER_EPOCH
    assert refusal(lambda: server.end_txn("t", *producer, False)) == KafkaError.INVALID_PRODUCER_EPOCH
    assert refusal(lambda: write(server, producer, 2)) == KafkaError.INVALID_PRODUCER_EPOCH


def test_a_producer_may_ask_for_a_new_epoch_and_ask_again(server: Server, cluster: Cluster) -> None:
    first = begun(server, cluster)
    second = server.init_producer_id("t", TIMEOUT_MS, first)
    assert second == (first[0], first[1] + 1)
    assert server.init_producer_id("t", TIMEOUT_MS, first) == second
    third = server.init_producer_id("t", TIMEOUT_MS)
    assert refusal(lambda: server.init_producer_id("t", TIMEOUT_MS, first)) == KafkaError.PRODUCER_FENCED
    assert third == (first[0], first[1] + 2)


def test_producers_without_transactions_have_ids_of_their_own(server: Server, cluster: Cluster) -> None:
    ids = [server.init_producer_id(None, 0), server.init_producer_id(None, 0), begun(server, cluster)]
    assert len({producer_id for producer_id, _ in ids}) == 3
    assert [epoch for _, epoch in ids] == [0, 0, 0]
    assert refusal(lambda: server.init_producer_id("x", 0)) == KafkaError.INVALID_TRANSACTION_TIMEOUT
    assert refusal(lambda: server.end_txn("x", 0, 0, True)) == KafkaError.INVALID_PRODUCER_ID_MAPPING


def test_when_coordinators_move_open_transactions_stay_open_and_decided_ones_are_completed(
    server: Server, cluster: Cluster
) -> None:
    decided, opened = begun(server, cluster), begun(server, cluster, "u")
    server.add_partitions("t", *decided, [OUT])
    server.add_partitions("u", *opened, [OTHER])
    write(server, decided, 0)
    write(server, opened, 0, OTHER, "u")
    server.end_txn("t", *decided, True)
    server.restart()
    cluster.pass_ms(LATER_MS)
    assert count_of(server) == 1
    write(server, opened, 1, OTHER, "u")
    server.end_txn("u", *opened, True)
    cluster.pass_ms(LATER_MS)
    assert count_of(server, OTHER) == 2


def test_a_commit_outside_of_transactions_is_not_undone_by_one_that_ends_later(server: Server, cluster: Cluster) -> None:
    producer = begun(server, cluster)
    server.add_offsets("t", *producer, "g")
    commit_offset(server, producer, 4)
    server.offset_commit("g", "", -1, None, {IN: (9, "")})
    server.end_txn("t", *producer, True)
    cluster.pass_ms(LATER_MS)
    assert offset_of(server) == (9, "")


def test_offsets_that_expire_are_gone_in_transactions_too(server: Server, cluster: Cluster) -> None:
    producer = begun(server, cluster)
    server.add_offsets("t", *producer, "g")
    commit_offset(server, producer, 4)
    server.delete_group_offsets("g")
    assert offset_of(server) == (NO_OFFSET, "")
    server.end_txn("t", *producer, True)
    cluster.pass_ms(LATER_MS)
    assert offset_of(server) == (NO_OFFSET, "")


def test_what_follows_a_batch_that_was_refused_is_out_of_order() -> None:
    cluster = Cluster(ServerOptions(message_bytes_max=500))
    server = cluster.server
    server.create_topic("out", 2)
    producer = begun(server, cluster)
    server.add_partitions("t", *producer, [OUT])

    def large(sequence: int) -> int:
        records = [(b"k", b"v" * 500)]
        producer_id, epoch = producer
        return server.produce(
            OUT, records, producer_id=producer_id, epoch=epoch, first_sequence=sequence, transactional_id="t"
        )

    assert refusal(lambda: large(0)) == KafkaError.MSG_SIZE_TOO_LARGE
    assert refusal(lambda: write(server, producer, 1)) == KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER
    server.end_txn("t", *producer, False)
    cluster.pass_ms(LATER_MS)
    server.add_partitions("t", *producer, [OUT])
    assert refusal(lambda: write(server, producer, 1)) == KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "in the next one too"
    write(server, producer, 0)


def test_batches_that_are_too_large_or_have_no_keys_are_refused() -> None:
    server = Cluster(ServerOptions(message_bytes_max=500)).server
    server.create_topic("plain", 1)
    server.create_topic("compacted", 1, compacted=True)
    assert refusal(lambda: server.produce(("plain", 0), [(b"k", b"v" * 500)])) == KafkaError.MSG_SIZE_TOO_LARGE
    assert refusal(lambda: server.produce(("compacted", 0), [(None, b"v")])) == KafkaError.INVALID_RECORD
    assert server.produce(("plain", 0), [(None, b"v")]) == 0
