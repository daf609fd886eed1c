"""Programs: what a group has committed, with and without transactions, and what is told of it."""

from __future__ import annotations

__all__ = [
    "committed_backwards",
    "no_group_and_no_offsets",
    "note_that_is_too_long",
    "offsets_of_two_groups",
    "offsets_of_two_transactions_at_once",
    "pending_offsets_and_others",
    "pending_offsets_time_out",
    "plain_commit_during_a_transaction",
    "plain_commit_from_outside",
    "plain_commit_from_outside_of_a_group_with_members",
    "plain_commit_of_a_member",
    "transaction_from_outside_of_a_group_with_members",
]

from tests.simulation.conformance.program import Broker


def no_group_and_no_offsets(broker: Broker) -> None:
    topic, group = broker.topic(2), broker.name("group")
    broker.say_committed(group, topic, 0, 1)
    broker.say_committed(group, topic, 5)
    broker.say_group(group)


def committed_backwards(broker: Broker) -> None:
    """A smaller offset is taken like any other, and so is one behind the end."""
    topic, group = broker.topic(), broker.name("group")
    metadata = broker.outsider(group, topic).metadata()
    writer = broker.transactional("w", broker.name("id"))
    writer.init()
    for offset in (1_000, 3, 0):
        writer.begin()
        writer.offsets(metadata, topic, {0: offset}, f"at {offset}")
        writer.commit()
        broker.say_committed(group, topic, 0)
    broker.say_group(group)


def note_that_is_too_long(broker: Broker) -> None:
    topic, group = broker.topic(), broker.name("group")
    writer = broker.transactional("w", broker.name("id"))
    writer.init()
    writer.begin()
    writer.offsets(broker.outsider(group, topic).metadata(), topic, {0: 1}, "x" * 5_000)
    writer.commit()
    writer.abort()
    broker.say_committed(group, topic, 0)


def offsets_of_two_groups(broker: Broker) -> None:
    topic, groups = broker.topic(), [broker.name("group"), broker.name("group")]
    writer = broker.transactional("w", broker.name("id"))
    writer.init()
    for turn, group in enumerate(groups):
        writer.begin()
        writer.offsets(broker.outsider(group, topic).metadata(), topic, {0: turn})
        writer.commit()
    for group in groups:
        broker.say_committed(group, topic, 0)


def pending_offsets_and_others(broker: Broker) -> None:
    """Under an open transaction only its own partitions are unstable, and only for those who ask for stable ones."""
    topic, group = broker.topic(3), broker.name("group")
    metadata = broker.outsider(group, topic).metadata()
    writer = broker.transactional("w", broker.name("id"))
    writer.init()
    writer.begin()
    writer.offsets(metadata, topic, {0: 1, 1: 1}, "before")
    writer.commit()
    broker.say_committed(group, topic, 0, 1, 2)
    writer.begin()
    writer.offsets(metadata, topic, {1: 2, 2: 2}, "after")
    broker.say_pending(group, topic, 0, 1, 2)
    writer.commit()
    broker.say_committed(group, topic, 0, 1, 2)
    writer.begin()
    writer.offsets(metadata, topic, {0: 3}, "undone")
    broker.say_pending(group, topic, 0, 1)
    writer.abort()
    broker.say_committed(group, topic, 0, 1, 2)


def pending_offsets_time_out(broker: Broker) -> None:
    """With the transaction, by and by."""
    topic, group = broker.topic(), broker.name("group")
    writer = broker.transactional("w", broker.name("id"), transaction_timeout_ms=1_000)
    writer.init()
    writer.begin()
    writer.offsets(broker.outsider(group, topic).metadata(), topic, {0: 1})
    broker.say_pending(group, topic, 0)
    broker.say_committed(group, topic, 0)
    writer.commit()


def offsets_of_two_transactions_at_once(broker: Broker) -> None:
    """The one that was sent last wins, whichever commits last."""
    topic, group = broker.topic(2), broker.name("group")
    metadata = broker.outsider(group, topic).metadata()
    first, second = broker.transactional("first", broker.name("id")), broker.transactional("second", broker.name("id"))
    for writer in (first, second):
        writer.init()
        writer.begin()
    first.offsets(metadata, topic, {0: 1, 1: 1}, "first")
    second.offsets(metadata, topic, {0: 2}, "second")
    second.commit()
    broker.pause(0.1)
    broker.say_pending(group, topic, 0, 1)
    first.commit()
    broker.say_committed(group, topic, 0, 1)


def plain_commit_from_outside(broker: Broker) -> None:
    topic, group = broker.topic(2), broker.name("group")
    alone = broker.outsider(group, topic)
    alone.commit({0: 4})
    broker.say_committed(group, topic, 0, 1)
    alone.commit({0: 2, 1: 3})
    broker.say_committed(group, topic, 0, 1)


def plain_commit_during_a_transaction(broker: Broker) -> None:
    """Taken at once, and not put back by a transaction that sent its offset earlier and commits later."""
    topic, group = broker.topic(), broker.name("group")
    alone = broker.outsider(group, topic)
    writer = broker.transactional("w", broker.name("id"))
    writer.init()
    writer.begin()
    writer.offsets(alone.metadata(), topic, {0: 10}, "of the transaction")
    alone.commit({0: 4})
    broker.say_pending(group, topic, 0)
    writer.commit()
    broker.say_committed(group, topic, 0)


def plain_commit_of_a_member(broker: Broker) -> None:
    topic, group = broker.topic(2), broker.name("group")
    member = broker.member("a", group, topic)
    broker.settle(group, 2, member)
    member.commit({0: 4})
    member.commit({0: 5, 1: 6})
    broker.say_committed(group, topic, 0, 1)


def plain_commit_from_outside_of_a_group_with_members(broker: Broker) -> None:
    topic, group = broker.topic(), broker.name("group")
    member = broker.member("a", group, topic)
    broker.settle(group, 1, member)
    broker.outsider(group, topic).commit({0: 9})
    broker.say_committed(group, topic, 0)


def transaction_from_outside_of_a_group_with_members(broker: Broker) -> None:
    topic, group = broker.topic(), broker.name("group")
    member = broker.member("a", group, topic)
    broker.settle(group, 1, member)
    writer = broker.transactional("w", broker.name("id"))
    writer.init()
    writer.begin()
    writer.offsets(broker.outsider(group, topic).metadata(), topic, {0: 9})
    writer.commit()
    writer.abort()
    broker.say_committed(group, topic, 0)
