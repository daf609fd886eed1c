from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from confluent_kafka import KafkaError
from tests.kafka.memory_kafka import MemoryKafka

from headrace.commands import Start
from headrace.errors import StartsFailed, StoreError
from headrace_adapters.kafka.settings import KafkaSettings
from headrace_adapters.kafka.submissions import Submissions
from headrace_topics.jobs_record import decode_command
from headrace_topics.partitioning import partition_of

JOBS, PARTITIONS = "app.jobs", 3


@pytest.fixture
def kafka() -> MemoryKafka:
    return MemoryKafka()


@pytest.fixture
async def submissions(kafka: MemoryKafka) -> AsyncIterator[Submissions]:
    made = Submissions(kafka, KafkaSettings("localhost:1", "app", "app"), JOBS, PARTITIONS, 1_000)
    yield made
    kafka.acknowledges = True
    await made.close()
    assert kafka.open == []


def starts(number: int) -> Iterator[Start]:
    return (Start(f"r{index}", "f") for index in range(number))


def written(kafka: MemoryKafka) -> set[str]:
    records = [record for number in range(PARTITIONS) for record in kafka.values(JOBS, number)]
    return {decode_command(record, value_bytes_max=1_000).run_id for record in records if record is not None}


async def test_a_record_is_on_the_partition_of_its_run_when_it_is_acknowledged(
    kafka: MemoryKafka, submissions: Submissions
) -> None:
    await submissions.send("r7", b"{}")

    assert kafka.values(JOBS, partition_of("r7", PARTITIONS)) == [b"{}"]


async def test_nothing_is_told_before_the_brokers_have_it(kafka: MemoryKafka, submissions: Submissions) -> None:
    kafka.acknowledges = False
    sending = asyncio.create_task(submissions.send("r", b"{}"))
    await asyncio.sleep(0.05)
    assert not sending.done()

    kafka.acknowledges = True
    await asyncio.wait_for(sending, 5)


async def test_what_the_brokers_do_not_take_is_an_error_for_the_operator(
    kafka: MemoryKafka, submissions: Submissions
) -> None:
    kafka.refused = {b"r": KafkaError._MSG_TIMED_OUT, b"s": KafkaError.MSG_SIZE_TOO_LARGE}

    with pytest.raises(StoreError, match=r"writing to app\.jobs failed at Kafka"):
        await submissions.send("r", b"{}")
    with pytest.raises(StoreError, match="too large"):
        await submissions.send("s", b"{}")


async def test_many_starts_are_all_there_and_no_more_than_so_many_are_under_way(
    kafka: MemoryKafka, submissions: Submissions
) -> None:
    kafka.acknowledges = False
    read = 0

    def source() -> Iterator[Start]:
        nonlocal read
        for start in starts(1_000):
            read += 1
            yield start

    sending = asyncio.create_task(submissions.send_many(source(), 100))
    await asyncio.sleep(0.05)
    assert 100 <= read <= 101

    kafka.acknowledges = True
    assert await asyncio.wait_for(sending, 10) == 1_000
    assert len(written(kafka)) == 1_000


async def test_a_full_producer_is_waited_for(kafka: MemoryKafka, submissions: Submissions) -> None:
    kafka.queue_max = 5

    assert await submissions.send_many(starts(300), 10_000) == 300
    assert len(written(kafka)) == 300


async def test_starts_that_are_not_durable_are_named_and_the_others_are_there(
    kafka: MemoryKafka, submissions: Submissions
) -> None:
    kafka.refused = {b"r3": KafkaError._MSG_TIMED_OUT, b"r5": KafkaError._MSG_TIMED_OUT}

    with pytest.raises(StartsFailed, match="no answer in time") as raised:
        await submissions.send_many(starts(20), 100)

    assert set(raised.value.run_ids) == {"r3", "r5"}
    assert written(kafka) == {f"r{index}" for index in range(20)} - {"r3", "r5"}


@pytest.mark.parametrize("bad", [Start("x" * 2_000, "f"), Start("r", "f", input=b'"' + b"x" * 1_000 + b'"')])
async def test_a_start_that_no_record_could_hold_ends_it_with_the_field(submissions: Submissions, bad: Start) -> None:
    with pytest.raises(StartsFailed, match=r"field 'runId'|field 'input'") as raised:
        await submissions.send_many([Start("fine", "f"), bad, Start("never", "f")], 10)

    assert raised.value.run_ids == (bad.run_id,)


async def test_a_record_that_is_too_large_for_the_producer_is_named_too(
    kafka: MemoryKafka, submissions: Submissions
) -> None:
    kafka.refused = {b"r1": KafkaError.MSG_SIZE_TOO_LARGE}

    with pytest.raises(StartsFailed, match="too large") as raised:
        await submissions.send_many(starts(4), 10)

    assert raised.value.run_ids == ("r1",)


async def test_a_bound_that_lets_nothing_through_is_a_mistake(submissions: Submissions) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        await submissions.send_many([], 0)


async def test_who_closes_tells_those_who_wait_that_it_is_not_known(kafka: MemoryKafka) -> None:
    kafka.acknowledges = False
    made = Submissions(kafka, KafkaSettings("localhost:1", "app", "app"), JOBS, PARTITIONS, 1_000)
    sending = asyncio.create_task(made.send("r", b"{}"))
    await asyncio.sleep(0.02)
    await made.close()

    with pytest.raises(StoreError):
        await asyncio.wait_for(sending, 5)
    with pytest.raises(StoreError, match="closed"):
        await made.send("r", b"{}")
