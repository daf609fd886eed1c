"""The traps of the design, by their numbers: each of these fails where its remedy is taken away.

Not here, because nothing that a test could decide in a short time comes of them: 9 (scans over tombstones) and 10 (RocksDB
and the interpreter's lock) and 14 (what a transaction costs) are measured in ``bench``; 11 says why there is a real broker
here; 8 (pauses that survive a reassignment) shows only in some versions of the client, so partitions that go and come back
are what is tested.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from headrace import App, Context, Flow
from headrace.state import RunState
from headrace_adapters.kafka.clients import ConfluentClients
from headrace_adapters.kafka.transactions import Transactions
from headrace_adapters.kafka.worker import KafkaWorker
from headrace_adapters.rocks import RocksStore
from headrace_topics.partitioning import partition_of
from tests.kafka.checker import check
from tests.kafka.endings import AppName, MakeLoad, MakeWorkers, Say, after_some, finish, now_ms, settled
from tests.kafka.intercepted_clients import InterceptedClients
from tests.kafka.load import Expected, Load
from tests.kafka.topic_log import read_log
from tests.kafka.workers import HANG_S, Workers
from tests.kafka.workers_here import PARTITIONS, foreign_transaction, owned, reaches, settings_of, working

pytestmark = [pytest.mark.broker, pytest.mark.slow]

# Far above what it takes, and far below the time-out of a transaction that is left open.
SOON_S = 20.0


def send(servers: str, app: str, run_id: str, **fields: Any) -> None:
    producer = Producer({"bootstrap.servers": servers, "partitioner": "murmur2"})
    producer.produce(f"{app}.jobs", json.dumps({"runId": run_id, **fields}).encode(), run_id.encode())
    assert producer.flush(HANG_S) == 0


def runs_by_partition() -> dict[int, str]:
    """A run id for each partition."""
    return {partition_of(f"run-{number}", len(PARTITIONS)): f"run-{number}" for number in range(50)}


def left_open(app: str) -> list[tuple[str, int, bytes, bytes]]:
    """What a worker has written of a transaction that it did not get to the end of: never to be seen by anybody."""
    return [(f"{app}.coordination-changelog", number, b'["ghost","r"]', b'{"v":1}') for number in PARTITIONS]


def slot_id(state: Path, app: str) -> str:
    return str(json.loads((state / app / "slot-0" / "slot.json").read_bytes())["id"])


async def work_a_little(app: str, servers: str, state: Path, load: Load, part: float) -> None:
    """Have some runs done by a worker that then goes in peace."""
    async with working(app, servers, state) as worker:
        await reaches(lambda: owned(worker) == PARTITIONS, "working on all partitions")
        load.allow(part)
        await asyncio.to_thread(load.drain)


@pytest.fixture
def make_here(tmp_path: Path, broker: str, app_name: AppName, make_workers: MakeWorkers) -> Callable[[str], Workers]:
    """The topics, folder and checks of workers that are in this process."""
    return lambda word: make_workers(app_name(word), broker)


async def end(workers: Workers, load: Load) -> None:
    """All runs end, and what is left fits together."""
    await asyncio.to_thread(load.finish)
    await asyncio.to_thread(settled, workers)
    check(read_log(workers.servers, workers.app), load.expected)


async def test_trap_01_a_worker_that_starts_again_ends_what_it_left_open_at_once(
    make_here: Callable[[str], Workers], make_load: MakeLoad, say: Say
) -> None:
    workers = make_here("trap01")
    app, servers, state = workers.app, workers.servers, workers.state
    load = make_load(workers, 24)
    await work_a_little(app, servers, state, load, 0.5)

    with foreign_transaction(servers, f"{app}.{slot_id(state, app)}", left_open(app)):
        async with working(app, servers, state) as worker:
            took_s = await reaches(lambda: owned(worker) == PARTITIONS, "working on all partitions", SOON_S)
            await end(workers, load)
    say(f"took over from itself in {took_s:.1f} s, with a transaction of 60 s open")


@pytest.mark.parametrize("how_far", ["before its offsets", "with its offsets"])
async def test_trap_01_another_worker_ends_what_a_dead_one_left_open(
    make_here: Callable[[str], Workers], make_load: MakeLoad, tmp_path: Path, say: Say, how_far: str
) -> None:
    """A worker that was killed or stopped in the middle of a commit must not cost the time-out of its transaction."""
    workers = make_here("trap01")
    app, servers = workers.app, workers.servers
    load = make_load(workers, 24)
    await work_a_little(app, servers, tmp_path / "dead", load, 0.5)

    dead = f"{app}.{slot_id(tmp_path / 'dead', app)}"
    with foreign_transaction(servers, dead, left_open(app)) as producer:
        if how_far == "with its offsets":
            member = Consumer({"bootstrap.servers": servers, "group.id": app})
            offsets = [TopicPartition(f"{app}.jobs", number, 100_000, metadata=dead) for number in PARTITIONS]
            producer.send_offsets_to_transaction(offsets, member.consumer_group_metadata(), HANG_S)
            member.close()
        async with working(app, servers, tmp_path / "living") as worker:
            took_s = await reaches(lambda: owned(worker) == PARTITIONS, "working on all partitions", SOON_S)
            await end(workers, load)
    say(f"took over from another one in {took_s:.1f} s, with a transaction of 60 s open {how_far}")


async def test_trap_01_every_transaction_carries_offsets_with_the_metadata_of_the_moment(
    make_here: Callable[[str], Workers], make_load: MakeLoad
) -> None:
    """Also those that only timers caused."""
    workers, clients = make_here("trap01"), InterceptedClients()
    load = make_load(workers, 24, kinds=("slept", "retried"))
    async with working(workers.app, workers.servers, workers.state, clients):
        await end(workers, load)

    calls = [(kind, name) for kind, name, _ in clients.calls if kind == "transactional" or name == "consumer_group_metadata"]
    begun = [place for place, call in enumerate(calls) if call == ("transactional", "begin_transaction")]
    assert len(begun) > 5
    for place in begun:
        assert [name for _, name in calls[place : place + 4]] == [
            "begin_transaction", "consumer_group_metadata", "send_offsets_to_transaction", "commit_transaction"
        ]  # fmt: skip
    for kind, name, args in clients.calls:
        if (kind, name) == ("transactional", "send_offsets_to_transaction"):
            assert args[0]
            assert all(place.offset >= 0 for place in args[0])


class Refusals:
    """Refuses every third call *before* it is made, or *after* that, by *error*."""

    def __init__(self, error: KafkaError, when: str) -> None:
        self._error, self._when = error, when
        self._calls = 0
        self.refused = 0

    def __call__(self, method: Callable[..., Any], *args: Any) -> Any:
        self._calls += 1
        refuses = self._calls % 3 == 0
        if refuses and self._when == "before":
            self.refused += 1
            raise KafkaException(self._error)
        given = method(*args)
        if refuses:
            self.refused += 1
            raise KafkaException(self._error)
        return given


async def test_trap_02_after_an_abort_everything_is_decided_again_from_the_last_commit(
    make_here: Callable[[str], Workers], make_load: MakeLoad, tmp_path: Path
) -> None:
    """Also where the partitions are about to go to another worker: its jobs must not be passed by."""
    workers, clients = make_here("trap02"), InterceptedClients()
    load = make_load(workers, 120)
    refusals = Refusals(KafkaError(KafkaError._TIMED_OUT, "refused", txn_requires_abort=True), "before")
    clients.instead["transactional", "commit_transaction"] = refusals
    async with working(workers.app, workers.servers, tmp_path / "a", clients) as first:
        await reaches(lambda: owned(first) == PARTITIONS, "working on all partitions")
        await asyncio.to_thread(load.press, after_some(load, 0.3))
        for name in ("b", "c"):
            async with working(workers.app, workers.servers, tmp_path / name) as other:
                await asyncio.to_thread(load.press, after_some(load, 0.2))
                await reaches(lambda other=other: bool(owned(other)), "given partitions")  # type: ignore[misc]
                await asyncio.to_thread(load.press, after_some(load, 0.1))
        await end(workers, load)
    assert refusals.refused > 5


@pytest.mark.parametrize("when", ["before", "after"])
async def test_trap_03_a_commit_in_doubt_is_found_out_about(
    make_here: Callable[[str], Workers], make_load: MakeLoad, when: str
) -> None:
    """It has happened or it has not; the producer is a new one in both cases, under the same id."""
    workers, clients = make_here("trap03"), InterceptedClients()
    load = make_load(workers, 6, kinds=("chained", "retried", "asked_late"))
    refusals = Refusals(KafkaError(KafkaError._FATAL, "nobody knows", fatal=True), when)
    clients.instead["transactional", "commit_transaction"] = refusals
    async with working(workers.app, workers.servers, workers.state, clients):
        await end(workers, load)
    assert refusals.refused > 2
    initialized = sum(call[:2] == ("transactional", "init_transactions") for call in clients.calls)
    assert initialized == 1 + refusals.refused


async def test_trap_03_a_call_that_is_never_answered_does_not_hold_the_worker_for_ever(
    make_here: Callable[[str], Workers], make_load: MakeLoad, monkeypatch: pytest.MonkeyPatch
) -> None:
    """librdkafka has been seen to say so for as long as it was asked, with the brokers long back."""
    monkeypatch.setattr("headrace_adapters.kafka.transactions.PATIENCE_S", 0.5)
    workers, clients = make_here("trap03"), InterceptedClients()
    load = make_load(workers, 24)
    stuck: set[int] = set()

    def commit(method: Callable[..., Any], *args: Any) -> Any:
        # One producer, from its third commit on, until there is another one.
        producer = id(method.__self__)  # type: ignore[attr-defined]
        if not stuck and len([call for call in clients.calls if call[1] == "commit_transaction"]) == 3:
            stuck.add(producer)
        if producer in stuck:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "retry call to resume", retriable=True))
        return method(*args)

    clients.instead["transactional", "commit_transaction"] = commit
    clients.instead["transactional", "abort_transaction"] = commit
    async with working(workers.app, workers.servers, workers.state, clients):
        await end(workers, load)
    assert stuck


async def test_trap_04_a_partition_is_not_worked_on_before_all_that_is_committed_is_read(
    make_here: Callable[[str], Workers],
) -> None:
    """Committed records lie behind a transaction of somebody else's that is still open."""
    workers = make_here("trap04")
    app, servers, state = workers.app, workers.servers, workers.state
    homes = runs_by_partition()
    async with working(app, servers, state) as worker:
        await reaches(lambda: owned(worker) == PARTITIONS, "working on all partitions")
        with foreign_transaction(servers, f"{app}.somebody", left_open(app)[:1]) as somebody:
            for run_id in homes.values():
                send(servers, app, run_id, type="start", blueprintId="asked", input=1)

            def all_wait() -> bool:
                runs = [worker._loop.partitions[number].run(run_id) for number, run_id in homes.items()]
                return all(isinstance(run, RunState) and run.awaiting for run in runs)

            await reaches(all_wait, "waiting")
            await worker.stop()
            shutil.rmtree(state / app / "slot-0" / "store")

            async with working(app, servers, state) as restored:
                await reaches(lambda: owned(restored) == PARTITIONS[1:], "working on the others")
                # Long enough that it would have taken over the other one, too.
                for run_id in (homes[1], homes[2], homes[3]):
                    send(servers, app, run_id, type="signal", event="answered", payload=5)
                await reaches(lambda: result_of(servers, app, homes[1]) == 6, "ended")
                assert owned(restored) == PARTITIONS[1:]
                assert list(restored._carrier.restoring) == [0]

                somebody.abort_transaction(HANG_S)
                await reaches(lambda: owned(restored) == PARTITIONS, "working on all partitions")
                send(servers, app, homes[0], type="signal", event="answered", payload=7)
                await reaches(lambda: result_of(servers, app, homes[0]) == 8, "ended")


