"""Programs: what readers of committed records are given, where they are told of an end, and how they are moved."""

from __future__ import annotations

__all__ = [
    "added_twice_and_removed_twice",
    "assigned_beginning_and_end",
    "ends_after_a_pause",
    "ends_of_a_partition_that_is_not_there",
    "ends_while_records_come",
    "held_up_by_an_open_transaction",
    "interleaved_transactions",
    "many_aborted_records",
    "nothing_but_aborted_records",
    "offset_past_the_end",
    "offset_past_the_end_begins_anew",
    "paused_and_resumed",
    "records_deleted_before_a_reader",
    "records_deleted_below_a_reader",
    "removed_and_added_again",
    "seek_back_and_past",
    "seek_while_paused",
    "sought_without_an_assignment",
    "tombstones_and_empty_values",
]

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, TopicPartition

from tests.simulation.conformance.answers import outcome
from tests.simulation.conformance.program import Broker


def _written(broker: Broker, *values: str, partitions: int = 1) -> str:
    """A new topic, with these records in each of its partitions."""
    topic = broker.topic(partitions)
    for number in range(partitions):
        broker.put(topic, number, *values)
    return topic


def ends_while_records_come(broker: Broker) -> None:
    """An end is told once each time that it is reached."""
    topic = broker.topic()
    writer = broker.plain("p")
    reader = broker.reader("r", topic)
    reader.assign({0: 0})
    reader.read()
    for turn in range(2):
        reader.look()
        writer.write(topic, 0, f"a{turn}", f"b{turn}")
        writer.flush()
        reader.read()
    reader.look()


def tombstones_and_empty_values(broker: Broker) -> None:
    topic = broker.topic()
    writer = broker.plain("p")
    writer.write(topic, 0, "a", None, "", "b", key="k")
    writer.flush()
    reader = broker.reader("r", topic)
    reader.assign({0: 0})
    reader.read()


def held_up_by_an_open_transaction(broker: Broker) -> None:
    """The end is the last stable offset, for as long as a transaction is open; and what is behind comes when it ends."""
    topic = broker.topic()
    writer = broker.transactional("w", broker.name("id"))
    writer.init()
    writer.begin()
    writer.write(topic, 0, "kept")
    writer.commit()
    reader = broker.reader("r", topic)
    reader.assign({0: 0})
    reader.read()
    writer.begin()
    writer.write(topic, 0, "open")
    writer.flush()
    broker.say_ends(topic, waits=False)
    reader.look()
    writer.write(topic, 0, "open still")
    writer.flush()
    broker.say_ends(topic, waits=False)
    reader.look()
    writer.commit()
    reader.read()
    broker.say_ends(topic)


def interleaved_transactions(broker: Broker) -> None:
    """A transaction that is committed is not read before an earlier one has ended."""
    topic = broker.topic()
    first, second = broker.transactional("first", broker.name("id")), broker.transactional("second", broker.name("id"))
    for writer in (first, second):
        writer.init()
        writer.begin()
    for turn in range(2):
        for writer in (first, second):
            writer.write(topic, 0, f"{writer.name} {turn}")
            writer.flush()
    second.commit()
    broker.pause(0.1)
    broker.say_ends(topic, waits=False)
    reader = broker.reader("r", topic)
    reader.assign({0: 0})
    reader.read(waits=False)
    first.abort()
    reader.read()
    broker.say_ends(topic)


def many_aborted_records(broker: Broker) -> None:
    topic = broker.topic()
    writer = broker.transactional("w", broker.name("id"))
    writer.init()
    for turn in range(3):
        writer.begin()
        writer.write(topic, 0, *(f"lost {turn} {number}" for number in range(20)))
        writer.flush()
        writer.abort()
        writer.begin()
        writer.write(topic, 0, f"kept {turn}")
        writer.commit()
    reader = broker.reader("r", topic)
    reader.assign({0: 0})
    reader.read()
    reader.seek(0, 5)
    reader.read()
    reader.seek(0, 22)
    reader.read()


def nothing_but_aborted_records(broker: Broker) -> None:
    """Their end is behind them, though there is nothing to read."""
    topic = broker.topic()
    writer = broker.transactional("w", broker.name("id"))
    writer.init()
    writer.begin()
    writer.write(topic, 0, "lost", "lost")
    writer.flush()
    reader = broker.reader("r", topic)
    reader.assign({0: 0})
    reader.read(waits=False)
    writer.abort()
    reader.read()
    reader.look()


def assigned_beginning_and_end(broker: Broker) -> None:
    topic = _written(broker, "a", "b", partitions=2)
    reader = broker.reader("r", topic)
    reader.assign({0: OFFSET_BEGINNING, 1: OFFSET_END})
    reader.read()
    reader.assign({1: 1})
    reader.read()
    reader.assign({})
    reader.look()


