"""How a transaction ends: committed, undone, in doubt, or with a worker that stops and says why."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from confluent_kafka import KafkaError
from tests.kafka.scripted_clients import Scripted, ScriptedClients, ScriptedConsumer, ScriptedProducer, failure
from tests.kafka.set_time import SetTime

from headrace.errors import StoreError
from headrace_adapters.base.host import THIS_HOST, Host
from headrace_adapters.kafka.settings import KafkaSettings
from headrace_adapters.kafka.transactions import FENCED_MAX, InDoubt, Outgoing, Transactions, Undone

LOGS = frozenset(("app.c", "app.x"))
TIMED_OUT = failure(KafkaError._TIMED_OUT, retriable=True)
FENCED = failure(KafkaError._FENCED, fatal=True)
REBALANCED = failure(KafkaError.ILLEGAL_GENERATION, txn_requires_abort=True)


class World:
    """A producer that is open. *gives_up* tells the worker to stop."""

    def __init__(self, prepare: Callable[[Scripted], None] = lambda client: None, host: Host = THIS_HOST) -> None:
        self.clients = ScriptedClients(prepare)
        self.gives_up = False
        settings = KafkaSettings("localhost:1", "app", "app")
        self.transactions = Transactions(self.clients, settings, "app.slot", "app.jobs", lambda: self.gives_up, host)
        self.consumer = ScriptedConsumer({})

    def opened(self) -> World:
        self.transactions.open()
        return self

    @property
    def producer(self) -> ScriptedProducer:
        return self.clients.producers[-1]

    def commit(self, *records: Outgoing, offsets: dict[int, int] | None = None) -> dict[tuple[str, int], int]:
        return self.transactions.commit(records, offsets or {0: 1}, self.consumer, LOGS)

    def names(self) -> list[str]:
        return [call[0] for call in self.producer.calls if call[0] != "produce"]


def test_records_and_offsets_go_out_in_one_transaction() -> None:
    world = World().opened()
    world.consumer.generation = 7

    world.commit(Outgoing("app.events", 2, b"r", b"1"), offsets={0: 5, 2: 9})

    assert world.names() == ["init_transactions", "begin_transaction", "send_offsets_to_transaction", "commit_transaction"]
    assert world.producer.written == [("app.events", 2, b"r", b"1")]
    ((positions, metadata),) = world.producer.called("send_offsets_to_transaction")
    assert [(it.topic, it.partition, it.offset, it.metadata) for it in positions] == [
        ("app.jobs", 0, 5, "app.slot"),
        ("app.jobs", 2, 9, "app.slot"),
    ]
    assert metadata == "generation 7", "it is taken when it is sent"


def test_a_transaction_may_have_offsets_and_no_records() -> None:
    world = World().opened()

    assert world.commit(offsets={1: 3}) == {}
    assert world.names()[-1] == "commit_transaction"


def test_what_was_written_last_of_each_changelog_tells_how_far_it_is() -> None:
    world = World().opened()
    world.producer.ends.update({("app.c", 0): 100, ("app.c", 1): 7, ("app.x", 0): 50})
    records = [
        Outgoing("app.c", 0, b"a", b"1"), Outgoing("app.events", 0, b"a", b"2"), Outgoing("app.c", 1, b"b", b"3"),
        Outgoing("app.c", 0, b"a", None), Outgoing("app.x", 0, b"a", b"5"), Outgoing("app.c", 0, b"c", b"6"),
    ]  # fmt: skip

    assert world.commit(*records) == {("app.c", 0): 103, ("app.c", 1): 8, ("app.x", 0): 51}
    of_one = [(key, value) for topic, number, key, value in world.producer.written if (topic, number) == ("app.c", 0)]
    assert of_one == [(b"a", b"1"), (b"a", None), (b"c", b"6")], "in the order in which they were decided"
    assert len(world.producer.written) == len(records)
    assert world.producer.watched == 3, "no other record costs a callback"


@pytest.mark.parametrize("room", [1, 2, 3])
def test_a_producer_that_is_full_is_waited_for_and_order_is_kept(room: int) -> None:
    world = World().opened()
    world.producer.room = room
    records = [Outgoing(topic, 0, b"k", b"%d" % number) for number in range(8) for topic in ("app.c", "app.events")]

    assert world.commit(*records) == {("app.c", 0): 8}
    for topic in ("app.c", "app.events"):
        assert [value for at, _, _, value in world.producer.written if at == topic] == [b"%d" % n for n in range(8)]


# Undone.


@pytest.mark.parametrize("call", ["begin_transaction", "produce", "send_offsets_to_transaction", "commit_transaction"])
def test_what_fails_and_can_be_aborted_is_undone(call: str) -> None:
    world = World().opened()
    world.producer.fails(call, REBALANCED)

    with pytest.raises(Undone, match="generation"):
        world.commit(Outgoing("app.events", 0, b"r", b"1"))

    assert world.names()[-1] == "abort_transaction"
    assert world.producer.written == []
    assert world.commit(Outgoing("app.events", 0, b"r", b"2")) == {}
    assert len(world.clients.producers) == 1, "the same producer goes on"


def test_an_abort_that_the_brokers_do_not_answer_is_insisted_on() -> None:
    world = World().opened()
    world.producer.fails("commit_transaction", REBALANCED)
    world.producer.fails("abort_transaction", TIMED_OUT, TIMED_OUT)

    with pytest.raises(Undone):
        world.commit()

    assert world.names().count("abort_transaction") == 3


# Time-outs.


def test_a_commit_that_is_not_answered_in_time_is_repeated_until_it_is(caplog: pytest.LogCaptureFixture) -> None:
    world = World().opened()
    world.producer.fails("commit_transaction", TIMED_OUT, TIMED_OUT, TIMED_OUT)

    world.commit(Outgoing("app.events", 0, b"r", b"1"))

    assert world.names().count("commit_transaction") == 4
    assert "waits for the brokers" in caplog.text
    assert "abort_transaction" not in world.names()


def test_offsets_that_brokers_put_off_are_sent_again_and_after_a_time_out_they_are_not() -> None:
    """A later call of librdkafka has been seen never to return."""
    world = World().opened()
    world.producer.fails("send_offsets_to_transaction", failure(KafkaError.COORDINATOR_LOAD_IN_PROGRESS, retriable=True))
    world.commit(Outgoing("app.events", 0, b"r", b"1"))
    assert world.names().count("send_offsets_to_transaction") == 2

    world.producer.fails("send_offsets_to_transaction", TIMED_OUT)
    with pytest.raises(Undone):
        world.commit(Outgoing("app.events", 0, b"r", b"2"))
    assert world.names().count("send_offsets_to_transaction") == 3


def test_a_producer_that_waits_for_too_long_is_given_up_for_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have met an outage in the middle of its transaction, and wait for ever after the brokers are back."""
    monkeypatch.setattr("headrace_adapters.kafka.transactions.PATIENCE_S", -1)
    world = World().opened()
    world.producer.fails("commit_transaction", TIMED_OUT)
    world.producer.fails("abort_transaction", TIMED_OUT)

    with pytest.raises(InDoubt):
        world.commit(Outgoing("app.events", 0, b"r", b"1"))

    assert len(world.clients.producers) == 2


