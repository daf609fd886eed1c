from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from confluent_kafka import ConsumerGroupState, KafkaError
from tests.contract.waiting import eventually
from tests.kafka.local_records import layout
from tests.kafka.memory_kafka import MemoryKafka
from tests.kafka.stub_owner import StubOwner

from headrace import App
from headrace import commands as c
from headrace.adapter import Answer
from headrace.errors import RecordRefused, StoreError
from headrace_adapters.http import HttpServer, NotOwned, OwnedRuns, Unanswered
from headrace_adapters.kafka import client as client_module
from headrace_adapters.kafka.client import KafkaClient, connect_client
from headrace_adapters.kafka.owners import client_id
from headrace_adapters.kafka.settings import KafkaSettings
from headrace_topics.jobs_record import decode_command

TOPICS = layout(1)
SETTINGS = KafkaSettings("localhost:1", "app", "app")
HEAD = {"v": 1, "seq": 1, "blueprintId": "f", "version": "1", "startedAt": 5}
RESULT = {
    "runId": "r", "blueprintId": "f", "version": "1", "status": "completed", "output": 42, "context": {}, "errors": [],
    "startedAt": 5, "endedAt": 9,
}  # fmt: skip


@pytest.fixture
def kafka() -> MemoryKafka:
    return MemoryKafka()


@pytest.fixture
async def owner(kafka: MemoryKafka) -> AsyncIterator[StubOwner]:
    """A worker that has the one partition."""
    made, server = StubOwner(), HttpServer()
    server.start(made)
    kafka.members = [(client_id(server.url()), [(TOPICS.jobs, 0)])]
    yield made
    await asyncio.to_thread(server.stop)


@pytest.fixture
async def client(kafka: MemoryKafka) -> AsyncIterator[KafkaClient]:
    before = set(threading.enumerate())
    made = KafkaClient(kafka, SETTINGS, TOPICS, lambda: 77, answer_s=0.5)
    yield made
    await made.close()
    assert kafka.open == []
    # Those of the event loop's own executor stay with it.
    assert not {it for it in set(threading.enumerate()) - before if it.name.startswith("headrace")}


def end(kafka: MemoryKafka, run_id: str = "r", **changed: Any) -> None:
    record = orjson.dumps({**RESULT, "runId": run_id, **changed})
    kafka.append(TOPICS.results, 0, run_id.encode(), record)


def write_head(kafka: MemoryKafka, run_id: str, **changed: Any) -> None:
    key = orjson.dumps([run_id, "r"])
    kafka.append(TOPICS.coordination, 0, key, orjson.dumps({**HEAD, **changed}))


def write_events(kafka: MemoryKafka, run_id: str, *types: str) -> None:
    decisions = [{"at": 5, "events": [{"type": kind} for kind in types]}]
    kafka.append(TOPICS.events, 0, run_id.encode(), orjson.dumps({"v": 1, "seq": 1, "decisions": decisions}))


# Commands.


async def test_the_owner_is_asked_what_a_command_did(kafka: MemoryKafka, owner: StubOwner, client: KafkaClient) -> None:
    owner.says = Answer("applied", "so")

    assert await client.submit(c.Start("r", "f", input=b"1")) == Answer("applied", "so")
    (record,) = kafka.values(TOPICS.jobs, 0)
    command = decode_command(record or b"", value_bytes_max=100)
    assert isinstance(command, c.Start)
    assert owner.asked == [[command.request_id]]


async def test_every_command_has_a_request_id_of_its_own(kafka: MemoryKafka, owner: StubOwner, client: KafkaClient) -> None:
    owner.says = Answer("applied")
    await asyncio.gather(*(client.submit(c.Cancel("r")) for _ in range(50)))

    assert len({it for asked in owner.asked for it in asked}) == 50


async def test_without_a_worker_a_command_is_accepted_at_once(kafka: MemoryKafka, client: KafkaClient) -> None:
    answer = await asyncio.wait_for(client.submit(c.Start("r", "f")), 0.4)

    assert answer.outcome == "accepted"
    assert "when a worker starts" in answer.reason
    assert len(kafka.values(TOPICS.jobs, 0)) == 1


async def test_a_worker_that_does_not_answer_in_time_leaves_it_accepted(owner: StubOwner, client: KafkaClient) -> None:
    answer = await client.submit(c.Start("r", "f"))

    assert answer.outcome == "accepted"
    assert "no worker has answered" in answer.reason


async def test_a_worker_that_is_gone_leaves_it_accepted(kafka: MemoryKafka, client: KafkaClient) -> None:
    kafka.members = [(client_id("http://127.0.0.1:1"), [(TOPICS.jobs, 0)])]

    assert (await client.submit(c.Start("r", "f"))).outcome == "accepted"