def paused_and_resumed(broker: Broker) -> None:
    topic = _written(broker, "a", "b", partitions=2)
    reader = broker.reader("r", topic)
    reader.assign({0: 0, 1: 0})
    reader.pause(0)
    reader.read(1)
    reader.look()
    reader.resume(0)
    reader.read(0)
    reader.pause(0, 1)
    for number in (0, 1):
        broker.put(topic, number, "c")
    reader.look()
    reader.resume(0, 1)
    reader.read()
    reader.pause(7)


def ends_after_a_pause(broker: Broker) -> None:
    """They are told again, though nothing has come; and what is paused twice is resumed once."""
    topic = _written(broker, "a", partitions=2)
    reader = broker.reader("r", topic)
    reader.assign({0: 0, 1: 0})
    reader.read()
    reader.pause(0)
    reader.pause(0)
    reader.look()
    reader.resume(0)
    reader.read(0)
    reader.resume(0)
    reader.look()


def seek_while_paused(broker: Broker) -> None:
    topic = _written(broker, "a", "b", "c")
    reader = broker.reader("r", topic)
    reader.assign({0: 0})
    reader.read()
    reader.pause(0)
    reader.seek(0, 1)
    reader.look()
    reader.resume(0)
    reader.read()


def seek_back_and_past(broker: Broker) -> None:
    topic = _written(broker, "a", "b", "c")
    reader = broker.reader("r", topic)
    reader.assign({0: 0})
    reader.read()
    reader.seek(0, 0)
    reader.read()
    reader.seek(0, 2)
    reader.read()
    reader.seek(0, 3)
    reader.read()
    reader.seek(0, 40)
    reader.read(waits=False)


def sought_without_an_assignment(broker: Broker) -> None:
    topic = _written(broker, "a", partitions=2)
    reader = broker.reader("r", topic)
    broker.say("seek before assign", outcome(lambda: reader.consumer.seek(TopicPartition(topic, 0, 0))))
    reader.assign({0: 0})
    reader.read()
    broker.say("seek elsewhere", outcome(lambda: reader.consumer.seek(TopicPartition(topic, 1, 0))))


def added_twice_and_removed_twice(broker: Broker) -> None:
    topic = _written(broker, "a", partitions=3)
    reader = broker.reader("r", topic)
    reader.add({0: 0})
    reader.add({1: 0})
    reader.read()
    reader.add({1: 0})
    reader.add({1: 0, 2: 0})
    reader.remove(0)
    reader.remove(0)
    reader.remove(0, 1)
    reader.look()


def removed_and_added_again(broker: Broker) -> None:
    """A partition that comes back is read from where it is told to; it is still paused, where it was when it went."""
    topic = _written(broker, "a", "b", partitions=2)
    reader = broker.reader("r", topic)
    reader.add({0: 0, 1: 0})
    reader.read()
    reader.pause(0)
    reader.remove(0)
    reader.add({0: 1})
    reader.look()
    reader.resume(0)
    reader.read(0)
    reader.remove(0, 1)
    reader.add({1: 0})
    reader.read(1)


def offset_past_the_end(broker: Broker) -> None:
    topic = _written(broker, "a", "b")
    reader = broker.reader("r", topic)
    reader.assign({0: 9})
    reader.read()
    reader.look()


def offset_past_the_end_begins_anew(broker: Broker) -> None:
    topic = _written(broker, "a", "b")
    reader = broker.reader("r", topic, out_of_range="earliest")
    reader.assign({0: 9})
    reader.read()


def records_deleted_before_a_reader(broker: Broker) -> None:
    topic = _written(broker, "a", "b", "c")
    broker.delete_before(topic, 0, 2)
    broker.say_ends(topic)
    reader = broker.reader("r", topic)
    reader.assign({0: 0})
    reader.read()
    reader.assign({0: OFFSET_BEGINNING})
    reader.read()
    again = broker.reader("s", topic, out_of_range="earliest")
    again.assign({0: 0})
    again.read()


def records_deleted_below_a_reader(broker: Broker) -> None:
    """One that is at the end is not disturbed."""
    topic = _written(broker, "a", "b", "c")
    reader = broker.reader("r", topic)
    reader.assign({0: 0})
    reader.read()
    broker.delete_before(topic, 0, 3)
    broker.put(topic, 0, "d")
    reader.read()
    reader.seek(0, 1)
    reader.read()


def ends_of_a_partition_that_is_not_there(broker: Broker) -> None:
    topic = _written(broker, "a")
    broker.say_ends(topic, 3)
