"""Configurations as librdkafka takes them; no server is needed for that."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, Producer

from headrace.errors import DefinitionError
from headrace_adapters.kafka.connection import (
    WatchedAdmin,
    admin,
    client_logger,
    common,
    connect,
    group_consumer,
    open_admin,
    open_consumer,
    open_producer,
    plain_producer,
    reader,
    transactional_producer,
)
from headrace_adapters.kafka.settings import RECORD_BYTES_MAX, KafkaSettings, kafka_settings

# Nobody listens at this port, and nothing here waits for anybody.
URL = "kafka://127.0.0.1:1"
SECRET = "hunter2"


def settings_of(query: str = "", **values: Any) -> KafkaSettings:
    return kafka_settings("orders", URL + query, values)


ALL: dict[str, Callable[[KafkaSettings], dict[str, Any]]] = {
    "group": lambda settings: group_consumer(settings, "headrace|http://h:1"),
    "reader": reader,
    "transactional": lambda settings: transactional_producer(settings, "orders.1"),
    "plain": plain_producer,
    "admin": admin,
}


def opened(kind: str, config: dict[str, Any]) -> Any:
    return {"group": open_consumer, "reader": open_consumer, "admin": open_admin}.get(kind, open_producer)(config)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
@pytest.mark.parametrize("kind", list(ALL))
def test_librdkafka_takes_every_configuration_without_a_warning(
    kind: str, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    # Options of every kind of client, whose own defaults they go before.
    query = "?linger.ms=2&fetch.wait.max.ms=30&client.rack=a&compression.codec=zstd&max.partition.fetch.bytes=100000"
    settings = settings_of(query, group_protocol=protocol, instance="w1")
    caplog.set_level(logging.DEBUG)

    client = opened(kind, ALL[kind](settings))
    client.poll(0)
    if isinstance(client, Consumer):
        client.close()

    assert [line for line in caplog.messages if "CONFWARN" in line] == []


def test_what_loses_work_is_fixed() -> None:
    settings = settings_of()

    for config in (group_consumer(settings, "x"), reader(settings)):
        assert config["isolation.level"] == "read_committed"
        assert config["enable.auto.commit"] is False
        assert config["enable.auto.offset.store"] is False
        assert config["allow.auto.create.topics"] is False
    for config in (transactional_producer(settings, "x"), plain_producer(settings)):
        assert config["enable.idempotence"] is True
        assert config["acks"] == "all"
        assert config["partitioner"] == "murmur2"
        assert config["message.max.bytes"] == RECORD_BYTES_MAX


def test_a_member_of_the_classic_group_has_its_timeouts_and_moves_partitions_one_by_one() -> None:
    config = group_consumer(settings_of(session_timeout_ms=9_000, heartbeat_ms=500, group="g"), "me")

    assert config["group.id"] == "g"
    assert config["client.id"] == "me"
    assert config["group.protocol"] == "classic"
    assert config["partition.assignment.strategy"] == "cooperative-sticky"
    assert (config["session.timeout.ms"], config["heartbeat.interval.ms"]) == (9_000, 500)
    assert "group.instance.id" not in config


def test_with_the_consumer_protocol_timeouts_are_left_to_the_broker() -> None:
    config = group_consumer(settings_of(group_protocol="consumer", instance="w1"), "me")

    assert config["group.protocol"] == "consumer"
    assert config["group.instance.id"] == "w1"
    assert config.keys().isdisjoint({"session.timeout.ms", "heartbeat.interval.ms", "partition.assignment.strategy"})


def test_a_reader_is_told_of_ends_and_of_positions_that_are_gone() -> None:
    settings = settings_of(instance="w1")

    assert reader(settings)["enable.partition.eof"] is True
    assert reader(settings)["auto.offset.reset"] == "error"
    assert reader(settings, "earliest")["auto.offset.reset"] == "earliest"
    assert reader(settings)["group.id"] == "orders.reader"
    assert "group.instance.id" not in reader(settings)


def test_a_transaction_that_follows_another_is_not_kept_waiting() -> None:
    config = transactional_producer(settings_of(transaction_timeout_ms=15_000), "orders.1")

    assert (config["retry.backoff.ms"], config["retry.backoff.max.ms"]) == (1, 5)
    assert config["linger.ms"] <= 1
    assert (config["transactional.id"], config["transaction.timeout.ms"]) == ("orders.1", 15_000)
    assert transactional_producer(settings_of("?retry.backoff.ms=3"), "x")["retry.backoff.ms"] == "3"


def test_a_password_goes_over_tls_unless_somebody_says_otherwise() -> None:
    plain = common(kafka_settings("a", f"kafka://me:{SECRET}@h", {}))
    told = common(
        kafka_settings("a", f"kafka://me:{SECRET}@h?security.protocol=SASL_PLAINTEXT&sasl.mechanisms=SCRAM-SHA-256", {})
    )

    assert plain["security.protocol"] == "SASL_SSL"
    assert plain["sasl.mechanism"] == "PLAIN"
    assert (plain["sasl.username"], plain["sasl.password"]) == ("me", SECRET)
    assert told["security.protocol"] == "SASL_PLAINTEXT"
    assert told["sasl.mechanisms"] == "SCRAM-SHA-256"
    assert "sasl.mechanism" not in told
    assert "security.protocol" not in common(settings_of())


def test_secrets_among_the_options_reach_librdkafka() -> None:
    assert common(settings_of(f"?ssl.key.password={SECRET}"))["ssl.key.password"] == SECRET


@pytest.mark.parametrize("kind", list(ALL))
@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("?sasl.pasword=hunter2", 'No such configuration property: "sasl.pasword"'),
        ("?security.protocol=hush", '"hush" for configuration property "security.protocol"'),
        ("?security.protocol=ssl&ssl.key.pem=hunter2", "ssl.key.pem"),
    ],
)
def test_an_option_that_librdkafka_does_not_take_is_the_authors(kind: str, query: str, told: str) -> None:
    with pytest.raises(DefinitionError, match="librdkafka does not take an option") as caught:
        opened(kind, ALL[kind](settings_of(query)))

    assert told in str(caught.value)
    assert SECRET not in str(caught.value)


def test_clients_log_as_python_does_and_no_secret(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = kafka_settings("a", f"kafka://me:{SECRET}@127.0.0.1:1?debug=all&ssl.key.password={SECRET}", {})
    caplog.set_level(logging.DEBUG, "headrace.kafka")

    for kind, make in ALL.items():
        client = opened(kind, make(settings))
        client.poll(0.2)
        if isinstance(client, Consumer):
            client.close()
        elif isinstance(client, Producer):
            client.flush(0)

    assert "sasl.password" in caplog.text
    assert SECRET not in caplog.text
    out, err = capfd.readouterr()
    assert SECRET not in out + err
    assert "rdkafka" not in err


def test_one_logger_has_one_filter() -> None:
    assert client_logger() is client_logger()
    assert len(client_logger().filters) == 1


def test_who_connects_does_not_wait_long_for_brokers_that_are_away() -> None:
    client = open_admin(admin(settings_of()))
    begun_s = time.monotonic()

    connect(client, "orders.jobs")

    assert time.monotonic() - begun_s < 5


def test_an_admin_client_knows_why_nobody_answers() -> None:
    client = open_admin(admin(settings_of()))
    assert isinstance(client, WatchedAdmin)

    with pytest.raises(Exception, match=r"_TRANSPORT|_TIMED_OUT"):
        client.list_topics(timeout=0.5)
    trouble = client.trouble()

    assert trouble is not None
    assert trouble.code() == KafkaError._TRANSPORT
    assert "Connection refused" in trouble.str()
