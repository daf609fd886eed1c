"""Programs: members that come and go, and what they may commit meanwhile. Each is run under both protocols of groups."""

from __future__ import annotations

__all__ = [
    "a_member_that_does_not_poll_keeps_its_partitions",
    "a_member_that_polls_late_for_others",
    "a_member_that_polls_too_late_loses_its_partitions",
    "a_member_without_partitions_leaves",
    "commit_in_close",
    "commit_while_partitions_are_revoked",
    "commit_with_metadata_from_before_they_are_revoked",
    "members_come_and_go",
    "metadata_from_before_a_partition_went_and_came_back",
    "metadata_from_before_a_rebalance",
    "metadata_of_a_member_that_left",
    "more_members_than_partitions",
    "offsets_of_a_partition_of_another_member",
    "plain_commit_of_a_partition_of_another_member",
    "plain_commits_in_callbacks",
    "reading_goes_on_where_it_is_told_to",
    "seek_in_the_callback",
    "session_that_is_too_short",
    "transaction_open_over_a_rebalance",
]

from collections.abc import Callable

from confluent_kafka import TopicPartition

from tests.simulation.conformance.answers import outcome
from tests.simulation.conformance.member import Member
from tests.simulation.conformance.program import Broker
from tests.simulation.conformance.writer import Writer


def members_come_and_go(broker: Broker, protocol: str) -> None:
    topic, group = broker.topic(4), broker.name("group")
    a = broker.member("a", group, topic, protocol)
    broker.settle(group, 4, a)
    broker.say_group(group)
    b = broker.member("b", group, topic, protocol)
    broker.settle(group, 4, a, b)
    broker.say_group(group)
    a.tell()
    b.tell()
    a.close()
    broker.settle(group, 4, b)
    a.tell()
    b.tell()
    broker.say_group(group)
    b.close()
    b.tell()
    broker.say_group(group)


def more_members_than_partitions(broker: Broker, protocol: str) -> None:
    topic, group = broker.topic(2), broker.name("group")
    members = [broker.member("a", group, topic, protocol)]
    broker.settle(group, 2, *members)
    for name in ("b", "c"):
        members.append(broker.member(name, group, topic, protocol))
        broker.settle(group, 2, *members)
    broker.say("shares", sorted(len(member.assigned) for member in members))
    owner = next(member for member in members if member.assigned)
    others = [member for member in members if member is not owner]
    owner.close()
    broker.settle(group, 2, *others)
    broker.say("shares", sorted(len(member.assigned) for member in others))


def a_member_without_partitions_leaves(broker: Broker, protocol: str) -> None:
    topic, group = broker.topic(1), broker.name("group")
    a = broker.member("a", group, topic, protocol)
    broker.settle(group, 1, a)
    b = broker.member("b", group, topic, protocol)
    broker.settle(group, 1, a, b)
    (idle,) = [member for member in (a, b) if not member.assigned]
    idle.close()
    broker.say("members", broker.group_members(group))


def seek_in_the_callback(broker: Broker, protocol: str) -> None:
    """It is taken; but then the partition may be read from where it was assigned, so what is read is not compared."""
    topic, group = broker.topic(2), broker.name("group")
    a = broker.member("a", group, topic, protocol)

    def seek(numbers: list[int]) -> None:
        for number in numbers:
            broker.say("seek", outcome(lambda number=number: a.consumer.seek(TopicPartition(topic, number, 0))))  # type: ignore[misc]

    a.arriving = seek
    broker.settle(group, 2, a)
    a.tell()


def metadata_from_before_a_rebalance(broker: Broker, protocol: str) -> None:
    """What the old metadata is good for depends on the protocol, and on what has become of the partition."""
    topic, group = broker.topic(2), broker.name("group")
    writer = broker.ready("w")
    a = broker.member("a", group, topic, protocol)
    broker.settle(group, 2, a)
    before = a.metadata()
    writer.transact(topic, before, {0: 1, 1: 1})
    b = broker.member("b", group, topic, protocol)
    broker.settle(group, 2, a, b)
    (kept,), (moved,) = a.assigned, b.assigned
    broker.say("kept", kept)
    writer.transact(topic, before, {kept: 2})
    writer.transact(topic, before, {moved: 3})
    writer.transact(topic, before, {kept: 4, moved: 4})
    broker.say_committed(group, topic, 0, 1)
    writer.transact(topic, a.metadata(), {kept: 5})
    writer.transact(topic, b.metadata(), {moved: 6})
    broker.say_committed(group, topic, 0, 1)