async def test_when_the_partition_goes_to_another_worker_that_one_is_asked(
    kafka: MemoryKafka, owner: StubOwner, client: KafkaClient
) -> None:
    members, owner.says = kafka.members, Answer("applied")
    kafka.members = [(client_id("http://127.0.0.1:1"), [(TOPICS.jobs, 0)])]
    asking = asyncio.create_task(client.submit(c.Start("r", "f")))
    await eventually(lambda: kafka.described)
    kafka.members = members

    assert await asking == Answer("applied")


async def test_while_partitions_are_shared_out_the_answer_is_waited_for(
    kafka: MemoryKafka, owner: StubOwner, client: KafkaClient
) -> None:
    members, owner.says = kafka.members, Answer("applied")
    kafka.members, kafka.group_state = [("headrace|", [])], ConsumerGroupState.PREPARING_REBALANCING
    asking = asyncio.create_task(client.submit(c.Start("r", "f")))
    await eventually(lambda: kafka.described)
    kafka.members, kafka.group_state = members, ConsumerGroupState.STABLE

    assert await asking == Answer("applied")


async def test_the_client_of_a_worker_that_has_just_started_waits_for_it(kafka: MemoryKafka, owner: StubOwner) -> None:
    members, owner.says = kafka.members, Answer("applied")
    kafka.members = []
    client = KafkaClient(kafka, SETTINGS, TOPICS, lambda: 77, is_joining=lambda: True)
    asking = asyncio.create_task(client.submit(c.Start("r", "f")))
    await eventually(lambda: kafka.described)
    kafka.members = members

    assert await asking == Answer("applied")
    await client.close()


async def test_a_cluster_that_does_not_say_who_works_leaves_it_accepted(kafka: MemoryKafka, client: KafkaClient) -> None:
    kafka.admin_errors.append(KafkaError(KafkaError._TRANSPORT))
    answer = await client.submit(c.Start("r", "f"))

    assert answer.outcome == "accepted"
    assert "asking who works failed" in answer.reason


async def test_what_no_record_could_hold_is_refused_and_nothing_is_written(kafka: MemoryKafka, client: KafkaClient) -> None:
    for bad in (c.Start("", "f"), c.Cancel("\ud800"), c.Signal("r", "e", b'"' + b"x" * 1_000_001 + b'"')):
        with pytest.raises(RecordRefused):
            await client.submit(bad)
    with pytest.raises(RecordRefused, match="no client may send it"):
        await client.submit(c.RunNode("r", "f", "n"))

    assert kafka.values(TOPICS.jobs, 0) == []


async def test_a_command_that_the_brokers_do_not_take_is_an_error(kafka: MemoryKafka, client: KafkaClient) -> None:
    kafka.refused = {b"r": KafkaError._MSG_TIMED_OUT}

    with pytest.raises(StoreError, match="no answer in time"):
        await client.submit(c.Start("r", "f"))


async def test_many_starts_ask_nobody_for_an_answer(kafka: MemoryKafka, owner: StubOwner, client: KafkaClient) -> None:
    assert await client.start_many(c.Start(f"r{number}", "f") for number in range(500)) == 500

    assert len(kafka.values(TOPICS.jobs, 0)) == 500
    assert owner.asked == []


# Results.


async def test_a_result_that_comes_is_given_to_all_who_wait(
    kafka: MemoryKafka, owner: StubOwner, client: KafkaClient
) -> None:
    waiting = [asyncio.create_task(client.result("r", 10)) for _ in range(10)]
    await asyncio.sleep(0.05)
    end(kafka)
    results = await asyncio.wait_for(asyncio.gather(*waiting), 5)

    assert {result and result.output for result in results} == {42}
    assert await client.result("r", 0) == results[0], "it came by lately"


async def test_a_run_that_has_ended_before_is_looked_up_by_the_time_that_its_owner_tells(
    kafka: MemoryKafka, owner: StubOwner, client: KafkaClient
) -> None:
    end(kafka)
    owner.statuses["r"] = {"runId": "r", "status": "completed", "startedAt": 5, "endedAt": 9}
    result = await client.result("r", 0)

    assert result is not None
    assert result.output == 42


async def test_a_run_that_has_ended_before_is_found_without_an_owner(kafka: MemoryKafka, client: KafkaClient) -> None:
    end(kafka)
    end(kafka, "other", output=1)

    results = await asyncio.gather(client.result("r", 0), client.result("other", 0), client.result("nobody", 0))
    assert [result and result.output for result in results] == [42, 1, None]


async def test_a_run_that_nobody_knows_is_waited_for_until_time_is_over(client: KafkaClient) -> None:
    begun_s = asyncio.get_running_loop().time()

    assert await client.result("r", 0.3) is None
    assert 0.3 <= asyncio.get_running_loop().time() - begun_s < 2