def test_a_time_out_that_asks_for_an_abort_is_not_repeated() -> None:
    world = World().opened()
    world.producer.fails("commit_transaction", failure(KafkaError._TIMED_OUT, retriable=True, txn_requires_abort=True))

    with pytest.raises(Undone):
        world.commit()

    assert world.names().count("commit_transaction") == 1


def test_a_worker_that_is_to_stop_does_not_insist_and_says_what_it_waited_for() -> None:
    """The commit may have happened, and nothing can be asked: the worker ends, and the next one finds out."""
    world = World().opened()
    world.gives_up = True
    world.producer.fails("commit_transaction", TIMED_OUT)
    world.producer.fails("abort_transaction", failure(KafkaError._STATE))
    world.clients.prepare = lambda client: client.fails("init_transactions", TIMED_OUT)

    with pytest.raises(StoreError, match=r"beginning transactions failed at Kafka \(localhost:1\)"):
        world.commit()


# In doubt.


def test_a_producer_that_was_fenced_is_replaced_and_what_became_of_it_is_not_known() -> None:
    world = World().opened()
    old = world.producer
    old.fails("commit_transaction", FENCED)

    with pytest.raises(InDoubt):
        world.commit(Outgoing("app.events", 0, b"r", b"1"))

    assert len(world.clients.producers) == 2
    assert old.configuration == world.producer.configuration, "under the same id"
    assert world.names() == ["init_transactions"], "which ends what the old one left open"
    assert "abort_transaction" not in [call[0] for call in old.calls]
    assert old.called("purge") == [()]
    assert world.commit(Outgoing("app.events", 0, b"r", b"2")) == {}
    assert world.producer.written == [("app.events", 0, b"r", b"2")]