def result_of(servers: str, app: str, run_id: str) -> Any:
    """The output of a run, None where it has not ended."""
    results = [record for record in read_log(servers, app, ["results"]).of("results") if record.key == run_id.encode()]
    return json.loads(results[0].value or b"{}")["output"] if results else None


@pytest.mark.parametrize("moved", [1_000_000, -1_000_000])
async def test_trap_05_a_store_that_is_not_at_a_place_of_the_changelog_is_made_anew(
    make_here: Callable[[str], Workers], make_load: MakeLoad, caplog: pytest.LogCaptureFixture, moved: int
) -> None:
    workers = make_here("trap05")
    app, servers, state = workers.app, workers.servers, workers.state
    load = make_load(workers, 24)
    await work_a_little(app, servers, state, load, 0.5)
    with RocksStore(state / app / "slot-0" / "store") as store:
        for key, value in list(store.scan(b"Mk")):
            meta = json.loads(value)
            meta["next"] = [offset + moved for offset in meta["next"]]
            store.write([(key, json.dumps(meta).encode()), (b"H" + key[2:] + b'["left over",', b"{}")])

    async with working(app, servers, state):
        await end(workers, load)

    assert sum("made anew" in record.message for record in caplog.records) >= len(PARTITIONS)
    with RocksStore(state / app / "slot-0" / "store") as store:
        assert not [key for key, _ in store.scan(b"H") if b"left over" in key]


