"""What a client owes, with a worker and without one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from headrace import App, Flow
from headrace import commands as c
from headrace.adapter import Client
from headrace.errors import RecordRefused, StoreError

from .places import Place
from .waiting import RESULT_S, eventually


def app() -> App:
    """Flows that end at once, fail, wait for somebody, and go on after a wait."""
    made = App("contract")
    made.add(Flow("quick").node("double", lambda ctx: ctx.input * 2))
    made.add(Flow("broken").node("boom", lambda: 1 / 0))
    asking = Flow("asking").wait("ask", event="answered")
    made.add(asking.node("after", lambda ctx: {"heard": ctx.input}, after="ask"))
    return made


async def started(client: Client, run_id: str, flow: str, value: bytes = b"null") -> None:
    answer = await client.submit(c.Start(run_id, flow, input=value))
    assert answer.outcome == "applied", answer


async def until(client: Client, run_id: str, state: str) -> dict[str, Any]:
    """The status of the run once it has this state."""

    async def look() -> dict[str, Any] | None:
        status = await client.status(run_id)
        return status if status is not None and status["status"] == state else None

    return await eventually(look)


# Answers.


async def test_a_start_is_applied_once_and_then_a_duplicate_while_it_runs_and_after(place: Place) -> None:
    async with place.work(app()) as client:
        await started(client, "r", "asking")
        assert (await client.submit(c.Start("r", "asking"))).outcome == "duplicate"
        assert (await client.submit(c.Start("r", "quick"))).outcome == "duplicate", "whatever flow it names"

        assert (await client.submit(c.Resume("r", "ask"))).outcome == "applied"
        assert await client.result("r", RESULT_S) is not None
        answer = await client.submit(c.Start("r", "asking"))

        assert answer.outcome == "duplicate"
        assert "has ended: completed" in answer.reason


async def test_a_command_that_does_not_fit_is_ignored_with_the_reason(place: Place) -> None:
    async with place.work(app()) as client:
        await started(client, "r", "asking")
        await until(client, "r", "awaiting")

        answers = {
            "a node that does not wait": await client.submit(c.Resume("r", "after")),
            "a node that is not there": await client.submit(c.Resume("r", "nowhere")),
            "unpause of what is not paused": await client.submit(c.Unpause("r")),
        }

        assert {name: answer.outcome for name, answer in answers.items()} == dict.fromkeys(answers, "ignored")
        assert all(answer.reason for answer in answers.values())
        assert (await until(client, "r", "awaiting"))["awaiting"] == ["ask"]


async def test_a_resume_key_counts_once(place: Place) -> None:
    async with place.work(app()) as client:
        await started(client, "r", "asking")
        await until(client, "r", "awaiting")

        first = await client.submit(c.Resume("r", "ask", output=b"1", key="k"))
        second = await client.submit(c.Resume("r", "ask", output=b"2", key="k"))
        result = await client.result("r", RESULT_S)

        assert first.outcome == "applied"
        assert second.outcome == "ignored"
        assert result is not None
        assert result.output == {"heard": 1}


@pytest.mark.parametrize(
    "command",
    [c.Resume("r", "ask"), c.Signal("r", "e"), c.Cancel("r"), c.Pause("r"), c.Unpause("r")],
    ids=lambda it: type(it).__name__,
)
async def test_a_command_for_a_run_that_nobody_knows_is_answered_so(place: Place, command: c.Command) -> None:
    async with place.work(app()) as client:
        answer = await client.submit(command)

        assert answer.outcome == "unknown"
        assert "'r'" in answer.reason
        assert await client.status("r") is None


async def test_a_command_for_a_run_that_has_ended_is_ignored_and_recorded(place: Place) -> None:
    async with place.work(app()) as client:
        await started(client, "r", "quick", b"4")
        before = await client.result("r", RESULT_S)
        answer = await client.submit(c.Cancel("r", "too late"))

        assert answer.outcome == "ignored"
        assert "has ended: completed" in answer.reason
        assert await client.result("r", 0) == before
        assert [event async for event in client.events("r")][-1]["type"] == "commandRejected"


async def test_a_command_that_no_record_could_hold_is_refused_and_names_the_field(place: Place) -> None:
    bad: list[tuple[c.Command, str]] = [
        (c.Start("", "quick"), "runId"),
        (c.Start("r" * 1_025, "quick"), "runId"),
        (c.Start("r", ""), "blueprintId"),
        (c.Start("r", "quick", context={"\ud800": b"1"}), "context"),
        (c.Start("r", "quick", input=b'"' + b"x" * 1_000_001 + b'"'), "input"),
        (c.Signal("r", "\ud800"), "event"),
        (c.Signal("r", "e", b'"' + b"x" * 1_000_001 + b'"'), "payload"),
        (c.Resume("r", "n", key="k" * 1_025), "idempotencyKey"),
        (c.Cancel("r", "\udfff"), "reason"),
    ]
    async with place.work(app()) as client:
        for command, field in bad:
            with pytest.raises(RecordRefused, match=f"field '{field}'.*: expected"):
                await client.submit(command)

        await started(client, "r", "quick", b"1")
        assert await client.result("r", RESULT_S) is not None, "the worker goes on"


async def test_without_a_worker_the_same_is_refused_and_nothing_is_kept(place: Place) -> None:
    async with place.connect(app()) as client:
        for command in (
            c.Start("r" * 1_025, "quick"),
            c.Signal("r", "\ud800"),
            c.Start("r", "quick", context={"\ud800": b"1"}),
        ):
            with pytest.raises(RecordRefused):
                await client.submit(command)
    async with place.work(app()) as client:
        assert await client.runs() == []


# Results.


async def test_a_result_is_given_at_once_after_a_wait_or_not_at_all(place: Place) -> None:
    async with place.work(app()) as client:
        assert await client.result("r", 0) is None
        assert await client.result("r", 0.02) is None
        await started(client, "r", "asking")
        assert await client.result("r", 0) is None
        waiting = asyncio.create_task(client.result("r"))
        await asyncio.sleep(0.02)
        assert not waiting.done()

        await client.submit(c.Signal("r", "answered", b'"yes"'))
        result = await asyncio.wait_for(waiting, RESULT_S)

        assert result is not None
        assert (result.run_id, result.blueprint_id, result.version) == ("r", "asking", "1")
        assert (result.status, result.output, result.errors) == ("completed", {"heard": "yes"}, [])
        assert 0 < result.started_at_ms <= result.ended_at_ms
        assert await client.result("r", 0) == result


async def test_a_result_may_be_waited_for_before_the_run_is_started(place: Place) -> None:
    async with place.work(app()) as client:
        waiting = asyncio.create_task(client.result("r", RESULT_S))
        await asyncio.sleep(0.02)
        await started(client, "r", "quick", b"21")

        result = await waiting

        assert result is not None
        assert result.output == 42


async def test_many_may_wait_for_one_result_and_one_may_give_up(place: Place) -> None:
    async with place.work(app()) as client:
        await started(client, "r", "asking")
        waiting = [asyncio.create_task(client.result("r")) for _ in range(20)]
        await asyncio.sleep(0.02)
        waiting[3].cancel()
        await client.submit(c.Signal("r", "answered"))

        results = await asyncio.gather(*waiting, return_exceptions=True)

        assert isinstance(results.pop(3), asyncio.CancelledError)
        assert {getattr(result, "status", result) for result in results} == {"completed"}


async def test_a_failed_run_gives_its_errors_by_node(place: Place) -> None:
    async with place.work(app()) as client:
        await started(client, "r", "broken")
        result = await client.result("r", RESULT_S)

        assert result is not None
        assert (result.status, result.output) == ("failed", None)
        assert result.errors == [{"nodeId": "boom", "code": "NODE_ERROR", "message": "division by zero"}]


# Looking.


async def test_a_status_shows_nodes_waits_and_values(place: Place) -> None:
    async with place.work(app()) as client:
        await client.submit(c.Start("r", "asking", context={"k": b'"v"'}))
        status = await until(client, "r", "awaiting")

        assert {"runId": "r", "flow": "asking", "version": "1"}.items() <= status.items()
        assert status["awaiting"] == ["ask"]
        assert status["waits"] == [{"node": "ask", "event": "answered"}]
        assert {node["id"]: node["state"] for node in status["nodes"]} == {"ask": "waiting", "after": "pending"}
        assert status["context"] == {"k": "v"}

        await client.submit(c.Cancel("r", "enough"))
        ended = await client.status("r")

        assert ended is not None
        assert ended["status"] == "cancelled"
        assert ended["flow"] == "asking"
        assert ended["awaiting"] == []


async def test_runs_are_listed_by_state_and_flow_and_within_the_limit(place: Place) -> None:
    async with place.work(app()) as client:
        for number in range(6):
            await started(client, f"q{number}", "quick", b"1")
            await started(client, f"a{number}", "asking")
        for number in range(6):
            assert await client.result(f"q{number}", RESULT_S) is not None
            await until(client, f"a{number}", "awaiting")

        rows = await client.runs()
        completed = await client.runs(states=frozenset(("completed",)))
        asking = await client.runs(flow="asking")
        none = await client.runs(states=frozenset(("failed", "running")), flow="quick")
        few = await client.runs(limit=5)

        assert len(rows) == 12
        assert {row["runId"] for row in completed} == {f"q{number}" for number in range(6)}
        assert {row["runId"] for row in asking} == {f"a{number}" for number in range(6)}
        assert none == []
        assert len(few) == 5
        assert all(set(row) == {"runId", "flow", "version", "status", "startedAt", "endedAt"} for row in completed)
        assert all(set(row) == {"runId", "flow", "version", "status", "startedAt"} for row in asking)


async def test_events_come_in_sequence_without_a_gap(place: Place) -> None:
    async with place.work(app()) as client:
        await started(client, "r", "quick", b"1")
        await client.result("r", RESULT_S)
        events = [event async for event in client.events("r")]

        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert events[0]["type"] == "runStarted"
        assert events[-1]["type"] == "runCompleted"
        assert all(event["at"] > 0 for event in events)
        assert [event async for event in client.events("nobody")] == []


async def test_events_are_followed_until_the_run_ends(place: Place) -> None:
    async with place.work(app()) as client:
        await started(client, "r", "asking")
        seen: list[dict[str, Any]] = []

        async def follow() -> None:
            async for event in client.events("r", follow=True):
                seen.append(event)

        following = asyncio.create_task(follow())
        await eventually(lambda: any(event["type"] == "waitOpened" for event in seen))
        assert not following.done()
        await client.submit(c.Signal("r", "answered"))
        await asyncio.wait_for(following, RESULT_S)

        assert seen == [event async for event in client.events("r")]


async def test_events_are_followed_also_where_something_was_refused_before_the_start(place: Place) -> None:
    """The record of a rejection stands behind all events of its run, and must not hide those that come later."""
    async with place.work(app()) as client:
        assert (await client.submit(c.Signal("r", "answered"))).outcome == "unknown"

        async def follow() -> list[str]:
            return [event["type"] async for event in client.events("r", follow=True)]

        following = asyncio.create_task(follow())
        await asyncio.sleep(0.02)
        await started(client, "r", "quick", b"1")
        types = await asyncio.wait_for(following, RESULT_S)

        assert types[0] == "commandRejected"
        assert types[1:] == [event["type"] async for event in client.events("r")][:-1]
        assert types[-1] == "runCompleted"


async def test_a_long_history_is_read_whole(place: Place) -> None:
    async with place.work(app()) as client:
        await started(client, "r", "asking")
        answers = await asyncio.gather(*(client.submit(c.Resume("r", "nowhere")) for _ in range(700)))
        assert {answer.outcome for answer in answers} == {"ignored"}

        seqs = [event["seq"] async for event in client.events("r")]

        assert seqs == list(range(1, len(seqs) + 1))
        assert len(seqs) > 700


# Several clients.


async def test_many_clients_work_side_by_side_and_one_may_leave(place: Place) -> None:
    async with place.work(app()) as first:
        others = [await place.adapter(app()).client() for _ in range(8)]
        await asyncio.gather(*(started(other, f"r{number}", "asking") for number, other in enumerate(others)))
        waiting = [asyncio.create_task(other.result(f"r{number}")) for number, other in enumerate(others[:-1])]
        await others[-1].close()
        for number in range(8):
            assert (await first.submit(c.Signal(f"r{number}", "answered"))).outcome == "applied"

        results = await asyncio.wait_for(asyncio.gather(*waiting), RESULT_S)

        assert {result.status for result in results if result} == {"completed"}
        assert await first.result("r7", RESULT_S) is not None
        await asyncio.gather(*(other.close() for other in others[:-1]))


async def test_two_clients_that_start_one_run_start_it_once(place: Place) -> None:
    async with place.work(app()) as client, place.connect(app()) as other:
        answers = await asyncio.gather(*(it.submit(c.Start("r", "asking")) for it in (client, other) * 10))

        outcomes = sorted(answer.outcome for answer in answers)

        assert outcomes == ["applied"] + ["duplicate"] * 19


# Without a worker.


async def test_without_a_worker_commands_are_accepted_and_taken_up_in_order_by_the_next_one(place: Place) -> None:
    async with place.connect(app()) as client:
        for command in (
            c.Start("r", "asking"),
            c.Signal("r", "answered", b'"first"'),
            c.Signal("r", "answered", b'"second"'),
        ):
            assert (await client.submit(command)).outcome == "accepted"
        assert await client.status("r") is None
        assert await client.result("r", 0) is None
        assert await client.result("r", place.wait_for_nobody_s) is None, "nobody works, so it does not wait for nothing"
        assert await client.runs() == []

    async with place.work(app()) as client:
        result = await client.result("r", RESULT_S)
        assert result is not None
        assert result.output == {"heard": "first"}

    async with place.connect(app()) as client:
        assert await client.result("r", 0) == result
        assert [event["type"] async for event in client.events("r", follow=True)][-1] == "runCompleted"
        assert (await client.submit(c.Start("r", "asking"))).outcome == "accepted"

    async with place.work(app()) as client:
        assert await client.result("r", RESULT_S) == result, "the start after the end was a duplicate"


async def test_thousands_of_starts_are_accepted_without_a_worker_at_a_steady_cost(place: Place) -> None:
    """Appending must not look through all that waits already: 3 000 records took seconds when it did."""
    number = 3_000
    async with place.connect(app()) as client:
        begun = asyncio.get_running_loop().time()
        for index in range(number):
            await client.submit(c.Start(f"r{index}", "quick", input=b"1"))
        assert asyncio.get_running_loop().time() - begun < place.starts_s

    async with place.work(app()) as client:
        for index in range(number):
            assert await client.result(f"r{index}", RESULT_S) is not None


async def test_a_client_that_is_asked_after_the_worker_stopped_says_so(place: Place) -> None:
    async with place.worker(app()) as (worker, client):
        await started(client, "r", "asking")
        waiting = asyncio.create_task(client.result("r"))
        await asyncio.sleep(0.02)
        await worker.stop()

        with pytest.raises(StoreError):
            await asyncio.wait_for(waiting, RESULT_S)
        with pytest.raises(StoreError):
            await client.submit(c.Start("r2", "quick"))
        with pytest.raises(StoreError):
            await client.status("r")
