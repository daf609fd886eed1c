from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from tests.contract.driven import Driven
from tests.kafka.local_records import layout, publish
from tests.kafka.memory_kafka import MemoryKafka

from headrace import Flow
from headrace import commands as c
from headrace.blueprint import to_json
from headrace.errors import RecordRefused
from headrace.limits import Limits
from headrace.plans import Plans
from headrace.state import RunState
from headrace.view import status_view
from headrace_adapters.kafka.blueprint_log import BlueprintLog
from headrace_adapters.kafka.run_records import RunRecords
from headrace_adapters.kafka.settings import KafkaSettings
from headrace_adapters.kafka.topic_scans import TopicScans
from headrace_adapters.local.carrier import LocalCarrier
from headrace_adapters.memory import MemoryStore
from headrace_topics.names import context_key, coordination_key, run_prefix
from headrace_topics.partitioning import partition_of

PARTITIONS, NOW = 2, 1_700_000_000_000
TOPICS = layout(PARTITIONS)
SETTINGS = KafkaSettings("localhost:1", "app", "app")


def flow() -> Flow:
    made = Flow("f").node("first", one, uses="one").node("beside", one, uses="one", after="first")
    return made.wait("ask", event="go", timeout="1h", after="first").node("last", one, uses="one", after="ask")


def one() -> int:
    return 1


@pytest.fixture
def kafka() -> MemoryKafka:
    return MemoryKafka()


@pytest.fixture
def driven() -> Driven:
    """Runs that have come to different states, in a store of this machine."""
    carrier = LocalCarrier(MemoryStore(), Limits(), PARTITIONS)
    made = Driven(carrier, [flow().to_blueprint()], {"one": one}, now_ms=NOW)
    for number in range(4):
        made.submit(c.Start(f"run {number}/ö", "f", context={"k": b'{"deep":[1]}', "a": b"1"}))
    made.settle()
    made.submit(c.Cancel("run 1/ö", "enough"))
    made.submit(c.Pause("run 2/ö"))
    made.submit(c.Signal("run 3/ö", "go"))
    made.settle()
    return made


@pytest.fixture
async def records(kafka: MemoryKafka, driven: Driven) -> AsyncIterator[RunRecords]:
    publish(kafka, driven.carrier._store, TOPICS)  # type: ignore[attr-defined]
    kafka.append(TOPICS.blueprints, 0, b"f@1", orjson.dumps(to_json(flow().to_blueprint())))
    scans = TopicScans(kafka, kafka.admin({}), SETTINGS)
    made = RunRecords(scans, TOPICS, lambda plans: BlueprintLog(kafka, SETTINGS, TOPICS, plans))
    yield made
    await made.close()
    await scans.close()
    assert kafka.open == []


async def test_a_status_from_the_topics_is_the_one_that_the_owner_gives(driven: Driven, records: RunRecords) -> None:
    for number in (0, 2):
        run = driven.run(f"run {number}/ö")
        assert isinstance(run, RunState)
        expected = status_view(run, driven.plans.get("f", "1"), NOW)

        assert await records.status(f"run {number}/ö", NOW) == expected
        assert expected["awaiting"] == ["ask"]
    assert await records.status("nobody", NOW) is None


async def test_a_run_that_has_ended_is_told_with_its_times(records: RunRecords) -> None:
    row = await records.status("run 1/ö", NOW)

    assert row == await records.row("run 1/ö")
    assert row is not None
    assert {"flow": "f", "version": "1", "status": "cancelled", "startedAt": NOW, "endedAt": NOW}.items() <= row.items()
    assert await records.row("nobody") is None


async def test_without_its_blueprint_a_run_is_shown_all_the_same(kafka: MemoryKafka, records: RunRecords) -> None:
    kafka.logs.pop((TOPICS.blueprints, 0))
    status = await records.status("run 0/ö", NOW)

    assert status is not None
    assert {node["id"] for node in status["nodes"]} == {"first", "beside", "ask"}


async def test_the_last_record_of_a_key_counts_and_a_tombstone_takes_it_away(
    kafka: MemoryKafka, records: RunRecords
) -> None:
    number, prefix = partition_of("run 0/ö", PARTITIONS), run_prefix("run 0/ö")
    kafka.append(TOPICS.context, number, context_key(prefix, "k"), b"2")
    kafka.append(TOPICS.context, number, context_key(prefix, "a"), None)
    status = await records.status("run 0/ö", NOW)
    assert status is not None
    assert status["context"] == {"k": 2}

    kafka.append(TOPICS.coordination, number, coordination_key(prefix, ("r",)), None)
    assert await records.status("run 0/ö", NOW) is None


async def test_runs_are_listed_by_state_and_flow_and_within_the_limit(kafka: MemoryKafka, records: RunRecords) -> None:
    kafka.append(TOPICS.coordination, 0, b'["x","n","r"]', b'{"seq":1}')
    kafka.append(TOPICS.coordination, 0, b'nonsense,"r"]', b"{}")
    kafka.append(TOPICS.coordination, 0, b'["unreadable","r"]', b"{")

    async def ids(states: frozenset[str] | None = None, flow: str | None = None, limit: int = 100) -> set[str]:
        return {row["runId"] for row in await records.rows(range(PARTITIONS), states, flow, limit)}

    runs = {f"run {number}/ö" for number in range(4)}
    assert await ids() == runs | {"unreadable"}
    assert await ids(flow="f") == runs
    assert await ids(frozenset(("awaiting", "paused"))) == {"run 0/ö", "run 2/ö"}
    assert await ids(frozenset(("completed", "cancelled"))) == {"run 1/ö", "run 3/ö"}
    assert len(await ids(limit=2)) == 2
    assert await records.rows([], None, None, 5) == []


async def test_a_result_is_found_with_and_without_a_time(records: RunRecords) -> None:
    record = await records.result("run 3/ö")

    assert record is not None
    assert orjson.loads(record)["status"] == "completed"
    # Records that were put there by hand have no time, so that everything is as old as can be.
    assert await records.result("run 3/ö", 0) == record
    assert await records.result("run 0/ö") is None


async def test_a_topic_is_read_once_for_all_who_ask_at_once(
    kafka: MemoryKafka, records: RunRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Any] = []
    read = TopicScans.read

    async def counted(self: TopicScans, scans: Any, take: Any) -> None:
        reads.append(scans)
        await read(self, scans, take)

    monkeypatch.setattr(TopicScans, "read", counted)
    kafka.append(TOPICS.results, partition_of("gone", PARTITIONS), b"gone", b"1")
    kafka.append(TOPICS.results, partition_of("gone", PARTITIONS), b"gone", None)
    found = await asyncio.gather(*(records.result(f"run {number % 4}/ö") for number in range(40)), records.result("gone"))

    assert [record is not None for record in found] == [False, True, False, True] * 10 + [False]
    assert len(reads) <= PARTITIONS


async def test_an_id_that_no_run_can_have_is_refused(records: RunRecords) -> None:
    with pytest.raises(RecordRefused, match="lone surrogate"):
        await records.status("\ud800", NOW)
    with pytest.raises(RecordRefused, match="lone surrogate"):
        records.partition_of("\ud800")


def test_plans_without_implementations_are_enough_to_look_at_runs() -> None:
    plans = Plans(frozenset())
    plans.add(flow().to_blueprint())

    assert plans.get("f", "1") is not None