async def test_trap_06_what_goes_wrong_in_a_callback_is_raised_and_skips_nothing(
    make_here: Callable[[str], Workers], make_load: MakeLoad, tmp_path: Path
) -> None:
    workers = make_here("trap06")
    load = make_load(workers, 60)

    def break_down(_: object) -> None:
        raise ValueError("a defect in a callback")

    async with working(workers.app, workers.servers, tmp_path / "a") as first:
        await reaches(lambda: owned(first) == PARTITIONS, "working on all partitions")
        await asyncio.to_thread(load.press, after_some(load, 0.3))
        first._loop.hand_over = break_down  # type: ignore[method-assign]
        async with working(workers.app, workers.servers, tmp_path / "b"):
            with pytest.raises(ValueError, match="a defect in a callback"):
                await asyncio.wait_for(first.failed(), HANG_S)
            await end(workers, load)


class Held:
    """Runs of one node that ends when it is let go, and of one behind it; and every execution of theirs."""

    def __init__(self) -> None:
        self._let_go = threading.Event()
        self.executed: list[tuple[str, str]] = []

    def make_app(self, name: str) -> App:
        app = App(name)
        app.add(Flow("held").node("count_held", self._hold).node("count_then", self._count, after="count_held"))
        return app

    def _hold(self, ctx: Context) -> int:
        self.executed.append((ctx.run_id, ctx.node_id))
        assert self._let_go.wait(HANG_S)
        return self._add_one(ctx)

    def _count(self, ctx: Context) -> int:
        self.executed.append((ctx.run_id, ctx.node_id))
        return self._add_one(ctx)

    def _add_one(self, ctx: Context) -> int:
        ctx.increment("counted")
        return int(ctx.input) + 1

    def let_go(self, worker: KafkaWorker) -> None:
        """In the thread of its loop: what it executes has ended, and it has not looked at that yet."""
        self._let_go.set()
        deadline_s = time.monotonic() + HANG_S
        while worker._executor.in_progress:
            assert time.monotonic() < deadline_s, "the nodes go on"
            time.sleep(0.001)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
