"""What a worker owes: it takes up what the last one left, stops within its grace, and says what it died of."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from headrace import App, Context, Flow
from headrace import commands as c
from headrace.errors import DefinitionError, StoreError, StoreLocked

from .places import Place
from .waiting import RESULT_S, eventually


class Calls:
    """What nodes were seen to do, over any number of workers."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.begun = threading.Event()
        self.release = threading.Event()


def app(calls: Calls) -> App:
    async def patient(ctx: Context) -> str:
        """Ends when it is released, and not before."""
        calls.keys.append(ctx.idempotency_key)
        calls.begun.set()
        await eventually(calls.release.is_set)
        return "done"

    def short(ctx: Context) -> str:
        calls.keys.append(ctx.idempotency_key)
        return "short"

    made = App("contract")
    made.add(Flow("patient").node("first", patient).node("second", short, after="first"))
    made.add(Flow("lone").node("only", patient))
    made.add(Flow("asking").wait("ask", event="answered").node("then", short, after="ask"))
    made.add(Flow("sleeping").sleep("nap", "150ms").node("then", short, after="nap"))
    made.add(Flow("quick").node("only", short))
    return made


async def begun(calls: Calls) -> None:
    assert await asyncio.to_thread(calls.begun.wait, RESULT_S)


async def test_waits_and_timers_outlive_their_worker(place: Place) -> None:
    calls = Calls()
    async with place.work(app(calls)) as client:
        await client.submit(c.Start("a", "asking"))
        await client.submit(c.Start("s", "sleeping"))

    async with place.work(app(calls)) as client:
        result = await client.result("s", RESULT_S)
        assert result is not None
        assert result.output == "short"
        assert result.ended_at_ms - result.started_at_ms >= 150, "a sleep is never too short"
        assert (await client.submit(c.Signal("a", "answered"))).outcome == "applied"
        ended = await client.result("a", RESULT_S)
        assert ended is not None
        assert ended.status == "completed"


async def test_what_runs_may_finish_within_the_grace_and_nothing_new_begins(place: Place) -> None:
    calls = Calls()
    async with place.worker(app(calls)) as (worker, client):
        await client.submit(c.Start("r", "patient"))
        await begun(calls)
        threading.Timer(0.1, calls.release.set).start()
        await worker.stop(RESULT_S)
    assert calls.keys == ["r/first/0/1"], "the second node had to wait for the next worker"

    async with place.work(app(calls)) as client:
        result = await client.result("r", RESULT_S)
        assert result is not None
        assert result.output == "short"
    assert calls.keys == ["r/first/0/1", "r/second/0/1"], "what was finished is not executed again"


async def test_what_does_not_finish_in_time_is_begun_again_by_the_next_worker_as_the_same_attempt(place: Place) -> None:
    calls = Calls()
    async with place.worker(app(calls)) as (worker, client):
        await client.submit(c.Start("r", "patient"))
        await begun(calls)
        before = time.monotonic()
        await worker.stop(0.2)
        assert 0.1 < time.monotonic() - before < 3

    calls.release.set()
    async with place.work(app(calls)) as client:
        result = await client.result("r", RESULT_S)
        assert result is not None
        assert result.status == "completed"
        types = [event["type"] async for event in client.events("r")]
    assert calls.keys == ["r/first/0/1", "r/first/0/1", "r/second/0/1"]
    assert types.count("nodeCompleted") == 2, "the effect is recorded once"


async def test_whoever_waits_for_a_result_gets_it_when_the_run_ends_in_the_grace(place: Place) -> None:
    calls = Calls()
    async with place.worker(app(calls)) as (worker, client):
        await client.submit(c.Start("r", "lone"))
        await begun(calls)
        waiting = asyncio.create_task(client.result("r"))
        await asyncio.sleep(0.02)
        threading.Timer(0.05, calls.release.set).start()
        await worker.stop(RESULT_S)

        result = await asyncio.wait_for(waiting, RESULT_S)
        assert result is not None
        assert result.output == "done"


async def test_stopping_twice_and_stopping_an_idle_worker_is_quick(place: Place) -> None:
    async with place.worker(app(Calls())) as (worker, _):
        before = time.monotonic()
        await worker.stop(30)
        await worker.stop(30)
        await worker.failed()
        assert time.monotonic() - before < 3