def metadata_from_before_a_partition_went_and_came_back(broker: Broker, protocol: str) -> None:
    topic, group = broker.topic(2), broker.name("group")
    writer = broker.ready("w")
    a = broker.member("a", group, topic, protocol)
    broker.settle(group, 2, a)
    before = a.metadata()
    b = broker.member("b", group, topic, protocol)
    broker.settle(group, 2, a, b)
    (kept,), (moved,) = a.assigned, b.assigned
    meanwhile = a.metadata()
    b.close()
    broker.settle(group, 2, a)
    for metadata in (before, meanwhile):
        writer.transact(topic, metadata, {kept: 2})
        writer.transact(topic, metadata, {moved: 3})
    broker.say_committed(group, topic, 0, 1)


def metadata_of_a_member_that_left(broker: Broker, protocol: str) -> None:
    topic, group = broker.topic(2), broker.name("group")
    writer = broker.ready("w")
    a = broker.member("a", group, topic, protocol)
    broker.settle(group, 2, a)
    left = a.metadata()
    a.close()
    # Of an empty group, and then of one that others are members of.
    writer.transact(topic, left, {0: 1})
    b = broker.member("b", group, topic, protocol)
    broker.settle(group, 2, b)
    writer.transact(topic, left, {0: 2})
    broker.say_committed(group, topic, 0)


def offsets_of_a_partition_of_another_member(broker: Broker, protocol: str) -> None:
    """The broker takes them: it looks whether there is such a member, and not what that owns."""
    topic, group = broker.topic(2), broker.name("group")
    writer = broker.ready("w")
    a = broker.member("a", group, topic, protocol)
    broker.settle(group, 2, a)
    b = broker.member("b", group, topic, protocol)
    broker.settle(group, 2, a, b)
    writer.transact(topic, a.metadata(), dict.fromkeys(b.assigned, 7))
    broker.say_committed(group, topic, *sorted(b.assigned))


def plain_commit_of_a_partition_of_another_member(broker: Broker, protocol: str) -> None:
    topic, group = broker.topic(2), broker.name("group")
    a = broker.member("a", group, topic, protocol)
    broker.settle(group, 2, a)
    b = broker.member("b", group, topic, protocol)
    broker.settle(group, 2, a, b)
    a.commit(dict.fromkeys(b.assigned, 7))
    broker.say_committed(group, topic, *sorted(b.assigned))


def _leaving(broker: Broker, protocol: str, leave: Callable[[Writer, Member, str, object, list[int]], None]) -> None:
    """A second member comes, and *leave* is called while the first gives partitions up for it."""
    topic, group = broker.topic(2), broker.name("group")
    writer = broker.ready("w")
    a = broker.member("a", group, topic, protocol)
    broker.settle(group, 2, a)
    before = a.metadata()
    a.leaving = lambda numbers: leave(writer, a, topic, before, numbers)
    b = broker.member("b", group, topic, protocol)
    broker.settle(group, 2, a, b)
    a.tell()
    b.tell()
    broker.say_committed(group, topic, 0, 1)
    writer.transact(topic, a.metadata(), dict.fromkeys(a.assigned, 9))


def commit_while_partitions_are_revoked(broker: Broker, protocol: str) -> None:
    """What is revoked is ours until the callback returns, with metadata that is taken within it."""
    _leaving(
        broker,
        protocol,
        lambda writer, member, topic, before, numbers: writer.transact(topic, member.metadata(), dict.fromkeys(numbers, 5)),
    )


def commit_with_metadata_from_before_they_are_revoked(broker: Broker, protocol: str) -> None:
    _leaving(
        broker,
        protocol,
        lambda writer, member, topic, before, numbers: writer.transact(topic, before, dict.fromkeys(numbers, 5)),
    )


def plain_commits_in_callbacks(broker: Broker, protocol: str) -> None:
    _leaving(broker, protocol, lambda writer, member, topic, before, numbers: member.commit(dict.fromkeys(numbers, 5)))


def commit_in_close(broker: Broker, protocol: str) -> None:
    topic, group = broker.topic(2), broker.name("group")
    writer = broker.ready("w")
    a = broker.member("a", group, topic, protocol)
    broker.settle(group, 2, a)
    before = a.metadata()

    def leave(numbers: list[int]) -> None:
        writer.transact(topic, a.metadata(), dict.fromkeys(numbers, 5))
        writer.transact(topic, before, dict.fromkeys(numbers, 6))
        a.commit(dict.fromkeys(numbers, 7))

    a.leaving = leave
    a.close()
    a.tell()
    broker.say_committed(group, topic, 0, 1)
    broker.say_group(group)


