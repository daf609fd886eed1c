"""Simulated admin clients: answers that come later, and questions that are put off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import (
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import OffsetSpec

from tests.simulation.broker.admin import SimulatedAdmin
from tests.simulation.broker.small_cluster import SECOND_US, SmallCluster

PLACE = TopicPartition("jobs", 0)


@pytest.fixture
def cluster() -> SmallCluster:
    return SmallCluster()


@pytest.fixture
def admin(cluster: SmallCluster) -> SimulatedAdmin:
    return cluster.clients().admin({})


def group_offsets(admin: SimulatedAdmin, *numbers: int, **options: Any) -> Callable[[], Any]:
    request = ConsumerGroupTopicPartitions("g", [TopicPartition("jobs", number) for number in numbers])

    def ask() -> Any:
        future = admin.list_consumer_group_offsets([request], **options)["g"]
        return future.result()

    return ask


def open_transaction(cluster: SmallCluster) -> tuple[int, int]:
    """With a record at offset 2 of partition 0, and an offset of that in group g."""
    server = cluster.server
    server.produce(("jobs", 0), [(b"k", b"1"), (b"k", b"2")])
    server.offset_commit("g", "", -1, None, {("jobs", 0): (1, "before")})
    ids = server.init_producer_id("t", 60_000)
    server.add_partitions("t", *ids, [("jobs", 0)])
    server.add_offsets("t", *ids, "g")
    server.produce(("jobs", 0), [(b"k", b"3")], producer_id=ids[0], epoch=ids[1], first_sequence=0, transactional_id="t")
    server.txn_offset_commit("t", *ids, "g", "", -1, None, {("jobs", 0): (2, "t")})
    return ids


def test_an_answer_comes_later_and_whoever_waits_for_it_lets_time_go_on(
    cluster: SmallCluster, admin: SimulatedAdmin
) -> None:
    cluster.server.produce(("jobs", 0), [(b"k", b"v")])

    def ask() -> tuple[bool, int, int]:
        future = admin.list_offsets({PLACE: OffsetSpec.latest()})[PLACE]
        is_there = future.done()
        offset = future.result(5).offset
        return is_there, offset, cluster.kernel.now_us

    is_there, offset, took_us = cluster.do(ask)
    assert not is_there
    assert offset == 1
    assert 200 <= took_us <= 2_000


def test_what_was_asked_may_be_looked_at_now_and_then(cluster: SmallCluster, admin: SimulatedAdmin) -> None:
    futures = cluster.do(lambda: admin.list_offsets({PLACE: OffsetSpec.earliest()}))
    assert not futures[PLACE].done()
    cluster.pass_time(1)
    assert futures[PLACE].done()
    assert futures[PLACE].result().offset == 0


def test_ends_are_those_of_readers_of_committed_records_or_of_all(cluster: SmallCluster, admin: SimulatedAdmin) -> None:
    open_transaction(cluster)

    def end(level: IsolationLevel) -> int:
        return int(admin.list_offsets({PLACE: OffsetSpec.latest()}, isolation_level=level)[PLACE].result().offset)

    assert cluster.do(lambda: end(IsolationLevel.READ_COMMITTED)) == 2
    assert cluster.do(lambda: end(IsolationLevel.READ_UNCOMMITTED)) == 3


def test_a_partition_that_is_not_there_has_no_offsets_and_the_others_do(
    cluster: SmallCluster, admin: SimulatedAdmin
) -> None:
    nowhere = TopicPartition("jobs", 9)
    futures = cluster.do(lambda: admin.list_offsets(dict.fromkeys((nowhere, PLACE), OffsetSpec.latest())))
    cluster.pass_time(1)
    assert futures[PLACE].result().offset == 0
    with pytest.raises(KafkaException, match="_NOENT"):
        futures[nowhere].result()


def test_offsets_under_an_open_transaction_are_unstable_for_who_wants_stable_ones(
    cluster: SmallCluster, admin: SimulatedAdmin
) -> None:
    ids = open_transaction(cluster)
    unstable, none = cluster.do(group_offsets(admin, 0, 1, require_stable=True)).topic_partitions
    assert unstable.error.name() == "UNSTABLE_OFFSET_COMMIT"
    assert (none.offset, none.metadata, none.error) == (-1001, "", None)
    (known,) = cluster.do(group_offsets(admin, 0, require_stable=False)).topic_partitions
    assert (known.offset, known.metadata, known.error) == (1, "before", None)
    cluster.server.end_txn("t", *ids, True)
    cluster.pass_time(1)
    (known,) = cluster.do(group_offsets(admin, 0, require_stable=True)).topic_partitions
    assert (known.offset, known.metadata) == (2, "t")


def test_a_question_that_is_not_answered_in_time_is_given_up(cluster: SmallCluster, admin: SimulatedAdmin) -> None:
    cluster.network.go_down()
    error = cluster.error_of(lambda: admin.list_offsets({PLACE: OffsetSpec.latest()}, request_timeout=2)[PLACE].result(5))
    assert error == ("_TIMED_OUT", "")
    assert cluster.kernel.now_us == 2 * SECOND_US


def test_whoever_waits_for_less_than_the_question_may_take_is_told_that_the_time_is_over(
    cluster: SmallCluster, admin: SimulatedAdmin
) -> None:
    cluster.network.go_down()

    def ask() -> None:
        with pytest.raises(TimeoutError):
            admin.list_offsets({PLACE: OffsetSpec.latest()}, request_timeout=10)[PLACE].result(1)

    cluster.do(ask)


def test_questions_that_get_lost_are_asked_again(cluster: SmallCluster, admin: SimulatedAdmin) -> None:
    cluster.network.lose(0.5, 0.3)
    for _ in range(10):
        futures = cluster.do(lambda: admin.list_offsets({PLACE: OffsetSpec.latest()}))
        assert cluster.do(futures[PLACE].result).offset == 0


def test_a_group_is_described_with_what_each_member_has(cluster: SmallCluster, admin: SimulatedAdmin) -> None:
    consumer = cluster.clients("b").consumer({"group.id": "g", "client.id": "b|here", "session.timeout.ms": 6_000})

    def describe() -> Any:
        return admin.describe_consumer_groups(["g"], request_timeout=5)["g"].result()

    assert cluster.do(describe).state == ConsumerGroupState.DEAD

    def join() -> None:
        consumer.subscribe(["jobs"])
        consumer.poll(2)

    cluster.do(join, "b")
    group = cluster.do(describe)
    assert group.state == ConsumerGroupState.STABLE
    (member,) = group.members
    assert member.client_id == "b|here"
    assert member.member_id == cluster.do(consumer.memberid, "b")
    assert sorted(place.partition for place in member.assignment.topic_partitions) == [0, 1, 2, 3]
