"""Errors that pass by themselves, and those that do not."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from headrace_adapters.kafka.passing import is_leaderless, passes


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


def test_what_is_said_of_a_partition_without_a_leader_passes_and_is_told_from_brokers_that_are_away() -> None:
    for code in (KafkaError._NOENT, KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART):
        assert is_leaderless(KafkaError(code))
        assert passes(KafkaError(code))
    assert not is_leaderless(KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION, fatal=True))
    for code in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError.UNSTABLE_OFFSET_COMMIT):
        assert not is_leaderless(KafkaError(code))
