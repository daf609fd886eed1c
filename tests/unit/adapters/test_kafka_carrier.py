"""The carrier: one transaction, then the store, then the loop; and what follows from a transaction that failed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from confluent_kafka import KafkaError
from tests.contract.driven import Driven
from tests.kafka.recorded_carrier import layout_of
from tests.kafka.scripted_clients import Record, ScriptedAdmin, ScriptedClients, ScriptedConsumer, ScriptedProducer, failure

from headrace import commands as c
from headrace.blueprint import from_json
from headrace.errors import StoreError
from headrace.plans import Plans
from headrace.registry import Registry
from headrace_adapters.kafka import carrier as carrier_module
from headrace_adapters.kafka.blueprint_log import BlueprintLog
from headrace_adapters.kafka.carrier import KafkaCarrier
from headrace_adapters.kafka.changelog_copy import ChangelogCopy
from headrace_adapters.kafka.settings import KafkaSettings
from headrace_adapters.memory import MemoryStore
from headrace_topics.jobs_record import encode_command
from headrace_topics.names import OFFSET_KEY
from headrace_topics.partitioning import partition_of
from headrace_topics.state_records import encode_offset

LAYOUT = layout_of(2)
FLOW = {"id": "f", "nodes": [{"id": "n", "uses": "echo"}], "edges": []}
REBALANCED = failure(KafkaError.ILLEGAL_GENERATION, txn_requires_abort=True)
FENCED = failure(KafkaError._FENCED, fatal=True)


def run_on(number: int, word: str = "r") -> str:
    """A run id of this partition."""
    return next(run_id for run_id in (f"{word}{n}" for n in range(99)) if partition_of(run_id, 2) == number)


def started(run_id: str) -> c.Start:
    """A start whose answer somebody waits for, so that it is committed at once."""
    return c.Start(run_id, "f", request_id=f"of {run_id}")


class Counting:
    """What is told to metrics."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def committed(self, records: int, jobs: int, took_s: float) -> None:
        self.told.append("committed")

    def counted(self, what: str) -> None:
        self.told.append(what)

    def restoring(self, number: int, records: int, remaining: int) -> None:
        self.told.append("restoring")

    def warm(self, number: int, lacking: int | None) -> None:
        self.told.append(f"{number} lacks {lacking}")

    def left(self, number: int) -> None:
        self.told.append(f"{number} left")


