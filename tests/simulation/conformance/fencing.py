"""Programs: a second producer under the same transactional id, and what the first one is told after that."""

from __future__ import annotations

__all__ = [
    "fenced_and_idle",
    "fenced_between_transactions",
    "fenced_then_aborts",
    "fenced_then_begins_without_records",
    "fenced_then_commits",
    "fenced_then_commits_offsets_only",
    "fenced_then_flushes",
    "fenced_then_initialises",
    "fenced_then_polls",
    "fenced_then_purged",
    "fenced_then_sends_offsets",
    "fenced_then_writes_and_aborts",
    "fenced_then_writes_and_commits",
    "fencing_frees_offsets",
    "three_producers_one_after_another",
]

from tests.simulation.conformance.program import Broker
from tests.simulation.conformance.writer import Writer


def _two(broker: Broker) -> tuple[str, Writer, Writer]:
    """A topic, a producer with an open transaction, and the one that has taken its place."""
    topic, transactional_id = broker.topic(), broker.name("id")
    old, new = broker.transactional("old", transactional_id), broker.transactional("new", transactional_id)
    old.init()
    old.begin()
    old.write(topic, 0, "old")
    old.flush()
    new.init()
    return topic, old, new


def _after(broker: Broker, topic: str, old: Writer, new: Writer) -> None:
    """The old one is of no use any more, and the new one works."""
    old.abort()
    old.begin()
    old.write(topic, 0, "old again")
    old.commit()
    new.begin()
    new.write(topic, 0, "new")
    new.commit()
    reader = broker.reader("r", topic)
    reader.assign({0: 0})
    reader.read()


def fenced_then_commits(broker: Broker) -> None:
    topic, old, new = _two(broker)
    old.commit()
    _after(broker, topic, old, new)


def fenced_then_aborts(broker: Broker) -> None:
    topic, old, new = _two(broker)
    old.abort()
    _after(broker, topic, old, new)


def fenced_then_sends_offsets(broker: Broker) -> None:
    topic, old, new = _two(broker)
    group = broker.name("group")
    old.offsets(broker.outsider(group, topic).metadata(), topic, {0: 1})
    old.commit()
    broker.say_committed(group, topic, 0)
    _after(broker, topic, old, new)


def fenced_then_flushes(broker: Broker) -> None:
    topic, old, new = _two(broker)
    old.write_unwatched(topic, 0, "late")
    old.flush()
    _after(broker, topic, old, new)


def fenced_then_polls(broker: Broker) -> None:
    topic, old, new = _two(broker)
    old.write(topic, 0, "late")
    old.poll(1.0)
    _after(broker, topic, old, new)


def fenced_then_writes_and_commits(broker: Broker) -> None:
    """It is the flush within the commit that finds out."""
    topic, old, new = _two(broker)
    old.write(topic, 0, "late")
    old.commit()
    _after(broker, topic, old, new)


def fenced_then_writes_and_aborts(broker: Broker) -> None:
    topic, old, new = _two(broker)
    old.write(topic, 0, "late")
    old.abort()
    _after(broker, topic, old, new)


def fenced_then_purged(broker: Broker) -> None:
    """What a producer that is replaced does at last."""
    topic, old, new = _two(broker)
    old.commit()
    old.purge()
    _after(broker, topic, old, new)


def fenced_then_initialises(broker: Broker) -> None:
    topic, old, new = _two(broker)
    old.commit()
    old.init()
    _after(broker, topic, old, new)


def fenced_and_idle(broker: Broker) -> None:
    """The old one has not begun anything since it was initialised."""
    topic, transactional_id = broker.topic(), broker.name("id")
    old, new = broker.transactional("old", transactional_id), broker.transactional("new", transactional_id)
    old.init()
    new.init()
    old.begin()
    old.write(topic, 0, "old")
    old.commit()
    _after(broker, topic, old, new)


def fenced_between_transactions(broker: Broker) -> None:
    topic, transactional_id = broker.topic(), broker.name("id")
    old, new = broker.transactional("old", transactional_id), broker.transactional("new", transactional_id)
    old.init()
    old.begin()
    old.write(topic, 0, "kept")
    old.commit()
    new.init()
    old.begin()
    old.write(topic, 0, "old")
    old.commit()
    _after(broker, topic, old, new)


def fenced_then_begins_without_records(broker: Broker) -> None:
    """An empty transaction asks nobody, so it is told nothing."""
    topic, transactional_id = broker.topic(), broker.name("id")
    old, new = broker.transactional("old", transactional_id), broker.transactional("new", transactional_id)
    old.init()
    new.init()
    old.begin()
    old.commit()
    old.begin()
    old.abort()
    old.begin()
    old.write(topic, 0, "old")
    old.commit()
    _after(broker, topic, old, new)


def fenced_then_commits_offsets_only(broker: Broker) -> None:
    topic, transactional_id, group = broker.topic(), broker.name("id"), broker.name("group")
    old, new = broker.transactional("old", transactional_id), broker.transactional("new", transactional_id)
    metadata = broker.outsider(group, topic).metadata()
    old.init()
    old.begin()
    old.offsets(metadata, topic, {0: 7})
    new.init()
    old.commit()
    broker.say_committed(group, topic, 0)
    _after(broker, topic, old, new)


def fencing_frees_offsets(broker: Broker) -> None:
    """What a new owner does about a dead one: it takes over the id that stands beside the offset."""
    topic, transactional_id, group = broker.topic(), broker.name("id"), broker.name("group")
    old = broker.transactional("old", transactional_id)
    metadata = broker.outsider(group, topic).metadata()
    old.init()
    old.begin()
    old.offsets(metadata, topic, {0: 7}, "the id")
    old.commit()
    broker.say_committed(group, topic, 0)
    old.begin()
    old.offsets(metadata, topic, {0: 8}, "another note")
    broker.say_pending(group, topic, 0)
    broker.transactional("new", transactional_id).init()
    broker.say_committed(group, topic, 0)


def three_producers_one_after_another(broker: Broker) -> None:
    topic, transactional_id = broker.topic(), broker.name("id")
    writers = [broker.transactional(name, transactional_id) for name in ("first", "second", "third")]
    for writer in writers:
        writer.init()
        writer.begin()
        writer.write(topic, 0, f"of {writer.name}")
        writer.flush()
    for writer in writers:
        writer.commit()
    reader = broker.reader("r", topic)
    reader.assign({0: 0})
    reader.read()
