"""Clients on a real broker: with workers, without any, in bulk, without asyncio, and from the command line."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from confluent_kafka import IsolationLevel, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from headrace import App, Flow
from headrace import commands as c
from headrace.adapter import Client
from headrace.errors import StoreError
from headrace_adapters.kafka.adapter import open_adapter
from headrace_topics.partitioning import partition_of
from tests.broker.fixtures import AppName
from tests.contract.waiting import RESULT_S, eventually

pytestmark = pytest.mark.broker

PARTITIONS = 4
Say = Callable[[str], None]


class Place:
    """An app of its own at the broker."""

    def __init__(self, broker: str, app: str, folder: Path) -> None:
        self.broker = broker
        self.app = app
        self.url = f"kafka://{broker}"
        self._folder = folder

    def made(self) -> App:
        made = App(self.app)
        made.add(Flow("double").node("a", lambda ctx: ctx.input * 2))
        return made.add(Flow("asking").wait("ask", event="answered").node("after", lambda ctx: ctx.input, after="ask"))

    @asynccontextmanager
    async def work(self, **settings: Any) -> AsyncIterator[Client]:
        """A worker that has all partitions."""
        given = {"state": self._folder / "state", "partitions": PARTITIONS, "heartbeat_ms": 200, **settings}
        worker = open_adapter(self.made(), self.url, given).worker()
        client = await worker.start()
        try:
            loop = worker._loop  # type: ignore[attr-defined]
            await eventually(lambda: len(loop.partitions) == PARTITIONS)
            yield client
        finally:
            await worker.stop(2)
            await client.close()

    @asynccontextmanager
    async def connect(self, **settings: Any) -> AsyncIterator[Client]:
        client = await open_adapter(App(self.app), self.url, {"partitions": PARTITIONS, **settings}).client()
        try:
            yield client
        finally:
            await client.close()


@pytest.fixture
def place(broker: str, app_name: AppName, tmp_path: Path) -> Place:
    return Place(broker, app_name("clients"), tmp_path)


async def history(client: Client, run_id: str) -> list[tuple[Any, str]]:
    return [(event["seq"], event["type"]) async for event in client.events(run_id)]


async def test_what_was_done_with_a_worker_is_seen_without_one_too(place: Place) -> None:
    async with place.work(), place.connect() as client:
        for number in range(8):
            assert (await client.submit(c.Start(f"r{number}/ä", "double", input=b"4"))).outcome == "applied"
            assert (await client.submit(c.Start(f"w{number}", "asking", context={"k": b"[1]"}))).outcome == "applied"
        results = [await client.result(f"r{number}/ä", RESULT_S) for number in range(8)]
        assert {result and result.output for result in results} == {8}
        assert (await client.submit(c.Cancel("r0/ä"))).outcome == "ignored"
        assert (await client.submit(c.Cancel("nobody"))).outcome == "unknown"
        status, ended = await client.status("w3"), await client.status("r0/ä")
        runs, seen = await client.runs(), await history(client, "r0/ä")
        assert seen[-1] == (None, "commandRejected"), "what was answered can be read at once"

    async with place.connect() as later:
        assert await later.result("r0/ä", 0) == results[0]
        assert await later.result("w3", 0) is None
        from_topics = await later.status("w3")
        assert status is not None
        assert from_topics is not None
        assert {**from_topics, "at": 0} == {**status, "at": 0}
        assert await later.status("r0/ä") == ended
        assert sorted(await later.runs(), key=str) == sorted(runs, key=str)
        assert await history(later, "r0/ä") == seen
        answer = await later.submit(c.Signal("w3", "answered", b"7"))
        assert (answer.outcome, await later.result("w3", 0)) == ("accepted", None)

    async with place.work(), place.connect() as again:
        result = await again.result("w3", RESULT_S)
        assert result is not None
        assert result.output == 7


async def test_a_result_is_given_as_soon_as_it_is_there_to_all_who_wait(place: Place) -> None:
    async with place.work(), place.connect() as client:
        waiting = [asyncio.create_task(client.result(f"w{number % 3}")) for number in range(30)]
        for number in range(3):
            await client.submit(c.Start(f"w{number}", "asking"))
        await asyncio.sleep(0.1)
        assert not any(task.done() for task in waiting)
        for number in range(3):
            assert (await client.submit(c.Signal(f"w{number}", "answered", b"%d" % number))).outcome == "applied"

        results = await asyncio.wait_for(asyncio.gather(*waiting), RESULT_S)
        assert [result.output for result in results if result] == [0, 1, 2] * 10


async def test_events_are_followed_over_a_restart_of_the_worker(place: Place) -> None:
    async with place.connect() as client:
        seen: list[str] = []

        async def follow() -> None:
            seen.extend([event["type"] async for event in client.events("r", follow=True)])

        following = asyncio.create_task(follow())
        async with place.work():
            await client.submit(c.Start("r", "asking"))
        async with place.work():
            await client.submit(c.Signal("r", "answered"))
            await asyncio.wait_for(following, 2 * RESULT_S)

        assert seen[0] == "runStarted"
        assert seen[-1] == "runCompleted"


async def test_a_hundred_thousand_starts_go_out_with_a_bound_on_those_under_way(place: Place, say: Say) -> None:
    number = 100_000
    read = 0

    def starts() -> Any:
        nonlocal read
        for index in range(number):
            read += 1
            yield c.Start(f"bulk-{index}", "double", input=b"%d" % index)

    async with place.connect() as client:
        begun_s = time.monotonic()
        assert await client.start_many(starts(), outstanding_max=5_000) == number
        took_s = time.monotonic() - begun_s

    admin = AdminClient({"bootstrap.servers": place.broker})
    places = [TopicPartition(f"{place.app}.jobs", index) for index in range(PARTITIONS)]
    asked = admin.list_offsets({it: OffsetSpec.latest() for it in places}, isolation_level=IsolationLevel.READ_COMMITTED)
    assert sum(future.result(10).offset for future in asked.values()) == number
    say(f"{number} starts: {took_s:.1f} s, {number / took_s:.0f} starts/s")
    assert took_s < 60


async def test_hundreds_of_commands_at_once_each_get_their_own_answer(place: Place, say: Say) -> None:
    async with place.work(), place.connect() as client:
        begun_s = time.monotonic()
        answers = await asyncio.gather(
            *(client.submit(c.Start(f"r{index % 500}", "double", input=b"1")) for index in range(1_000))
        )
        took_s = time.monotonic() - begun_s

        outcomes = sorted(answer.outcome for answer in answers)
        assert outcomes == ["applied"] * 500 + ["duplicate"] * 500
        say(f"1000 commands at once: {1_000 / took_s:.0f} answers/s")


class Foreign:
    """A producer that leaves a transaction open, as a worker does that has died."""

    def __init__(self, place: Place) -> None:
        self._results, self._run_id = f"{place.app}.results", "foreign"
        self._producer = Producer(
            {"bootstrap.servers": place.broker, "transactional.id": f"{place.app}.foreign", "transaction.timeout.ms": 60_000}
        )
        self._producer.init_transactions(10)

    def begin(self) -> None:
        """Write a result, and do not say whether it happens."""
        data = {
            "runId": self._run_id, "blueprintId": "f", "version": "1", "status": "completed", "output": 1,
            "context": {}, "errors": [], "startedAt": 1, "endedAt": 2,
        }  # fmt: skip
        self._producer.begin_transaction()
        number = partition_of(self._run_id, PARTITIONS)
        self._producer.produce(self._results, orjson.dumps(data), self._run_id.encode(), number)
        self._producer.flush(10)

    def commit(self) -> None:
        self._producer.commit_transaction(10)

    def abort(self) -> None:
        self._producer.abort_transaction(10)


async def test_a_result_in_a_transaction_that_was_open_when_somebody_began_to_wait_is_not_missed(place: Place) -> None:
    async with place.connect() as client:
        foreign = Foreign(place)
        await asyncio.to_thread(foreign.begin)
        waiting = asyncio.create_task(client.result("foreign"))
        assert await client.result("other", 0) is None, "the reader is there"
        await asyncio.to_thread(foreign.commit)

        result = await asyncio.wait_for(waiting, RESULT_S)
        assert result is not None
        assert result.output == 1


async def test_a_transaction_that_somebody_left_open_holds_no_look_up_for_long(place: Place) -> None:
    async with place.connect() as client:
        foreign = Foreign(place)
        await asyncio.to_thread(foreign.begin)
        begun_s = time.monotonic()
        assert await client.result("foreign", 0) is None
        assert time.monotonic() - begun_s < 8
        await asyncio.to_thread(foreign.abort)
        assert await client.result("foreign", 0) is None


async def test_workers_with_a_token_answer_only_those_who_say_it(place: Place) -> None:
    async with place.work(http_token="right"), place.connect(http_token="right") as friend, place.connect() as stranger:
        assert (await friend.submit(c.Start("r", "asking"))).outcome == "applied"
        assert await friend.status("r") is not None

        answer = await stranger.submit(c.Start("r", "asking"))
        assert answer.outcome == "accepted"
        assert "HEADRACE_HTTP_TOKEN" in answer.reason
        with pytest.raises(StoreError, match="HEADRACE_HTTP_TOKEN"):
            await stranger.status("r")


async def test_where_no_broker_is_a_client_says_so_when_the_time_for_an_answer_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace_adapters.kafka.topic_layout.ANSWER_S", 1.0)
    begun_s = time.monotonic()
    with pytest.raises(StoreError, match=r"failed at Kafka \(127\.0\.0\.1:1\)"):
        await open_adapter(App("nowhere"), "kafka://127.0.0.1:1", {"state": tmp_path}).client()

    assert time.monotonic() - begun_s < 20


async def test_a_program_without_asyncio_does_the_same(place: Place) -> None:
    def program() -> list[Any]:
        with place.made().connect_sync(place.url) as client:
            handle = client.start("double", 21)
            many = client.start_many("double", range(2_000), run_id=lambda number: f"many-{number}")
            last = client.result("many-1999", RESULT_S)
            return [handle.result(RESULT_S), many, last, [event["type"] for event in handle.events(follow=True)][-1]]

    async with place.work():
        one, many, last, end = await asyncio.to_thread(program)

    assert (one.output, many, last.output, end) == (42, 2_000, 3_998, "runCompleted")


async def test_the_commands_reach_runs_as_they_do_on_one_machine(place: Place, tmp_path: Path, say: Say) -> None:
    lines = tmp_path / "starts.jsonl"
    lines.write_text("".join(json.dumps({"runId": f"line-{n}", "input": n}) + "\n" for n in range(1_000)))

    async def headrace(*arguments: str) -> tuple[int, list[dict[str, Any]]]:
        command = [
            sys.executable,
            "-m",
            "headrace_adapters.cli.main",
            *arguments,
            "--url",
            place.url,
            "--app",
            place.app,
            "--json",
        ]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]

    async with place.work():
        assert (await headrace("start", "asking", "--run-id", "r"))[1][0]["outcome"] == "applied"
        begun_s = time.monotonic()
        code, (counts,) = await headrace("start", "double", "--from", str(lines))
        took_s = time.monotonic() - begun_s
        assert (code, counts["started"], counts["bad"]) == (0, 1_000, 0)
        say(f"start --from: 1000 lines in {took_s:.1f} s")
        assert (await headrace("status", "r"))[1][0]["awaiting"] == ["ask"]
        assert (await headrace("pause", "r"))[1][0]["outcome"] == "applied"
        assert (await headrace("unpause", "r"))[1][0]["outcome"] == "applied"
        assert len((await headrace("list", "--flow", "double", "--limit", "7"))[1]) == 7
        assert (await headrace("resume", "r", "ask", "--output", "3"))[1][0]["outcome"] == "applied"
        assert (await headrace("result", "r", "--wait"))[1][0]["output"] == 3
        assert (await headrace("signal", "r", "answered"))[1][0]["outcome"] == "ignored"
        assert (await headrace("cancel", "unknown"))[0] == 7
        assert (await headrace("events", "r", "--follow"))[1][-2]["type"] in ("runCompleted", "commandRejected")
    assert (await headrace("result", "line-999"))[1][0]["output"] == 1_998