async def test_trap_06_what_is_open_is_committed_before_partitions_go(
    make_here: Callable[[str], Workers], tmp_path: Path, protocol: Literal["classic", "consumer"]
) -> None:
    """Nodes have ended, and of that nothing is committed, at the moment when the group takes their partitions away.

    One more member comes, so nothing but this rebalance can refuse what is committed within the callback. The next owner
    finds the nodes ended: none is executed a second time.
    """
    workers, clients, held = make_here("trap06"), InterceptedClients(), Held()
    app, servers = workers.app, workers.servers
    runs = list(runs_by_partition().values())
    handed: list[tuple[list[int], list[str]]] = []
    async with working(app, servers, tmp_path / "a", clients, held.make_app, group_protocol=protocol) as first:
        await reaches(lambda: owned(first) == PARTITIONS, "working on all partitions")
        hand_over = first._loop.hand_over

        def observed(numbers: list[int]) -> None:
            held.let_go(first)
            before = len(clients.calls)
            hand_over(numbers)
            called = [name for kind, name, _ in clients.calls[before:] if kind in ("transactional", "member")]
            handed.append((sorted(numbers), called))

        for run_id in runs:
            send(servers, app, run_id, type="start", blueprintId="held", input=1)
        await reaches(lambda: len(held.executed) == len(runs) and first._loop.idle, "executing all nodes")
        first._loop.hand_over = observed  # type: ignore[method-assign]
        async with working(app, servers, tmp_path / "b", None, held.make_app, group_protocol=protocol) as second:
            await reaches(lambda: bool(handed) and owned(second) == handed[0][0], "working on what was taken away")
            await reaches(lambda: len(read_log(servers, app, ["results"]).of("results")) == len(runs), "ended")
            await asyncio.to_thread(settled, workers)
            ((_, called),) = handed
    assert sorted(held.executed) == sorted((run_id, node_id) for run_id in runs for node_id in ("count_held", "count_then"))
    assert called == [
        "begin_transaction",
        "consumer_group_metadata",
        "memberid",
        "send_offsets_to_transaction",
        "commit_transaction",
    ]
    check(read_log(servers, app), {run_id: Expected("held", "completed", 3, 2) for run_id in runs})


