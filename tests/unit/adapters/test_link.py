"""What a client in another process may rely on, over a worker that is a small fake."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from headrace import commands as c
from headrace import errors
from headrace.adapter import Answer, Client, RunResult
from headrace.errors import (
    BlueprintInvalid,
    CommandRefused,
    HeadraceError,
    Problem,
    RecordRefused,
    StoreError,
    StoreFull,
    StoreLocked,
    ValueRefused,
)
from headrace.values import encode
from headrace_adapters.link import LinkClient, LinkLimits, LinkServer, connect
from headrace_adapters.link.address import ADDRESS_NAME, read_address
from headrace_adapters.link.limits import EVENTS_AHEAD_MAX
from headrace_adapters.link.requester import Requester

DEADLINE_S = 20.0


class FakeClient(Client):
    """Remembers what it was given; a run whose id is a key of *failures* fails, one of *gates* waits there."""

    def __init__(self) -> None:
        self.commands: list[c.Command] = []
        self.results: dict[str, asyncio.Future[RunResult]] = {}
        self.statuses: dict[str, dict[str, Any]] = {}
        self.histories: dict[str, list[dict[str, Any]]] = {}
        self.failures: dict[str, Exception] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.asked: list[Any] = []
        self.given = 0
        self.active = 0
        self.active_max = 0
        self.cancelled: list[str] = []
        self.ended_streams: list[str] = []

    async def submit(self, command: c.Command) -> Answer:
        self.commands.append(command)
        await self._pass(command.run_id)
        return Answer("applied", f"as {type(command).__name__}")

    async def result(self, run_id: str, timeout_s: float | None = None) -> RunResult | None:
        self.asked.append((run_id, timeout_s))
        await self._pass(run_id)
        future = self.results.setdefault(run_id, asyncio.get_running_loop().create_future())
        try:
            done, _ = await asyncio.wait([future], timeout=timeout_s)
        except asyncio.CancelledError:
            self.cancelled.append(run_id)
            raise
        return future.result() if done else None

    async def status(self, run_id: str) -> dict[str, Any] | None:
        self.asked.append(run_id)
        await self._pass(run_id)
        return self.statuses.get(run_id)

    async def runs(
        self, *, states: frozenset[str] | None = None, flow: str | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        self.asked.append((states, flow, limit))
        return [{"runId": run_id, **status} for run_id, status in self.statuses.items()][:limit]

    async def events(self, run_id: str, *, follow: bool = False) -> AsyncIterator[dict[str, Any]]:
        try:
            for event in self.histories.get(run_id, []):
                self.given += 1
                yield event
            if follow:
                await self._pass(run_id)
            if run_id in self.failures:
                raise self.failures[run_id]
        finally:
            self.ended_streams.append(run_id)

    async def close(self) -> None:
        raise AssertionError("a link does not own the client that it serves")

    async def _pass(self, run_id: str) -> None:
        if run_id in self.failures:
            raise self.failures[run_id]
        if run_id in self.gates:
            self.active += 1
            self.active_max = max(self.active_max, self.active)
            try:
                await self.gates[run_id].wait()
            except asyncio.CancelledError:
                self.cancelled.append(run_id)
                raise
            finally:
                self.active -= 1


def result_of(run_id: str, output: Any = None) -> RunResult:
    return RunResult(run_id, "flow", "1", "completed", output, {"k": [1, None]}, [{"nodeId": "A"}], 5, 9)


async def until(condition: Any) -> None:
    """Let the loop turn until *condition* holds; the deadline is only there so that a failing test ends."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - what is waited for is in no event
            await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def serving(fake: Client, folder: Path, **limits: int) -> AsyncIterator[LinkServer]:
    server = LinkServer(fake, folder, limits=LinkLimits(**limits))
    await server.start()
    try:
        yield server
    finally:
        await server.close(0)


async def reach(folder: Path) -> LinkClient:
    client = await connect(folder)
    assert client is not None
    return client


@contextlib.asynccontextmanager
async def linked(fake: Client, folder: Path, **limits: int) -> AsyncIterator[LinkClient]:
    async with serving(fake, folder, **limits):
        client = await reach(folder)
        try:
            yield client
        finally:
            await client.close()


