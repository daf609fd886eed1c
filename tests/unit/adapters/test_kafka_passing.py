"""Errors that pass by themselves, and those that do not."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from headrace_adapters.kafka.passing import passes


@pytest.mark.parametrize(
    "code",
    [KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError.NOT_COORDINATOR, KafkaError.LEADER_NOT_AVAILABLE],
)
def test_what_brokers_say_while_they_come_and_go_passes(code: int) -> None:
    assert passes(KafkaError(code))


@pytest.mark.parametrize(
    "code",
    [
        KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError._AUTHENTICATION,
        KafkaError._AUTO_OFFSET_RESET, KafkaError.FENCED_INSTANCE_ID, KafkaError.INVALID_CONFIG,
    ],
)  # fmt: skip
def test_what_somebody_has_to_do_something_about_does_not_pass(code: int) -> None:
    assert not passes(KafkaError(code))


def test_what_librdkafka_calls_retriable_passes_unless_it_is_fatal() -> None:
    assert passes(KafkaError(KafkaError._STATE, retriable=True))
    assert not passes(KafkaError(KafkaError._STATE))
    assert not passes(KafkaError(KafkaError._TRANSPORT, fatal=True))
