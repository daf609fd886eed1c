"""What a client on a local store holds on to, and what it gives when its worker goes. Its answers are under contract."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from headrace import App, Flow
from headrace import commands as c
from headrace.errors import StoreError
from headrace_adapters.local.client import LocalClient
from headrace_adapters.memory import MemoryStore
from headrace_adapters.memory.adapter import MemoryAdapter

RESULT_S = 10.0


def app() -> App:
    made = App("local").add(Flow("quick").node("a", lambda: 1))
    return made.add(Flow("ask").wait("w", event="e"))


class Opened:
    """A worker in memory, and the client that its start gave."""

    def __init__(self) -> None:
        self.adapter = MemoryAdapter(app(), {})
        self.worker = self.adapter.worker()

    async def __aenter__(self) -> LocalClient:
        client = await self.worker.start()
        assert isinstance(client, LocalClient)
        return client

    async def __aexit__(self, *exception: object) -> None:
        await self.worker.stop()


async def test_asking_for_what_is_there_leaves_nobody_waiting() -> None:
    async with Opened() as client:
        await client.submit(c.Start("r", "quick"))
        await client.result("r", RESULT_S)
        for _ in range(50):
            await client.result("r", 0)
            await client.result("r")
            await client.result("nobody", 0)
            assert [event async for event in client.events("r", follow=True)]

        assert client._waiting == {}
        assert client._asked == set()


async def test_whoever_gives_up_is_not_waited_for() -> None:
    async with Opened() as client:
        await client.submit(c.Start("r", "ask"))
        waiting = [asyncio.create_task(client.result("r")) for _ in range(5)]
        following = client.events("r", follow=True)
        await anext(following)
        assert await client.result("r", 0.01) is None
        assert len(client._waiting["r"]) >= 5
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await following.aclose()  # type: ignore[attr-defined]

        assert client._waiting == {}


async def test_a_client_that_is_closed_hears_of_no_further_commits_and_answers_nobody() -> None:
    async with Opened() as client:
        loop = client._loop
        assert loop is not None
        before = len(loop._on_commit)
        await client.close()

        assert len(loop._on_commit) == before - 1
        with pytest.raises(StoreError, match=r"stopped|closed"):
            await client.submit(c.Start("r", "quick"))


async def test_many_results_of_the_last_commit_are_given_out_before_the_worker_lets_go() -> None:
    opened = Opened()
    async with opened as client:
        for number in range(200):
            await client.submit(c.Start(f"r{number}", "ask"))
        waiting = [asyncio.create_task(client.result(f"r{number}")) for number in range(200)]
        following = [asyncio.create_task(_types(client, f"r{number}")) for number in range(20)]
        await asyncio.sleep(0.05)
        signals = [asyncio.create_task(client.submit(c.Signal(f"r{number}", "e"))) for number in range(200)]
        await asyncio.gather(*signals)
        await opened.worker.stop()
        results = await asyncio.gather(*waiting)
        histories = await asyncio.gather(*following)

    assert {result.status for result in results if result} == {"completed"}
    assert all(types[-1] == "runCompleted" for types in histories)


async def _types(client: LocalClient, run_id: str) -> list[str]:
    return [event["type"] async for event in client.events(run_id, follow=True)]


async def test_an_event_loop_that_is_busy_does_not_hold_a_stopping_worker_for_long() -> None:
    opened = Opened()
    async with opened as client:
        await client.submit(c.Start("r", "ask"))

        async def ask_for_ever() -> None:
            for number in itertools.count():
                await client.result(f"nobody{number}", 0)

        asking = asyncio.create_task(ask_for_ever())
        await asyncio.sleep(0.01)
        before = asyncio.get_running_loop().time()
        await opened.worker.stop(0)
        assert asyncio.get_running_loop().time() - before < 3
        with pytest.raises(StoreError):
            await asking


async def test_without_a_loop_the_job_log_is_written_where_it_ends() -> None:
    store = MemoryStore()
    adapter = MemoryAdapter(app(), {})
    adapter.store = store
    first, second = adapter.records_client(), adapter.records_client()
    for number, client in enumerate((first, second, second, first)):
        assert (await client.submit(c.Start(f"r{number}", "quick"))).outcome == "accepted"

    worker = adapter.worker()
    client = await worker.start()
    for number in range(4):
        assert await client.result(f"r{number}", RESULT_S) is not None
    await worker.stop()
