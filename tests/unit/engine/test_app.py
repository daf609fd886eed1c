from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from headrace.adapter import Adapter, Client, Worker
from headrace.app import App, run_in_memory
from headrace.blueprint import to_json
from headrace.builder import Flow
from headrace.context import Context
from headrace.errors import (
    BlueprintInvalid,
    DefinitionError,
    RunEndedBadly,
    StoreError,
    StoreFull,
    ValueRefused,
)
from headrace.limits import ID_BYTES_MAX
from headrace.registry import Registry


@pytest.fixture(autouse=True)
def nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine's reaches a test, and what is written by default is written elsewhere."""
    monkeypatch.delenv("HEADRACE_URL", raising=False)
    monkeypatch.delenv("HEADRACE_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)


def files_written() -> list[Path]:
    return list(Path().iterdir())


def echo(ctx: Context) -> object:
    return ctx.input


def simple(flow_id: str = "f", version: str = "1") -> Flow:
    flow = Flow(flow_id, version)
    flow.node("a", echo, uses="echo")
    return flow


def waiting() -> Flow:
    return Flow("w").wait("ask", event="answered").node("a", echo, after="ask")


# What is in an app.


@pytest.mark.parametrize("name", ["a", "Orders.v2_x-1", "x" * 200])
def test_a_name_that_can_begin_topics_is_taken(name: str) -> None:
    assert App(name).name == name


@pytest.mark.parametrize("name", ["", "a b", "ö", "a/b", "x" * 201, None, 3])
def test_a_name_that_cannot_begin_topics_is_refused(name: object) -> None:
    with pytest.raises(DefinitionError, match="cannot be called"):
        App(name)  # type: ignore[arg-type]


def test_a_flow_may_be_added_first_and_written_afterwards() -> None:
    app, flow = App("a"), Flow("f")
    app.add(flow)

    @flow.node
    def later() -> int:
        return 1

    assert [node.id for node in app.blueprints[0].nodes] == ["later"]
    assert app.registry.keys() == ("f.later",)


def test_a_flow_brings_its_subflows_with_their_functions() -> None:
    grandchild = Flow("grandchild").node("x", lambda: 1)
    child = Flow("child").subflow("sub", grandchild)
    app = App("a").add(Flow("parent").subflow("sub", child))

    assert {flow.id for flow in app.flows} == {"parent", "child", "grandchild"}
    assert [blueprint.id for blueprint in app.blueprints][-1] == "parent"
    assert "grandchild.x" in app.registry


def test_adding_a_flow_twice_changes_nothing() -> None:
    flow = simple()
    app = App("a").add(flow).add(flow)

    assert len(app.flows) == 1
    assert len(app.blueprints) == 1


def test_blueprints_and_documents_bring_the_functions_that_they_are_given_with() -> None:
    registry = Registry()
    registry.add("other", echo)
    app = App("a")
    app.add(simple("one").to_blueprint(), {"echo": echo})
    app.add(to_json(simple("two").to_blueprint()), registry)
    app.register("third", echo)

    assert [blueprint.id for blueprint in app.blueprints] == ["one", "two"]
    assert set(app.registry.keys()) == {"echo", "other", "third"}


def test_what_is_no_flow_is_refused() -> None:
    with pytest.raises(DefinitionError, match="not int"):
        App("a").add(3)  # type: ignore[arg-type]
    with pytest.raises(BlueprintInvalid):
        App("a").add({"id": 3})


def test_two_versions_of_a_flow_live_side_by_side() -> None:
    app = App("a").add(simple(version="1")).add(simple(version="2"))

    assert [blueprint.version for blueprint in app.blueprints] == ["1", "2"]


def test_two_different_flows_of_one_id_and_version_are_refused() -> None:
    other = Flow("f").node("other", echo)

    with pytest.raises(DefinitionError, match="two different flows 'f'"):
        _ = App("a").add(simple()).add(other).blueprints


def test_two_meanings_of_one_key_are_refused() -> None:
    app = App("a").register("echo", lambda: 1).add(simple())

    with pytest.raises(DefinitionError, match="'echo'"):
        _ = app.registry


# Where it is carried.


@pytest.mark.parametrize("url", ["carrier-pigeon://x", "data"])
def test_a_url_that_nobody_carries_names_what_is_installed(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_URL", "nothing:")

    with pytest.raises(DefinitionError, match=r"no adapter is installed .* embedded:.* memory:"):
        App("a").open(url)


def test_an_empty_url_is_a_setting_that_cannot_be_used() -> None:
    with pytest.raises(DefinitionError, match="setting 'url' is ''"):
        App("a").open("")


async def test_the_url_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_URL", "memory:")
    app = App("a").add(simple())

    async with app.work():
        result = await (await app.start("f", 1)).result()

    assert result.output == 1
    assert files_written() == []


async def test_a_setting_that_the_adapter_does_not_know_is_refused() -> None:
    with pytest.raises(DefinitionError, match="speed"):
        async with App("a").work("memory:", speed=3):
            pass


async def test_an_app_that_is_not_connected_says_how_to_connect_it() -> None:
    app = App("a").add(simple())

    with pytest.raises(DefinitionError, match=r"app\.connect\(\)"):
        await app.start("f")
    with pytest.raises(DefinitionError, match=r"app\.connect\(\)"):
        await app.handle("r").status()


async def test_after_the_block_the_app_is_not_connected_any_more() -> None:
    app = App("a").add(simple())
    async with app.work("memory:") as client:
        assert app.client is client

    with pytest.raises(DefinitionError, match="not connected"):
        _ = app.client


async def test_an_error_of_the_block_comes_out_as_it_is() -> None:
    app = App("a").add(simple())

    with pytest.raises(KeyError):
        async with app.work("memory:"):
            raise KeyError("mine")


async def test_a_block_that_is_cancelled_from_outside_is_cancelled() -> None:
    app = App("a").add(waiting())
    begun = asyncio.Event()

    async def block() -> None:
        async with app.work("memory:"):
            handle = await app.start("w")
            begun.set()
            await handle.result()

    task = asyncio.create_task(block())
    await begun.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


class DyingWorker(Worker):
    """Works, and dies of a full disk as soon as somebody listens for that."""

    def __init__(self, works: Worker) -> None:
        self._works = works

    async def start(self) -> Client:
        return await self._works.start()

    async def stop(self, grace_s: float = 10.0) -> None:
        await self._works.stop(grace_s)

    async def failed(self) -> None:
        await asyncio.sleep(0)
        raise StoreFull("the disk is full")


class DyingAdapter(Adapter):
    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter

    def worker(self) -> Worker:
        return DyingWorker(self._adapter.worker())

    async def client(self) -> Client:
        return await self._adapter.client()


class DyingApp(App):
    def open(self, url: str | None = None, settings: Mapping[str, Any] = MappingProxyType({})) -> Adapter:
        return DyingAdapter(super().open(url, settings))


async def test_a_block_that_waits_learns_what_its_worker_died_of() -> None:
    app = DyingApp("a").add(waiting())

    with pytest.raises(StoreFull, match="disk is full"):
        async with app.work("memory:"):
            await (await app.start("w")).result()

    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


# Starting.


async def test_a_run_is_started_by_id_or_by_flow_and_gives_its_result() -> None:
    flow = simple()
    app = App("a").add(flow)

    async with app.work("memory:"):
        by_id = await app.start("f", {"n": 1})
        by_flow = await app.start(flow, [2], run_id="mine")
        results = [await by_id.result(), await by_flow.result(10)]

    assert by_id.run_id != by_flow.run_id == "mine"
    assert by_id.answer is not None
    assert by_id.answer.outcome == "applied"
    assert [result and result.output for result in results] == [{"n": 1}, [2]]


async def test_the_newest_version_is_started_unless_another_one_is_named() -> None:
    app = App("a").add(simple(version="1")).add(simple(version="2"))

    async with app.work("memory:"):
        newest = await (await app.start("f")).result()
        older = await (await app.start("f", version="1")).result()

    assert (newest.version, older.version) == ("2", "1")


async def test_first_context_values_are_there_for_the_nodes() -> None:
    flow = Flow("f").node("a", lambda ctx: ctx.get("k"))
    app = App("a").add(flow)

    async with app.work("memory:"):
        result = await (await app.start("f", context={"k": {"deep": [1]}})).result()

    assert result.output == {"deep": [1]}
    assert result.context == {"k": {"deep": [1]}}


async def test_dependencies_reach_the_nodes() -> None:
    app = App("a", {"greeting": "hello"}).add(Flow("f").node("a", lambda ctx: ctx.dependencies["greeting"]))

    async with app.work("memory:"):
        result = await (await app.start("f")).result()

    assert result.output == "hello"


async def test_a_second_start_of_a_run_id_is_a_duplicate_and_its_handle_is_the_first_runs() -> None:
    app = App("a").add(simple())

    async with app.work("memory:"):
        first = await app.start("f", 1, run_id="r")
        await first.result()
        second = await app.start("f", 2, run_id="r")
        result = await second.result()

    assert second.answer is not None
    assert second.answer.outcome == "duplicate"
    assert result.output == 1


@pytest.mark.parametrize("name", ["g", "F", ""])
async def test_a_flow_that_the_app_does_not_have_is_refused(name: str) -> None:
    app = App("a").add(simple())

    async with app.work("memory:"):
        with pytest.raises((DefinitionError, ValueRefused), match=r"has no flow|not empty"):
            await app.start(name)
        with pytest.raises(DefinitionError, match=r"'f' of version '9'; it has 'f' \(version '1'\)"):
            await app.start("f", version="9")


async def test_a_flow_whose_implementation_is_missing_is_refused_with_the_problem() -> None:
    app = App("a").add(Flow("f").node("a", uses="missing"))

    async with app.work("memory:"):
        with pytest.raises(BlueprintInvalid) as caught:
            await app.start("f")

    assert [problem.code for problem in caught.value.problems] == ["IMPLEMENTATION_MISSING"]


async def test_a_problem_of_a_subflow_refuses_its_parent_too() -> None:
    child = Flow("child").node("x", uses="missing")
    app = App("a").add(Flow("parent").subflow("sub", child))

    async with app.work("memory:"):
        with pytest.raises(BlueprintInvalid) as caught:
            await app.start("parent")

    assert caught.value.blueprint_id == "child"


async def test_an_app_without_flows_leaves_it_to_the_worker_what_can_run() -> None:
    app = App("a")

    async with app.work("memory:"):
        handle = await app.start("unknown-here")
        status = await handle.status()

    assert status is not None
    assert status["status"] == "parked"
    assert "does not know" in status["parkedReason"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"input": {1, 2}}, "the input"),
        ({"input": float("nan")}, "the input"),
        ({"context": {"k": object()}}, "context value 'k'"),
        ({"run_id": ""}, "the id of a run"),
        ({"run_id": "x" * (ID_BYTES_MAX + 1)}, "the id of a run"),
        ({"run_id": "\ud800"}, "Unicode"),
    ],
)
async def test_what_cannot_be_used_is_refused_and_named(arguments: dict[str, object], named: str) -> None:
    app = App("a").add(simple())

    async with app.work("memory:"):
        with pytest.raises(ValueRefused, match=named):
            await app.start("f", **arguments)  # type: ignore[arg-type]


