"""Writing without transactions: what is acknowledged before what, and what becomes of records that are not."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError
from tests.kafka.scripted_clients import ScriptedClients, ScriptedConsumer, ScriptedProducer, failure

from headrace.errors import StoreError
from headrace_adapters.kafka import appends
from headrace_adapters.kafka.appends import Appends
from headrace_adapters.kafka.settings import KafkaSettings
from headrace_adapters.kafka.transactions import InDoubt, Outgoing

COORDINATION = "app.coordination-changelog"
CONTEXT = "app.context-changelog"
LOGS = frozenset((COORDINATION, CONTEXT))


class World:
    """A producer that is open."""

    def __init__(self) -> None:
        self.clients = ScriptedClients()
        self.gives_up = False
        settings = KafkaSettings("localhost:1", "app", "app", guarantee="at_least_once")
        self.appends = Appends(self.clients, settings, "app.jobs", COORDINATION, lambda: self.gives_up)
        self.consumer = ScriptedConsumer({})
        self.appends.open()

    @property
    def producer(self) -> ScriptedProducer:
        return self.clients.producers[-1]

    def commit(self, *records: Outgoing) -> dict[tuple[str, int], int]:
        return self.appends.commit(records, {0: 5}, self.consumer, LOGS)


def part(run_id: str, node: str, value: bytes | None = b"{}", number: int = 0) -> Outgoing:
    return Outgoing(COORDINATION, number, f'["{run_id}","n","{node}"]'.encode(), value)


def test_what_the_coordination_changelog_speaks_of_is_acknowledged_before_it() -> None:
    world = World()
    records = [part("r", "a"), Outgoing("app.jobs", 1, b"r", b"job"), part("r", "b", None), Outgoing(CONTEXT, 0, b"k", b"1")]

    written = world.commit(*records)

    assert [record[0] for record in world.producer.written] == ["app.jobs", CONTEXT, COORDINATION, COORDINATION]
    order = [call[0] if call[0] != "produce" else call[1] for call in world.producer.calls]
    assert order == ["app.jobs", CONTEXT, "flush", COORDINATION, COORDINATION, "flush"]
    assert written == {(CONTEXT, 0): 1, (COORDINATION, 0): 2}


def test_offsets_move_only_when_they_are_settled() -> None:
    world = World()
    world.commit()
    assert world.consumer.called("commit") == []

    assert world.appends.settle({0: 5, 2: 7}, world.consumer)

    ((positions, is_asynchronous),) = world.consumer.called("commit")
    assert [(it.topic, it.partition, it.offset) for it in positions] == [("app.jobs", 0, 5), ("app.jobs", 2, 7)]
    assert not is_asynchronous


def test_offsets_that_cannot_be_moved_mean_that_jobs_come_again(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.consumer.fails("commit", failure(KafkaError.ILLEGAL_GENERATION))

    assert not world.appends.settle({0: 5}, world.consumer)

    assert "delivered again" in caplog.text


def test_a_member_that_was_fenced_ends_its_worker() -> None:
    world = World()
    world.consumer.fails("commit", failure(KafkaError.FENCED_INSTANCE_ID, fatal=True))

    with pytest.raises(StoreError, match="committing offsets failed at Kafka"):
        world.appends.settle({0: 5}, world.consumer)


def test_records_that_were_not_taken_leave_a_doubt_and_a_new_producer() -> None:
    world = World()
    old = world.producer
    old.refused[b"job"] = KafkaError._MSG_TIMED_OUT

    with pytest.raises(InDoubt):
        world.commit(part("r", "a"), Outgoing("app.jobs", 0, b"r", b"job"))

    assert [record for record in old.written if record[0] == COORDINATION] == [], "the state does not go ahead of it"
    assert old.called("purge") == [()]
    assert world.producer is not old
    assert world.commit(part("r", "a")) == {(COORDINATION, 0): 1}


def test_brokers_that_do_not_take_records_are_waited_for_until_the_worker_is_to_stop() -> None:
    world = World()
    world.producer.hangs = True
    looks = iter([False, False, True])
    world.appends._give_up = lambda: next(looks)

    with pytest.raises(StoreError, match=r"localhost:1 did not take records in time"):
        world.commit(Outgoing("app.jobs", 0, b"r", b"job"))

    assert len(world.producer.called("flush")) == 3


def test_a_producer_that_fails_for_good_while_it_waits_leaves_the_commit_in_doubt_and_is_replaced() -> None:
    world = World()
    world.producer.fails("flush", failure(KafkaError._FATAL, fatal=True))

    with pytest.raises(InDoubt):
        world.commit(Outgoing("app.jobs", 0, b"r", b"job"))

    assert len(world.clients.producers) == 2


def test_what_is_gone_of_a_context_is_told_after_the_state_that_speaks_of_it() -> None:
    """Else a step that is decided again would begin with a context that its run has lost."""
    world = World()

    world.commit(Outgoing(CONTEXT, 0, b'["r","old"]', None), Outgoing(CONTEXT, 0, b'["r","new"]', b"1"), part("r", "a"))

    order = [(call[1], call[2]) if call[0] == "produce" else call[0] for call in world.producer.calls]
    assert [it[0] if it != "flush" else it for it in order] == [CONTEXT, "flush", COORDINATION, "flush", CONTEXT, "flush"]
    assert [it[1] for it in order if it != "flush" and it[0] == CONTEXT] == [b"1", None]


def test_a_producer_that_is_full_is_waited_for() -> None:
    world = World()
    world.producer.room = 2

    written = world.commit(*(part("r", str(number)) for number in range(9)))

    assert written == {(COORDINATION, 0): 9}


def test_a_batch_is_cut_between_two_runs_and_never_within_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appends, "BATCH_BYTES", 100)
    world = World()
    records = [part(run_id, str(number), b"x" * 40) for run_id in ("a", 'b\\"', "c") for number in range(5)]

    world.commit(*records)

    batches: list[list[str]] = [[]]
    for call in world.producer.calls:
        if call[0] == "flush":
            batches.append([])
        else:
            batches[-1].append(call[3].decode().partition(",")[0])
    assert [set(batch) for batch in batches if batch] == [{'["a"'}, {'["b\\""'}, {'["c"'}]


def test_a_coordination_record_without_a_run_is_a_defect() -> None:
    world = World()
    with pytest.raises(AssertionError, match="has the key"):
        world.commit(Outgoing(COORDINATION, 0, b"what", b"1"))


def test_its_producer_makes_whole_batches_and_is_asked_to_acknowledge_them() -> None:
    configuration = World().producer.configuration

    assert configuration["acks"] == "all"
    assert configuration["linger.ms"] == 1_000
    assert configuration["batch.size"] > appends.BATCH_BYTES
    assert "transactional.id" not in configuration


def test_what_a_run_loses_is_written_with_what_it_gains(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step tells first what all of its runs gain, and then what they lose."""
    monkeypatch.setattr(appends, "BATCH_BYTES", 100)
    world = World()
    gained = [part(run_id, "gained", b"x" * 120, number) for run_id, number in (("a", 0), ("b", 1), ("c", 0))]
    lost = [part(run_id, "lost", None, number) for run_id, number in (("a", 0), ("b", 1), ("c", 0))]
    offsets = [Outgoing(COORDINATION, number, b'["","offset"]', b"{}") for number in (0, 1)]

    world.commit(*offsets, *gained, *lost)

    batches: list[list[tuple[int, str]]] = [[]]
    for call in world.producer.calls:
        if call[0] == "flush":
            batches.append([])
        else:
            batches[-1].append((call[4], call[3].decode()))
    assert [batch for batch in batches if batch] == [
        [(0, '["a","n","gained"]'), (0, '["a","n","lost"]')],
        [(0, '["c","n","gained"]'), (0, '["c","n","lost"]')],
        [(1, '["b","n","gained"]'), (1, '["b","n","lost"]')],
        [(0, '["","offset"]'), (1, '["","offset"]')],
    ], "and the offsets are never ahead of the state"


def test_each_dead_letter_tells_for_itself_since_they_lie_anywhere() -> None:
    world = World()
    letters = [Outgoing("app.dead-letters", -1, None, value) for value in (b"first", b"second")]
    world.producer.refused[b"first"] = KafkaError.MSG_SIZE_TOO_LARGE

    with pytest.raises(InDoubt):
        world.commit(*letters, part("r", "a"))


def test_a_producer_that_has_failed_for_good_is_replaced() -> None:
    world = World()
    world.producer.fails("produce", None, failure(KafkaError._FATAL))

    with pytest.raises(InDoubt):
        world.commit(part("r", "a"), part("r", "b"))

    assert len(world.clients.producers) == 2
