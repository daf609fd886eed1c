from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import pytest
from confluent_kafka import KafkaError
from tests.kafka.memory_kafka import ABORTED, MemoryKafka

from headrace.errors import StoreError
from headrace_adapters.kafka import topic_scans
from headrace_adapters.kafka.settings import KafkaSettings
from headrace_adapters.kafka.topic_scans import NOW, SLACK_MS, Scan, TopicScans

T = "app.t"


@pytest.fixture
def kafka() -> MemoryKafka:
    return MemoryKafka()


@pytest.fixture
async def scans(kafka: MemoryKafka) -> AsyncIterator[TopicScans]:
    made = TopicScans(kafka, kafka.admin({}), KafkaSettings("localhost:1", "app", "app"))
    yield made
    await made.close()
    assert kafka.open == []


async def values(scans: TopicScans, *wanted: Scan) -> list[bytes]:
    found: list[bytes] = []

    def take(message: Any) -> None:
        found.append(message.value())

    await scans.read(list(wanted), take)
    return found


async def test_everything_is_read_from_the_beginning_in_order(kafka: MemoryKafka, scans: TopicScans) -> None:
    for number in range(5_000):
        kafka.append(T, 0, b"k", b"%d" % number)

    assert await values(scans, Scan(T, 0)) == [b"%d" % number for number in range(5_000)]
    assert await values(scans, Scan(T, 1)) == [], "an empty partition has nothing to wait for"


async def test_several_partitions_are_read_at_once(kafka: MemoryKafka, scans: TopicScans) -> None:
    kafka.append(T, 0, b"k", b"a")
    kafka.append(T, 2, b"k", b"c")

    assert set(await values(scans, *(Scan(T, number) for number in range(3)))) == {b"a", b"c"}


async def test_what_was_aborted_is_not_read_and_its_marks_are_no_reason_to_wait(
    kafka: MemoryKafka, scans: TopicScans
) -> None:
    kafka.append(T, 0, b"k", b"1")
    kafka.append(T, 0, b"k", b"2", transaction="t")
    kafka.end("t", ABORTED)

    assert await asyncio.wait_for(values(scans, Scan(T, 0)), 1) == [b"1"]


async def test_a_transaction_that_is_about_to_be_committed_is_waited_for(kafka: MemoryKafka, scans: TopicScans) -> None:
    kafka.append(T, 0, b"k", b"1")
    kafka.append(T, 0, b"k", b"2", transaction="t")
    reading = asyncio.create_task(values(scans, Scan(T, 0)))
    await asyncio.sleep(0.05)
    assert not reading.done()
    kafka.end("t")

    assert await asyncio.wait_for(reading, 1) == [b"1", b"2"]


async def test_a_transaction_that_somebody_left_open_is_not_waited_for_long(
    kafka: MemoryKafka, scans: TopicScans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topic_scans, "OPEN_S", 0.1)
    kafka.append(T, 0, b"k", b"1")
    kafka.append(T, 0, b"k", b"2", transaction="t")

    assert await asyncio.wait_for(values(scans, Scan(T, 0)), 2) == [b"1"]


async def test_a_time_says_from_where_on_with_some_slack(kafka: MemoryKafka, scans: TopicScans) -> None:
    for minutes in range(10):
        kafka.append(T, 0, b"k", b"%d" % minutes, at_ms=minutes * SLACK_MS)

    assert await values(scans, Scan(T, 0, 8 * SLACK_MS)) == [b"7", b"8", b"9"]
    assert await values(scans, Scan(T, 0, 99 * SLACK_MS)) == []
    assert await values(scans, Scan(T, 0, 5)) == [b"%d" % minutes for minutes in range(10)]


async def test_a_scan_may_end_before_the_end(kafka: MemoryKafka, scans: TopicScans) -> None:
    for number in range(10):
        kafka.append(T, 0, b"k", b"%d" % number)
    found: list[bytes] = []

    def take(message: Any) -> bool:
        found.append(message.value())
        return len(found) == 3

    await scans.read([Scan(T, 0)], take)

    assert found == [b"0", b"1", b"2"]


