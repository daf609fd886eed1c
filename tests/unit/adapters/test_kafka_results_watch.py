from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from confluent_kafka import KafkaError
from tests.kafka.memory_kafka import MemoryKafka

from headrace.errors import StoreError
from headrace_adapters.kafka import results_watch
from headrace_adapters.kafka.results_watch import ResultsWatch
from headrace_adapters.kafka.settings import KafkaSettings
from headrace_adapters.kafka.topic_scans import TopicScans

T = "app.results"


@pytest.fixture
def kafka() -> MemoryKafka:
    return MemoryKafka()


@pytest.fixture
async def watch(kafka: MemoryKafka) -> AsyncIterator[ResultsWatch]:
    settings = KafkaSettings("localhost:1", "app", "app")
    scans = TopicScans(kafka, kafka.admin({}), settings)
    made = ResultsWatch(kafka, settings, scans, T, 3)
    yield made
    await made.close()
    await scans.close()
    assert kafka.open == []


async def test_who_waits_gets_what_comes_and_nobody_else_does(kafka: MemoryKafka, watch: ResultsWatch) -> None:
    await watch.start()
    with watch.waiting_for("a") as first, watch.waiting_for("a") as second, watch.waiting_for("b") as other:
        kafka.append(T, 1, b"a", b"result")

        assert await asyncio.wait_for(asyncio.gather(first, second), 5) == [b"result", b"result"]
        assert not other.done()


async def test_what_was_there_before_is_not_told_but_what_was_open_then_is(kafka: MemoryKafka, watch: ResultsWatch) -> None:
    kafka.append(T, 0, b"old", b"1")
    kafka.append(T, 0, b"open", b"2", transaction="t")
    await watch.start()
    with watch.waiting_for("open") as coming:
        kafka.end("t")
        assert await asyncio.wait_for(coming, 5) == b"2"

    assert watch.seen("old") is None
    assert watch.seen("open") == b"2"


async def test_many_who_begin_at_once_share_one_reader(kafka: MemoryKafka, watch: ResultsWatch) -> None:
    await asyncio.gather(*(watch.start() for _ in range(20)))
    await watch.start()

    assert kafka.made == 1


async def test_what_came_by_is_kept_within_bounds(
    kafka: MemoryKafka, watch: ResultsWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results_watch, "KEPT_BYTES_MAX", 25)
    await watch.start()
    with watch.waiting_for("last") as coming:
        for name in (b"a", b"b", b"b", b"c"):
            kafka.append(T, 0, name, b"x" * 10)
        kafka.append(T, 0, b"gone", None)
        kafka.append(T, 0, None, b"no key")
        kafka.append(T, 0, b"last", b"y" * 10)
        await asyncio.wait_for(coming, 5)

    assert [watch.seen(name) is not None for name in ("a", "b", "c", "last", "gone")] == [False, False, True, True, False]


async def test_who_gives_up_is_forgotten(watch: ResultsWatch) -> None:
    await watch.start()
    with watch.waiting_for("a") as coming:
        pass

    assert coming.cancelled()
    assert watch._waiting == {}


async def test_errors_that_pass_are_waited_through(kafka: MemoryKafka, watch: ResultsWatch) -> None:
    await watch.start()
    kafka.consumer_errors.append(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    with watch.waiting_for("a") as coming:
        kafka.append(T, 0, b"a", b"1")

        assert await asyncio.wait_for(coming, 5) == b"1"


async def test_others_reach_everybody_who_waits_and_who_comes_later(kafka: MemoryKafka, watch: ResultsWatch) -> None:
    await watch.start()
    with watch.waiting_for("a") as coming:
        kafka.consumer_errors.append(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
        with pytest.raises(StoreError, match="may not do that"):
            await asyncio.wait_for(coming, 5)

    with pytest.raises(StoreError, match="may not do that"):
        await watch.start()


async def test_a_start_that_failed_may_be_tried_again(kafka: MemoryKafka, watch: ResultsWatch) -> None:
    kafka.admin_errors.append(KafkaError(KafkaError._TRANSPORT))
    with pytest.raises(StoreError, match="not reached"):
        await watch.start()

    await watch.start()


async def test_whoever_stops_tells_those_who_wait(watch: ResultsWatch) -> None:
    await watch.start()
    with watch.waiting_for("a") as coming:
        watch.fail(StoreError("stopped"))

        with pytest.raises(StoreError, match="stopped"):
            await coming
    with pytest.raises(StoreError, match="stopped"), watch.waiting_for("b"):
        pass