async def test_a_result_that_is_waited_for_without_end_comes_in_the_end(kafka: MemoryKafka, client: KafkaClient) -> None:
    waiting = [asyncio.create_task(client.result("r", timeout_s)) for timeout_s in (None, float("inf"))]
    await asyncio.sleep(0.05)
    end(kafka)

    assert {result and result.output for result in await asyncio.wait_for(asyncio.gather(*waiting), 5)} == {42}


# Looking.


async def test_a_status_is_what_the_owner_says(owner: StubOwner, client: KafkaClient) -> None:
    owner.statuses["r"] = {"runId": "r", "status": "running", "nodes": []}

    assert await client.status("r") == owner.statuses["r"]
    assert await client.status("nobody") is None


@pytest.mark.parametrize("error", [NotOwned("moved"), Unanswered("busy")])
async def test_a_status_comes_from_the_topics_where_no_owner_says_anything(
    kafka: MemoryKafka, owner: StubOwner, client: KafkaClient, error: Exception
) -> None:
    owner.error = error
    write_head(kafka, "r", awaiting=True)
    status = await client.status("r")

    assert status is not None
    assert (status["status"], status["at"]) == ("awaiting", 77)


async def test_the_status_of_a_run_that_has_ended_is_its_result(
    kafka: MemoryKafka, owner: StubOwner, client: KafkaClient
) -> None:
    owner.statuses["r"] = {"runId": "r", "flow": "f", "version": "1", "status": "completed", "startedAt": 5, "endedAt": 9}
    assert await client.status("r") == {**owner.statuses["r"], "nodes": [], "awaiting": []}, "the result is kept no more"
    end(kafka)
    status = await client.status("r")

    assert status is not None
    assert (status["flow"], status["output"], status["nodes"]) == ("f", 42, [])


async def test_runs_come_from_owners_and_where_there_is_none_from_the_topics(kafka: MemoryKafka, owner: StubOwner) -> None:
    client = KafkaClient(kafka, SETTINGS, layout(2), lambda: 77)
    rows = [{"runId": f"own{number}", "flow": "f", "version": "1", "status": "running"} for number in range(3)]
    owner.rows = OwnedRuns([0], [row for row in rows if client._records.partition_of(str(row["runId"])) == 0])
    kafka.append(TOPICS.coordination, 1, b'["topic","r"]', orjson.dumps(HEAD))
    kafka.append(TOPICS.coordination, 0, b'["hidden","r"]', orjson.dumps(HEAD))

    found = await client.runs()
    assert {row["runId"] for row in found} == {row["runId"] for row in owner.rows.runs} | {"topic"}
    assert len(await client.runs(limit=1)) == 1
    assert await client.runs(flow="other") == []

    owner.error = Unanswered("busy")
    assert {row["runId"] for row in await client.runs()} == {"topic", "hidden"}
    await client.close()


async def test_a_history_is_read_with_and_without_an_owner(
    kafka: MemoryKafka, owner: StubOwner, client: KafkaClient
) -> None:
    write_events(kafka, "r", "runStarted", "runCompleted")
    for view in ({"runId": "r", "startedAt": 5, "status": "running"}, None):
        owner.statuses["r"] = view
        assert [event["seq"] async for event in client.events("r")] == [1, 2]
    owner.error = NotOwned("moved")
    assert [event["seq"] async for event in client.events("r", follow=True)] == [1, 2]
    write_head(kafka, "r")
    assert [event["seq"] async for event in client.events("r")] == [1, 2]


# The end.


async def test_a_client_that_was_closed_says_so_to_everybody(kafka: MemoryKafka, owner: StubOwner) -> None:
    client = KafkaClient(kafka, SETTINGS, TOPICS, lambda: 77)
    waiting = asyncio.create_task(client.result("r"))
    await eventually(lambda: client._watch._waiting)
    await client.close()

    with pytest.raises(StoreError, match="closed"):
        await asyncio.wait_for(waiting, 5)
    for ask in (client.submit(c.Cancel("r")), client.result("r"), client.status("r"), client.runs(), client.start_many([])):
        with pytest.raises(StoreError, match="closed"):
            await ask
    with pytest.raises(StoreError, match="closed"):
        await anext(client.events("r"))
    assert not client.works
    await client.close()


async def test_when_its_worker_stops_those_who_wait_learn_what_it_died_of(kafka: MemoryKafka, client: KafkaClient) -> None:
    waiting = asyncio.create_task(client.result("r"))
    await eventually(lambda: client._watch._waiting)
    client.stop(StoreError("the disk is full"))

    with pytest.raises(StoreError, match="disk is full"):
        await asyncio.wait_for(waiting, 5)
    with pytest.raises(StoreError, match="disk is full"):
        await client.status("r")


async def test_a_client_looks_at_the_topics_first(kafka: MemoryKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "ensure", lambda admin, settings: TOPICS)
    client = await connect_client(App("app"), SETTINGS, kafka)

    assert (await client.submit(c.Start("r", "f"))).outcome == "accepted"
    await client.close()