async def test_the_limit_of_values_is_the_setting() -> None:
    app = App("a").add(simple())

    async with app.work("memory:", value_bytes_max=10):
        with pytest.raises(ValueRefused, match="limit is 10"):
            await app.start("f", "x" * 9)
        result = await (await app.start("f", "x" * 8)).result()

    assert result.output == "x" * 8


async def test_run_ids_may_hold_any_characters() -> None:
    app = App("a").add(simple())

    async with app.work("memory:"):
        result = await (await app.start("f", 1, run_id='a/"b"\n日本 ')).result()

    assert result.run_id == 'a/"b"\n日本 '


# Handles.


async def test_a_handle_asks_and_tells_its_run() -> None:
    app = App("a").add(waiting())

    async with app.work("memory:"):
        handle = await app.start("w", run_id="r")
        assert await handle.result(0) is None
        paused = await handle.pause("lunch")
        unpaused = await handle.unpause()
        resumed = await app.handle("r").resume("ask", output={"ok": True}, key="k")
        result = await handle.result()
        kinds = [event["type"] async for event in handle.events()]

    assert [answer.outcome for answer in (paused, unpaused, resumed)] == ["applied"] * 3
    assert result.unwrap() == {"ok": True}
    assert kinds[0] == "runStarted"
    assert kinds[-1] == "runCompleted"