async def test_trap_07_nothing_waits_for_more_records_than_there_are(
    make_here: Callable[[str], Workers], make_load: MakeLoad
) -> None:
    """``consume`` with a time waits all of it, so it is called with none."""
    workers, clients = make_here("trap07"), InterceptedClients()
    load = make_load(workers, 24)
    async with working(workers.app, workers.servers, workers.state, clients):
        await end(workers, load)
    waits = {args[1] for kind, name, args in clients.calls if name == "consume"}
    assert waits == {0}


async def test_trap_08_partitions_that_went_and_came_back_are_read(
    make_here: Callable[[str], Workers], make_load: MakeLoad, tmp_path: Path
) -> None:
    workers = make_here("trap08")
    load = make_load(workers, 96)
    async with working(workers.app, workers.servers, tmp_path / "a") as first:
        await reaches(lambda: owned(first) == PARTITIONS, "working on all partitions")
        for name in ("b", "c"):
            async with working(workers.app, workers.servers, tmp_path / name) as other:
                await reaches(lambda other=other: bool(owned(other)), "given partitions")  # type: ignore[misc]
                # It takes no more at the moment when the others come and it is told of them.
                first._loop.ask(lambda: first._carrier._consumer._set_full(True))
            await reaches(lambda: owned(first) == PARTITIONS, "working on all partitions")
            load.allow(0.4)
            await asyncio.to_thread(load.drain)
        await end(workers, load)


def test_trap_12_transactions_in_a_row_do_not_wait_for_each_other(
    broker: str, app_name: AppName, tmp_path: Path, make_workers: MakeWorkers, say: Say
) -> None:
    """The fastest of twenty counts: by default each of them waits a tenth of a second, on the fastest machine, too."""
    app = app_name("trap12")
    workers = make_workers(app, broker)
    workers.begin().ready()
    workers.stop()
    settings = settings_of(app, broker, tmp_path)
    transactions = Transactions(ConfluentClients(), settings, f"{app}.test", f"{app}.jobs", lambda: False)
    transactions.open()
    member = Consumer({"bootstrap.servers": broker, "group.id": f"{app}.test"})
    took_s = []
    for offset in range(20):
        begun_s = time.monotonic()
        transactions.commit([], {0: offset}, member, frozenset())
        took_s.append(time.monotonic() - begun_s)
    member.close()
    transactions.close()
    say(f"transactions in a row: the fastest {min(took_s) * 1e3:.0f} ms, the slowest {max(took_s) * 1e3:.0f} ms")
    assert min(took_s[1:]) < 0.08


async def test_trap_13_work_of_partitions_that_were_lost_is_dropped_before_metadata_is_taken_again(
    make_here: Callable[[str], Workers], make_load: MakeLoad, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The loop stands still for so long that the group goes on without it, and has work in hand when it goes on."""
    caplog.set_level(logging.INFO)
    workers = make_here("trap13")
    load = make_load(workers, 96)
    impatient = {"kafka": {"max.poll.interval.ms": 2_500}}
    async with working(workers.app, workers.servers, tmp_path / "a", **impatient) as first:
        await reaches(lambda: owned(first) == PARTITIONS, "working on all partitions")
        async with working(workers.app, workers.servers, tmp_path / "b") as other:
            await reaches(lambda: bool(owned(other)), "given partitions")
            await asyncio.to_thread(load.press, after_some(load, 0.3))
            go_on = threading.Event()
            first._loop.ask(lambda: go_on.wait(HANG_S))
            await asyncio.to_thread(load.press, lambda: owned(other) == PARTITIONS)
            load.allow(0.2)
            go_on.set()
            await asyncio.to_thread(load.drain)
            await reaches(lambda: bool(owned(first)) and bool(owned(other)), "shared")
            await end(workers, load)
    assert any("partitions lost" in record.message for record in caplog.records)


async def test_trap_15_with_the_new_protocol_a_dead_worker_is_replaced_as_well(
    broker: str, app_name: AppName, make_workers: MakeWorkers, make_load: MakeLoad, say: Say
) -> None:
    """Its session is the broker's setting, so how long it takes is the broker's affair."""
    workers = make_workers(app_name("trap15"), broker, group_protocol="consumer")
    first, _ = workers.begin().ready(), workers.begin().ready()
    load = make_load(workers, 96)

    load.press(after_some(load, 0.6))
    fault = now_ms()
    first.kill()

    finish(workers, load, say, "a worker killed, with group protocol consumer", [fault])
