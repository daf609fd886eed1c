"""What is particular to workers on Kafka, each thing once, on a real broker and with workers of this process."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from confluent_kafka.admin import NewTopic

from headrace import App, Context, Flow
from headrace import commands as c
from headrace.adapter import Client
from headrace.errors import DefinitionError, StoreError
from headrace.events import RunStarted
from headrace_adapters.kafka.changelog_copy import ChangelogCopy
from headrace_adapters.kafka.client import KafkaClient, connect_client
from headrace_adapters.kafka.clients import ConfluentClients
from headrace_adapters.kafka.connection import admin, open_admin, open_producer, plain_producer
from headrace_adapters.kafka.settings import kafka_settings
from headrace_adapters.kafka.worker import KafkaWorker
from headrace_topics.events_record import decode_events
from headrace_topics.jobs_record import encode_command
from headrace_topics.partitioning import partition_of
from tests.broker.fixtures import AppName
from tests.contract.waiting import eventually
from tests.kafka.app_topics import delete_topics
from tests.kafka.topic_log import read_log

pytestmark = pytest.mark.broker

PARTITIONS = 4
ALL = list(range(PARTITIONS))
WAIT_S = 30.0


class Place:
    """An app of its own at the broker, and its workers."""

    def __init__(self, broker: str, name: str, folder: Path) -> None:
        self.broker = broker
        self.name = name
        self.state = folder
        self.workers: list[KafkaWorker] = []
        self.clients: list[Client] = []

    def settings(self, **values: Any) -> Any:
        usual = {"partitions": PARTITIONS, "state": self.state, "session_timeout_ms": 6_000, "heartbeat_ms": 200}
        return kafka_settings(self.name, f"kafka://{self.broker}", {**usual, **values})

    def app(self, *flows: Any) -> App:
        made = App(self.name)
        for flow in flows:
            made.add(flow)
        return made

    async def begin(self, app: App, clients: Any = None, **values: Any) -> tuple[KafkaWorker, Client]:
        """A worker; it may have no partitions yet."""
        worker = KafkaWorker(app, self.settings(**values), clients)
        client = await worker.start()
        self.workers.append(worker)
        self.clients.append(client)
        return worker, client

    @asynccontextmanager
    async def work(self, app: App, **values: Any) -> AsyncIterator[Client]:
        """One worker that has everything, until it is stopped."""
        worker, client = await self.begin(app, **values)
        await owning(worker, ALL)
        yield client
        await worker.stop()

    @asynccontextmanager
    async def connect(self, app: App, **values: Any) -> AsyncIterator[KafkaClient]:
        client = await connect_client(app, self.settings(**values))
        try:
            yield client
        finally:
            await client.close()

    def produce(self, *records: tuple[int, bytes | None, bytes]) -> None:
        """Records of the jobs topic: partition, key and value."""
        producer = open_producer(plain_producer(self.settings()))
        for number, key, value in records:
            producer.produce(f"{self.name}.jobs", value, key, number)
        assert producer.flush(10) == 0

    async def close(self) -> None:
        for worker in self.workers:
            await worker.stop(0)
        for client in self.clients:
            await client.close()
        await asyncio.to_thread(self._delete)

    def _delete(self) -> None:
        delete_topics(open_admin(admin(self.settings())), self.name)


@pytest.fixture
async def place(broker: str, app_name: AppName, tmp_path: Path) -> AsyncIterator[Place]:
    made = Place(broker, app_name("features"), tmp_path)
    yield made
    await made.close()


def owned_by(worker: KafkaWorker) -> list[int]:
    return sorted(worker._loop.partitions.copy())


async def owning(worker: KafkaWorker, numbers: list[int] | None = None) -> list[int]:
    """Wait until a worker works on just these partitions; without them, on some and not on all."""
    async with asyncio.timeout(WAIT_S):
        while True:
            owned = owned_by(worker)
            settled = not worker._carrier.restoring
            if settled and (owned == numbers if numbers is not None else 0 < len(owned) < PARTITIONS):
                return owned
            await asyncio.sleep(0.01)


async def shared(first: KafkaWorker, second: KafkaWorker) -> None:
    """Wait until two workers have all partitions between them, and each has some."""
    await eventually(lambda: owned_by(first) and owned_by(second) and sorted(owned_by(first) + owned_by(second)) == ALL)
    await owning(first)
    await owning(second)


async def asked_in_loop(worker: KafkaWorker, question: Callable[[], Any]) -> Any:
    """What is so in the thread of the worker's loop."""
    here = asyncio.get_running_loop()
    answer = here.create_future()
    worker._loop.ask(lambda: here.call_soon_threadsafe(answer.set_result, question()))
    return await asyncio.wait_for(answer, WAIT_S)