async def test_a_signal_reaches_the_wait_for_its_event() -> None:
    app = App("a").add(waiting())

    async with app.work("memory:"):
        handle = await app.start("w")
        answer = await handle.signal("answered", 42)
        result = await handle.result()

    assert answer.outcome == "applied"
    assert result.output == 42


async def test_events_can_be_followed_to_the_end() -> None:
    app = App("a").add(waiting())

    async with app.work("memory:"):
        handle = await app.start("w")
        kinds = []
        async for event in handle.events(follow=True):
            kinds.append(event["type"])
            if event["type"] == "waitOpened":
                await handle.resume("ask")

    assert kinds[-1] == "runCompleted"


async def test_a_cancelled_run_raises_when_it_is_unwrapped() -> None:
    app = App("a").add(waiting())

    async with app.work("memory:"):
        handle = await app.start("w", run_id="r")
        await handle.cancel("enough")
        result = await handle.result()

    assert result.status == "cancelled"
    with pytest.raises(RunEndedBadly, match="run 'r' ended cancelled") as caught:
        result.unwrap()
    assert caught.value.result is result


async def test_a_run_that_nobody_knows_is_told_as_unknown() -> None:
    app = App("a").add(simple())

    async with app.work("memory:"):
        handle = app.handle("nobody")
        answer = await handle.cancel()
        status = await handle.status()

    assert answer.outcome == "unknown"
    assert status is None


