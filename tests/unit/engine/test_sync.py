from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import pytest

from headrace import App, Flow, Handle
from headrace.adapter import Adapter, Client, Worker
from headrace.errors import DefinitionError, StartsFailed, StoreError, ValueRefused
from headrace.sync import SyncClient


class WorkingAdapter(Adapter):
    """Its client works too, so that what is asked of it happens."""

    def __init__(self, adapter: Adapter, app: WorkingApp) -> None:
        self._adapter = adapter
        self._app = app

    def worker(self) -> Worker:
        return self._adapter.worker()

    async def client(self) -> Client:
        worker = self._adapter.worker()
        client = await worker.start()
        close = client.close

        async def stop() -> None:
            await worker.stop(1)
            await close()
            self._app.stopped += 1

        client.close = stop  # type: ignore[method-assign]
        return client


class WorkingApp(App):
    stopped = 0

    def open(self, url: str | None = None, settings: Mapping[str, Any] = MappingProxyType({})) -> Adapter:
        return WorkingAdapter(super().open(url, settings), self)


def app() -> App:
    made = WorkingApp("sync")
    made.add(Flow("double").node("a", lambda ctx: ctx.input * 2))
    made.add(Flow("asking").wait("ask", event="answered").node("after", lambda ctx: ctx.input, after="ask"))
    return made


@pytest.fixture
def client() -> Iterator[SyncClient]:
    with app().connect_sync("memory:") as connected:
        yield connected


def test_a_run_is_started_and_gives_its_result(client: SyncClient) -> None:
    handle = client.start("double", 21, run_id="r")
    result = client.result("r", 10)

    assert handle.run_id == "r"
    assert handle.answer is not None
    assert handle.answer.outcome == "applied"
    assert result is not None
    assert result.unwrap() == 42
    assert handle.result() == result
    assert client.result("unknown", 0) is None
    assert client.start("double", 1).run_id != client.start("double", 1).run_id


def test_a_run_is_told_everything_that_an_asynchronous_program_can_tell_it(client: SyncClient) -> None:
    first, second = client.start("asking", run_id="r1"), client.start("asking", run_id="r2")

    assert first.pause("wait").outcome == "applied"
    assert first.unpause().outcome == "applied"
    assert first.resume("ask", output={"by": "Ada"}).outcome == "applied"
    assert second.signal("answered", 3).outcome == "applied"
    assert client.handle("r3").cancel("no such run").outcome == "unknown"
    assert [run and run.output for run in (first.result(10), second.result(10))] == [{"by": "Ada"}, 3]


def test_runs_are_looked_at(client: SyncClient) -> None:
    handle = client.start("double", 1, run_id="r")
    client.result("r")
    status, events = handle.status(), list(handle.events())

    assert status is not None
    assert status["status"] == "completed"
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [row["runId"] for row in client.runs(states=frozenset(("completed",)))] == ["r"]
    assert client.runs(flow="other") == []
    assert client.status("unknown") is None


def test_events_are_followed_to_the_end_or_left_before(client: SyncClient) -> None:
    handle = client.start("asking")
    seen = []
    for event in handle.events(follow=True):
        seen.append(event["type"])
        if event["type"] == "waitOpened":
            handle.signal("answered")

    assert seen[-1] == "runCompleted"
    for event in client.handle(handle.run_id).events(follow=True):
        assert event["type"] == "runStarted"
        break


def test_many_runs_are_started_from_a_generator_that_is_read_in_the_callers_thread(client: SyncClient) -> None:
    threads = set()

    def inputs() -> Iterator[int]:
        for number in range(1_700):
            threads.add(threading.current_thread())
            yield number

    assert client.start_many("double", inputs(), run_id=lambda number: f"r{number}") == 1_700
    assert client.result("r1699", 10).unwrap() == 3_398  # type: ignore[union-attr]
    assert threads == {threading.current_thread()}


def test_many_starts_that_cannot_be_raise_what_a_single_one_does(client: SyncClient) -> None:
    with pytest.raises(DefinitionError, match="has no flow"):
        client.start_many("other", range(5_000))
    with pytest.raises(ValueRefused, match="not JSON"):
        client.start_many("double", (object() for _ in range(5_000)))


