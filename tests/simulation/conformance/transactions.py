"""Programs: what is in a transaction happens at once or not at all, and calls in the wrong order are refused."""

from __future__ import annotations

__all__ = [
    "abort_then_begin_again",
    "calls_out_of_order",
    "committed_and_aborted_records",
    "delivery_reports_of_an_abort",
    "empty_transactions",
    "init_twice",
    "many_transactions_in_a_row",
    "offsets_alone",
    "offsets_and_records_undone",
    "offsets_twice_in_one_transaction",
    "partition_that_is_not_there",
    "plain_records_among_transactions",
    "record_too_large",
    "timed_out_then_aborted",
    "timed_out_then_committed",
    "timed_out_then_offsets_sent",
    "timed_out_then_written",
    "timeout_that_is_too_long",
    "transaction_left_open_is_ended_by_the_next_producer",
]

from tests.simulation.conformance.program import Broker
from tests.simulation.conformance.writer import Writer

# The broker ends transactions whose time is over once a second.
SHORT_MS = 1_000


def committed_and_aborted_records(broker: Broker) -> None:
    """Markers take an offset in each partition that was written, after a commit and after an abort."""
    topic = broker.topic(3)
    writer = broker.transactional("w", broker.name("id"))
    writer.init()
    writer.begin()
    writer.write(topic, 0, "a", "b", "c", key="k")
    writer.write(topic, 1, "d", None, key="k")
    writer.commit()
    writer.begin()
    writer.write(topic, 0, "lost")
    writer.write(topic, 2, "lost")
    writer.flush()
    writer.abort()
    writer.begin()
    writer.write(topic, 0, "e")
    writer.write(topic, 2, "f")
    writer.commit()
    reader = broker.reader("r", topic)
    reader.assign({0: 0, 1: 0, 2: 0})
    reader.read()
    for number in range(3):
        broker.say_ends(topic, number)


def abort_then_begin_again(broker: Broker) -> None:
    topic, group = broker.topic(), broker.name("group")
    writer = broker.transactional("w", broker.name("id"))
    alone = broker.outsider(group, topic)
    writer.init()
    for turn in range(3):
        writer.begin()
        writer.write(topic, 0, f"lost {turn}")
        writer.offsets(alone.metadata(), topic, {0: 10 + turn})
        writer.flush()
        writer.abort()
        writer.begin()
        writer.write(topic, 0, f"kept {turn}")
        writer.offsets(alone.metadata(), topic, {0: 20 + turn})
        writer.commit()
        broker.say_committed(group, topic, 0)
    reader = broker.reader("r", topic)
    reader.assign({0: 0})
    reader.read()


def empty_transactions(broker: Broker) -> None:
    """They leave nothing, and are no reason to complain."""
    topic = broker.topic()
    writer = broker.transactional("w", broker.name("id"))
    writer.init()
    for end in (writer.commit, writer.abort, writer.commit):
        writer.begin()
        end()
    broker.say_ends(topic)
    writer.begin()
    writer.write(topic, 0, "a")
    writer.commit()
    broker.say_ends(topic)


def offsets_alone(broker: Broker) -> None:
    """A transaction without records moves offsets, and writes nothing anywhere else."""
    topic, group = broker.topic(2), broker.name("group")
    alone = broker.outsider(group, topic)
    writer = broker.transactional("w", broker.name("id"))
    writer.init()
    writer.begin()
    writer.offsets(alone.metadata(), topic, {0: 3, 1: 4}, "beside them")
    writer.commit()
    broker.say_committed(group, topic, 0, 1)
    broker.say_ends(topic)
    writer.begin()
    writer.offsets(alone.metadata(), topic, {0: 1})
    writer.commit()
    broker.say_committed(group, topic, 0, 1)


def offsets_and_records_undone(broker: Broker) -> None:
    topic, group = broker.topic(), broker.name("group")
    alone = broker.outsider(group, topic)
    writer = broker.transactional("w", broker.name("id"))
    writer.init()
    writer.begin()
    writer.offsets(alone.metadata(), topic, {0: 5}, "first")
    writer.commit()
    writer.begin()
    writer.write(topic, 0, "lost")
    writer.offsets(alone.metadata(), topic, {0: 9}, "second")
    writer.flush()
    writer.abort()
    broker.say_committed(group, topic, 0)
    broker.say_ends(topic)


def offsets_twice_in_one_transaction(broker: Broker) -> None:
    """The last ones count; those of another group are its own."""
    topic, group, other = broker.topic(2), broker.name("group"), broker.name("other")
    alone, elsewhere = broker.outsider(group, topic), broker.outsider(other, topic)
    writer = broker.transactional("w", broker.name("id"))
    writer.init()
    writer.begin()
    writer.offsets(alone.metadata(), topic, {0: 5, 1: 5}, "first")
    writer.offsets(elsewhere.metadata(), topic, {0: 100})
    writer.offsets(alone.metadata(), topic, {0: 4}, "second")
    writer.commit()
    broker.say_committed(group, topic, 0, 1)
    broker.say_committed(other, topic, 0, 1)


def calls_out_of_order(broker: Broker) -> None:
    topic, group = broker.topic(), broker.name("group")
    alone = broker.outsider(group, topic)
    writer = broker.transactional("w", broker.name("id"))
    writer.begin()
    writer.write(topic, 0, "before init")
    writer.commit()
    writer.abort()
    writer.init()
    writer.write(topic, 0, "before begin")
    writer.offsets(alone.metadata(), topic, {0: 1})
    writer.commit()
    writer.abort()
    writer.begin()
    writer.begin()
    writer.write(topic, 0, "kept")
    writer.commit()
    writer.commit()
    writer.write(topic, 0, "after commit")
    reader = broker.reader("r", topic)
    reader.assign({0: 0})
    reader.read()