class World:
    """A worker's loop on a carrier whose brokers are the test's; it has the partitions 0 and 1, unless told otherwise."""

    def __init__(self, guarantee: str = "exactly_once", *, owns: tuple[int, ...] = (0, 1), hanging: bool = False) -> None:
        self.clients = ScriptedClients()
        self.store = MemoryStore()
        self.watched = Counting()
        settings = KafkaSettings("localhost:1", "app", "app", guarantee=guarantee)
        plans = Plans(Registry())
        self.carrier = KafkaCarrier(
            self.clients, settings, LAYOUT, self.store, BlueprintLog(self.clients, settings, LAYOUT, plans),
            slot_id="slot", client_id="headrace|here", clock=lambda: self.driven.now_ms, give_up=lambda: False,
            plans_changed=lambda: None, watcher=self.watched,
        )  # fmt: skip
        self.driven = Driven(self.carrier, [FLOW], {"echo": lambda ctx: ctx.input}, hanging=["echo"] if hanging else [])
        if owns:
            self.member.assign_by_group(*owns)
            self.until(lambda: sorted(self.owned) == sorted(owns) and not self.carrier.restoring)

    # Whom the carrier talks to.

    @property
    def member(self) -> ScriptedConsumer:
        return next(made for made in self.clients.consumers if "group.protocol" in made.configuration)

    @property
    def producer(self) -> ScriptedProducer:
        return self.clients.producers[-1]

    @property
    def admins(self) -> list[ScriptedAdmin]:
        return self.clients.admins

    @property
    def owned(self) -> dict[int, Any]:
        return self.driven.loop.partitions

    def jobs_come(self, *commands: tuple[int, c.Command]) -> None:
        """Records of the jobs topic, each with its offset, on the partition of its run."""
        for at, command in commands:
            number = partition_of(command.run_id, 2)
            self.member.coming.append(Record(LAYOUT.jobs, number, at, command.run_id.encode(), encode_command(command)))

    def ends_are(self, **ends: int) -> None:
        for each in self.admins:
            for place, end in ends.items():
                topic, number = place.split("_")
                each.ends[LAYOUT.coordination if topic == "c" else LAYOUT.context, int(number)] = end

    def committed_are(self, offsets: dict[int, Any]) -> None:
        for each in self.admins:
            each.committed = dict(offsets)

    def until(self, is_so: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + 10
        while not is_so():
            self.driven.loop.step()
            assert time.monotonic() < deadline_s, "it does not come to that"

    def steps(self, times: int = 5) -> None:
        for _ in range(times):
            self.driven.now_ms += 100
            self.driven.loop.step()

    def offsets_sent(self) -> list[dict[int, int]]:
        return [
            {it.partition: it.offset for it in positions}
            for producer in self.clients.producers
            for positions, _ in producer.called("send_offsets_to_transaction")
        ]


def test_nothing_is_in_the_store_before_the_transaction_is_committed() -> None:
    world = World(hanging=True)
    run_id = run_on(0)
    seen: list[list[bytes]] = []
    commit = world.producer.commit_transaction

    def look(timeout: float) -> None:
        seen.append([key for key, _ in world.store.scan(b"H")])
        commit(timeout)

    world.producer.commit_transaction = look  # type: ignore[method-assign]
    world.jobs_come((0, started(run_id)))
    world.steps()

    assert seen[0] == []
    assert [key for key, _ in world.store.scan(b"H")] == [b'H\x00\x00["%s",' % run_id.encode()]


def test_offsets_move_with_what_was_taken_and_the_copy_knows_how_far_it_is() -> None:
    world = World()
    world.producer.ends[LAYOUT.coordination, 0] = 500
    world.jobs_come((7, started(run_on(0))))
    world.steps()

    assert world.offsets_sent()[0] == {0: 8}, "and only those of partitions with news"
    written = sum(topic == LAYOUT.coordination for topic, *_ in world.producer.written)
    assert ChangelogCopy(world.store, LAYOUT, lambda: 0).progress(0) == [500 + written, 0]


def test_without_news_there_is_no_transaction() -> None:
    world = World()
    world.steps(20)

    assert world.producer.called("begin_transaction") == []


def test_a_job_that_says_nothing_new_moves_the_offset_a_little_later() -> None:
    world = World()
    run_id = run_on(1)
    world.jobs_come((4, c.RunNode(run_id, "f", "n")))
    world.driven.loop.step()
    before = world.offsets_sent()
    world.steps()

    assert before in ([], [{1: 5}])
    assert world.offsets_sent() == [{1: 5}]


# Undone.


def test_jobs_of_a_transaction_that_was_undone_are_read_again_from_the_last_commit() -> None:
    world = World()
    first, second = run_on(0, "a"), run_on(0, "b")
    world.jobs_come((0, started(first)))
    world.steps()
    done = world.offsets_sent()[-1][0]
    world.producer.fails("commit_transaction", REBALANCED)
    world.jobs_come((done, started(second)))
    world.driven.loop.step()
    assert world.driven.status(second) == "", "nothing of it has happened"

    world.driven.loop.step()
    assert world.member.positions[LAYOUT.jobs, 0] == done
    assert (LAYOUT.jobs, 0) not in world.member.paused
    world.jobs_come((done, started(second)))
    world.steps()

    assert world.driven.status(second) == "completed"
    assert world.offsets_sent()[-1][0] > done
    assert world.watched.told.count("undone") == 1


def test_no_commit_moves_offsets_past_jobs_that_were_undone() -> None:
    """A timer may cause a commit before the jobs are read again."""
    world = World()
    world.jobs_come((0, started(run_on(0))), (0, started(run_on(1))))
    world.producer.fails("commit_transaction", REBALANCED)
    world.driven.loop.step()
    sent = len(world.offsets_sent())

    world.carrier.commit([], [], world.driven.now_ms)

    assert len(world.offsets_sent()) == sent


def test_what_comes_in_the_poll_in_which_a_hand_over_is_undone_is_not_lost() -> None:
    world = World(hanging=True)
    kept = run_on(1)
    world.jobs_come((0, started(run_on(0))))
    world.driven.loop.step()  # the start is committed, and its node begins
    world.jobs_come((0, started(kept)))
    world.member.revoke(0)
    world.producer.fails("commit_transaction", REBALANCED)
    world.steps(2)
    assert world.driven.status(kept) == ""
    world.until(lambda: world.member.positions.get((LAYOUT.jobs, 1)) == 0 and (LAYOUT.jobs, 1) not in world.member.paused)

    world.jobs_come((0, started(kept)))
    world.steps()

    assert world.driven.status(kept) == "running"
    assert list(world.owned) == [1]


def test_a_worker_whose_transactions_are_undone_again_and_again_slows_down(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    world = World()
    monkeypatch.setattr(world.carrier._consumer, "wait", waits.append)
    world.producer.fails("commit_transaction", *[REBALANCED] * 120)
    for _ in range(120):
        world.jobs_come((0, started(run_on(0))))
        world.driven.loop.step()

    assert waits[0] == carrier_module.PAUSE_S
    assert waits == sorted(waits)
    assert max(waits) == carrier_module.PAUSE_S_MAX


# In doubt.


def test_after_a_transaction_in_doubt_all_partitions_are_restored_and_find_out() -> None:
    world = World()
    run_id = run_on(0)
    world.producer.fails("commit_transaction", FENCED)
    world.jobs_come((0, started(run_id)))
    world.committed_are({0: 1, 1: 0})
    world.ends_are(c_0=3)
    world.driven.loop.step()
    assert world.owned == {}, "nobody decides about what is not known"
    assert len(world.clients.producers) == 2
    world.until(lambda: 1 in world.owned)
    assert world.carrier.restoring == {0: 3}
    reader = next(made for made in world.clients.consumers if (LAYOUT.coordination, 0) in made.positions)

    reader.coming.append(Record(LAYOUT.coordination, 0, 2, b'["","offset"]', b'{"next":1}'))
    world.until(lambda: 0 in world.owned and not world.carrier.restoring)

    assert world.member.positions[LAYOUT.jobs, 0] == 1, "it had happened"
    assert world.watched.told.count("in_doubt") == 1


def test_a_partition_that_goes_while_a_hand_over_is_in_doubt_is_not_restored() -> None:
    world = World(hanging=True)
    world.jobs_come((0, started(run_on(0))))
    world.driven.loop.step()
    world.member.revoke(0)
    world.producer.fails("commit_transaction", FENCED)
    world.until(lambda: list(world.owned) == [1] and not world.carrier.restoring)

    assert world.member.positions.keys() == {(LAYOUT.jobs, 1)}


# Partitions that come and go.


def test_a_partition_that_goes_before_it_is_restored_is_not_worked_on() -> None:
    world = World(owns=(1,))
    world.ends_are(c_0=5)
    world.member.assign_by_group(0)
    world.until(lambda: world.carrier.restoring == {0: 5})

    world.member.revoke(0)
    world.steps()

    assert world.carrier.restoring == {}
    assert list(world.owned) == [1]
    assert "0 left" in world.watched.told
    assert "1 left" not in world.watched.told


def test_a_restored_partition_waits_for_the_blueprints_of_its_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(owns=())

    def fail(give_up: Callable[[], bool], within_s: float) -> None:
        assert not give_up()
        assert within_s <= 1, "other partitions wait as long"
        raise StoreError("the broker is away")

    monkeypatch.setattr(world.carrier._blueprints, "read_to_end", fail)
    world.member.assign_by_group(0, 1)
    world.steps(10)
    assert world.owned == {}
    assert world.carrier.restoring == {0: 0, 1: 0}
    world.member.revoke(0)
    world.steps(2)

    monkeypatch.undo()
    world.until(lambda: 1 in world.owned)
    assert list(world.owned) == [1], "the one that went meanwhile is not taken over"


def test_a_partition_that_librdkafka_is_not_ready_for_is_begun_later() -> None:
    world = World(owns=())
    world.member.fails("seek", failure(KafkaError._STATE), failure(KafkaError._STATE))
    world.member.assign_by_group(0)
    world.until(lambda: 0 in world.owned)
    world.until(lambda: not world.carrier.restoring)

    assert len(world.member.called("seek")) == 3
    assert (LAYOUT.jobs, 0) not in world.member.paused


def test_a_revoked_partition_is_committed_first_and_dropped_after_it() -> None:
    world = World(hanging=True)
    run_id = run_on(0)
    world.jobs_come((0, started(run_id)))
    world.driven.loop.step()
    sent = len(world.offsets_sent())
    world.member.revoke(0)
    world.driven.loop.step()

    assert [set(offsets) for offsets in world.offsets_sent()[sent:]] == [{0}], "that its node has begun"
    assert list(world.owned) == [1]
    assert world.driven.executor.live == {}, "what executed there is not wanted any more"


def test_what_is_put_aside_goes_out_with_the_offset_that_moves_past_it() -> None:
    world = World()
    here, there = 0, 1
    stray = c.Cancel(run_on(there))
    world.member.coming.append(Record(LAYOUT.jobs, here, 3, b"x", encode_command(stray)))
    world.member.coming.append(Record(LAYOUT.jobs, here, 4, None, encode_command(stray)))
    world.steps()

    assert world.offsets_sent()[0] == {here: 5}
    topics = [(topic, number) for topic, number, *_ in world.producer.written]
    assert (LAYOUT.dead_letters, -1) in topics, "its key is not that of its run"
    assert (LAYOUT.jobs, there) in topics


def test_the_group_is_left_and_everything_closed() -> None:
    world = World()
    world.carrier.close()

    assert world.member.called("close") == [()]
    assert world.producer.called("purge") == [()]
    assert all(made.called("close") for made in world.clients.consumers)


def test_a_carrier_that_never_joined_closes_what_it_has() -> None:
    clients = ScriptedClients()
    settings = KafkaSettings("localhost:1", "app", "app")
    blueprints = BlueprintLog(clients, settings, LAYOUT, Plans(Registry()))
    carrier = KafkaCarrier(
        clients, settings, LAYOUT, MemoryStore(), blueprints, slot_id="s", client_id="c", clock=lambda: 0,
        give_up=lambda: False, plans_changed=lambda: None,
    )  # fmt: skip
    carrier.close()

    assert clients.consumers
    assert all(made.called("close") for made in clients.consumers)


def test_an_offset_that_only_a_bad_record_has_moved_stands_in_the_changelog_too() -> None:
    """Where the group forgets its offset, that record would else be a dead letter a second time."""
    world = World()
    world.member.coming.append(Record(LAYOUT.jobs, 0, 0, b"bad", b"no JSON"))
    world.steps()

    assert world.offsets_sent() == [{0: 1}]
    told = [(number, value) for topic, number, key, value in world.producer.written if key == OFFSET_KEY]
    assert told == [(0, encode_offset(1))]
    assert world.carrier._copy.jobs_offset(0) == 1


# At least once.


def test_without_transactions_the_store_is_written_before_the_offsets_move() -> None:
    world = World("at_least_once")
    run_id = run_on(0)
    seen: list[bool] = []
    commit = world.member.commit

    def look(*, offsets: list[Any], asynchronous: bool) -> None:
        seen.append(bool(list(world.store.scan(b"H"))))
        commit(offsets=offsets, asynchronous=asynchronous)

    world.member.commit = look  # type: ignore[method-assign]
    world.jobs_come((0, started(run_id)))
    world.steps()

    assert seen[0]
    assert world.driven.status(run_id) == "completed"
    assert world.producer.called("begin_transaction") == []


def test_offsets_that_the_group_would_not_take_are_offered_again_where_nothing_else_comes() -> None:
    world = World("at_least_once")
    world.member.fails("commit", failure(KafkaError.ILLEGAL_GENERATION))
    world.jobs_come((0, started(run_on(0))))

    world.until(lambda: len(world.member.called("commit")) > 1)

    refused, offered = [{it.partition: it.offset for it in call[0]} for call in world.member.called("commit")][:2]
    assert offered == refused == {0: 1}
    world.steps(20)
    assert len(world.member.called("commit")) == 2, "and not again when it has"


# What no record can hold.


@pytest.mark.parametrize("before", [0, 2], ids=["as it begins", "later"])
def test_a_run_that_no_record_can_hold_fails_and_holds_up_nobody(monkeypatch: pytest.MonkeyPatch, before: int) -> None:
    """Its transaction would be undone for ever, and with it those of all runs of the worker."""
    monkeypatch.setattr("headrace_adapters.kafka.outgoing.VALUE_BYTES_MAX", 30_000)
    world = World()
    chain = [f"n{number}" for number in range(before + 1)]
    targets = [f"m{number}" for number in range(40)]
    edges = [{"source": chain[-1], "target": target, "transform": "input"} for target in targets]
    edges += [{"source": source, "target": target} for source, target in pairwise(chain)]
    nodes = [{"id": name, "uses": "echo"} for name in (*chain, *targets)]
    world.driven.plans.add(from_json({"id": "wide", "nodes": nodes, "edges": edges}))
    large, other = run_on(0), run_on(1)
    start = c.Start(large, "wide", input=b'"' + b"x" * 1_000 + b'"')
    world.jobs_come((0, start))
    world.until(lambda: "undone" in world.watched.told)
    world.steps(2)
    assert world.driven.status(large) == ("failed" if before else "")
    world.jobs_come((0, c.Start(other, "f")), *([] if before else [(0, start)]))
    world.steps(20)

    assert world.driven.status(large) == "failed"
    assert world.driven.status(other) == "completed"
    assert world.watched.told.count("undone") == 1
    written = [(topic, key, value or b"") for topic, _, key, value in world.producer.written]
    (result,) = [value for topic, key, value in written if (topic, key) == (LAYOUT.results, large.encode())]
    (error,) = json.loads(result)["errors"]
    assert (error["nodeId"], error["code"]) == ("", "STATE_TOO_LARGE")
    assert "keep large data elsewhere" in error["message"]
    assert max(len(value) for topic, _, value in written if "changelog" in topic) <= 30_000


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
def test_without_transactions_a_worker_that_stood_still_asks_the_group_before_it_writes(guarantee: str) -> None:
    """Its partitions may be others', and no broker refuses its records; a transaction has the generation to fence it."""
    world = World(guarantee)
    read = world.carrier._log.read

    def stand_still(messages: list[Any]) -> Any:
        world.carrier._log.read = read  # type: ignore[method-assign]
        world.carrier._consumer.polled_s -= 10
        world.member.lose(0, 1)
        return read(messages)

    world.carrier._log.read = stand_still  # type: ignore[method-assign]
    world.jobs_come((0, c.Start(run_on(0), "f", request_id="asked")))
    world.steps()

    assert world.owned == {}
    written = [topic for topic, *_ in world.producer.written]
    assert (LAYOUT.coordination in written) == (guarantee == "exactly_once")