def test_what_the_inputs_raise_comes_out_and_what_was_read_before_is_started(client: SyncClient) -> None:
    def inputs() -> Iterator[int]:
        yield from range(600)
        raise LookupError("no such row")

    with pytest.raises(LookupError, match="no such row"):
        client.start_many("double", inputs(), run_id=str)

    assert client.result("499", 10) is not None


def test_an_interrupt_of_the_inputs_is_the_callers_and_the_client_goes_on(client: SyncClient) -> None:
    def inputs() -> Iterator[int]:
        yield from range(600)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.start_many("double", inputs(), run_id=str)

    assert client.start("double", 1).result(10) is not None


def test_several_threads_share_a_client(client: SyncClient) -> None:
    outputs: list[int] = []

    def work(number: int) -> None:
        result = client.start("double", number).result(10)
        assert result is not None
        outputs.append(result.output)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outputs) == [2 * number for number in range(8)]


def test_after_the_block_the_client_says_that_it_was_closed() -> None:
    with app().connect_sync("memory:") as client:
        handle = client.start("double", 1)

    with pytest.raises(DefinitionError, match="closed"):
        client.start("double", 1)
    with pytest.raises(DefinitionError, match="closed"):
        handle.status()


def test_who_waits_in_another_thread_when_the_block_ends_is_told() -> None:
    raised: list[BaseException] = []
    with app().connect_sync("memory:") as client:
        handle = client.start("asking")

        def wait() -> None:
            try:
                handle.result()
            except BaseException as error:  # noqa: BLE001
                raised.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        while client.status(handle.run_id)["status"] != "awaiting":  # type: ignore[index]
            pass
    thread.join()

    assert isinstance(raised[0], StoreError)


def test_what_keeps_an_app_from_being_connected_is_raised() -> None:
    with pytest.raises(DefinitionError, match="speed"), app().connect_sync("memory:", speed=3):
        pass


def test_what_goes_wrong_in_the_end_is_raised() -> None:
    class Failing(WorkingApp):
        def open(self, url: str | None = None, settings: Mapping[str, Any] = MappingProxyType({})) -> Adapter:
            opened = super().open(url, settings)
            make = opened.client

            async def client() -> Client:
                made = await make()
                stop = made.close

                async def close() -> None:
                    await stop()
                    raise StoreError("the disk is gone")

                made.close = close  # type: ignore[method-assign]
                return made

            opened.client = client  # type: ignore[method-assign]
            return opened

    with pytest.raises(StoreError, match="disk is gone"), Failing("f").connect_sync("memory:"):
        pass


def test_the_app_itself_stays_as_it_was() -> None:
    shared = app()
    with shared.connect_sync("memory:") as client:
        assert client.runs() == []
        with pytest.raises(DefinitionError, match="not connected"):
            _ = shared.client


async def test_an_asynchronous_program_starts_many_with_the_same_words() -> None:
    made = App("a").add(Flow("double").node("a", lambda ctx: ctx.input * 2))

    async def inputs() -> AsyncIterator[int]:
        for number in range(3):
            yield number

    async with made.work("memory:"):
        number = await made.start_many("double", inputs(), run_id=lambda it: f"r{it}", context={"k": 1})
        assert await made.start_many("double", [7, 8], run_id=lambda it: "r0") == 2, "duplicates change nothing"
        assert await made.start_many("double", range(4), outstanding_max=2) == 4
        results = [await Handle(made, f"r{it}").result(10) for it in range(3)]
        rows = await made.client.runs()

    assert number == 3
    assert [result and (result.output, result.context) for result in results] == [
        (0, {"k": 1}),
        (2, {"k": 1}),
        (4, {"k": 1}),
    ]
    assert len(rows) == 7


def test_the_error_for_many_is_one_of_the_store() -> None:
    error = StartsFailed("two", ("a", "b"))

    assert isinstance(error, StoreError)
    assert error.run_ids == ("a", "b")