def test_an_abort_that_fails_leaves_a_doubt_and_a_new_producer() -> None:
    world = World().opened()
    world.producer.fails("commit_transaction", REBALANCED)
    world.producer.fails("abort_transaction", FENCED)

    with pytest.raises(InDoubt):
        world.commit()

    assert len(world.clients.producers) == 2


def test_a_worker_that_is_fenced_again_and_again_shares_its_slot_and_stops() -> None:
    world = World(lambda client: client.fails("commit_transaction", FENCED)).opened()

    for _ in range(FENCED_MAX - 1):
        with pytest.raises(InDoubt):
            world.commit()
    with pytest.raises(StoreError, match=r"\(app\.slot\) were taken over 5 times within 60 s: .*setting 'state'"):
        world.commit()

    assert world.transactions.fencings == FENCED_MAX


def test_a_worker_that_finds_out_at_the_abort_that_it_is_fenced_stops_as_well() -> None:
    def prepare(client: Scripted) -> None:
        client.fails("commit_transaction", REBALANCED)
        client.fails("abort_transaction", FENCED)

    world = World(prepare).opened()
    for _ in range(FENCED_MAX - 1):
        with pytest.raises(InDoubt):
            world.commit()
    with pytest.raises(StoreError, match="were taken over"):
        world.commit()


def test_fencings_that_are_far_apart_stop_nobody() -> None:
    time = SetTime()
    world = World(lambda client: client.fails("commit_transaction", FENCED), time).opened()

    for _ in range(3 * FENCED_MAX):
        time.at_s += 30
        with pytest.raises(InDoubt):
            world.commit()


def test_transactions_that_lasted_too_long_for_the_broker_are_no_sign_of_somebody_else() -> None:
    """The broker ends them, and tells the producer the same as if another one had taken its place."""
    time = SetTime()
    world = World(lambda client: client.fails("commit_transaction", FENCED), time).opened()

    def stands_still() -> str:
        time.at_s += 10
        return "generation 0"

    world.consumer.consumer_group_metadata = stands_still  # type: ignore[method-assign]
    for _ in range(2 * FENCED_MAX):
        with pytest.raises(InDoubt):
            world.commit()

    assert world.transactions.fencings == 0


# Beginning.


def test_whoever_begins_waits_for_the_brokers() -> None:
    world = World(lambda client: client.fails("init_transactions", TIMED_OUT, failure(KafkaError._TRANSPORT), None))

    world.transactions.open()

    assert len(world.producer.called("init_transactions")) == 3


def test_what_does_not_pass_by_itself_ends_the_worker_at_once() -> None:
    denied = failure(KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, fatal=True)
    world = World(lambda client: client.fails("init_transactions", denied))

    with pytest.raises(StoreError, match="beginning transactions failed at Kafka"):
        world.transactions.open()


def test_whoever_is_to_stop_does_not_wait_for_brokers_to_begin() -> None:
    world = World(lambda client: client.fails("init_transactions", *[TIMED_OUT] * 3))
    world.gives_up = True

    with pytest.raises(StoreError):
        world.transactions.open()
    world.transactions.close()


def test_nothing_can_be_committed_without_offsets_or_without_a_producer() -> None:
    world = World()
    with pytest.raises(AssertionError, match="not opened"):
        world.commit()
    world.opened()
    with pytest.raises(AssertionError, match="carries offsets"):
        world.transactions.commit([], {}, world.consumer, LOGS)


def test_a_commit_that_lacks_one_of_its_records_is_never_taken_for_one() -> None:
    world = World().opened()
    world.producer.refused[b"1"] = KafkaError._MSG_TIMED_OUT

    with pytest.raises(AssertionError, match="without a record of its own"):
        world.commit(Outgoing("app.c", 0, b"k", b"1"))