def run_on(numbers: list[int], word: str = "r", parent: str = "") -> str:
    """A run id on one of these partitions; *parent* makes it one whose child under that node is on another one."""
    for turn in range(10_000):
        run_id = f"{word}{turn}"
        if partition_of(run_id, PARTITIONS) in numbers:
            if not parent or partition_of(f"{run_id}/{parent}", PARTITIONS) not in numbers:
                return run_id
    raise AssertionError("no such run id")


def naming(worker: str, *, version: str = "1") -> list[Flow]:
    """Flows whose nodes say which worker executed them."""
    inner = Flow("inner").node("who", lambda: worker)
    outer = Flow("outer").node("first", lambda: worker).subflow("kid", inner, after="first")
    outer.node("last", lambda ctx: [ctx.input, worker], after="kid")
    asking = Flow("asking", version).wait("ask", event="e").node("who", lambda ctx: [worker, ctx.input], after="ask")
    return [inner, outer, Flow("named").node("who", lambda: worker), asking]


async def outcome(client: Client, run_id: str) -> Any:
    result = await client.result(run_id, WAIT_S)
    assert result is not None, await client.status(run_id)
    assert result.status == "completed", result.errors
    return result.output


# Several workers.


@pytest.mark.parametrize("group_protocol", ["classic", "consumer"])
async def test_two_workers_share_the_partitions_and_a_child_runs_at_the_other_one(place: Place, group_protocol: str) -> None:
    first, client = await place.begin(place.app(*naming("first")), group_protocol=group_protocol)
    await owning(first, ALL)
    second, _ = await place.begin(place.app(*naming("second")), group_protocol=group_protocol)
    await shared(first, second)

    run_id = run_on(owned_by(first), parent="kid")
    assert (await client.submit(c.Start(run_id, "outer"))).outcome == "applied"
    assert await outcome(client, run_id) == ["second", "first"]
    others = run_on(owned_by(second))
    await client.submit(c.Start(others, "named"))
    assert await outcome(client, others) == "second"

    await second.stop()
    await owning(first, ALL)
    after = run_on(ALL, "after")
    assert (await client.submit(c.Start(after, "named"))).outcome == "applied"
    assert await outcome(client, after) == "first"


async def test_a_worker_of_a_named_instance_finds_its_partitions_again_and_nobody_else_notices(place: Place) -> None:
    first, client = await place.begin(place.app(*naming("first")), instance="a")
    await owning(first, ALL)
    second, _ = await place.begin(place.app(*naming("second")), instance="b")
    await shared(first, second)
    its, untouched = owned_by(second), dict(first._loop.partitions)
    await client.submit(c.Start(run_on(its), "asking"))

    await second.stop()
    again, _ = await place.begin(place.app(*naming("again")), instance="b")
    await owning(again, its)

    assert {number: id(known) for number, known in first._loop.partitions.items()} == {
        number: id(known) for number, known in untouched.items()
    }, "no partition was taken over anew"
    # The group tells the address that it was told first, so the one that is back has to be found there.
    assert (await client.submit(c.Signal(run_on(its), "e", b'"x"'))).outcome == "applied"
    assert await outcome(client, run_on(its)) == ["again", "x"]


