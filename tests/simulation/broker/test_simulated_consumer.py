"""Simulated consumers: what is read, and what a member of a group is told and when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, KafkaError, TopicPartition

from tests.simulation.broker.consumer import SimulatedConsumer
from tests.simulation.broker.small_cluster import SECOND_US, SmallCluster
from tests.simulation.kernel import Task

CLASSIC = {
    "partition.assignment.strategy": "cooperative-sticky", "session.timeout.ms": 6_000, "heartbeat.interval.ms": 500
}  # fmt: skip
EAGER = {**CLASSIC, "partition.assignment.strategy": "range"}
KIP_848 = {"group.protocol": "consumer"}
PROTOCOLS = pytest.mark.parametrize("protocol", [CLASSIC, EAGER, KIP_848], ids=["cooperative", "eager", "KIP-848"])


@pytest.fixture
def cluster() -> SmallCluster:
    return SmallCluster(consumer_heartbeat_ms=500, consumer_session_ms=6_000)


def write(cluster: SmallCluster, number: int, *values: bytes) -> None:
    cluster.server.produce(("jobs", number), [(b"k", value) for value in values])


def reader(cluster: SmallCluster, **options: Any) -> SimulatedConsumer:
    config = {"group.id": "reader", "enable.partition.eof": True, "auto.offset.reset": "error"}
    return cluster.clients("r").consumer({**config, **options})


def read(cluster: SmallCluster, consumer: SimulatedConsumer, seconds: float = 1) -> list[tuple[int, Any]]:
    """What comes within a time: offsets with values, or with the names of errors."""

    def run() -> list[tuple[int, Any]]:
        until_us = cluster.kernel.now_us + int(seconds * SECOND_US)
        found: list[tuple[int, Any]] = []
        while cluster.kernel.now_us < until_us:
            message = consumer.poll(0.05)
            if message is not None:
                error = message.error()
                found.append((message.offset(), message.value() if error is None else error.name()))
        return found

    return cluster.do(run, "r")


def at(number: int, offset: int = 0) -> list[TopicPartition]:
    return [TopicPartition("jobs", number, offset)]


# Reading.


def test_a_reader_is_given_what_is_there_and_told_of_every_end_once(cluster: SmallCluster) -> None:
    write(cluster, 0, b"a", b"b")
    consumer = reader(cluster)
    cluster.do(lambda: consumer.assign(at(0, OFFSET_BEGINNING)), "r")
    assert read(cluster, consumer) == [(0, b"a"), (1, b"b"), (2, "_PARTITION_EOF")]
    assert read(cluster, consumer) == []
    write(cluster, 0, b"c")
    assert read(cluster, consumer) == [(2, b"c"), (3, "_PARTITION_EOF")]


def test_a_reader_of_committed_records_ends_at_the_last_stable_offset(cluster: SmallCluster) -> None:
    server = cluster.server
    ids = server.init_producer_id("t", 60_000)
    server.add_partitions("t", *ids, [("jobs", 0)])
    write(cluster, 0, b"plain")
    server.produce(("jobs", 0), [(b"k", b"open")], producer_id=ids[0], epoch=ids[1], first_sequence=0, transactional_id="t")
    write(cluster, 0, b"behind")
    consumer, dirty = reader(cluster), reader(cluster, **{"isolation.level": "read_uncommitted"})
    cluster.do(lambda: (consumer.assign(at(0)), dirty.assign(at(0))), "r")
    assert read(cluster, consumer) == [(0, b"plain"), (1, "_PARTITION_EOF")]
    assert read(cluster, dirty) == [(0, b"plain"), (1, b"open"), (2, b"behind"), (3, "_PARTITION_EOF")]
    server.end_txn("t", *ids, False)
    assert read(cluster, consumer) == [(2, b"behind"), (4, "_PARTITION_EOF")]


def test_records_take_their_time_and_do_not_come_while_brokers_are_away(cluster: SmallCluster) -> None:
    consumer = reader(cluster, **{"enable.partition.eof": False})
    cluster.do(lambda: consumer.assign(at(0)), "r")
    cluster.pass_time(1)
    cluster.network.delay((40_000, 40_001))
    write(cluster, 0, b"a")

    def wait() -> int:
        begun_us = cluster.kernel.now_us
        assert consumer.poll(1) is not None
        return cluster.kernel.now_us - begun_us

    assert 39_000 < cluster.do(wait, "r") < 42_000
    cluster.network.go_down()
    write(cluster, 0, b"b")
    assert read(cluster, consumer) == []
    cluster.network.come_back()
    assert read(cluster, consumer) == [(1, b"b")]


def test_a_position_that_is_not_there_is_an_error_once_or_begins_anew_as_configured(cluster: SmallCluster) -> None:
    write(cluster, 0, b"a", b"b", b"c")
    cluster.server.truncate_before(("jobs", 0), 2)
    strict, lenient = reader(cluster), reader(cluster, **{"auto.offset.reset": "earliest"})
    cluster.do(lambda: (strict.assign(at(0)), lenient.assign(at(0))), "r")
    cluster.pass_time(1)
    assert cluster.do(lambda: len(strict.consume(9, 0)), "r") == 1, "the call that finds out tells it"
    assert read(cluster, strict) == []
    assert read(cluster, lenient) == [(2, b"c"), (3, "_PARTITION_EOF")]
    assert cluster.error_of(lambda: strict.seek(at(0, 2)[0]), "r") == ("_STATE", "")


def test_reading_begins_where_it_is_said_to(cluster: SmallCluster) -> None:
    write(cluster, 0, b"a", b"b")
    write(cluster, 1, b"a", b"b")
    cluster.server.offset_commit("reader", "", -1, None, {("jobs", 1): (1, "")})
    consumer = reader(cluster, **{"enable.partition.eof": False, "auto.offset.reset": "earliest"})
    cluster.do(lambda: consumer.assign([*at(0, OFFSET_END), TopicPartition("jobs", 1), TopicPartition("jobs", 2)]), "r")
    assert read(cluster, consumer) == [(1, b"b")]
    write(cluster, 0, b"c")
    assert read(cluster, consumer) == [(2, b"c")]


def test_a_seek_counts_as_soon_as_the_partition_is_assigned(cluster: SmallCluster) -> None:
    write(cluster, 0, b"a", b"b")
    consumer = reader(cluster)

    def assigned() -> None:
        consumer.assign(at(0))
        consumer.seek(at(0, 1)[0])

    assert cluster.error_of(lambda: consumer.seek(at(0, 1)[0]), "r") == ("_UNKNOWN_PARTITION", "")
    cluster.do(assigned, "r")
    assert read(cluster, consumer) == [(1, b"b"), (2, "_PARTITION_EOF")]
    assert cluster.error_of(lambda: consumer.seek(at(1, 1)[0]), "r") == ("_STATE", "")


def test_paused_partitions_give_nothing_and_go_on_where_they_were(cluster: SmallCluster) -> None:
    write(cluster, 0, b"a", b"b", b"c")
    consumer = reader(cluster, **{"enable.partition.eof": False})
    cluster.do(lambda: consumer.assign(at(0)), "r")
    assert cluster.do(lambda: [it.value() for it in consumer.consume(2, 0.1)], "r") == [b"a", b"b"]
    cluster.do(lambda: consumer.pause(at(0)), "r")
    assert read(cluster, consumer) == []
    cluster.do(lambda: consumer.resume(at(0)), "r")
    assert read(cluster, consumer) == [(2, b"c")]


def test_a_pause_lasts_beyond_an_assignment(cluster: SmallCluster) -> None:
    write(cluster, 0, b"a")
    consumer = reader(cluster, **{"enable.partition.eof": False})

    def again() -> None:
        consumer.incremental_assign(at(0))
        consumer.pause(at(0))
        consumer.incremental_unassign(at(0))
        consumer.incremental_assign(at(0))

    cluster.do(again, "r")
    assert read(cluster, consumer) == []
    cluster.do(lambda: consumer.resume(at(0)), "r")
    assert read(cluster, consumer) == [(0, b"a")]


def test_assignments_that_cannot_be_are_refused_as_a_whole(cluster: SmallCluster) -> None:
    consumer = reader(cluster)
    invalid = ("_INVALID_ARG", "")
    assert cluster.error_of(lambda: consumer.incremental_unassign(at(0)), "r") == invalid
    cluster.do(lambda: consumer.incremental_assign(at(0)), "r")
    assert cluster.error_of(lambda: consumer.incremental_assign(at(1) + at(0)), "r") == ("_CONFLICT", "")
    assert cluster.error_of(lambda: consumer.incremental_unassign(at(0) + at(1)), "r") == invalid
    assert cluster.do(lambda: [it.partition for it in consumer.assignment()], "r") == [0]


def test_consume_with_a_time_waits_all_of_it_for_as_many_as_it_was_asked(cluster: SmallCluster) -> None:
    write(cluster, 0, b"a")
    consumer = reader(cluster, **{"enable.partition.eof": False})
    cluster.do(lambda: consumer.assign(at(0)), "r")

    def consume() -> int:
        begun_us = cluster.kernel.now_us
        assert len(consumer.consume(5, 0.5)) == 1
        return cluster.kernel.now_us - begun_us

    assert cluster.do(consume, "r") == SECOND_US // 2


def test_a_loop_that_never_waits_does_not_keep_time_from_going_on(cluster: SmallCluster) -> None:
    consumer = reader(cluster)

    def spin() -> int:
        calls = 0
        while cluster.kernel.now_us < 10_000:
            consumer.poll(0)
            calls += 1
        return calls

    assert cluster.do(spin, "r") < 1_000


def test_a_consumer_that_is_closed_says_so(cluster: SmallCluster) -> None:
    consumer = reader(cluster)
    cluster.do(consumer.close, "r")
    cluster.do(consumer.close, "r")
    with pytest.raises(RuntimeError, match="Consumer closed"):
        cluster.do(lambda: consumer.poll(0), "r")


# Groups.


class Member:
    """A member that polls until it is told to stop, and writes down what it is told."""

    def __init__(self, cluster: SmallCluster, name: str, protocol: dict[str, Any], **options: Any) -> None:
        self.cluster = cluster
        self.name = name
        self.told: list[tuple[str, list[int]]] = []
        self.errors: list[str] = []
        self.seen: list[tuple[int, int]] = []
        self.stops = self.sleeps = False
        self.in_revoke: Callable[[], None] = lambda: None
        config = {"group.id": "g", "client.id": name, "auto.offset.reset": "earliest", **protocol, **options}
        self.consumer: SimulatedConsumer = cluster.clients(name).consumer(config)
        self.task: Task = cluster.begin(self._run, name)

    def _run(self) -> None:
        consumer = self.consumer
        consumer.subscribe(
            ["jobs"],
            on_assign=lambda _, places: self._tell("assign", places),
            on_revoke=lambda _, places: (self._tell("revoke", places), self.in_revoke()),
            on_lost=lambda _, places: self._tell("lost", places),
        )
        while not self.stops:
            if self.sleeps:
                self.cluster.kernel.pause(100_000)
                continue
            message = consumer.poll(0.05)
            if message is not None:
                error = message.error()
                if error is not None:
                    self.errors.append(error.name())
                else:
                    self.seen.append((message.partition(), message.offset()))
        consumer.close()

    def _tell(self, what: str, places: list[TopicPartition]) -> None:
        numbers = sorted(it.partition for it in places)
        if numbers or what != "assign":
            self.told.append((what, numbers))

    @property
    def owned(self) -> list[int]:
        found: set[int] = set()
        for what, numbers in self.told:
            found = found | set(numbers) if what == "assign" else found - set(numbers)
        return sorted(found)

    def metadata(self) -> Any:
        return self.cluster.do(self.consumer.consumer_group_metadata, self.name)

    def stop(self) -> None:
        self.stops = True
        self.cluster.pass_time(6)
        assert self.task.done
        assert self.task.error is None


@PROTOCOLS
def test_members_share_the_partitions_and_take_over_from_one_that_leaves(
    cluster: SmallCluster, protocol: dict[str, Any]
) -> None:
    a = Member(cluster, "a", protocol)
    cluster.pass_time(5)
    assert a.owned == [0, 1, 2, 3]
    b = Member(cluster, "b", protocol)
    cluster.pass_time(10)
    assert sorted(a.owned + b.owned) == [0, 1, 2, 3]
    assert len(a.owned) == 2
    a.stop()
    cluster.pass_time(5)
    assert a.owned == []
    assert b.owned == [0, 1, 2, 3]
    assert ("lost", [0, 1]) not in a.told


def test_a_third_member_is_given_as_little_as_evens_things_out(cluster: SmallCluster) -> None:
    shares = []
    members = []
    for name in ("a", "b", "c"):
        members.append(Member(cluster, name, CLASSIC))
        cluster.pass_time(10)
        shares.append([member.owned for member in members])
    assert shares == [[[0, 1, 2, 3]], [[2, 3], [0, 1]], [[2, 3], [1], [0]]]


def test_incremental_rebalances_take_only_what_moves_and_eager_ones_everything(cluster: SmallCluster) -> None:
    for protocol, revoked in (CLASSIC, 2), (KIP_848, 2), (EAGER, 4):
        cluster = SmallCluster(consumer_heartbeat_ms=500)
        a = Member(cluster, "a", protocol)
        cluster.pass_time(5)
        Member(cluster, "b", protocol)
        cluster.pass_time(10)
        assert [len(numbers) for what, numbers in a.told if what == "revoke"] == [revoked]


@PROTOCOLS
def test_nothing_is_revoked_or_read_meanwhile_from_a_member_that_does_not_poll(
    cluster: SmallCluster, protocol: dict[str, Any]
) -> None:
    a = Member(cluster, "a", protocol)
    cluster.pass_time(5)
    a.sleeps = True
    b = Member(cluster, "b", protocol)
    cluster.pass_time(20)
    assert a.owned == [0, 1, 2, 3]
    assert b.owned == []
    a.sleeps = False
    cluster.pass_time(10)
    assert len(b.owned) == 2


@PROTOCOLS
def test_a_member_that_is_frozen_loses_its_partitions_and_is_told_so_when_it_goes_on(
    cluster: SmallCluster, protocol: dict[str, Any]
) -> None:
    a = Member(cluster, "a", protocol)
    b = Member(cluster, "b", protocol)
    cluster.pass_time(15)
    had = a.owned
    assert len(had) == 2
    stale = a.metadata()
    cluster.kernel.freeze(cluster.process("a"))
    cluster.pass_time(20)
    assert b.owned == [0, 1, 2, 3]
    cluster.kernel.thaw(cluster.process("a"))
    cluster.pass_time(15)
    assert ("lost", had) in a.told
    assert len(a.owned) == 2
    assert sorted(a.owned + b.owned) == [0, 1, 2, 3]
    assert a.metadata() != stale


@PROTOCOLS
def test_a_killed_member_is_replaced_when_its_session_is_over(cluster: SmallCluster, protocol: dict[str, Any]) -> None:
    a = Member(cluster, "a", protocol)
    b = Member(cluster, "b", protocol)
    cluster.pass_time(15)
    cluster.kernel.kill(cluster.process("a"))
    cluster.pass_time(4)
    assert len(b.owned) == 2
    cluster.pass_time(10)
    assert b.owned == [0, 1, 2, 3]
    assert a.task.done


@PROTOCOLS
def test_a_member_that_polls_too_late_leaves_by_itself_and_comes_back(
    cluster: SmallCluster, protocol: dict[str, Any]
) -> None:
    a = Member(cluster, "a", protocol, **{"max.poll.interval.ms": 7_000})
    b = Member(cluster, "b", protocol)
    cluster.pass_time(15)
    had = a.owned
    a.sleeps = True
    cluster.pass_time(9)
    if protocol is not KIP_848:
        assert b.owned == [0, 1, 2, 3], "it left before it was told"
        assert a.metadata().member_id == ""
    a.sleeps = False
    cluster.pass_time(15)
    assert "_MAX_POLL_EXCEEDED" in a.errors
    assert ("lost", had) in a.told
    assert len(a.owned) == 2


@PROTOCOLS
def test_offsets_may_be_committed_while_partitions_are_revoked(cluster: SmallCluster, protocol: dict[str, Any]) -> None:
    a = Member(cluster, "a", protocol)
    cluster.pass_time(5)
    a.in_revoke = lambda: a.consumer.commit(offsets=at(0, 7), asynchronous=False)
    Member(cluster, "b", protocol)
    cluster.pass_time(10)
    assert a.task.error is None
    known = cluster.server.offset_fetch("g", [("jobs", 0)], True)["jobs", 0]
    assert not isinstance(known, Exception)
    assert known[0] == 7


def test_a_commit_of_a_member_that_was_forgotten_is_refused_and_all_is_lost(cluster: SmallCluster) -> None:
    a = Member(cluster, "a", CLASSIC)
    cluster.pass_time(5)
    a.sleeps = True
    cluster.server.leave_group("g", a.metadata().member_id)
    error = cluster.error_of(lambda: a.consumer.commit(offsets=at(0, 7), asynchronous=False))
    assert error in [("UNKNOWN_MEMBER_ID", ""), ("ILLEGAL_GENERATION", "")]
    a.sleeps = False
    cluster.pass_time(5)
    assert a.told[1:] == [("lost", [0, 1, 2, 3]), ("assign", [0, 1, 2, 3])]


def test_members_stay_through_an_outage_that_is_shorter_than_their_session(cluster: SmallCluster) -> None:
    a = Member(cluster, "a", CLASSIC)
    cluster.pass_time(5)
    cluster.network.go_down(stands_still=False)
    cluster.pass_time(4)
    cluster.network.come_back()
    cluster.pass_time(5)
    assert a.told == [("assign", [0, 1, 2, 3])]


def test_a_member_that_is_cut_off_finds_out_by_itself_that_its_session_is_over(cluster: SmallCluster) -> None:
    a = Member(cluster, "a", CLASSIC)
    cluster.pass_time(5)
    cluster.network.cut_off(cluster.process("a"))
    cluster.pass_time(8)
    assert a.told[-1] == ("lost", [0, 1, 2, 3])
    cluster.network.join_again(cluster.process("a"))
    cluster.pass_time(10)
    assert a.owned == [0, 1, 2, 3]


@PROTOCOLS
def test_members_find_together_again_where_connections_break(cluster: SmallCluster, protocol: dict[str, Any]) -> None:
    cluster.network.lose(0.2, 0.2)
    members = [Member(cluster, name, protocol) for name in ("a", "b")]
    cluster.pass_time(60)
    cluster.network.calm()
    cluster.pass_time(60)
    assert sorted(number for member in members for number in member.owned) == [0, 1, 2, 3]


@PROTOCOLS
def test_members_find_together_again_when_coordinators_move(cluster: SmallCluster, protocol: dict[str, Any]) -> None:
    members = [Member(cluster, name, protocol) for name in ("a", "b")]
    for _ in range(5):
        cluster.pass_time(0.7)
        cluster.server.restart()
    cluster.pass_time(40)
    assert sorted(number for member in members for number in member.owned) == [0, 1, 2, 3]


@pytest.mark.parametrize("protocol", [CLASSIC, KIP_848], ids=["cooperative", "KIP-848"])
def test_a_static_member_that_comes_back_has_what_it_had_and_nobody_else_notices(
    cluster: SmallCluster, protocol: dict[str, Any]
) -> None:
    a = Member(cluster, "a", protocol, **{"group.instance.id": "one"})
    b = Member(cluster, "b", protocol, **{"group.instance.id": "two"})
    cluster.pass_time(15)
    had, told = a.owned, list(b.told)
    a.stops = True
    cluster.pass_time(2)
    assert a.task.done
    again = Member(cluster, "c", protocol, **{"group.instance.id": "one"})
    cluster.pass_time(10)
    assert again.owned == had
    assert b.told == told


def test_a_second_member_of_the_same_name_is_the_end_of_the_first(cluster: SmallCluster) -> None:
    a = Member(cluster, "a", CLASSIC, **{"group.instance.id": "one"})
    cluster.pass_time(5)
    b = Member(cluster, "b", CLASSIC, **{"group.instance.id": "one"})
    cluster.pass_time(5)
    assert b.owned == [0, 1, 2, 3]
    assert a.errors == ["_FATAL"]
    assert a.told == [("assign", [0, 1, 2, 3])]
    error = cluster.error_of(lambda: a.consumer.commit(offsets=at(0, 7), asynchronous=False))
    assert error == ("_FATAL", "")
    a.stop()


def test_what_a_callback_raises_is_raised_by_poll_and_the_rebalance_goes_on(cluster: SmallCluster) -> None:
    consumer = cluster.clients().consumer({"group.id": "g", "auto.offset.reset": "earliest", **CLASSIC})

    def fail(_: Any, places: list[TopicPartition]) -> None:
        raise ValueError("a defect")

    def run() -> int:
        consumer.subscribe(["jobs"], on_assign=fail)
        with pytest.raises(ValueError, match="a defect"):
            consumer.poll(5)
        return len(consumer.assignment())

    assert cluster.do(run) == 4


def test_members_of_a_cooperative_group_change_their_assignment_step_by_step_only(cluster: SmallCluster) -> None:
    a = Member(cluster, "a", CLASSIC)
    cluster.pass_time(5)
    assert cluster.error_of(lambda: a.consumer.assign(at(0))) == ("_STATE", "")


def test_a_consumer_that_never_subscribed_is_no_member(cluster: SmallCluster) -> None:
    consumer = reader(cluster)
    assert cluster.do(consumer.memberid, "r") is None
    assert cluster.do(consumer.consumer_group_metadata, "r")[1:3] == (-1, "")
    cluster.do(lambda: consumer.commit(offsets=at(0, 3), asynchronous=False), "r")
    assert cluster.error_of(lambda: consumer.commit(offsets=at(0, -1001), asynchronous=False), "r") == ("_NO_OFFSET", "")


def test_the_same_seed_gives_the_same_world() -> None:
    def run() -> list[str]:
        cluster = SmallCluster(seed=7)
        lines: list[str] = []
        cluster.network.trace = lambda line: lines.append(f"{cluster.kernel.now_us} {line}")
        cluster.network.lose(0.1, 0.1)
        members = [Member(cluster, name, CLASSIC) for name in ("a", "b", "c")]
        cluster.pass_time(30)
        return [*lines, *(str(member.told) for member in members)]

    assert run() == run()


def test_errors_of_partitions_are_told_as_messages(cluster: SmallCluster) -> None:
    consumer = reader(cluster)
    cluster.do(lambda: consumer.assign([TopicPartition("nowhere", 0, 0)]), "r")
    assert read(cluster, consumer)[0][1] == KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART).name()
