from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from confluent_kafka import KafkaError, TopicPartition
from confluent_kafka.admin import OffsetSpec
from tests.kafka.memory_kafka import MemoryKafka

from headrace.errors import StoreError
from headrace_adapters.kafka.offsets import Place, ask_offsets
from headrace_adapters.kafka.settings import KafkaSettings

SETTINGS = KafkaSettings("localhost:1", "app", "app")
T = "app.t"


@pytest.fixture
def kafka() -> MemoryKafka:
    """Three partitions with a record each, and one more of a transaction that is open in the last one."""
    made = MemoryKafka()
    for number in range(3):
        made.append(T, number, b"k", b"v", at_ms=1_000)
    made.append(T, 2, b"k", b"v", at_ms=2_000, transaction="t")
    return made


def ask(kafka: MemoryKafka, spec: OffsetSpec, within_s: float = 5.0, **options: Any) -> dict[Place, int]:
    specs = {TopicPartition(T, number): spec for number in range(3)}
    return ask_offsets(kafka.admin({}), SETTINGS, "looking at ends", specs, within_s=within_s, **options)


def test_offsets_are_given_by_topic_and_partition(kafka: MemoryKafka) -> None:
    assert ask(kafka, OffsetSpec.earliest()) == {(T, 0): 0, (T, 1): 0, (T, 2): 0}
    assert ask(kafka, OffsetSpec.latest()) == {(T, 0): 1, (T, 1): 1, (T, 2): 2}
    assert ask(kafka, OffsetSpec.latest(), committed=True) == {(T, 0): 1, (T, 1): 1, (T, 2): 1}
    assert ask_offsets(kafka.admin({}), SETTINGS, "looking at nothing", {}, within_s=1) == {}


def test_nothing_as_new_as_a_time_is_an_answer(kafka: MemoryKafka) -> None:
    kafka.leaderless = {(T, 0): deque([True] * 1)}
    assert ask(kafka, OffsetSpec.for_timestamp(1_500)) == {(T, 0): -1, (T, 1): -1, (T, 2): 1}


def test_a_partition_that_nobody_leads_is_asked_again_and_no_other_one(kafka: MemoryKafka) -> None:
    kafka.leaderless = {(T, 1): deque([True] * 3)}
    kafka.admin_errors.append(KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION))
    asked: list[int] = []
    admin = kafka.admin({})
    list_offsets = admin.list_offsets
    admin.list_offsets = lambda specs, **options: asked.append(len(specs)) or list_offsets(specs, **options)  # type: ignore[method-assign]
    specs = {TopicPartition(T, number): OffsetSpec.latest() for number in range(3)}

    assert ask_offsets(admin, SETTINGS, "looking at ends", specs, within_s=5) == {(T, 0): 1, (T, 1): 1, (T, 2): 2}
    assert asked == [3, 2, 1, 1]


def test_a_partition_that_nobody_leads_for_long_is_an_error(kafka: MemoryKafka) -> None:
    kafka.leaderless = {(T, 1): deque([True] * 1_000)}
    with pytest.raises(StoreError, match="looking at ends failed at Kafka"):
        ask(kafka, OffsetSpec.latest(), within_s=0.2)


def test_what_is_not_about_leaders_is_told_at_once(kafka: MemoryKafka) -> None:
    for code in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError.TOPIC_AUTHORIZATION_FAILED):
        kafka.admin_errors.append(KafkaError(code))
        with pytest.raises(StoreError, match="looking at ends failed at Kafka"):
            ask(kafka, OffsetSpec.latest(), within_s=1_000)


def test_whoever_gives_up_is_told(kafka: MemoryKafka) -> None:
    kafka.leaderless = {(T, 1): deque([True] * 1_000)}
    with pytest.raises(StoreError, match="looking at ends failed at Kafka"):
        ask(kafka, OffsetSpec.latest(), within_s=1_000, give_up=lambda: True)
