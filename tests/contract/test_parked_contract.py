"""A worker that lacks a blueprint or an implementation parks its runs, visibly, and never fails or drops them for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from headrace import App, Flow
from headrace import commands as c
from headrace.adapter import Client
from headrace.errors import DefinitionError

from .places import Place
from .waiting import RESULT_S, eventually


async def parked(client: Client, run_id: str) -> str:
    """The reason for which the run is parked, once it is."""

    async def look() -> str | None:
        status = await client.status(run_id)
        return status["parkedReason"] if status is not None and status["status"] == "parked" else None

    return await eventually(look)


async def ended(client: Client, run_id: str) -> Any:
    result = await client.result(run_id, RESULT_S)
    assert result is not None, await client.status(run_id)
    assert result.status == "completed", result.errors
    return result.output


def greeting(version: str = "1", function: Callable[[], Any] = lambda: "hello") -> Flow:
    return Flow("greeting", version).node("greet", function)


def without_function() -> App:
    """An app that knows the blueprint and has nothing behind it."""
    return App("contract").add(greeting().to_blueprint())


async def test_a_run_of_an_unknown_flow_is_parked_until_a_worker_knows_it(place: Place) -> None:
    async with place.work(App("contract")) as client:
        answer = await client.submit(c.Start("r", "greeting", input=b"1", context={"k": b"2"}))
        assert answer.outcome == "applied"
        reason = await parked(client, "r")
        assert "does not know blueprint 'greeting'" in reason
        assert "start a worker with an app that has it" in reason
        assert [row["runId"] for row in await client.runs(states=frozenset(("parked",)))] == ["r"]
        assert (await client.submit(c.Start("r", "greeting"))).outcome == "duplicate"

    async with place.work(App("contract").add(greeting())) as client:
        assert await ended(client, "r") == "hello"
        assert [event["type"] async for event in client.events("r")][:4] == [
            "runStarted",
            "runParked",
            "runDuplicate",
            "runUnparked",
        ]


async def test_a_run_without_an_implementation_is_parked_until_a_worker_has_it(place: Place) -> None:
    async with place.work(without_function()) as client:
        await client.submit(c.Start("r", "greeting"))
        reason = await parked(client, "r")
        assert "no implementation of 'greeting.greet'" in reason

    async with place.work(without_function()) as client:
        await parked(client, "r")
        assert await client.result("r", 0.05) is None, "it stays parked as long as nothing has changed"

    async with place.work(App("contract").add(greeting())) as client:
        assert await ended(client, "r") == "hello"


async def test_a_run_in_the_middle_is_parked_where_the_next_worker_lacks_something(place: Place) -> None:
    flow = Flow("two").wait("ask", event="e").node("then", lambda ctx: ctx.input, after="ask")
    app = App("contract").add(flow)
    async with place.work(app) as client:
        await client.submit(c.Start("r", "two"))

    async with place.work(App("contract")) as client:
        assert (await client.submit(c.Signal("r", "e", b'"said"'))).outcome == "applied", "signals go on and are recorded"
        await parked(client, "r")

    async with place.work(app) as client:
        assert await ended(client, "r") == "said"


async def test_what_is_said_to_a_parked_run_is_kept_for_it(place: Place) -> None:
    flow = Flow("two").wait("ask", event="e").node("then", lambda ctx: ctx.input, after="ask")
    async with place.work(App("contract")) as client:
        await client.submit(c.Start("r", "two"))
        await client.submit(c.Start("gone", "two"))
        assert (await client.submit(c.Signal("r", "e", b'"early"'))).outcome == "applied"
        assert (await client.submit(c.Resume("r", "ask"))).outcome == "ignored"
        assert (await client.submit(c.Cancel("gone"))).outcome == "applied"
        result = await client.result("gone", RESULT_S)
        assert result is not None
        assert result.status == "cancelled"

    async with place.work(App("contract").add(flow)) as client:
        assert await ended(client, "r") == "early"


async def test_a_child_whose_flow_nobody_has_is_parked_and_its_parent_goes_on_with_it(place: Place) -> None:
    parent = {
        "id": "parent",
        "nodes": [{"id": "kid", "uses": "subflow", "params": {"blueprintId": "greeting"}}],
        "edges": [],
    }
    async with place.work(App("contract").add(parent)) as client:
        await client.submit(c.Start("r", "parent"))
        await parked(client, "r/kid")
        assert (await client.status("r") or {})["status"] == "running"

    async with place.work(App("contract").add(parent).add(greeting())) as client:
        assert await ended(client, "r") == "hello"


async def test_a_parked_run_that_is_paused_goes_on_when_both_are_over(place: Place) -> None:
    async with place.work(without_function()) as client:
        await client.submit(c.Start("r", "greeting"))
        await parked(client, "r")
        assert (await client.submit(c.Pause("r"))).outcome == "applied"

    async with place.work(App("contract").add(greeting())) as client:
        assert await client.result("r", 0.05) is None
        assert (await client.submit(c.Unpause("r"))).outcome == "applied"
        assert await ended(client, "r") == "hello"


# Versions.


def versioned(version: str) -> Flow:
    flow = Flow("order", version).wait("ask", event="e")
    return flow.node(f"then{version}", lambda: f"by version {version}", after="ask")


async def test_a_run_keeps_the_version_that_it_started_with(place: Place) -> None:
    async with place.work(App("contract").add(versioned("1"))) as client:
        await client.submit(c.Start("old", "order"))

    both = App("contract").add(versioned("1")).add(versioned("2"))
    async with place.work(both) as client:
        await client.submit(c.Start("new", "order"))
        await client.submit(c.Start("chosen", "order", "1"))
        for run_id in ("old", "new", "chosen"):
            await client.submit(c.Signal(run_id, "e"))
        assert await ended(client, "old") == "by version 1"
        assert await ended(client, "new") == "by version 2"
        assert await ended(client, "chosen") == "by version 1"
        assert {row["runId"]: row["version"] for row in await client.runs()} == {"old": "1", "new": "2", "chosen": "1"}


async def test_the_blueprint_of_an_old_version_is_kept_when_the_app_has_only_the_new_one(place: Place) -> None:
    async with place.work(App("contract").add(versioned("1"))) as client:
        await client.submit(c.Start("old", "order"))

    async with place.work(App("contract").add(versioned("2"))) as client:
        status = await client.status("old")
        assert status is not None
        assert [node["id"] for node in status["nodes"]] == ["ask", "then1"]
        await client.submit(c.Signal("old", "e"))
        assert "'order.then1'" in await parked(client, "old"), "its function is what this app lacks"

    async with place.work(App("contract").add(versioned("1")).add(versioned("2"))) as client:
        assert await ended(client, "old") == "by version 1"


async def test_a_version_that_nobody_has_yet_parks_the_run(place: Place) -> None:
    async with place.work(App("contract").add(versioned("1"))) as client:
        await client.submit(c.Start("r", "order", "2"))
        assert "version '2' of blueprint 'order'" in await parked(client, "r")

    async with place.work(App("contract").add(versioned("1")).add(versioned("2"))) as client:
        await client.submit(c.Signal("r", "e"))
        assert await ended(client, "r") == "by version 2"


async def test_the_same_version_with_other_content_is_refused_and_nothing_is_changed(place: Place) -> None:
    async with place.work(App("contract").add(versioned("1"))) as client:
        await client.submit(c.Start("r", "order"))

    changed = Flow("order", "1").wait("ask", event="e").node("other", lambda: 1, after="ask")
    with pytest.raises(DefinitionError, match=r"'order' version '1' is known with other content.*another version"):
        await place.adapter(App("contract").add(changed)).worker().start()
    if place.clients_bring_blueprints:
        with pytest.raises(DefinitionError, match="known with other content"):
            await place.adapter(App("contract").add(changed)).client()

    async with place.work(App("contract").add(versioned("1"))) as client:
        await client.submit(c.Signal("r", "e"))
        assert await ended(client, "r") == "by version 1"


async def test_a_function_may_change_behind_the_same_blueprint(place: Place) -> None:
    async with place.work(App("contract").add(greeting(function=lambda: "hello"))) as client:
        await client.submit(c.Start("r1", "greeting"))
        assert await ended(client, "r1") == "hello"

    async with place.work(App("contract").add(greeting(function=lambda: "good day"))) as client:
        await client.submit(c.Start("r2", "greeting"))
        assert await ended(client, "r2") == "good day"