async def test_a_value_of_a_resume_or_a_signal_that_is_no_json_is_refused() -> None:
    app = App("a").add(waiting())

    async with app.work("memory:"):
        handle = await app.start("w")
        with pytest.raises(ValueRefused, match="output of a resume"):
            await handle.resume("ask", output={1})
        with pytest.raises(ValueRefused, match="payload of a signal"):
            await handle.signal("answered", {1})


async def test_without_a_worker_a_start_is_kept_and_its_result_is_not_waited_for() -> None:
    app = App("a").add(simple())

    async with app.connect("embedded:store"):
        handle = await app.start("f", 5, run_id="r")
        assert handle.answer is not None
        assert handle.answer.outcome == "accepted"
        with pytest.raises(StoreError, match="start a worker"):
            await handle.result()
    async with app.work("embedded:store"):
        result = await app.handle("r").result()

    assert result.output == 5


# In memory, in one line.


async def test_a_flow_runs_in_memory_in_one_line() -> None:
    result = await run_in_memory(simple(), {"n": 1}, context={"k": 2}, run_id="mine")

    assert result.unwrap() == {"n": 1}
    assert result.context == {"k": 2}
    assert result.run_id == "mine"


async def test_a_failed_run_says_why_when_it_is_unwrapped() -> None:
    def boom() -> None:
        raise ValueError("no luck")

    result = await run_in_memory(Flow("f").node("a", boom), run_id="r")

    assert result.status == "failed"
    with pytest.raises(RunEndedBadly, match="run 'r' ended failed: a: no luck"):
        result.unwrap()


async def test_a_run_in_memory_that_takes_too_long_is_cancelled() -> None:
    result = await run_in_memory(Flow("f").sleep("s", "1h"), timeout_s=0.05)

    assert result.status == "cancelled"


async def test_a_run_in_memory_that_waits_for_nobody_says_so() -> None:
    with pytest.raises(DefinitionError, match=r"waits at ask .* nobody can answer"):
        await run_in_memory(waiting())


async def test_a_run_in_memory_waits_for_a_timeout() -> None:
    flow = Flow("f").wait("ask", timeout="400ms").node("late", lambda: "late", after="ask", action="timeout")

    result = await run_in_memory(flow)

    assert result.unwrap() == "late"


async def test_a_run_in_memory_waits_for_the_timeout_of_a_child() -> None:
    child = Flow("child").wait("ask", timeout="400ms")

    result = await run_in_memory(Flow("parent").subflow("sub", child))

    assert result.status == "completed"
