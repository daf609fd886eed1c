from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from confluent_kafka import ConsumerGroupState, KafkaError
from tests.kafka.memory_kafka import MemoryKafka

from headrace.errors import StoreError
from headrace_adapters.kafka.owners import Owners, client_id, described_owners
from headrace_adapters.kafka.settings import KafkaSettings

A, B = "http://a:1", "http://b:2"


@pytest.fixture
def kafka() -> MemoryKafka:
    made = MemoryKafka()
    made.members = [(client_id(A), [("app.jobs", 0), ("app.jobs", 2)]), (client_id(B), [("app.jobs", 1)])]
    return made


@pytest.fixture
async def owners(kafka: MemoryKafka) -> AsyncIterator[Owners]:
    settings = KafkaSettings("localhost:1", "app", "app")
    made = Owners(described_owners(kafka.admin({}), settings, "app.jobs"), kept_s=60.0)
    yield made
    await made.close()


async def test_a_partition_has_the_address_that_its_member_tells(owners: Owners) -> None:
    assert [await owners.of(number) for number in range(4)] == [A, B, A, None]
    assert await owners.all() == {0: A, 1: B, 2: A}


async def test_members_that_are_no_workers_and_other_topics_are_left_out(kafka: MemoryKafka, owners: Owners) -> None:
    kafka.members = [("rdkafka", [("app.jobs", 0)]), (client_id(A), [("other.jobs", 1)])]

    assert await owners.all() == {}


async def test_what_is_known_is_kept_and_many_who_ask_at_once_ask_once(kafka: MemoryKafka, owners: Owners) -> None:
    await asyncio.gather(*(owners.of(0) for _ in range(50)))
    await owners.of(1)

    assert kafka.described == 1


async def test_that_nobody_has_a_partition_is_not_kept(kafka: MemoryKafka, owners: Owners) -> None:
    kafka.members = []
    assert await owners.of(0) is None
    kafka.members = [(client_id(B), [("app.jobs", 0)])]
    await asyncio.sleep(0.11)

    assert await owners.of(0) == B


async def test_who_finds_that_it_is_not_so_asks_anew_but_not_in_a_loop(kafka: MemoryKafka, owners: Owners) -> None:
    await owners.of(0)
    kafka.members = [(client_id(B), [("app.jobs", 0)])]
    assert await owners.of(0) == A
    for _ in range(20):
        await owners.of(0, anew=True)
    assert kafka.described == 1
    await asyncio.sleep(0.11)

    assert await owners.of(0, anew=True) == B
    assert kafka.described == 2


async def test_while_partitions_are_shared_out_the_owners_from_before_stand(kafka: MemoryKafka, owners: Owners) -> None:
    await owners.of(0)
    kafka.members = [(client_id(A), []), (client_id(B), [])]
    kafka.group_state = ConsumerGroupState.PREPARING_REBALANCING
    await asyncio.sleep(0.11)

    assert await owners.of(0, anew=True) == A
    assert owners.are_changing


async def test_a_group_that_does_not_exist_has_no_owners(kafka: MemoryKafka, owners: Owners) -> None:
    kafka.admin_errors.append(KafkaError(KafkaError.GROUP_ID_NOT_FOUND))

    assert await owners.all() == {}
    assert not owners.are_changing


async def test_a_cluster_that_is_not_reached_is_an_error_for_the_operator(kafka: MemoryKafka, owners: Owners) -> None:
    kafka.admin_errors.append(KafkaError(KafkaError._TRANSPORT))

    with pytest.raises(StoreError, match="asking who works failed at Kafka"):
        await owners.of(0)
    assert await owners.of(0) == A, "the next one asks again"


async def test_one_who_gives_up_does_not_take_the_answer_from_the_others(owners: Owners) -> None:
    asking = [asyncio.create_task(owners.of(0)) for _ in range(3)]
    await asyncio.sleep(0)
    asking[0].cancel()

    assert await asyncio.gather(*asking[1:]) == [A, A]
