"""Programs: a producer without transactions, and what it reports."""

from __future__ import annotations

__all__ = [
    "clients_that_are_closed",
    "partition_by_key",
    "purged_before_they_are_sent",
    "record_too_large_for_a_plain_producer",
    "record_too_large_without_gaps",
    "records_in_order",
    "reports_of_some_records",
]

from tests.simulation.conformance.answers import outcome
from tests.simulation.conformance.program import Broker

# As the producer of a worker has it that promises *at least once*.
_WITHOUT_GAPS = {"enable.gapless.guarantee": True, "delivery.timeout.ms": 0}
_UNCOMPRESSED = {"compression.type": "none"}
_LARGE = "x" * 1_200_000


def records_in_order(broker: Broker) -> None:
    topic = broker.topic(2)
    writer = broker.plain("p")
    for turn in range(3):
        writer.write(topic, turn % 2, *(f"{turn}-{number}" for number in range(4)), key="k")
    writer.flush()
    writer.flush()
    reader = broker.reader("r", topic)
    reader.assign({0: 0, 1: 0})
    reader.read()


def reports_of_some_records(broker: Broker) -> None:
    """Only what asked for a report is reported, with the offset of its own."""
    topic = broker.topic()
    writer = broker.plain("p")
    for number in range(3):
        writer.producer.produce(topic, f"quiet {number}".encode(), None, 0)
        writer.write(topic, 0, f"told {number}")
    writer.flush()
    broker.say_ends(topic)


def partition_by_key(broker: Broker) -> None:
    """Every producer of the same key finds the same partition."""
    topic = broker.topic(8)
    writer = broker.plain("p")
    for number in range(10):
        writer.write(topic, -1, f"v{number}", key=f"run-{number}")
    writer.flush()


def record_too_large_for_a_plain_producer(broker: Broker) -> None:
    """It is reported, and what follows is written."""
    topic = broker.topic()
    writer = broker.plain("p", _UNCOMPRESSED)
    writer.write(topic, 0, "a")
    writer.flush()
    writer.write(topic, 0, _LARGE)
    writer.flush()
    for value in ("b", "c"):
        writer.write(topic, 0, value)
        writer.flush()
    reader = broker.reader("r", topic)
    reader.assign({0: 0})
    reader.read()


def record_too_large_without_gaps(broker: Broker) -> None:
    """A producer that promises no gaps is of no use after that."""
    topic = broker.topic()
    writer = broker.plain("p", {**_UNCOMPRESSED, **_WITHOUT_GAPS})
    writer.write(topic, 0, "a")
    writer.flush()
    writer.write(topic, 0, _LARGE)
    writer.poll(5.0)
    writer.poll(0.5)
    writer.write(topic, 0, "b")
    writer.flush()
    reader = broker.reader("r", topic)
    reader.assign({0: 0})
    reader.read()


def purged_before_they_are_sent(broker: Broker) -> None:
    topic = broker.topic()
    writer = broker.plain("p", {"linger.ms": 20_000})
    writer.write(topic, 0, "a", "b")
    writer.purge()
    writer.poll(0.2)
    writer.write(topic, 0, "c")
    writer.flush()
    reader = broker.reader("r", topic)
    reader.assign({0: 0})
    reader.read()


def clients_that_are_closed(broker: Broker) -> None:
    topic, group = broker.topic(), broker.name("group")
    member = broker.member("a", group, topic)
    broker.settle(group, 1, member)
    member.close()
    consumer = member.consumer
    broker.say("close", outcome(consumer.close))
    broker.say("poll", outcome(lambda: consumer.poll(0)))
    broker.say("consume", outcome(lambda: consumer.consume(1, 0)))
    broker.say("pause", outcome(lambda: consumer.pause([])))
    member.commit({0: 1})
