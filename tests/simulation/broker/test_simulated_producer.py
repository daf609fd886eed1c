"""Simulated producers: what becomes of records and transactions, and the errors that librdkafka gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from tests.simulation.broker.client_message import Message
from tests.simulation.broker.consumer import GroupMetadata
from tests.simulation.broker.producer import SimulatedProducer
from tests.simulation.broker.small_cluster import SmallCluster
from tests.simulation.kernel import Killed

NOBODY = GroupMetadata("g", -1, "", None)


def offsets(offset: int = 5) -> list[TopicPartition]:
    return [TopicPartition("jobs", 0, offset, metadata="me")]


@pytest.fixture
def cluster() -> SmallCluster:
    return SmallCluster()


def values(cluster: SmallCluster, number: int = 0, committed: bool = True) -> list[bytes | None]:
    return [record.value for record in cluster.server.fetch(("jobs", number), 0, committed, 1_000).records]


def committed_offset(cluster: SmallCluster) -> Any:
    return cluster.server.offset_fetch("g", [("jobs", 0)], True)["jobs", 0]


def transactional(cluster: SmallCluster, name: str = "a", **options: Any) -> SimulatedProducer:
    config = {"transactional.id": "t", "retry.backoff.ms": 1, "retry.backoff.max.ms": 5, "linger.ms": 1}
    producer = cluster.clients(name).producer({**config, **options})
    cluster.do(lambda: producer.init_transactions(10), name)
    return producer


# Records.


@pytest.mark.parametrize("idempotent", [True, False])
def test_records_are_written_in_order_and_reported_in_calls_of_the_application(
    cluster: SmallCluster, idempotent: bool
) -> None:
    producer = cluster.clients().producer({"enable.idempotence": idempotent, "linger.ms": 1})
    told: list[tuple[KafkaError | None, int]] = []

    def note(error: KafkaError | None, message: Message) -> None:
        told.append((error, message.offset()))

    def write() -> int:
        for number in range(10):
            producer.produce("jobs", b"%d" % number, b"k", 0, on_delivery=note)
        return len(producer)

    assert cluster.do(write) == 10
    cluster.pass_time(1)
    assert values(cluster) == [b"%d" % number for number in range(10)]
    assert told == [], "nobody has called"
    assert cluster.do(lambda: producer.poll(0)) == 10
    assert told == [(None, number) for number in range(10)]


def test_nothing_is_doubled_where_answers_are_lost_and_an_idempotent_producer_tries_again(cluster: SmallCluster) -> None:
    cluster.network.lose(0.3, 0.4)
    producer = cluster.clients().producer({"enable.idempotence": True, "linger.ms": 0})

    def write() -> int:
        for number in range(40):
            producer.produce("jobs", b"%d" % number, b"k", 0)
            producer.poll(0.002)
        return producer.flush(100)

    assert cluster.do(write) == 0
    assert values(cluster) == [b"%d" % number for number in range(40)]


def test_a_producer_without_idempotence_may_double_what_it_sends_again(cluster: SmallCluster) -> None:
    cluster.network.lose(0, 0.9)
    producer = cluster.clients().producer({"linger.ms": 0})

    def write() -> int:
        producer.produce("jobs", b"v", b"k", 0)
        return producer.flush(100)

    assert cluster.do(write) == 0
    assert len(values(cluster)) > 1


def test_a_full_queue_is_refused_until_reports_are_served(cluster: SmallCluster) -> None:
    producer = cluster.clients().producer({"enable.idempotence": True, "queue.buffering.max.messages": 2})

    def write() -> None:
        producer.produce("jobs", b"1", b"k", 0)
        producer.produce("jobs", b"2", b"k", 0)
        with pytest.raises(BufferError):
            producer.produce("jobs", b"3", b"k", 0)
        assert producer.poll(1) == 2
        producer.produce("jobs", b"3", b"k", 0)
        producer.flush()

    cluster.do(write)
    assert values(cluster) == [b"1", b"2", b"3"]


def test_what_cannot_be_produced_is_refused_at_once(cluster: SmallCluster) -> None:
    producer = cluster.clients().producer({"enable.idempotence": True, "message.max.bytes": 10})

    assert cluster.error_of(lambda: producer.produce("jobs", b"x" * 11, None, 0)) == ("MSG_SIZE_TOO_LARGE", "")
    assert cluster.error_of(lambda: producer.produce("jobs", b"x", None, 4)) == ("_UNKNOWN_PARTITION", "")
    assert cluster.error_of(producer.begin_transaction) == ("_NOT_CONFIGURED", "")


def test_records_go_where_their_key_belongs(cluster: SmallCluster) -> None:
    producer = cluster.clients().producer({"enable.idempotence": True})

    def write() -> None:
        for number in range(20):
            producer.produce("jobs", b"v", b"run-%d" % (number % 5))
        producer.flush()

    cluster.do(write)
    counts = [len(values(cluster, number)) for number in range(4)]
    assert sum(counts) == 20
    assert all(count % 4 == 0 for count in counts)


def test_what_was_purged_is_reported_and_what_was_under_way_may_be_written(cluster: SmallCluster) -> None:
    producer = cluster.clients().producer({"enable.idempotence": True, "linger.ms": 0})
    told: list[str] = []

    def note(error: KafkaError | None, _: Message) -> None:
        told.append(error.name() if error is not None else "")

    def write() -> None:
        producer.produce("jobs", b"1", b"k", 0, on_delivery=note)
        producer.flush(10)
        cluster.network.delay((10_000, 10_000))
        producer.produce("jobs", b"2", b"k", 0, on_delivery=note)
        cluster.kernel.pause(5_000)
        producer.produce("jobs", b"3", b"k", 0, on_delivery=note)
        producer.purge()
        producer.poll(0)

    cluster.do(write)
    assert told == ["", "_PURGE_INFLIGHT", "_PURGE_QUEUE"]
    cluster.pass_time(1)
    assert values(cluster) == [b"1", b"2"]


def test_records_whose_time_is_over_are_given_up_and_a_new_epoch_goes_on(cluster: SmallCluster) -> None:
    producer = cluster.clients().producer({"enable.idempotence": True, "delivery.timeout.ms": 1_000, "linger.ms": 0})
    told: list[str] = []

    def note(error: KafkaError | None, _: Message) -> None:
        told.append(error.name() if error is not None else "")

    def write() -> None:
        producer.produce("jobs", b"0", b"k", 0, on_delivery=note)
        producer.flush()
        cluster.network.go_down(stands_still=False)
        producer.produce("jobs", b"1", b"k", 0, on_delivery=note)
        producer.poll(3)
        cluster.network.come_back()
        cluster.kernel.pause(1_000_000)
        producer.produce("jobs", b"2", b"k", 0, on_delivery=note)
        producer.flush()

    cluster.do(write)
    assert told == ["", "_MSG_TIMED_OUT", ""]


@pytest.mark.parametrize("how", ["poll", "flush"])
def test_a_gap_is_fatal_for_a_producer_that_promises_none_and_told_before_the_record(how: str) -> None:
    cluster = SmallCluster(message_bytes_max=500)
    producer = cluster.clients().producer({"enable.idempotence": True, "enable.gapless.guarantee": True})
    told: list[str] = []

    def note(error: KafkaError | None, _: Message) -> None:
        told.append(error.name() if error is not None else "")

    cluster.do(lambda: producer.produce("jobs", b"x" * 600, b"k", 0, on_delivery=note))
    call = producer.flush if how == "flush" else producer.poll
    assert cluster.error_of(call) == ("_GAPLESS_GUARANTEE", "fatal")
    assert told == []
    cluster.do(lambda: producer.poll(0))
    assert told == ["MSG_SIZE_TOO_LARGE"]
    assert cluster.error_of(lambda: producer.produce("jobs", b"x", None, 0)) == ("_FATAL", "")


# Transactions.


def test_a_transaction_happens_as_a_whole_when_it_is_committed(cluster: SmallCluster) -> None:
    producer = transactional(cluster)
    told: list[int] = []

    def work() -> None:
        producer.begin_transaction()
        for number in range(3):
            producer.produce("jobs", b"%d" % number, b"k", number, on_delivery=lambda _, it: told.append(it.offset()))
        producer.send_offsets_to_transaction(offsets(), NOBODY, 5)
        assert told == []
        producer.commit_transaction(5)

    cluster.do(work)
    assert told == [0, 0, 0]
    cluster.pass_time(1)
    assert [values(cluster, number) for number in range(3)] == [[b"0"], [b"1"], [b"2"]]
    assert committed_offset(cluster)[:2] == (5, "me")


def test_a_transaction_that_is_aborted_leaves_nothing_and_the_next_one_goes_on(cluster: SmallCluster) -> None:
    producer = transactional(cluster)
    told: list[str] = []

    def note(error: KafkaError | None, _: Message) -> None:
        told.append(error.name() if error is not None else "")

    def work() -> None:
        for value in (b"undone", b"done"):
            producer.begin_transaction()
            producer.produce("jobs", value, b"k", 0)
            producer.flush()
            producer.send_offsets_to_transaction(offsets(), NOBODY, 5)
            if value == b"done":
                producer.commit_transaction(5)
            else:
                producer.produce("jobs", b"not sent", b"k", 1, on_delivery=note)
                producer.abort_transaction(5)

    cluster.do(work)
    assert told == ["_PURGE_QUEUE"]
    cluster.pass_time(1)
    assert values(cluster) == [b"done"]
    assert values(cluster, committed=False) == [b"undone", b"done"]


def test_empty_transactions_ask_nothing_of_the_brokers(cluster: SmallCluster) -> None:
    producer = transactional(cluster)
    requests: list[str] = []
    cluster.network.trace = requests.append

    def work() -> None:
        producer.begin_transaction()
        producer.commit_transaction(5)
        producer.begin_transaction()
        producer.send_offsets_to_transaction([], NOBODY, 5)
        producer.abort_transaction(5)

    cluster.do(work)
    assert requests == []


def test_calls_at_the_wrong_time_are_refused_and_harm_nothing(cluster: SmallCluster) -> None:
    fresh = cluster.clients().producer({"transactional.id": "t"})
    state = ("_STATE", "")
    assert cluster.error_of(lambda: fresh.produce("jobs", b"x", None, 0)) == state
    assert cluster.error_of(fresh.begin_transaction) == state
    assert cluster.error_of(lambda: fresh.commit_transaction(1)) == state
    assert cluster.error_of(lambda: fresh.abort_transaction(1)) == state
    assert cluster.error_of(lambda: fresh.send_offsets_to_transaction(offsets(), NOBODY, 1)) == state
    cluster.do(lambda: fresh.init_transactions(5))
    assert cluster.error_of(lambda: fresh.init_transactions(5)) == state
    cluster.do(fresh.begin_transaction)
    assert cluster.error_of(fresh.begin_transaction) == state
    cluster.do(lambda: fresh.commit_transaction(5))


def test_transactions_in_a_row_wait_until_the_brokers_have_completed_the_one_before() -> None:
    def took_us(backoff_ms: int) -> int:
        cluster = SmallCluster(markers_ms=(3, 4))
        producer = transactional(cluster, **{"retry.backoff.ms": backoff_ms, "retry.backoff.max.ms": 1_000})

        def work() -> None:
            for offset in range(5):
                producer.begin_transaction()
                producer.send_offsets_to_transaction(offsets(offset), NOBODY, 5)
                producer.commit_transaction(5)

        begun_us = cluster.kernel.now_us
        cluster.do(work)
        return cluster.kernel.now_us - begun_us

    assert took_us(1) < 60_000
    assert took_us(100) > 300_000


def aborts(cluster: SmallCluster, producer: SimulatedProducer, error: tuple[str, str]) -> None:
    """The transaction has failed, all calls say so, and it can be aborted."""
    assert cluster.error_of(lambda: producer.commit_transaction(5)) == error
    assert cluster.error_of(producer.begin_transaction) == error
    assert cluster.error_of(lambda: producer.send_offsets_to_transaction(offsets(), NOBODY, 5)) == error
    assert cluster.error_of(lambda: producer.produce("jobs", b"x", None, 0)) == ("_STATE", "")
    cluster.do(lambda: producer.abort_transaction(5))


def test_offsets_of_somebody_who_is_no_member_fail_the_transaction_until_it_is_aborted(cluster: SmallCluster) -> None:
    producer = transactional(cluster)
    stranger = GroupMetadata("g", 3, "stranger", None)
    cluster.do(producer.begin_transaction)
    error = cluster.error_of(lambda: producer.send_offsets_to_transaction(offsets(), stranger, 5))
    assert error == ("ILLEGAL_GENERATION", "abort"), "there is no such group"
    aborts(cluster, producer, error)
    cluster.do(producer.begin_transaction)


def test_a_record_that_the_brokers_refuse_fails_this_transaction_and_its_gap_the_next_one() -> None:
    cluster = SmallCluster(message_bytes_max=500)
    producer = transactional(cluster)

    def write(value: bytes) -> None:
        producer.begin_transaction()
        producer.produce("jobs", value, b"k", 0)
        producer.commit_transaction(5)

    assert cluster.error_of(lambda: write(b"x" * 600)) == ("MSG_SIZE_TOO_LARGE", "abort")
    cluster.do(lambda: producer.abort_transaction(5))
    assert cluster.error_of(lambda: write(b"second")) == ("OUT_OF_ORDER_SEQUENCE_NUMBER", "abort")
    cluster.do(lambda: producer.abort_transaction(5))
    cluster.do(lambda: write(b"third"))
    cluster.pass_time(1)
    assert values(cluster) == [b"third"]


# Fencing.


def begins(producer: SimulatedProducer) -> None:
    producer.begin_transaction()
    producer.produce("jobs", b"old", b"k", 0)
    producer.flush()


def test_a_second_producer_under_the_same_id_ends_what_is_open_and_fences_the_first(cluster: SmallCluster) -> None:
    old = transactional(cluster)
    cluster.do(lambda: begins(old))
    begun_us = cluster.kernel.now_us
    new = transactional(cluster, "b")
    assert cluster.kernel.now_us - begun_us > 400_000, "the brokers end the open transaction, and are asked again"

    fenced = ("_FENCED", "fatal")
    assert cluster.error_of(lambda: old.commit_transaction(5)) == fenced
    for call in (lambda: old.commit_transaction(5), lambda: old.abort_transaction(5), old.begin_transaction):
        assert cluster.error_of(call) == fenced
    assert cluster.error_of(lambda: old.init_transactions(5)) == fenced
    assert cluster.error_of(lambda: old.produce("jobs", b"x", None, 0)) == ("_FATAL", "")
    cluster.do(lambda: begins(new), "b")
    cluster.do(lambda: new.commit_transaction(5), "b")
    cluster.pass_time(1)
    assert values(cluster) == [b"old"], "of the second"


def test_a_commit_that_learns_of_it_while_it_sends_records_is_left_half_way(cluster: SmallCluster) -> None:
    old = transactional(cluster)
    cluster.do(old.begin_transaction)
    transactional(cluster, "b")
    cluster.do(lambda: old.produce("jobs", b"x", b"k", 0))
    assert cluster.error_of(lambda: old.commit_transaction(5)) == ("_FENCED", "fatal")
    assert cluster.error_of(lambda: old.abort_transaction(5)) == ("_CONFLICT", "retriable")
    assert cluster.error_of(lambda: old.commit_transaction(5)) == ("_FENCED", "fatal")
    assert cluster.error_of(lambda: old.abort_transaction(5)) == ("_FENCED", "fatal")


@pytest.mark.parametrize("what", ["produce", "send offsets", "abort"])
def test_whatever_a_fenced_producer_does_it_learns_that_it_is_fenced(cluster: SmallCluster, what: str) -> None:
    old = transactional(cluster)
    cluster.do(old.begin_transaction)
    transactional(cluster, "b")

    def go_on() -> None:
        if what == "send offsets":
            old.send_offsets_to_transaction(offsets(), NOBODY, 5)
            return
        old.produce("jobs", b"x", b"k", 0)
        if what == "produce":
            old.commit_transaction(5)
        else:
            cluster.kernel.pause(50_000)
            old.abort_transaction(5)

    assert cluster.error_of(go_on) == ("_FENCED", "fatal")


# Outages.


@pytest.mark.parametrize("stands_still", [True, False])
def test_a_commit_that_times_out_goes_on_and_the_call_that_resumes_it_learns_its_outcome(
    cluster: SmallCluster, stands_still: bool
) -> None:
    producer = transactional(cluster)
    cluster.do(lambda: begins(producer))
    cluster.network.go_down(stands_still=stands_still)
    assert cluster.error_of(lambda: producer.commit_transaction(1)) == ("_TIMED_OUT", "retriable")
    conflict = ("_CONFLICT", "retriable")
    assert cluster.error_of(lambda: producer.abort_transaction(1)) == conflict
    assert cluster.error_of(producer.begin_transaction) == conflict
    cluster.network.come_back()
    cluster.do(lambda: producer.commit_transaction(5))
    cluster.pass_time(1)
    assert values(cluster) == [b"old"]
    cluster.do(producer.begin_transaction)


def test_a_commit_that_was_given_up_by_a_killed_process_happens_when_brokers_that_stood_still_go_on(
    cluster: SmallCluster,
) -> None:
    producer = transactional(cluster)
    cluster.do(lambda: begins(producer))
    cluster.network.go_down(stands_still=True)
    task = cluster.begin(lambda: producer.commit_transaction(5))
    cluster.pass_time(1)
    cluster.kernel.kill(cluster.process("a"))
    cluster.pass_time(1)
    assert task.done
    assert task.error is None
    with pytest.raises(Killed):
        producer.commit_transaction(5)
    assert values(cluster) == []
    cluster.network.come_back()
    cluster.pass_time(1)
    assert values(cluster) == [b"old"]


def test_commits_and_aborts_come_through_where_connections_break(cluster: SmallCluster) -> None:
    cluster.network.lose(0.2, 0.2)
    producer = transactional(cluster)
    done: list[bytes] = []

    def insist(call: Callable[[], None]) -> None:
        while True:
            try:
                call()
                return
            except KafkaException as error:
                if not error.args[0].retriable():
                    raise

    def work() -> None:
        for number in range(30):
            producer.begin_transaction()
            producer.produce("jobs", b"%d" % number, b"k", 0)
            try:
                producer.send_offsets_to_transaction(offsets(number), NOBODY, 5)
                if number % 3:
                    insist(lambda: producer.commit_transaction(5))
                    done.append(b"%d" % number)
                    continue
            except KafkaException as error:
                assert error.args[0].txn_requires_abort()  # noqa: PT017 (which kind it is)
            insist(lambda: producer.abort_transaction(5))

    cluster.do(work)
    cluster.pass_time(1)
    assert values(cluster) == done
    assert len(done) > 10


def test_offsets_wait_for_the_brokers_longer_than_they_were_allowed_to(cluster: SmallCluster) -> None:
    producer = transactional(cluster)
    cluster.do(producer.begin_transaction)
    cluster.network.go_down(stands_still=False)
    cluster.kernel.call_in(8_000_000, cluster.network.come_back)
    begun_us = cluster.kernel.now_us
    assert cluster.error_of(lambda: producer.send_offsets_to_transaction(offsets(), NOBODY, 2)) == (
        "_TIMED_OUT", "retriable"
    )  # fmt: skip
    assert cluster.kernel.now_us - begun_us >= 8_000_000
    cluster.do(lambda: producer.abort_transaction(5))


def test_the_brokers_end_a_transaction_whose_time_is_over_and_its_producer_is_fenced(cluster: SmallCluster) -> None:
    producer = transactional(cluster, **{"transaction.timeout.ms": 1_000})
    cluster.do(lambda: begins(producer))
    cluster.pass_time(30)
    assert cluster.error_of(lambda: producer.commit_transaction(5)) == ("_FENCED", "fatal")
    assert values(cluster) == []


def test_init_that_times_out_is_resumed_by_the_next_call(cluster: SmallCluster) -> None:
    producer = cluster.clients().producer({"transactional.id": "t"})
    cluster.network.go_down()
    assert cluster.error_of(lambda: producer.init_transactions(1)) == ("_TIMED_OUT", "retriable")
    assert cluster.error_of(producer.begin_transaction) == ("_CONFLICT", "retriable")
    cluster.network.come_back()
    cluster.do(lambda: producer.init_transactions(5))
    cluster.do(producer.begin_transaction)


def test_init_that_waits_for_markers_says_so(cluster: SmallCluster) -> None:
    old = transactional(cluster)
    cluster.do(lambda: begins(old))
    cluster.server.hold_markers(True)
    new = cluster.clients("b").producer({"transactional.id": "t"})
    assert cluster.error_of(lambda: new.init_transactions(2), "b") == ("CONCURRENT_TRANSACTIONS", "retriable")
    cluster.server.hold_markers(False)
    cluster.do(lambda: new.init_transactions(5), "b")