def transaction_open_over_a_rebalance(broker: Broker, protocol: str) -> None:
    """A transaction belongs to no generation before its offsets are sent."""
    topic, group = broker.topic(2), broker.name("group")
    writer = broker.ready("w")
    a = broker.member("a", group, topic, protocol)
    broker.settle(group, 2, a)
    writer.begin()
    writer.write(topic, 0, "early")
    writer.flush()
    sent = broker.transactional("sent", broker.name("id"))
    sent.init()
    sent.begin()
    sent.offsets(a.metadata(), topic, {1: 5})
    b = broker.member("b", group, topic, protocol)
    broker.settle(group, 2, a, b)
    writer.offsets(a.metadata(), topic, {0: 4})
    writer.commit()
    # What was sent in time is committed, whoever has the partition by now.
    sent.commit()
    broker.say_committed(group, topic, 0, 1)


def a_member_that_does_not_poll_keeps_its_partitions(broker: Broker, protocol: str) -> None:
    """Heartbeats go on without it, and others wait until it gives partitions up."""
    topic, group = broker.topic(2), broker.name("group")
    writer = broker.ready("w")
    a = broker.member("a", group, topic, protocol)
    broker.settle(group, 2, a)
    before = a.metadata()
    b = broker.member("b", group, topic, protocol)
    broker.serve(1.5, b)
    broker.say("assigned to b", sorted(b.assigned))
    writer.transact(topic, before, {0: 1})
    writer.transact(topic, a.metadata(), {0: 2})
    broker.settle(group, 2, a, b)
    a.tell()
    b.tell()


def a_member_that_polls_too_late_loses_its_partitions(broker: Broker, protocol: str) -> None:
    topic, group = broker.topic(2), broker.name("group")
    writer = broker.ready("w")
    short = {"max.poll.interval.ms": 1_000}
    a = broker.member("a", group, topic, protocol, kafka=short, session_timeout_ms=1_000)
    broker.settle(group, 2, a)
    before = a.metadata()
    broker.until(lambda: broker.group_members(group) == 0)
    writer.transact(topic, before, {0: 1})
    writer.transact(topic, a.metadata(), {0: 2})
    a.commit({0: 3})
    broker.say_committed(group, topic, 0)
    a.leaving = lambda numbers: a.commit(dict.fromkeys(numbers, 4))
    broker.until(lambda: a.lost, [a])
    broker.settle(group, 2, a)
    a.tell()
    writer.transact(topic, a.metadata(), {0: 5})
    broker.say_committed(group, topic, 0, 1)


def a_member_that_polls_late_for_others(broker: Broker, protocol: str) -> None:
    """A little after its time is over, with one protocol it has left, and with the other it has fallen silent."""
    topic, group = broker.topic(2), broker.name("group")
    writer = broker.ready("w")
    a = broker.member("a", group, topic, protocol, kafka={"max.poll.interval.ms": 1_000}, session_timeout_ms=1_000)
    broker.settle(group, 2, a)
    broker.pause(2.5)
    broker.say("members", broker.group_members(group))
    writer.transact(topic, a.metadata(), {0: 1})
    a.commit({0: 2})
    broker.until(lambda: a.lost and bool(a.assigned), [a])
    broker.settle(group, 2, a)
    a.tell()
    writer.transact(topic, a.metadata(), {0: 3})


def session_that_is_too_short(broker: Broker, protocol: str) -> None:
    """With one protocol the session is the member's, with the other the broker's."""
    topic, group = broker.topic(2), broker.name("group")
    a = broker.member("a", group, topic, protocol, session_timeout_ms=500)
    broker.until(lambda: bool(a.errors or a.assigned), [a])
    a.tell()


def reading_goes_on_where_it_is_told_to(broker: Broker, protocol: str) -> None:
    """Partitions are paused when they are assigned, whatever was paused or not when they went."""
    topic, group = broker.topic(2), broker.name("group")
    for number in (0, 1):
        broker.put(topic, number, "a", "b", "c")
    a = broker.member("a", group, topic, protocol)
    broker.settle(group, 2, a)
    broker.say("read before it is told to", a.rows)
    a.begin(0, 0)
    a.begin(1, 1)
    broker.until(lambda: a.rows == 5, [a])
    b = broker.member("b", group, topic, protocol)
    broker.settle(group, 2, a, b)
    (number,) = b.assigned
    broker.say("read before it is told to", b.rows)
    b.begin(number, 2)
    broker.until(lambda: b.rows == 1, [b])
    for each in (0, 1):
        broker.put(topic, each, "d")
    broker.until(lambda: a.rows == 6 and b.rows == 2, [a, b])
    b.close()
    broker.settle(group, 2, a)
    broker.put(topic, number, "e")
    broker.serve(0.3, a)
    broker.say("read before it is told to", a.rows)
    a.begin(number, 3)
    broker.until(lambda: a.rows == 8, [a])
    broker.say("read by a", a.rows, "by b", b.rows)