async def test_from_now_on_begins_before_transactions_that_are_open(kafka: MemoryKafka, scans: TopicScans) -> None:
    kafka.append(T, 0, b"k", b"1")
    kafka.append(T, 0, b"k", b"2", transaction="t")
    kafka.append(T, 1, b"k", b"1")

    assert scans.places([Scan(T, 0, NOW), Scan(T, 1, NOW), Scan(T, 2, NOW)]) == [1, 1, 0]


async def test_a_consumer_is_used_for_the_next_scan(kafka: MemoryKafka, scans: TopicScans) -> None:
    kafka.append(T, 0, b"k", b"1")
    for _ in range(5):
        assert await values(scans, Scan(T, 0)) == [b"1"]

    assert kafka.made == 1


async def test_errors_that_pass_are_passed_over_and_others_are_told(kafka: MemoryKafka, scans: TopicScans) -> None:
    kafka.append(T, 0, b"k", b"1")
    kafka.consumer_errors.append(KafkaError(KafkaError._TRANSPORT))
    assert await values(scans, Scan(T, 0)) == [b"1"]

    kafka.consumer_errors.append(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
    with pytest.raises(StoreError, match="may not do that"):
        await values(scans, Scan(T, 0))
    kafka.admin_errors.append(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    with pytest.raises(StoreError, match="asking how far topics go"):
        await values(scans, Scan(T, 0))


@pytest.mark.parametrize("before", range(3))
async def test_a_partition_that_nobody_leads_is_read_once_somebody_does(
    kafka: MemoryKafka, scans: TopicScans, before: int
) -> None:
    """Taken for an end, the offset that it has not would be one before everything: the scan would find nothing."""
    for minutes in range(10):
        kafka.append(T, 0, b"k", b"%d" % minutes, at_ms=minutes * SLACK_MS)
    kafka.leaderless = {(T, 0): deque([False] * before + [True] * 3)}

    assert await values(scans, Scan(T, 0, 8 * SLACK_MS)) == [b"7", b"8", b"9"]
    assert await values(scans, Scan(T, 0, 99 * SLACK_MS)) == []
    assert not kafka.leaderless[T, 0]


async def test_whoever_closes_does_not_wait_for_a_leader(kafka: MemoryKafka) -> None:
    scans = TopicScans(kafka, kafka.admin({}), KafkaSettings("localhost:1", "app", "app"))
    kafka.leaderless = {(T, 0): deque([True] * 1_000)}
    reading = asyncio.create_task(values(scans, Scan(T, 0)))
    await asyncio.sleep(0.05)
    await asyncio.wait_for(scans.close(), 5)

    with pytest.raises(StoreError, match="asking how far topics go"):
        await reading


async def test_a_broker_that_gives_nothing_more_is_an_error_in_the_end(
    kafka: MemoryKafka, scans: TopicScans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topic_scans, "STALLED_S", 0.2)
    kafka.append(T, 0, b"k", b"1")
    monkeypatch.setattr("tests.kafka.memory_kafka.MemoryConsumer._take", lambda self: None)

    with pytest.raises(StoreError, match=r"reading app\.t failed"):
        await values(scans, Scan(T, 0))


async def test_whoever_reads_when_it_is_closed_is_told(kafka: MemoryKafka) -> None:
    scans = TopicScans(kafka, kafka.admin({}), KafkaSettings("localhost:1", "app", "app"))
    kafka.append(T, 0, b"k", b"2", transaction="t")
    reading = asyncio.create_task(values(scans, Scan(T, 0)))
    await asyncio.sleep(0.05)
    await scans.close()

    with pytest.raises(StoreError, match="closed"):
        await reading
    with pytest.raises(StoreError, match="closed"):
        await values(scans, Scan(T, 0))
    assert kafka.open == []
