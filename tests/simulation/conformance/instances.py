"""Programs: members with a name of their own (``group.instance.id``), which outlives them. Run under both protocols."""

from __future__ import annotations

__all__ = ["instance_comes_back", "instance_does_not_come_back", "instance_is_taken_over"]

from tests.simulation.conformance.program import Broker


def instance_is_taken_over(broker: Broker, protocol: str) -> None:
    topic, group = broker.topic(2), broker.name("group")
    writer = broker.ready("w")
    a = broker.member("a", group, topic, protocol, instance="one")
    broker.settle(group, 2, a)
    before = a.metadata()
    b = broker.member("b", group, topic, protocol, instance="one")
    broker.until(lambda: bool(a.errors or b.errors), [a, b])
    broker.serve(0.3, a, b)
    a.tell()
    b.tell()
    writer.transact(topic, before, {0: 1})
    writer.transact(topic, a.metadata(), {0: 2})
    a.commit({0: 3})
    broker.say_committed(group, topic, 0)
    broker.say_group(group)
    b.commit({0: 4})
    a.close()
    broker.serve(0.5, b)
    a.tell()
    b.tell()
    broker.say_group(group)
    writer.transact(topic, b.metadata(), {0: 5})
    b.close()
    broker.say_group(group)


def instance_comes_back(broker: Broker, protocol: str) -> None:
    """Within the time of its session it has what it had, and nobody else is disturbed."""
    topic, group = broker.topic(2), broker.name("group")
    a = broker.member("a", group, topic, protocol, instance="one")
    broker.settle(group, 2, a)
    b = broker.member("b", group, topic, protocol, instance="two")
    broker.settle(group, 2, a, b)
    had, other = sorted(a.assigned), b.metadata()
    a.tell()
    b.tell()
    a.close()
    broker.serve(0.5, b)
    broker.say("still with b", len(b.assigned))
    again = broker.member("again", group, topic, protocol, instance="one")
    broker.until(lambda: bool(again.assigned), [again, b])
    broker.settle(group, 2, again, b)
    broker.say("the same", sorted(again.assigned) == had)
    broker.say_group(group)
    b.tell()
    writer = broker.ready("w")
    writer.transact(topic, other, {0: 1})


def instance_does_not_come_back(broker: Broker, protocol: str) -> None:
    """When its session is over, others get what it had."""
    topic, group = broker.topic(2), broker.name("group")
    a = broker.member("a", group, topic, protocol, instance="one", session_timeout_ms=1_000)
    broker.settle(group, 2, a)
    b = broker.member("b", group, topic, protocol, instance="two", session_timeout_ms=1_000)
    broker.settle(group, 2, a, b)
    left = a.metadata()
    a.close()
    broker.settle(group, 2, b)
    broker.say_group(group)
    broker.ready("w").transact(topic, left, {0: 1})