async def test_a_stopping_worker_does_not_burn_its_grace_on_timers_that_are_due(place: Place) -> None:
    calls = Calls()
    async with place.worker(app(calls)) as (worker, client):
        await client.submit(c.Start("r", "patient"))
        await client.submit(c.Start("s", "sleeping"))
        await begun(calls)
        stopping = asyncio.create_task(worker.stop(0.6))
        await asyncio.sleep(0.2)
        before = time.process_time()
        await stopping
        assert time.process_time() - before < 0.25, "it waited, and did not spin"


async def test_failed_waits_until_the_worker_has_stopped(place: Place) -> None:
    async with place.worker(app(Calls())) as (worker, _):
        watching = asyncio.create_task(worker.failed())
        await asyncio.sleep(0.02)
        assert not watching.done()
        await worker.stop()
        await asyncio.wait_for(watching, RESULT_S)


async def test_a_second_worker_is_refused_or_shares_and_the_first_one_goes_on(place: Place) -> None:
    calls = Calls()
    async with place.work(app(calls)) as client:
        second = place.adapter(app(calls)).worker()
        if place.has_many_workers:
            other = await second.start()
        else:
            with pytest.raises(StoreLocked, match=r"another|held|already"):
                await second.start()
        for number in range(5):
            await client.submit(c.Start(f"r{number}", "quick"))
        for number in range(5):
            assert await client.result(f"r{number}", RESULT_S) is not None
        if place.has_many_workers:
            await second.stop()
            await other.close()
    # Where partitions go from one to another, what was in progress there is executed again.
    assert set(calls.keys) == {f"r{number}/only/0/1" for number in range(5)}


async def test_a_worker_can_be_followed_by_another_one_at_once_any_number_of_times(place: Place) -> None:
    calls = Calls()
    for number in range(5):
        async with place.work(app(calls)) as client:
            assert (await client.submit(c.Start(f"r{number}", "quick"))).outcome == "applied"
    async with place.work(app(calls)) as client:
        for number in range(5):
            assert await client.result(f"r{number}", RESULT_S) is not None
    assert sorted(calls.keys) == [f"r{number}/only/0/1" for number in range(5)]


async def test_the_number_of_partitions_stays_as_it_was(place: Place) -> None:
    calls = Calls()
    async with place.work(app(calls), partitions=5) as client:
        for number in range(20):
            await client.submit(c.Start(f"r{number}", "asking"))

    if place.fixes_partitions:
        with pytest.raises(StoreError, match="partition counts cannot change"):
            await place.adapter(app(calls), partitions=2).worker().start()
    async with place.work(app(calls), partitions=None if place.fixes_partitions else 2) as client:
        for number in range(20):
            assert (await client.submit(c.Start(f"r{number}", "asking"))).outcome == "duplicate"
            assert (await client.submit(c.Signal(f"r{number}", "answered"))).outcome == "applied"
            assert await client.result(f"r{number}", RESULT_S) is not None


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"partitions": 0}, "partitions"),
        ({"partitions": 100_000}, "partitions"),
        ({"slots": 0}, "slots"),
        ({"threads_max": -1}, "threads_max"),
        ({"slots": "many"}, "slots"),
        ({"value_bytes_max": 0}, "value_bytes_max"),
        ({"dedup_window_ms": "week"}, "setting"),
        ({"colour": "red"}, "colour"),
    ],
    ids=str,
)
async def test_a_setting_that_cannot_be_is_refused_before_anything_is_written(
    place: Place, settings: dict[str, Any], named: str
) -> None:
    with pytest.raises(DefinitionError, match=named):
        await place.adapter(app(Calls()), **settings).worker().start()

    async with place.work(app(Calls())) as client:
        await client.submit(c.Start("r", "quick"))
        assert await client.result("r", RESULT_S) is not None


async def test_no_more_executions_than_slots_run_at_once_and_a_cancel_still_gets_through(place: Place) -> None:
    """Slots that are all taken by nodes that hang must not keep anybody from cancelling their runs."""
    running: set[str] = set()
    most = 0

    async def hang(ctx: Context) -> None:
        nonlocal most
        running.add(ctx.run_id)
        most = max(most, len(running))
        try:
            await asyncio.sleep(3_600)
        finally:
            running.discard(ctx.run_id)

    made = App("contract").add(Flow("hanging").node("hang", hang))
    async with place.work(made, grace_s=0, slots=3) as client:
        for number in range(10):
            await client.submit(c.Start(f"r{number}", "hanging"))
        await eventually(lambda: len(running) == 3)
        for number in range(10):
            assert (await client.submit(c.Cancel(f"r{number}"))).outcome == "applied"
            assert (await client.status(f"r{number}") or {})["status"] == "cancelled"
        await eventually(lambda: not running)
    assert most == 3
