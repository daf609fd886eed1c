"""Answers to commands: each goes to the one who asked, and everybody who asks gets one."""

from __future__ import annotations

import asyncio

import pytest
from tests.scenarios.backends import Backend
from tests.scenarios.scripted import Script
from tests.scenarios.world import World

from headrace import commands as c
from headrace.adapter import Answer
from headrace.app import App
from headrace.errors import RecordRefused
from headrace_adapters.local.carrier import append_jobs
from headrace_adapters.local.client import _call
from headrace_adapters.local.worker import LocalWorker, Settings
from headrace_adapters.memory import MemoryStore
from headrace_adapters.memory.adapter import MemoryAdapter

FLOW = {"id": "flow", "nodes": [{"id": "w", "uses": "wait"}], "edges": []}


def test_a_record_with_a_request_id_takes_no_answer_of_somebody_else() -> None:
    """The jobs of producers carry request ids of their own choice, and small numbers are what everybody chooses."""
    store = MemoryStore()
    world = World(Backend(lambda: store), [FLOW], Script({}))
    append_jobs(store, [c.Resume(f"nobody-{n}", "w", request_id=str(m)) for n in range(9) for m in range(1, 10)])
    answers: list[Answer] = []

    for number in range(9):
        world.loop.submit(c.Start(f"run-{number}", "flow"), answers.append)
    world.settle()

    assert [answer.outcome for answer in answers] == ["applied"] * 9


ENGINE_COMMANDS: list[c.Command] = [
    c.RunNode("run", "flow", "w"),
    c.ChildNews("run", "child", "w", True, ()),
    c.ChildEnd("run", "child", "w", "completed", b"null", {}, ""),
    c.ResumeApplied("run", "key"),
    c.ResumeIgnored("run", "key", 1),
]


@pytest.mark.parametrize("command", ENGINE_COMMANDS, ids=lambda command: type(command).__name__)
async def test_a_client_is_refused_what_only_the_engine_says(command: c.Command) -> None:
    adapter = MemoryAdapter(App("test"), {})
    worker = adapter.worker()
    client = await worker.start()
    try:
        with pytest.raises(RecordRefused):
            await asyncio.wait_for(client.submit(command), 5)
    finally:
        await worker.stop(0)


async def test_a_client_made_before_the_worker_does_not_write_past_it() -> None:
    """Such a client would append jobs where the worker has been already, and the run would never begin."""
    adapter = MemoryAdapter(App("test"), {})
    early = await adapter.client()
    worker = adapter.worker()
    client = await worker.start()
    try:
        await early.submit(c.Start("r1", "flow"))
        assert await client.status("r1") is not None
        assert (await early.submit(c.Start("r1", "flow"))).outcome == "duplicate"
    finally:
        await worker.stop(0)
    assert (await early.submit(c.Start("r2", "flow"))).outcome == "accepted"


async def test_a_worker_forgets_clients_that_were_closed() -> None:
    adapter = MemoryAdapter(App("test"), {})
    worker = adapter.worker()
    await worker.start()
    try:
        for _ in range(3):
            await (await adapter.client()).close()
        assert len(worker._clients) == 1  # type: ignore[attr-defined]
    finally:
        await worker.stop(0)


class LoopClosedMeanwhile(asyncio.SelectorEventLoop):
    """Is closed by its own thread just after somebody has looked."""

    looked_at = False

    def is_closed(self) -> bool:
        return super().is_closed() and not self.looked_at


def test_a_worker_outlives_the_event_loop_of_who_asked() -> None:
    here = LoopClosedMeanwhile()
    here.close()
    here.looked_at = True

    try:
        _call(here, lambda: None)
    finally:
        here.looked_at = False


class StoreThatFailsToClose(MemoryStore):
    """Raises what no store should."""

    def close(self) -> None:
        raise OSError("the disk is gone")


async def test_stopping_a_worker_ends_though_its_store_cannot_be_closed() -> None:
    worker = LocalWorker(App("test"), StoreThatFailsToClose, Settings())
    await worker.start()

    with pytest.raises(OSError, match="the disk is gone"):
        await asyncio.wait_for(worker.stop(0), 5)
