"""What a broker that answers badly does to it; with a real one it is tested in ``test_redriven_dead_letters.py``."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from tests.kafka.memory_kafka import MemoryKafka

from headrace.errors import StoreError
from headrace_adapters.kafka import letter_reader
from headrace_adapters.kafka.letter_reader import SLACK_MS, LetterReader
from headrace_adapters.kafka.settings import KafkaSettings

T = "app.dead-letters"


@pytest.fixture
def kafka() -> MemoryKafka:
    made = MemoryKafka()
    for number in range(2):
        for at_ms in (1, 9 * SLACK_MS):
            made.append(T, number, None, b"%d" % at_ms, at_ms=at_ms)
    return made


def read(kafka: MemoryKafka, **options: Any) -> list[str]:
    reader = LetterReader(kafka, KafkaSettings("localhost:1", "app", "app"), T, 2)
    try:
        return sorted(str(place) for place, _ in reader.read(**options))
    finally:
        reader.close()


@pytest.mark.parametrize("before", range(3))
def test_letters_of_a_partition_that_nobody_leads_are_read_once_somebody_does(kafka: MemoryKafka, before: int) -> None:
    """Whether it is asked where the partition begins, where it ends, or from where on it is new."""
    for options, places in (
        ({}, ["0-0", "0-1", "1-0", "1-1"]),
        ({"since_ms": 8 * SLACK_MS}, ["0-1", "1-1"]),
        ({"begins": {1: 1}, "strictly": True}, ["1-1"]),
    ):
        kafka.leaderless = {(T, 1): deque([False] * before + [True] * 3)}
        assert read(kafka, **options) == places


def test_a_partition_that_nobody_leads_for_long_is_told_and_not_taken_for_an_empty_one(
    kafka: MemoryKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letter_reader, "SILENT_S", 0.2)
    kafka.leaderless = {(T, 1): deque([True] * 1_000)}
    with pytest.raises(StoreError, match=r"asking how far app\.dead-letters goes"):
        read(kafka)
