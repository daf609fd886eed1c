from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import orjson
import pytest
from tests.contract.waiting import eventually
from tests.kafka.memory_kafka import MemoryKafka

from headrace.errors import StoreError
from headrace_adapters.kafka.run_history import RunHistory
from headrace_adapters.kafka.settings import KafkaSettings
from headrace_adapters.kafka.topic_scans import SLACK_MS, TopicScans

T = "app.events"


@pytest.fixture
def kafka() -> MemoryKafka:
    return MemoryKafka()


@pytest.fixture
async def history(kafka: MemoryKafka) -> AsyncIterator[RunHistory]:
    settings = KafkaSettings("localhost:1", "app", "app")
    scans = TopicScans(kafka, kafka.admin({}), settings)
    made = RunHistory(kafka, settings, scans, T)
    yield made
    await made.close()
    await scans.close()
    assert kafka.open == []


def write(kafka: MemoryKafka, run_id: str, seq: int, *types: str, at_ms: int = 0) -> None:
    decisions = [{"at": at_ms, "events": [{"type": kind}]} for kind in types]
    record = orjson.dumps({"v": 1, "runId": run_id, "seq": seq, "decisions": decisions})
    kafka.append(T, 0, run_id.encode(), record, at_ms)


def reject(kafka: MemoryKafka, run_id: str) -> None:
    rejected = {"command": "Cancel", "reason": "no", "at": 5}
    kafka.append(T, 0, run_id.encode(), orjson.dumps({"v": 1, "runId": run_id, "rejected": rejected}))


async def told(history: RunHistory, run_id: str, since_ms: int | None = None, *, follow: bool = False) -> list[Any]:
    return [(it["seq"], it["type"]) async for it in history.events(run_id, 0, since_ms, follow=follow)]


async def test_the_events_of_one_run_come_in_sequence_and_then_what_was_rejected(
    kafka: MemoryKafka, history: RunHistory
) -> None:
    reject(kafka, "r")
    write(kafka, "r", 1, "runStarted", "nodeScheduled")
    write(kafka, "other", 1, "runStarted")
    write(kafka, "r", 3, "nodeStarted")

    assert await told(history, "r") == [
        (1, "runStarted"), (2, "nodeScheduled"), (3, "nodeStarted"), (None, "commandRejected"),
    ]  # fmt: skip
    assert await told(history, "nobody") == []


async def test_a_step_that_stands_there_twice_is_told_once(kafka: MemoryKafka, history: RunHistory) -> None:
    write(kafka, "r", 1, "runStarted", "nodeScheduled")
    write(kafka, "r", 1, "runStarted", "nodeScheduled", "nodeStarted")
    write(kafka, "r", 3, "nodeStarted", "nodeCompleted")

    assert [seq for seq, _ in await told(history, "r")] == [1, 2, 3, 4]


async def test_an_id_that_was_used_again_long_after_the_end_has_both_histories(
    kafka: MemoryKafka, history: RunHistory
) -> None:
    write(kafka, "r", 1, "runStarted", "runCompleted")
    write(kafka, "r", 1, "runStarted", "runFailed", at_ms=10 * SLACK_MS)

    assert [seq for seq, _ in await told(history, "r")] == [1, 2, 1, 2]
    assert await told(history, "r", 10 * SLACK_MS) == [(1, "runStarted"), (2, "runFailed")]


async def test_a_run_is_followed_until_it_ends(kafka: MemoryKafka, history: RunHistory) -> None:
    write(kafka, "r", 1, "runStarted")
    seen: list[Any] = []

    async def follow() -> None:
        seen.extend([it async for it in history.events("r", 0, None, follow=True)])

    following = asyncio.create_task(follow())
    await asyncio.sleep(0.05)
    reject(kafka, "r")
    write(kafka, "r", 2, "waitOpened")
    await asyncio.sleep(0.05)
    assert not following.done()
    write(kafka, "r", 3, "runCancelled")
    await asyncio.wait_for(following, 5)

    assert [it["type"] for it in seen] == ["runStarted", "commandRejected", "waitOpened", "runCancelled"]


async def test_a_run_that_has_ended_is_not_followed_any_further(kafka: MemoryKafka, history: RunHistory) -> None:
    write(kafka, "r", 1, "runStarted", "runCompleted")
    reject(kafka, "r")

    assert [kind for _, kind in await told(history, "r", follow=True)] == ["runStarted", "runCompleted", "commandRejected"]


async def test_who_leaves_lets_go_of_consumer_and_thread(kafka: MemoryKafka, history: RunHistory) -> None:
    write(kafka, "r", 1, "runStarted", "nodeScheduled")
    async with aclosing(history.events("r", 0, None, follow=True)) as events:
        async for _ in events:
            break

    await eventually(lambda: not kafka.open)


async def test_who_follows_when_it_is_closed_is_told(kafka: MemoryKafka, history: RunHistory) -> None:
    write(kafka, "r", 1, "runStarted")
    following = asyncio.create_task(told(history, "r", follow=True))
    await asyncio.sleep(0.05)
    await history.close()

    with pytest.raises(StoreError, match="closed"):
        await asyncio.wait_for(following, 5)
    with pytest.raises(StoreError, match="closed"):
        await told(history, "r")