class ReaderWatch:
    """A consumer that notes from where it is told to read."""

    def __init__(self, client: Any, begun: list[tuple[str, int, int]]) -> None:
        self._client = client
        self._begun = begun

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def incremental_assign(self, partitions: list[Any]) -> None:
        self._begun += [(it.topic, it.partition, it.offset) for it in partitions]
        self._client.incremental_assign(partitions)


class WatchedClients(ConfluentClients):
    """Tells from where changelogs are read."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, int, int]] = []

    def consumer(self, configuration: Mapping[str, Any]) -> Any:
        made = super().consumer(configuration)
        return made if "group.protocol" in configuration else ReaderWatch(made, self.begun)


async def test_a_warm_copy_follows_its_owner_and_a_take_over_reads_only_what_it_lacks(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace_adapters.kafka.restore.LOOK_S", 0.1)
    first, client = await place.begin(place.app(*naming("first")), standby=1)
    await owning(first, ALL)
    watched = WatchedClients()
    second, _ = await place.begin(place.app(*naming("second")), watched, standby=1)
    await shared(first, second)
    its = owned_by(first)
    await eventually(lambda: second._carrier.warm == set(its) and first._carrier.warm == set(owned_by(second)))
    for number in range(20):
        await client.submit(c.Start(run_on(its, f"w{number}-"), "asking"))

    async def follows() -> bool:
        """Whether the copy holds the runs, which nobody but the owner knows of."""

        def look() -> int:
            return sum(len(list(second._carrier.reader(number).heads())) for number in its)

        return bool(await asked_in_loop(second, look) == 20)

    await eventually(follows)

    def lacking() -> dict[int, float]:
        found = second.metrics.registry.get_sample_value
        lags = {number: found("headrace_standby_lag", {"partition": str(number)}) for number in ALL}
        return {number: lag for number, lag in lags.items() if lag is not None}

    await eventually(lambda: lacking() == dict.fromkeys(its, 0))
    copy = await asked_in_loop(
        second,
        lambda: {
            number: ChangelogCopy(second._slot.store, second._carrier._layout, second._clock).progress(number)
            for number in its
        },
    )
    assert all(progress and progress[0] > 5 for progress in copy.values())

    begun = len(watched.begun)
    await first.stop(0)
    await owning(second, ALL)
    assert lacking() == {}

    behind = [
        (topic, number, at)
        for topic, number, at in watched.begun[begun:]
        if topic.endswith(".coordination-changelog") and at < copy[number][0]
    ]
    assert behind == [], "whatever is read begins where the copy was"
    waiting = run_on(its, "w3-")
    async with place.connect(place.app(*naming("client"))) as other:
        assert (await other.submit(c.Signal(waiting, "e", b"1"))).outcome == "applied"
        assert await outcome(other, waiting) == ["second", 1]


# Workers that are stopped, and come back.


async def test_what_runs_may_finish_in_the_grace_and_the_next_worker_goes_on_from_there(place: Place) -> None:
    executed: list[str] = []
    release = threading.Event()

    def flow(worker: str) -> Flow:
        async def slow() -> str:
            executed.append(f"slow at {worker}")
            await eventually(release.is_set)
            return worker

        def after(ctx: Context) -> list[Any]:
            executed.append(f"after at {worker}")
            return [ctx.input, worker]

        return Flow("slow").node("slow", slow).node("after", after, after="slow")

    first, client = await place.begin(place.app(flow("first")))
    await owning(first, ALL)
    await client.submit(c.Start("r", "slow"))
    await eventually(lambda: bool(executed))
    second, other = await place.begin(place.app(flow("second")))
    stopping = asyncio.create_task(first.stop(WAIT_S))
    await asyncio.sleep(0.1)
    assert not stopping.done()
    release.set()
    await stopping
    await owning(second, ALL)

    assert (await outcome(other, "r"))[1] == "second"
    assert Counter(executed)["after at second"] == 1
    assert executed[-1] == "after at second", "nothing new began at the one that stopped"


async def test_a_store_that_was_deleted_is_made_again_from_the_changelogs(place: Place) -> None:
    async with place.work(place.app(*naming("first"))) as client:
        for number in range(20):
            await client.submit(c.Start(f"r{number}", "asking", context={"k": b"1"}))
    shutil.rmtree(place.state)

    async with place.work(place.app(*naming("second"))) as client:
        for number in range(20):
            assert (await client.submit(c.Start(f"r{number}", "asking"))).outcome == "duplicate"
            assert (await client.submit(c.Signal(f"r{number}", "e"))).outcome == "applied"
            result = await client.result(f"r{number}", WAIT_S)
            assert result is not None
            assert (result.output, result.context) == (["second", None], {"k": 1})


async def test_at_least_once_runs_are_carried_through_restarts(place: Place) -> None:
    async with place.work(place.app(*naming("first")), guarantee="at_least_once") as client:
        await client.submit(c.Start("before", "outer"))
        assert await outcome(client, "before") == ["first", "first"]
        await client.submit(c.Start("r", "asking"))
    shutil.rmtree(place.state)
    async with place.work(place.app(*naming("second")), guarantee="at_least_once") as client:
        assert (await client.submit(c.Start("before", "outer"))).outcome == "duplicate"
        assert (await client.submit(c.Signal("r", "e", b"2"))).outcome == "applied"
        assert await outcome(client, "r") == ["second", 2]
    log = await asyncio.to_thread(read_log, place.broker, place.name)
    jobs = Counter(record.partition for record in log.of("jobs"))
    assert {number: offset for number, offset in log.committed.items() if offset > 0} == dict(jobs)


# What workers know.


async def test_a_run_waits_for_a_worker_that_has_its_implementation(place: Place) -> None:
    lacking = place.app(*(flow.to_blueprint() for flow in naming("nobody")))
    first, client = await place.begin(lacking)
    await owning(first, ALL)
    run_ids = [run_on([number], "p") for number in ALL]
    for run_id in run_ids:
        assert (await client.submit(c.Start(run_id, "named"))).outcome == "applied"

    async def parked() -> bool:
        return len(await client.runs(states=frozenset(("parked",)))) == len(run_ids)

    await eventually(parked)
    second, other = await place.begin(place.app(*naming("second")))
    await shared(first, second)
    for number in owned_by(second):
        assert await outcome(other, run_on([number], "p")) == "second"
    for number in owned_by(first):
        assert (await other.status(run_on([number], "p")) or {})["status"] == "parked"

    await first.stop()
    for run_id in run_ids:
        assert await outcome(other, run_id) == "second"


async def test_a_run_keeps_the_version_that_it_began_with_and_new_ones_take_the_newest(place: Place) -> None:
    first, client = await place.begin(place.app(*naming("first")))
    await owning(first, ALL)
    old = [run_on([number], "old") for number in ALL]
    for run_id in old:
        await client.submit(c.Start(run_id, "asking"))
    second, _ = await place.begin(place.app(*naming("second", version="2")))
    await shared(first, second)
    await eventually(lambda: asked_in_loop(first, lambda: first._plans.get("asking", "2") is not None))

    new = [run_on([number], "new") for number in ALL]
    for run_id in new:
        assert (await client.submit(c.Start(run_id, "asking"))).outcome == "applied"
    versions = {}
    for run_id in (*old, *new):
        await client.submit(c.Signal(run_id, "e"))
        result = await client.result(run_id, WAIT_S)
        assert result is not None
        versions[run_id] = result.version

    assert versions == dict.fromkeys(old, "1") | dict.fromkeys(new, "2")


async def test_a_version_with_other_content_is_refused_and_leaves_nothing_open(place: Place) -> None:
    async with place.work(place.app(*naming("first"))):
        pass
    changed = Flow("named").node("who", lambda: 1).node("more", lambda: 2, after="who")
    with pytest.raises(DefinitionError, match="give the changed blueprint another version"):
        await place.begin(place.app(changed))

    async with place.work(place.app(*naming("second"))) as client:
        await client.submit(c.Start("r", "named"))
        assert await outcome(client, "r") == "second"
    assert [path.name for path in (place.state / place.name).iterdir()] == ["slot-0"], "its slot was free again"


# Records.


async def test_a_start_that_comes_ten_times_is_one_run(place: Place) -> None:
    executed: list[str] = []
    flow = Flow("counted").node("once", lambda ctx: executed.append(ctx.run_id))
    start = encode_command(c.Start("r", "counted"))
    home = partition_of("r", PARTITIONS)
    async with place.work(place.app(flow)) as client:
        place.produce(*[(home, b"r", start)] * 10)
        await outcome(client, "r")
        place.produce((home, b"r", start))
        await client.submit(c.Start("r", "counted"))
    log = await asyncio.to_thread(read_log, place.broker, place.name)

    assert executed == ["r"]
    assert [record.key for record in log.of("results")] == [b"r"]
    histories = [decode_events(record.value or b"") for record in log.of("events")]
    assert sum(isinstance(event, RunStarted) for events in histories for _, _, event in events) == 1


async def test_records_without_a_key_or_on_a_wrong_partition_are_as_good_as_others(place: Place) -> None:
    async with place.work(place.app(*naming("it"))) as client:
        home, elsewhere = partition_of("r", PARTITIONS), (partition_of("r", PARTITIONS) + 1) % PARTITIONS
        place.produce((elsewhere, b"r", encode_command(c.Start("r", "asking"))))
        await eventually(lambda: client.status("r"))
        place.produce((home, None, encode_command(c.Signal("r", "e", b"1"))))
        assert await outcome(client, "r") == ["it", 1]
        place.produce((elsewhere, None, b'{"type":"start","runId":"s","blueprintId":"named"}'))
        assert await outcome(client, "s") == "it"


async def test_a_run_that_is_long_over_leaves_nothing_and_may_begin_anew(place: Place) -> None:
    async with place.work(place.app(*naming("it")), dedup_window_ms=700) as client:
        await client.submit(c.Start("r", "named"))
        await outcome(client, "r")
        assert (await client.submit(c.Start("r", "named"))).outcome == "duplicate"

        async def forgotten() -> bool:
            return await client.status("r") is None

        await eventually(forgotten)
        log = await asyncio.to_thread(read_log, place.broker, place.name)
        heads = [record for record in log.of("coordination-changelog") if record.key == b'["r","r"]']
        assert heads[-1].value is None
        assert [record.value is None for record in log.of("results")] == [False, True]
        assert (await client.submit(c.Start("r", "named"))).outcome == "applied"


async def test_large_values_and_large_batches_pass(place: Place) -> None:
    text = "x" * 900_000
    large = Flow("large").node("make", lambda: text)
    large.node("keep", lambda ctx: ctx.set("kept", ctx.input) or ctx.input, after="make")
    many = Flow("many").node("items", lambda: list(range(2_000)))
    many.batch("square", lambda ctx: ctx.input**2, after="items")
    async with place.work(place.app(large, many)) as client:
        await client.submit(c.Start("l", "large", input=orjson.dumps(text)))
        await client.submit(c.Start("m", "many"))
        result = await client.result("l", WAIT_S)
        assert result is not None
        assert result.output == text
        assert result.context == {"kept": text}
        assert await outcome(client, "m") == [number**2 for number in range(2_000)]
        assert sum([event["type"] == "nodeCompleted" async for event in client.events("m")]) >= 2_000


# What a worker does not begin with.


async def test_topics_that_would_lose_work_are_refused_with_what_is_wrong(place: Place) -> None:
    client = open_admin(admin(place.settings()))
    new = [NewTopic(f"{place.name}.jobs", 4, 1), NewTopic(f"{place.name}.events", 2, 1)]
    for future in client.create_topics(new).values():
        future.result(WAIT_S)

    with pytest.raises(StoreError, match=r"cannot be used:\n(?s:.*)\.events") as raised:
        await place.begin(place.app(*naming("it")))

    assert "2" in str(raised.value)
    assert not place.state.exists() or list(place.state.iterdir()) == [], "nothing was made for it"


async def test_a_folder_that_cannot_be_used_is_refused_before_the_group_is_joined(place: Place, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="setting 'state'"):
        await place.begin(place.app(*naming("it")), state=tmp_path / "file")