class Raw:
    """A peer that writes bytes as it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def write(self, *requests: Any) -> None:
        self.writer.write(b"".join(json.dumps(request).encode() + b"\n" for request in requests))

    async def read(self) -> Any:
        async with asyncio.timeout(DEADLINE_S):
            return json.loads(await self.reader.readline())


@contextlib.asynccontextmanager
async def raw(folder: Path) -> AsyncIterator[Raw]:
    address = read_address(folder)
    assert address is not None
    reader, writer = await asyncio.open_unix_connection(address.path(folder), limit=64 * 1024 * 1024)
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


COMMANDS: list[c.Command] = [
    c.Start("r1", "order"),
    c.Start("läuft-Ω-\U0001f980-\n-\x00", "ördër", "2", encode({"a": [1, 2.5, None, "\u2028\n"]}), {"k ey": b"null"}),
    c.Resume("r1", "approval", "ok", encode("yes"), "key-1", "req-1"),
    c.Signal("r1", "paid", encode([True]), None, "req-2"),
    c.Cancel("r1", "no longer wanted", "req-3"),
    c.Pause("r1", "", "req-4"),
    c.Unpause("r1"),
]


# Commands.


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: type(command).__name__)
async def test_a_command_arrives_as_it_was_given_and_its_answer_comes_back(tmp_path: Path, command: c.Command) -> None:
    fake = FakeClient()
    async with linked(fake, tmp_path) as client:
        answer = await client.submit(command)

    assert fake.commands == [command]
    assert answer == Answer("applied", f"as {type(command).__name__}")


async def test_many_commands_on_one_connection_keep_their_order(tmp_path: Path) -> None:
    fake = FakeClient()
    async with linked(fake, tmp_path, in_flight_max=16) as client:
        answers = await asyncio.gather(*(client.submit(c.Start(f"r{i}", "f")) for i in range(500)))

    assert [command.run_id for command in fake.commands] == [f"r{i}" for i in range(500)]
    assert {answer.outcome for answer in answers} == {"applied"}


async def test_a_request_that_takes_long_holds_up_no_other(tmp_path: Path) -> None:
    fake = FakeClient()
    fake.gates["slow"] = asyncio.Event()
    async with linked(fake, tmp_path) as client:
        slow = asyncio.create_task(client.submit(c.Start("slow", "f")))
        await until(lambda: fake.active == 1)

        assert (await client.submit(c.Start("fast", "f"))).outcome == "applied"
        assert not slow.done()
        fake.gates["slow"].set()
        assert (await slow).outcome == "applied"


async def test_two_clients_work_side_by_side_and_one_may_leave(tmp_path: Path) -> None:
    fake = FakeClient()
    fake.gates["slow"] = asyncio.Event()
    async with serving(fake, tmp_path):
        one, two = await reach(tmp_path), await reach(tmp_path)
        waiting = asyncio.create_task(one.submit(c.Start("slow", "f")))
        await until(lambda: fake.active == 1)
        await two.submit(c.Start("r2", "f"))
        await two.close()
        fake.gates["slow"].set()

        assert (await waiting).outcome == "applied"
        assert (await one.submit(c.Start("r3", "f"))).outcome == "applied"
        await one.close()


async def test_a_value_as_deep_as_values_may_be_passes_both_ways(tmp_path: Path) -> None:
    deep: Any = 1
    for _ in range(253):
        deep = [deep]
    fake = FakeClient()
    async with linked(fake, tmp_path) as client:
        fake.results["r1"] = asyncio.get_running_loop().create_future()
        fake.results["r1"].set_result(result_of("r1", {"d": deep[0]}))
        command = c.Start("r1", "f", None, encode(deep), {"k": encode(deep)})

        await client.submit(command)
        result = await client.result("r1")

    assert fake.commands == [command]
    assert result == result_of("r1", {"d": deep[0]})


# Results, status and lists.


async def test_a_result_comes_back_whole(tmp_path: Path) -> None:
    fake = FakeClient()
    async with linked(fake, tmp_path) as client:
        waiting = asyncio.create_task(client.result("ré"))
        await until(lambda: "ré" in fake.results)
        fake.results["ré"].set_result(result_of("ré", {"x": "\U0001f980"}))

        assert await waiting == result_of("ré", {"x": "\U0001f980"})


async def test_the_worker_does_the_waiting_for_a_result(tmp_path: Path) -> None:
    fake = FakeClient()
    async with linked(fake, tmp_path) as client:
        assert await client.result("r1", 0) is None
        assert await client.result("r1", 0.02) is None
        assert await client.result("r1", -1) is None

    first, second, third = fake.asked
    assert first == third == ("r1", 0)
    assert second[0] == "r1"
    assert 0 < second[1] <= 0.02


async def test_status_and_list_pass_what_was_asked(tmp_path: Path) -> None:
    fake = FakeClient()
    fake.statuses["r1"] = {"status": "awaiting", "nodes": {"Ä": "waiting"}}
    async with linked(fake, tmp_path) as client:
        assert await client.status("r1") == {"status": "awaiting", "nodes": {"Ä": "waiting"}}
        assert await client.status("r9") is None
        assert await client.runs() == [{"runId": "r1", "status": "awaiting", "nodes": {"Ä": "waiting"}}]
        assert await client.runs(states=frozenset({"failed", "running"}), flow="f", limit=0) == []

    assert fake.asked == ["r1", "r9", (None, None, 100), (frozenset({"failed", "running"}), "f", 0)]


async def test_results_that_are_waited_for_leave_room_for_commands(tmp_path: Path) -> None:
    fake = FakeClient()
    async with linked(fake, tmp_path, in_flight_max=1, waiting_max=3) as client:
        waiting = [asyncio.create_task(client.result(f"r{i}")) for i in range(8)]
        await until(lambda: len(fake.asked) == 3)

        assert (await client.submit(c.Signal("r0", "go"))).outcome == "applied"
        # So many wait that this one only gets to look, once its time is over.
        assert await client.result("r7", 0.01) is None
        assert fake.asked[3:] == [("r7", 0)]
        for i in range(8):
            future = fake.results.setdefault(f"r{i}", asyncio.get_running_loop().create_future())
            future.set_result(result_of(f"r{i}"))

        assert await asyncio.gather(*waiting) == [result_of(f"r{i}") for i in range(8)]


# Events.


async def test_a_history_comes_in_sequence_and_ends(tmp_path: Path) -> None:
    fake = FakeClient()
    fake.histories["r1"] = [{"seq": i, "type": "x"} for i in range(5 * EVENTS_AHEAD_MAX)]
    async with linked(fake, tmp_path) as client:
        assert [event async for event in client.events("r1")] == fake.histories["r1"]
        assert [event async for event in client.events("r9")] == []


async def test_a_history_that_is_followed_goes_on_until_the_run_ends(tmp_path: Path) -> None:
    fake = FakeClient()
    fake.histories["r1"] = [{"seq": 0}]
    fake.gates["r1"] = asyncio.Event()
    async with linked(fake, tmp_path) as client:
        events = client.events("r1", follow=True)

        assert await anext(events) == {"seq": 0}
        await until(lambda: fake.active == 1)
        fake.gates["r1"].set()
        assert [event async for event in events] == []


async def test_a_stream_that_is_left_ends_at_the_worker(tmp_path: Path) -> None:
    fake = FakeClient()
    fake.histories["r1"] = [{"seq": 0}]
    fake.gates["r1"] = asyncio.Event()
    async with linked(fake, tmp_path, waiting_max=1) as client:
        for _ in range(3):
            async for event in client.events("r1", follow=True):
                assert event == {"seq": 0}
                break
        await until(lambda: len(fake.ended_streams) == 3)

        assert (await client.submit(c.Start("r2", "f"))).outcome == "applied"


async def test_a_reader_that_is_slow_is_not_flooded(tmp_path: Path) -> None:
    fake = FakeClient()
    fake.histories["r1"] = [{"seq": i} for i in range(1_000)]
    async with linked(fake, tmp_path) as client:
        events = client.events("r1")
        for i in range(10):
            assert await anext(events) == {"seq": i}
        for _ in range(10):
            await client.status("r1")

        # The one more is in the worker's hand.
        assert fake.given == EVENTS_AHEAD_MAX + 1
        assert len([event async for event in events]) == 990


async def test_an_error_within_a_stream_is_raised_after_what_came_before(tmp_path: Path) -> None:
    fake = FakeClient()
    fake.histories["r1"] = [{"seq": 0}, {"seq": 1}]
    fake.failures["r1"] = StoreFull("the disk is full; free space")
    async with linked(fake, tmp_path) as client:
        events = client.events("r1")

        assert await anext(events) == {"seq": 0}
        assert await anext(events) == {"seq": 1}
        with pytest.raises(StoreFull, match="free space"):
            await anext(events)


# Cancellation.


async def test_a_request_whose_caller_is_cancelled_is_given_up_by_the_worker(tmp_path: Path) -> None:
    fake = FakeClient()
    fake.gates["slow"] = asyncio.Event()
    async with linked(fake, tmp_path) as client:
        tasks = [asyncio.create_task(client.submit(c.Start("slow", "f"))), asyncio.create_task(client.result("r1"))]
        await until(lambda: fake.active == 1 and "r1" in fake.results)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await until(lambda: len(fake.cancelled) == 2)

        assert all(task.cancelled() for task in tasks)
        assert sorted(fake.cancelled) == ["r1", "slow"]
        assert (await client.submit(c.Start("r2", "f"))).outcome == "applied"


async def test_requests_of_a_peer_that_is_gone_are_given_up(tmp_path: Path) -> None:
    fake = FakeClient()
    async with serving(fake, tmp_path):
        async with raw(tmp_path) as peer:
            peer.write({"id": 1, "op": "result", "runId": "r1"})
            await until(lambda: "r1" in fake.results)

        await until(lambda: fake.cancelled == ["r1"])


async def test_an_answer_that_comes_while_its_caller_is_cancelled_is_dropped_quietly(tmp_path: Path) -> None:
    fake = FakeClient()
    fake.gates["slow"] = asyncio.Event()
    complaints: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    async with serving(fake, tmp_path):
        address = read_address(tmp_path)
        assert address is not None
        _, requester = await loop.create_unix_connection(lambda: Requester(LinkLimits()), address.path(tmp_path))
        asking = asyncio.create_task(requester.ask("status", {"runId": "slow"}))
        await until(lambda: fake.active == 1)
        requester.frame_received(b'{"id": 1, "error": {"type": "StoreError", "message": "late"}}')
        asking.cancel()
        await asyncio.wait([asking])
        assert asking.cancelled()
        del asking
        gc.collect()

        assert complaints == []
        await requester.close()


# Errors.


ERRORS = [
    BlueprintInvalid("order", (Problem("EMPTY_NODE_ID", "node ''", "give it an id"),))
    if name == "BlueprintInvalid"
    else errors.RunEndedBadly("it failed", None)
    if name == "RunEndedBadly"
    else getattr(errors, name)(f"text of {name} \U0001f980")
    for name in errors.__all__
    if name != "Problem"
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_an_error_of_the_worker_is_raised_as_the_same_class(tmp_path: Path, error: HeadraceError) -> None:
    fake = FakeClient()
    fake.failures["r1"] = error
    async with linked(fake, tmp_path) as client:
        with pytest.raises(HeadraceError) as caught:
            await client.submit(c.Start("r1", "f"))

    assert type(caught.value) is type(error)
    assert str(caught.value) == str(error)
    if isinstance(error, BlueprintInvalid):
        assert isinstance(caught.value, BlueprintInvalid)
        assert (caught.value.blueprint_id, caught.value.problems) == (error.blueprint_id, error.problems)


async def test_other_errors_are_named_within_the_text_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Mine(CommandRefused):
        pass

    fake = FakeClient()
    fake.failures.update(r1=ZeroDivisionError("division by zero"), r2=Mine("mine, \udc80"))
    async with linked(fake, tmp_path) as client:
        with pytest.raises(HeadraceError, match="ZeroDivisionError: division by zero") as caught:
            await client.status("r1")
        with pytest.raises(CommandRefused, match=r"mine, \\udc80"):
            await client.status("r2")
        assert await client.status("r3") is None

    assert type(caught.value) is HeadraceError
    assert [record.exc_info is not None for record in caplog.records] == [True]


async def test_text_that_is_no_unicode_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    async with linked(FakeClient(), tmp_path) as client:
        with pytest.raises(ValueRefused, match="cannot be sent"):
            await client.status("\udc80")
        with pytest.raises(RecordRefused):
            await client.submit(c.Start("\udc80", "f"))
        with pytest.raises(ValueRefused, match="compact"):
            await client.submit(c.Start("r1", "f", None, b"[\n1]"))
        assert await client.status("r1") is None


async def test_a_worker_that_lets_go_of_a_request_says_so(tmp_path: Path) -> None:
    fake = FakeClient()
    fake.gates["slow"] = asyncio.Event()
    async with linked(fake, tmp_path) as client:
        before = asyncio.all_tasks()
        submitted = asyncio.create_task(client.submit(c.Start("slow", "f")))
        await until(lambda: fake.active == 1)
        (inner,) = asyncio.all_tasks() - before - {submitted}
        inner.cancel()

        with pytest.raises(StoreError, match="outcome of this start is unknown"):
            await submitted


# Bounds.


async def test_a_request_that_is_too_large_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    fake = FakeClient()
    async with linked(fake, tmp_path, frame_bytes_max=5_000, value_bytes_max=3_000) as client:
        with pytest.raises(ValueRefused, match=r"limit is 5000.*frame_bytes_max"):
            await client.submit(c.Start("r1", "f", None, encode("x" * 5_000)))
        with pytest.raises(HeadraceError, match="3000"):
            await client.submit(c.Start("r2", "f", None, encode("x" * 4_000)))
        assert (await client.submit(c.Start("r3", "f", None, encode("x" * 2_000)))).outcome == "applied"

    assert [command.run_id for command in fake.commands] == ["r3"]


async def test_an_answer_that_is_too_large_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    fake = FakeClient()
    fake.statuses["r1"] = {"status": "x" * 5_000}
    fake.histories["r1"] = [{"seq": 0}, {"seq": 1, "output": "x" * 5_000}]
    fake.failures["r2"] = HeadraceError("\x01" * 5_000)
    async with linked(fake, tmp_path, frame_bytes_max=5_000) as client:
        with pytest.raises(ValueRefused, match=r"the answer has \d+ bytes and the limit is 5000.*frame_bytes_max"):
            await client.status("r1")
        with pytest.raises(ValueRefused, match="an event has"):
            _ = [event async for event in client.events("r1")]
        with pytest.raises(HeadraceError, match=r"\x01{500} \.\.\."):
            await client.status("r2")
        assert await client.status("r3") is None


async def test_a_frame_that_is_too_long_is_skipped_and_the_next_one_is_read(tmp_path: Path) -> None:
    async with serving(FakeClient(), tmp_path, frame_bytes_max=5_000), raw(tmp_path) as peer:
        peer.writer.write(b'{"id": 1, "op": "status", "runId": "' + b"x" * 3_000_000 + b'"}\n')
        peer.write({"id": 2, "op": "status", "runId": "r1"})

        refused = await peer.read()
        assert refused["id"] is None
        assert refused["error"]["type"] == "RecordRefused"
        assert "5000 bytes" in refused["error"]["message"]
        assert await peer.read() == {"id": 2, "value": None}


async def test_no_more_requests_are_read_than_may_be_in_flight(tmp_path: Path) -> None:
    fake = FakeClient()
    fake.gates["slow"] = asyncio.Event()
    async with serving(fake, tmp_path, in_flight_max=4), raw(tmp_path) as peer:
        peer.write(*({"id": i, "op": "status", "runId": "slow"} for i in range(20_000)))
        await until(lambda: fake.active == 4)
        other = await reach(tmp_path)
        await other.status("r1")
        fake.gates["slow"].set()

        answers = [await peer.read() for _ in range(20_000)]
        await other.close()

    assert fake.active_max == 4
    assert answers == [{"id": i, "value": None} for i in range(20_000)]


async def test_a_peer_that_does_not_take_its_answers_is_not_read_further(tmp_path: Path) -> None:
    fake = FakeClient()
    fake.statuses["r1"] = {"status": "x" * 100_000}
    async with serving(fake, tmp_path, in_flight_max=8), raw(tmp_path) as peer:
        peer.writer.transport.pause_reading()
        peer.write(*({"id": i, "op": "status", "runId": "r1"} for i in range(2_000)))
        async with asyncio.timeout(DEADLINE_S):
            asked = -1
            while asked != len(fake.asked) or not asked:
                asked = len(fake.asked)
                for _ in range(20):
                    await asyncio.sleep(0.001)
        assert asked < 200
        peer.writer.transport.resume_reading()

        assert [(await peer.read())["id"] for _ in range(2_000)] == [*range(2_000)]


async def test_a_peer_that_waits_for_too_much_is_told(tmp_path: Path) -> None:
    async with serving(FakeClient(), tmp_path, waiting_max=2), raw(tmp_path) as peer:
        peer.write(*({"id": i, "op": "result", "runId": "r1"} for i in range(3)))
        refused = await peer.read()
        peer.write({"op": "abandon", "request": 0}, {"id": 3, "op": "result", "runId": "r1", "timeoutS": 0.001})

        assert refused["id"] == 2
        assert refused["error"]["type"] == "CommandRefused"
        assert "waiting_max" in refused["error"]["message"]
        assert await peer.read() == {"id": 3, "value": None}


@pytest.mark.parametrize(
    ("line", "number", "expected"),
    [
        (b"\x00\xff\xfe\x80garbage", None, "one JSON object"),
        (b"GET / HTTP/1.1\r", None, "one JSON object"),
        (b"[" * 100_000, None, "one JSON object"),
        (b"[1]", None, "JSON object"),
        (b"null", None, "JSON object"),
        (b"{}", None, "field id"),
        (b'{"id": "7", "op": "status", "runId": "r"}', None, "field id"),
        (b'{"id": true, "op": "status", "runId": "r"}', None, "field id"),
        (b'{"id": 7}', 7, "field op of a request: expected one of submit, hello, result"),
        (b'{"id": 7, "op": ["x"]}', 7, "field op"),
        (b'{"op": ["more"]}', None, "field id"),
        (b'{"id": 7, "op": "drop"}', 7, "'drop'"),
        (b'{"id": 7, "op": "submit"}', 7, "field command of this request: expected an object, not nothing"),
        (b'{"id": 7, "op": "submit", "command": {}}', 7, "type"),
        (b'{"id": 7, "op": "submit", "command": {"type": "start", "runId": "r"}}', 7, "blueprintId"),
        (b'{"id": 7, "op": "result"}', 7, "field runId of this request: expected a text"),
        (b'{"id": 7, "op": "result", "runId": "r", "timeoutS": -1}', 7, "timeoutS"),
        (b'{"id": 7, "op": "result", "runId": "r", "timeoutS": "1"}', 7, "timeoutS"),
        (b'{"id": 7, "op": "runs", "limit": 1e9}', 7, "field limit of this request: expected a whole number"),
        (b'{"id": 7, "op": "runs", "limit": 1, "states": "running"}', 7, "a list of texts"),
        (b'{"id": 7, "op": "runs", "limit": 1, "flow": 3}', 7, "field flow"),
        (b'{"id": 7, "op": "events", "runId": "r", "follow": 1}', 7, "true or false"),
        (b'{"id": 7, "op": "hello", "protocol": 99}', 7, "field protocol"),
        (b'{"op": "more", "request": 7, "count": 1000000000}', None, "field count"),
        (b'{"op": "abandon"}', None, "field request"),
    ],
)
async def test_a_malformed_request_is_told_what_was_expected(
    tmp_path: Path, line: bytes, number: int | None, expected: str
) -> None:
    async with linked(FakeClient(), tmp_path) as other, raw(tmp_path) as peer:
        peer.writer.write(line + b"\n")
        response = await peer.read()
        peer.write({"id": 8, "op": "status", "runId": "r1"})

        assert response["id"] == number
        assert response["error"]["type"] in {"RecordRefused", "ValueRefused"}
        assert expected in response["error"]["message"]
        assert len(response["error"]["message"]) < 1_000
        assert await peer.read() == {"id": 8, "value": None}
        assert await other.status("r1") is None


async def test_a_number_that_is_in_use_is_refused_and_the_first_request_goes_on(tmp_path: Path) -> None:
    fake = FakeClient()
    fake.gates["slow"] = asyncio.Event()
    async with serving(fake, tmp_path), raw(tmp_path) as peer:
        peer.write({"id": 1, "op": "status", "runId": "slow"}, {"id": 1, "op": "status", "runId": "r1"})
        refused = await peer.read()
        fake.gates["slow"].set()

        assert refused["id"] is None
        assert "1 is in use" in refused["error"]["message"]
        assert await peer.read() == {"id": 1, "value": None}


async def test_a_request_in_pieces_and_several_in_one_piece_are_read_alike(tmp_path: Path) -> None:
    async with serving(FakeClient(), tmp_path), raw(tmp_path) as peer:
        for byte in b'{"id": 1, "op": "status", "runId": "\xc3\xa9"}':
            peer.writer.write(bytes([byte]))
            await peer.writer.drain()
            await asyncio.sleep(0)
        peer.writer.write(b'\n\n{"id": 2, "op": "status", "runId": "r"}\n{"id": 3, "op": "status", "runId": "r"}\n')

        assert [(await peer.read())["id"] for _ in range(3)] == [1, 2, 3]


async def test_a_worker_that_talks_nonsense_is_given_up(tmp_path: Path) -> None:
    """Something else listens at the address, or a version that this one does not understand."""

    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"220 welcome\n")
        await reader.read()
        writer.close()

    path = tmp_path / "worker.sock"
    address = {"pid": 1, "socket": "worker.sock", "version": "1", "protocol": 1}
    (tmp_path / ADDRESS_NAME).write_text(json.dumps(address), encoding="utf-8")
    async with await asyncio.start_unix_server(babble, path):
        with pytest.raises(HeadraceError, match="same version of Headrace"):
            await connect(tmp_path)


# The end of a worker.


async def test_where_no_worker_runs_there_is_no_client(tmp_path: Path) -> None:
    assert await connect(tmp_path) is None
    assert await connect(tmp_path / "missing") is None


async def test_a_worker_that_stops_answers_what_is_in_flight_and_takes_nothing_new(tmp_path: Path) -> None:
    fake = FakeClient()
    fake.gates["slow"] = asyncio.Event()
    server = LinkServer(fake, tmp_path)
    await server.start()
    client = await reach(tmp_path)
    slow = asyncio.create_task(client.submit(c.Start("slow", "f")))
    waiting = asyncio.create_task(client.result("r1"))
    await until(lambda: fake.active == 1 and "r1" in fake.results)
    closing = asyncio.create_task(server.close(DEADLINE_S))
    await asyncio.sleep(0)

    with pytest.raises(StoreError, match="is stopping and did nothing"):
        await client.submit(c.Start("r2", "f"))
    assert await connect(tmp_path) is None
    assert not closing.done()
    fake.gates["slow"].set()
    await closing

    assert (await slow).outcome == "applied"
    with pytest.raises(StoreError, match=r"the worker stopped.*try again"):
        await waiting
    with pytest.raises(StoreError, match=r"nothing was sent.*try again"):
        await client.submit(c.Start("r3", "f"))
    with pytest.raises(StoreError, match="nothing was sent"):
        await anext(client.events("r1"))
    assert [command.run_id for command in fake.commands] == ["slow"]
    assert not (tmp_path / ADDRESS_NAME).exists()
    await server.close(0)
    await client.close()


async def test_a_grace_that_is_over_leaves_the_outcome_unknown(tmp_path: Path) -> None:
    fake = FakeClient()
    fake.gates["slow"] = asyncio.Event()
    server = LinkServer(fake, tmp_path)
    await server.start()
    client = await reach(tmp_path)
    slow = asyncio.create_task(client.submit(c.Start("slow", "f")))
    await until(lambda: fake.active == 1)
    await server.close(0.01)

    with pytest.raises(StoreError, match=r"outcome of this start is unknown.*sending it again is safe"):
        await slow
    assert fake.cancelled == ["slow"]
    await client.close()


async def test_a_client_that_is_closed_ends_what_waits(tmp_path: Path) -> None:
    fake = FakeClient()
    async with serving(fake, tmp_path):
        client = await reach(tmp_path)
        waiting = asyncio.create_task(client.result("r1"))
        await until(lambda: "r1" in fake.results)
        await client.close()
        await client.close()

        with pytest.raises(StoreError, match="connection to the worker was closed"):
            await waiting
        with pytest.raises(StoreError, match="was closed"):
            await client.status("r1")
        await until(lambda: fake.cancelled == ["r1"])


async def test_a_second_worker_of_a_folder_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    async with linked(FakeClient(), tmp_path) as client:
        with pytest.raises(StoreLocked, match="already answers"):
            await LinkServer(FakeClient(), tmp_path).start()

        assert await client.status("r1") is None
        assert await (await reach(tmp_path)).status("r1") is None


# Other processes.


class ForkingClient(FakeClient):
    """Every command leaves a child behind, which waits on the same input and outlives its parent."""

    async def submit(self, command: c.Command) -> Answer:
        if os.fork() == 0:
            sys.stdin.read()
            os._exit(0)
        return await super().submit(command)


async def _serve(fake: FakeClient, folder: Path) -> None:
    fake.gates["slow"] = asyncio.Event()
    await LinkServer(fake, folder).start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


def serve(folder: str, mode: str) -> None:
    """Runs in the other process."""
    asyncio.run(_serve(ForkingClient() if mode == "forking" else FakeClient(), Path(folder)))


PROGRAM = "import runpy, sys; runpy.run_path(sys.argv[1])['serve'](*sys.argv[2:])"


@contextlib.contextmanager
def elsewhere(folder: Path, mode: str = "plain") -> Any:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, __file__, str(folder), mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


async def test_a_worker_that_is_killed_leaves_clear_errors_and_a_folder_for_the_next(tmp_path: Path) -> None:
    with elsewhere(tmp_path) as process:
        client = await reach(tmp_path)
        assert client.worker.pid == process.pid
        assert (await client.submit(c.Start("r1", "f"))).outcome == "applied"
        commands = [
            c.Start("slow", "f"),
            c.Resume("slow", "n", key="k"),
            c.Resume("slow", "n"),
            c.Signal("slow", "e"),
            c.Cancel("slow"),
        ]
        pending = [asyncio.create_task(client.submit(command)) for command in commands]
        pending += [asyncio.create_task(client.result("r1")), asyncio.create_task(client.result("r1", 60))]
        events = asyncio.create_task(anext(client.events("slow", follow=True)))
        assert await client.status("r1") is None
        process.send_signal(signal.SIGKILL)
        async with asyncio.timeout(DEADLINE_S):
            found = await asyncio.gather(*pending, events, return_exceptions=True)

    assert {type(error) for error in found} == {StoreError}
    start, keyed, resume, signalled, cancelled, *others = map(str, found)
    assert "outcome of this start is unknown" in start
    assert "sending it again is safe" in start
    assert "sending it again is safe" in keyed
    assert "may be applied twice" in resume
    assert "may be applied twice" in signalled
    assert "changes nothing more" in cancelled
    assert all("the worker stopped before it answered" in other for other in others)
    await client.close()
    assert (tmp_path / ADDRESS_NAME).exists()
    assert await connect(tmp_path) is None
    async with linked(FakeClient(), tmp_path) as successor:
        assert successor.worker.pid == os.getpid()
        assert (await successor.submit(c.Start("r1", "f"))).outcome == "applied"


async def test_a_worker_that_is_held_is_told_from_one_that_is_gone(tmp_path: Path) -> None:
    with elsewhere(tmp_path) as process:
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(StoreError, match=rf"process {process.pid}\) is there and does not answer"):
            await connect(tmp_path, timeout_s=0.1)
        process.send_signal(signal.SIGCONT)

        client = await reach(tmp_path)
        assert await client.status("r1") is None
        await client.close()


async def test_a_child_that_outlives_its_worker_answers_for_nobody(tmp_path: Path) -> None:
    with elsewhere(tmp_path, "forking") as process:
        client = await reach(tmp_path)
        waiting = asyncio.create_task(client.result("r1"))
        await client.submit(c.Start("r1", "f"))
        process.send_signal(signal.SIGKILL)

        async with asyncio.timeout(DEADLINE_S):
            with pytest.raises(StoreError, match="the worker stopped"):
                await waiting
        assert await connect(tmp_path) is None
        await client.close()


async def test_values_are_compact_json_on_the_wire(tmp_path: Path) -> None:
    """So that a peer in any language can read a line and be done."""
    fake = FakeClient()
    fake.statuses["r1"] = {"text": "two\nlines \u2028"}
    async with serving(fake, tmp_path), raw(tmp_path) as peer:
        peer.write({"id": 1, "op": "status", "runId": "r1"})

        line = await peer.reader.readline()
        assert orjson.loads(line) == {"id": 1, "value": {"text": "two\nlines \u2028"}}
