"""What tests of faults rely on: a broker that comes back where it was, with what it had."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from headrace_adapters.devbroker import BrokerNode, Cluster, brokers_at
from headrace_adapters.devbroker.ports import HOST
from headrace_adapters.devbroker.waits import beats

pytestmark = [pytest.mark.broker, pytest.mark.slow]

PATIENCE_S = 60.0
Say = Callable[[str], None]


def made_topic(bootstrap: str, topic: str, replicas: int = 1, **config: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    new = NewTopic(topic, num_partitions=1, replication_factor=replicas, config=config)
    admin.create_topics([new])[topic].result(PATIENCE_S)


def leader_of(bootstrap: str, topic: str) -> int:
    return AdminClient({"bootstrap.servers": bootstrap}).list_topics(topic, PATIENCE_S).topics[topic].partitions[0].leader


def write(bootstrap: str, topic: str, *values: str, timeout_s: float = PATIENCE_S) -> list[str | None]:
    """Write and wait; of each record the name of its error, or None where all replicas in sync have it."""
    errors: list[str | None] = []

    def on_delivery(error: KafkaError | None, _: Message) -> None:
        errors.append(None if error is None else error.name())

    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "delivery.timeout.ms": int(timeout_s * 1_000)})
    for value in values:
        producer.produce(topic, value, on_delivery=on_delivery)
    assert producer.flush(timeout_s * 2) == 0
    return errors


def read(bootstrap: str, topic: str, count: int) -> list[str]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": topic, "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        found: list[str] = []
        for _ in beats(PATIENCE_S):
            found += [message.value().decode() for message in consumer.consume(count, 0.5) if message.error() is None]
            if len(found) >= count:
                break
        return found
    finally:
        consumer.close()


@contextmanager
def timed(say: Say, what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    say(f"{what}: {time.monotonic() - began:.1f} s")


@pytest.fixture
def say(request: pytest.FixtureRequest) -> Say:
    """Keep a line for the report of the test: what was measured."""
    return lambda text: request.node.add_report_section("call", "measured", text + "\n")


def test_the_shared_broker_takes_records(broker: str, app_name: Callable[[str], str]) -> None:
    topic = app_name("shared")
    made_topic(broker, topic)

    assert write(broker, topic, "1", "2") == [None, None]
    assert read(broker, topic, 2) == ["1", "2"]


def test_a_node_creates_no_topic_by_itself(own_broker: BrokerNode, app_name: Callable[[str], str]) -> None:
    nowhere = app_name("nowhere")

    assert write(own_broker.bootstrap, nowhere, "lost", timeout_s=5.0) != [None]
    assert nowhere not in AdminClient({"bootstrap.servers": own_broker.bootstrap}).list_topics(timeout=PATIENCE_S).topics


def test_a_killed_node_comes_back_on_its_port_with_its_topics(
    own_broker: BrokerNode, app_name: Callable[[str], str], say: Say
) -> None:
    topic, address, before = app_name("killed"), own_broker.bootstrap, own_broker.pid
    made_topic(address, topic)
    write(address, topic, "before")

    own_broker.kill()
    assert not own_broker.is_running
    with pytest.raises(OSError, match="refused"):
        brokers_at(HOST, own_broker.port)
    with timed(say, "start after SIGKILL"):
        own_broker.start()

    assert own_broker.pid != before
    assert own_broker.bootstrap == address
    assert write(address, topic, "after") == [None]
    assert read(address, topic, 2) == ["before", "after"]


def test_a_stopped_node_starts_again_with_its_records(
    own_broker: BrokerNode, app_name: Callable[[str], str], say: Say
) -> None:
    topic = app_name("stopped")
    made_topic(own_broker.bootstrap, topic)
    write(own_broker.bootstrap, topic, "kept")

    with timed(say, "stop"):
        own_broker.stop()
    with timed(say, "start after stop"):
        own_broker.start()

    assert read(own_broker.bootstrap, topic, 1) == ["kept"]


def test_a_paused_node_answers_nothing_and_then_goes_on(own_broker: BrokerNode, app_name: Callable[[str], str]) -> None:
    topic, before = app_name("paused"), own_broker.pid
    made_topic(own_broker.bootstrap, topic)

    own_broker.pause()
    with pytest.raises(TimeoutError):
        brokers_at(HOST, own_broker.port)
    own_broker.go_on()

    assert write(own_broker.bootstrap, topic, "after") == [None]
    assert read(own_broker.bootstrap, topic, 1) == ["after"]
    assert own_broker.pid == before


@pytest.mark.parametrize("how", ["leave it killed", "leave it paused"])
def test_a_test_may_leave_its_node_as_it_is(own_broker: BrokerNode, how: str) -> None:
    """Each case begins with what the one before has left behind."""
    assert brokers_at(HOST, own_broker.port) == {1}

    if how == "leave it killed":
        own_broker.kill()
    else:
        own_broker.pause()


def test_three_nodes_keep_records_while_one_of_them_is_killed(
    cluster: Cluster, app_name: Callable[[str], str], say: Say
) -> None:
    topic = app_name("three")
    made_topic(cluster.bootstrap, topic, replicas=3, **{"min.insync.replicas": "2"})
    write(cluster.bootstrap, topic, "before")
    leader = cluster.nodes[leader_of(cluster.bootstrap, topic) - 1]
    others = [node for node in cluster.nodes if node is not leader]

    leader.kill()
    with timed(say, "first record after the leader was killed"):
        assert write(others[0].bootstrap, topic, "meanwhile") == [None]
    assert leader_of(others[0].bootstrap, topic) in {node.number for node in others}
    with timed(say, "start of the killed one"):
        leader.start()

    assert write(leader.bootstrap, topic, "after") == [None]
    assert read(leader.bootstrap, topic, 3) == ["before", "meanwhile", "after"]
    for _ in beats(PATIENCE_S):
        if all(brokers_at(HOST, node.port) == {1, 2, 3} for node in cluster.nodes):
            break
    assert [brokers_at(HOST, node.port) for node in cluster.nodes] == [{1, 2, 3}] * 3