def init_twice(broker: Broker) -> None:
    topic = broker.topic()
    writer = broker.transactional("w", broker.name("id"))
    writer.init()
    writer.init()
    writer.begin()
    writer.init()
    writer.write(topic, 0, "a")
    writer.commit()
    broker.say_ends(topic)


def many_transactions_in_a_row(broker: Broker) -> None:
    """Each is one record and one marker, whatever the broker still has to do for the one before."""
    topic, group = broker.topic(2), broker.name("group")
    alone = broker.outsider(group, topic)
    writer = broker.transactional("w", broker.name("id"))
    writer.init()
    for turn in range(10):
        writer.begin()
        writer.write(topic, turn % 2, f"v{turn}")
        writer.offsets(alone.metadata(), topic, {0: turn})
        writer.commit()
    broker.say_committed(group, topic, 0)
    reader = broker.reader("r", topic)
    reader.assign({0: 0, 1: 0})
    reader.read()


def delivery_reports_of_an_abort(broker: Broker) -> None:
    """What has not been sent is reported as dropped."""
    topic = broker.topic()
    writer = broker.transactional("w", broker.name("id"), kafka={"linger.ms": 20_000})
    writer.init()
    writer.begin()
    writer.write(topic, 0, "a", "b")
    writer.abort()
    writer.begin()
    writer.write(topic, 0, "c")
    writer.commit()
    reader = broker.reader("r", topic)
    reader.assign({0: 0})
    reader.read()


def plain_records_among_transactions(broker: Broker) -> None:
    """A record without a transaction behind an open one is read when that has ended; an acknowledgement does not wait."""
    topic = broker.topic()
    writer, plain = broker.transactional("w", broker.name("id")), broker.plain("p")
    writer.init()
    writer.begin()
    writer.write(topic, 0, "of the transaction")
    writer.flush()
    plain.write(topic, 0, "plain")
    plain.flush()
    broker.say_ends(topic, waits=False)
    reader = broker.reader("r", topic)
    reader.assign({0: 0})
    reader.read(waits=False)
    writer.abort()
    reader.read()


def record_too_large(broker: Broker) -> None:
    """Refused by the topic, the record takes its whole transaction with it, and the one after that."""
    topic = broker.topic()
    writer = broker.transactional("w", broker.name("id"), kafka={"compression.type": "none"})
    writer.init()
    writer.begin()
    writer.write(topic, 0, "small")
    writer.flush()
    writer.write(topic, 0, "x" * 1_200_000)
    writer.commit()
    writer.abort()
    for turn in range(2):
        writer.begin()
        writer.write(topic, 0, f"small {turn}")
        writer.commit()
        writer.abort()
    reader = broker.reader("r", topic)
    reader.assign({0: 0})
    reader.read()


def partition_that_is_not_there(broker: Broker) -> None:
    topic = broker.topic()
    writer = broker.transactional("w", broker.name("id"))
    writer.init()
    writer.begin()
    writer.write(topic, 0, "first")
    writer.flush()
    writer.write(topic, 7, "nowhere")
    writer.commit()
    writer.abort()
    broker.say_ends(topic)


def timeout_that_is_too_long(broker: Broker) -> None:
    writer = broker.transactional("w", broker.name("id"), transaction_timeout_ms=3_600_000)
    writer.init()
    writer.begin()


def transaction_left_open_is_ended_by_the_next_producer(broker: Broker) -> None:
    topic, transactional_id = broker.topic(), broker.name("id")
    first = broker.transactional("first", transactional_id)
    first.init()
    first.begin()
    first.write(topic, 0, "lost")
    first.flush()
    broker.say_ends(topic, waits=False)
    broker.transactional("second", transactional_id).init()
    broker.say_ends(topic)
    reader = broker.reader("r", topic)
    reader.assign({0: 0})
    reader.read()


def _timed_out(broker: Broker) -> tuple[str, Writer]:
    """A topic, and a producer whose transaction the broker has ended; it has not been told."""
    topic = broker.topic()
    writer = broker.transactional("w", broker.name("id"), transaction_timeout_ms=SHORT_MS)
    writer.init()
    writer.begin()
    writer.write(topic, 0, "lost")
    writer.flush()
    reader = broker.reader("r", topic)
    reader.assign({0: 0})
    reader.read(waits=False)
    # The next end of the partition is behind the marker.
    reader.read()
    return topic, writer


def timed_out_then_committed(broker: Broker) -> None:
    topic, writer = _timed_out(broker)
    writer.commit()
    writer.abort()
    writer.begin()
    broker.say_ends(topic)


def timed_out_then_aborted(broker: Broker) -> None:
    topic, writer = _timed_out(broker)
    writer.abort()
    writer.begin()
    writer.write(topic, 0, "after")
    writer.commit()
    broker.say_ends(topic)


def timed_out_then_written(broker: Broker) -> None:
    topic, writer = _timed_out(broker)
    writer.write_unwatched(topic, 0, "late")
    writer.flush()
    writer.commit()
    writer.abort()
    writer.begin()
    writer.write(topic, 0, "after")
    writer.commit()
    broker.say_ends(topic)


def timed_out_then_offsets_sent(broker: Broker) -> None:
    topic, writer = _timed_out(broker)
    group = broker.name("group")
    alone = broker.outsider(group, topic)
    writer.offsets(alone.metadata(), topic, {0: 1})
    writer.commit()
    writer.abort()
    writer.begin()
    broker.say_committed(group, topic, 0)
    broker.say_ends(topic)
