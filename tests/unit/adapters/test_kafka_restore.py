"""Bringing partitions up to date: what is asked first, when it is done, what is made anew, and what is kept warm."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from confluent_kafka import KafkaError
from tests.kafka.recorded_carrier import HOUR_MS, layout_of
from tests.kafka.scripted_clients import Record, ScriptedAdmin, ScriptedClients, ScriptedConsumer, failure
from tests.kafka.set_time import SetTime

from headrace.errors import StoreError
from headrace_adapters.base.host import THIS_HOST, Host
from headrace_adapters.kafka import restore
from headrace_adapters.kafka.changelog_copy import ChangelogCopy
from headrace_adapters.kafka.restore import Restored, Restorer
from headrace_adapters.kafka.restore_task import RestoreTask
from headrace_adapters.kafka.settings import KafkaSettings
from headrace_adapters.kafka.watcher import Unwatched
from headrace_adapters.memory import MemoryStore
from headrace_topics.names import OFFSET_KEY

LAYOUT = layout_of()
C, X = LAYOUT.coordination, LAYOUT.context
UNSTABLE = KafkaError(KafkaError.UNSTABLE_OFFSET_COMMIT)
END = KafkaError(KafkaError._PARTITION_EOF)
NOW_MS = 1_000 * HOUR_MS


class Watched(Unwatched):
    """What is told to metrics."""

    def __init__(self) -> None:
        self.restored: list[tuple[int, int, int]] = []
        self.lacking: list[tuple[int, int | None]] = []

    def restoring(self, number: int, records: int, remaining: int) -> None:
        self.restored.append((number, records, remaining))

    def warm(self, number: int, lacking: int | None) -> None:
        self.lacking.append((number, lacking))


class World:
    """A restorer whose brokers are the test's."""

    def __init__(self, host: Host = THIS_HOST) -> None:
        self.clients = ScriptedClients()
        self.store = MemoryStore()
        self.now_ms = NOW_MS
        self.copy = ChangelogCopy(self.store, LAYOUT, lambda: self.now_ms)
        self.watched = Watched()
        settings = KafkaSettings("localhost:1", "app", "app")
        self.restorer = Restorer(self.clients, settings, LAYOUT, self.copy, "app.mine", self.watched, host)

    @property
    def admin(self) -> ScriptedAdmin:
        return self.clients.admins[0]

    @property
    def reader(self) -> ScriptedConsumer:
        return self.clients.consumers[0]

    def ends(self, number: int, coordination: int, context: int) -> None:
        self.admin.ends.update({(C, number): coordination, (X, number): context})

    def starts(self, number: int, coordination: int, context: int, jobs: int = 0) -> None:
        self.admin.starts.update({(C, number): coordination, (X, number): context, (LAYOUT.jobs, number): jobs})

    def steps(self, times: int = 3) -> list[Restored]:
        return [restored for _ in range(times) for restored in self.restorer.step()]

    def restored(self) -> list[Restored]:
        """The next partitions that are up to date, however long it takes."""
        found: list[Restored] = []
        self.until(lambda: found.extend(self.restorer.step()) or found)
        return found

    def until(self, is_so: Callable[[], object]) -> None:
        deadline_s = time.monotonic() + 10
        while not is_so():
            assert time.monotonic() < deadline_s
            time.sleep(0.001)

    def gives(self, *records: Record) -> None:
        self.reader.coming.extend(records)

    def has_copy(self, number: int, coordination: int, context: int) -> None:
        self.copy.apply({}, {number: [coordination, context]})


def value_of(at: int, value: bytes | None = b"1", number: int = 0, topic: str = X, key: bytes = b'["r","k"]') -> Record:
    return Record(topic, number, at, key, value)


def end_of(at: int, number: int = 0, topic: str = X) -> Record:
    return Record(topic, number, at, problem=END)


@pytest.fixture
def world() -> World:
    return World()


def test_a_partition_without_a_changelog_is_restored_at_once(world: World) -> None:
    world.admin.committed[0] = 5
    world.restorer.add(0)
    assert world.restorer.restoring == {0: 0}

    assert world.steps() == [Restored(0, 5, [0, 0])]
    assert world.restorer.restoring == {}
    assert world.reader.positions == {}, "nothing is read any more"


def test_the_offset_is_asked_for_before_the_ends(world: World) -> None:
    """An old owner may commit between the two: what it wrote before the offset must not lie behind the end."""
    world.admin.hangs = True
    world.restorer.add(0)
    world.steps()
    assert [call[0] for call in world.admin.calls] == ["list_consumer_group_offsets"]

    world.admin.answer()
    world.steps()
    assert [call[0] for call in world.admin.calls][1:] == ["list_offsets"] * 2

    assert world.steps() == []
    world.admin.answer()
    assert world.steps() == [Restored(0, 0, [0, 0])]


def test_changelogs_are_read_to_their_ends(world: World) -> None:
    world.admin.committed[0] = 9
    world.ends(0, 2, 3)
    world.restorer.add(0)
    assert world.steps() == []
    assert world.reader.positions == {(C, 0): 0, (X, 0): 0}
    assert world.restorer.restoring == {0: 5}

    world.gives(value_of(0), value_of(1, b"2"), value_of(0, topic=C, key=b'["r","n","a"]'))
    assert world.steps(1) == []
    assert world.restorer.restoring == {0: 2}

    world.gives(value_of(2, None), value_of(1, b"{}", topic=C, key=b'["r","r"]'))
    assert world.steps(1) == [Restored(0, 9, [2, 3])]
    assert dict(world.store.scan(b"")) == {
        b'C\x00\x00["r","n","a"]': b"1",
        b'H\x00\x00["r",': b"{}",
        **dict([world.copy.meta(0, [2, 3])]),
    }
    assert world.watched.restored[-1] == (0, 5, 0)


def test_marks_at_the_end_of_a_changelog_are_passed_with_its_end(world: World) -> None:
    world.ends(0, 4, 0)
    world.restorer.add(0)
    world.steps()
    world.gives(value_of(1, topic=C, key=b'["r","n","a"]'))
    assert world.steps(1) == []

    world.gives(end_of(4, topic=C))

    assert world.steps(1) == [Restored(0, 0, [4, 0])]


def test_an_end_that_lies_before_an_open_transaction_finishes_nothing(world: World) -> None:
    """A reader of committed records is told the end where the first open transaction begins."""
    world.ends(0, 0, 7)
    world.restorer.add(0)
    world.steps()

    world.gives(value_of(0), end_of(3))
    assert world.steps() == []
    assert world.restorer.restoring == {0: 4}

    world.gives(value_of(5), end_of(7))
    assert world.steps(1) == [Restored(0, 0, [0, 7])]


def test_records_behind_the_end_are_taken_too(world: World) -> None:
    world.ends(0, 0, 2)
    world.restorer.add(0)
    world.steps()
    world.gives(value_of(0), value_of(1), value_of(2, b"behind"))

    assert world.steps(1) == [Restored(0, 0, [0, 3])]
    assert world.store.get(b'X\x00\x00["r","k"]') == b"behind"


def test_several_partitions_are_restored_side_by_side(world: World) -> None:
    world.ends(0, 0, 1)
    world.ends(2, 0, 2)
    for number in (0, 2):
        world.restorer.add(number)
    world.steps()

    world.gives(value_of(0, number=2), value_of(0, number=0))
    assert world.steps(1) == [Restored(0, 0, [0, 1])]
    world.gives(value_of(1, number=2))
    assert world.steps(1) == [Restored(2, 0, [0, 2])]


# The copy that is there.


def test_a_copy_is_read_on_from_where_it_is(world: World) -> None:
    world.has_copy(0, 3, 5)
    world.ends(0, 4, 5)
    world.restorer.add(0)
    world.steps()
    assert world.reader.positions == {(C, 0): 3, (X, 0): 5}

    world.gives(value_of(3, topic=C, key=b'["r","n","a"]'))

    assert world.steps(1) == [Restored(0, 0, [4, 5])]


@pytest.mark.parametrize(
    ("done", "starts", "ends"),
    [((9, 5), (0, 0), (8, 5)), ((3, 9), (0, 0), (3, 8)), ((3, 5), (4, 0), (9, 9)), ((3, 5), (0, 6), (9, 9))],
)
def test_a_copy_that_does_not_fit_its_changelogs_is_made_anew_loudly(
    world: World, done: tuple[int, int], starts: tuple[int, int], ends: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    world.has_copy(0, *done)
    world.store.write([(b'X\x00\x00["old","k"]', b"1")])
    world.starts(0, *starts)
    world.ends(0, *ends)
    world.restorer.add(0)
    world.steps()

    assert world.reader.positions == {(C, 0): starts[0], (X, 0): starts[1]}
    assert world.store.get(b'X\x00\x00["old","k"]') is None
    assert "made anew" in caplog.text


# From where jobs are read.


def test_a_group_that_has_forgotten_its_offset_finds_it_in_the_changelog(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.ends(0, 1, 0)
    world.restorer.add(0)
    world.steps()
    world.gives(value_of(0, b'{"next":41}', topic=C, key=OFFSET_KEY))

    assert world.steps(1) == [Restored(0, 41, [1, 0])]
    assert "has forgotten its offset" in caplog.text


def test_an_offset_of_the_group_goes_before_the_one_of_the_changelog(world: World) -> None:
    """Offsets also move past jobs that changed no state."""
    world.admin.committed[0] = 50
    world.ends(0, 1, 0)
    world.restorer.add(0)
    world.steps()
    world.gives(value_of(0, b'{"next":41}', topic=C, key=OFFSET_KEY))

    assert world.steps(1) == [Restored(0, 50, [1, 0])]


def test_a_new_app_begins_with_the_first_job_that_is_kept(world: World) -> None:
    world.starts(0, 0, 0, jobs=30)
    world.restorer.add(0)

    assert world.steps() == [Restored(0, 30, [0, 0])]


def test_jobs_that_were_deleted_before_anybody_took_them_are_told_of(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.admin.committed[0] = 10
    world.starts(0, 0, 0, jobs=30)
    world.restorer.add(0)

    assert world.steps() == [Restored(0, 30, [0, 0])]
    assert "jobs 10 to 29 were deleted" in caplog.text
    assert "retention" in caplog.text


# A transaction that a dead worker left open.


def test_an_offset_under_an_open_transaction_is_asked_for_again(world: World) -> None:
    world.admin.committed[0] = UNSTABLE
    world.restorer.add(0)
    assert world.steps(5) == []
    assert world.clients.producers == [], "a commit takes milliseconds, so nobody is fenced for it"

    world.admin.committed[0] = 7
    assert world.steps() == [Restored(0, 7, [0, 0])]


def test_a_transaction_that_stays_open_is_ended_in_the_name_of_its_owner(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(restore, "UNSTABLE_S", 0.0)
    world.admin.committed[0] = UNSTABLE
    world.admin.metadata = "app.dead"
    world.restorer.add(0)
    world.until(lambda: world.steps(1) or world.clients.producers)
    (producer,) = world.clients.producers
    world.until(lambda: producer.called("init_transactions"))
    world.admin.committed[0] = 7

    assert world.restored() == [Restored(0, 7, [0, 0])]
    assert producer.configuration["transactional.id"] == "app.dead"
    assert world.admin.called("list_consumer_group_offsets")[-1] == (0, True), "the stable offset is asked for again"
    assert "app.dead" in caplog.text


def test_an_end_of_a_transaction_that_fails_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore, "UNSTABLE_S", 0.0)
    world.clients.prepare = lambda client: client.fails("init_transactions", failure(KafkaError._TIMED_OUT))
    world.admin.committed[0] = UNSTABLE
    world.admin.metadata = "app.dead"
    world.restorer.add(0)

    world.until(lambda: world.steps(1) or len(world.clients.producers) >= 2)


@pytest.mark.parametrize("metadata", ["", "app.mine"])
def test_nobody_is_fenced_who_is_not_known_or_is_this_worker(
    world: World, monkeypatch: pytest.MonkeyPatch, metadata: str
) -> None:
    monkeypatch.setattr(restore, "UNSTABLE_S", 0.0)
    world.admin.committed[0] = UNSTABLE
    world.admin.metadata = metadata
    world.restorer.add(0)
    world.steps(20)

    assert world.clients.producers == []
    world.admin.committed[0] = 3
    assert world.steps(5) == [Restored(0, 3, [0, 0])]


# What goes wrong.


@pytest.mark.parametrize("call", ["list_consumer_group_offsets", "list_offsets"])
def test_an_error_that_passes_is_asked_again_and_another_one_ends_the_worker(world: World, call: str) -> None:
    world.admin.fails(call, failure(KafkaError.NOT_COORDINATOR), failure(KafkaError._TRANSPORT))
    world.restorer.add(0)
    assert world.steps(50) == [], "and not all the time"
    assert len(world.admin.calls) <= 3
    assert world.restored() == [Restored(0, 0, [0, 0])]

    world.admin.fails(call, failure(KafkaError.TOPIC_AUTHORIZATION_FAILED))
    world.restorer.add(1)
    with pytest.raises(StoreError, match=r"of partition 1 failed at Kafka \(localhost:1\)"):
        world.steps(5)


def test_a_changelog_without_a_leader_is_asked_for_again(world: World) -> None:
    """The client tells of it by an offset that is none, and no error."""
    world.ends(0, -1, 0)
    world.restorer.add(0)
    assert world.steps() == []
    assert world.clients.consumers == [], "there is nothing to read yet"

    world.ends(0, 0, 0)
    assert world.restored() == [Restored(0, 0, [0, 0])]


def test_a_changelog_that_cannot_be_read_ends_the_worker_and_a_pause_does_not(world: World) -> None:
    world.ends(0, 0, 3)
    world.restorer.add(0)
    world.steps()
    world.gives(Record(X, 0, -1, problem=KafkaError(KafkaError._TRANSPORT)))
    assert world.steps() == []

    world.gives(Record(X, 0, -1, problem=KafkaError(KafkaError._AUTO_OFFSET_RESET)))
    with pytest.raises(StoreError, match="reading the changelogs of partition 0"):
        world.steps()


def test_an_error_of_the_whole_client_is_not_taken_for_one_of_a_changelog(world: World) -> None:
    world.ends(0, 0, 1)
    world.restorer.add(0)
    world.steps()
    world.gives(Record(None, 0, -1, problem=KafkaError(KafkaError._ALL_BROKERS_DOWN)), value_of(0))

    assert world.steps(2) == [Restored(0, 0, [0, 1])]


def test_a_restore_that_does_not_move_asks_again_from_the_beginning(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The records behind its end may have been those of a transaction that was aborted since."""
    world.admin.committed[0] = 5
    world.ends(0, 0, 3)
    world.restorer.add(0)
    world.steps()
    world.gives(value_of(0), end_of(2))
    world.steps()
    asked = len(world.admin.calls)
    monkeypatch.setattr(restore, "STALLED_S", 0.0)
    world.steps(1)
    monkeypatch.undo()
    world.admin.committed[0] = 6
    world.ends(0, 0, 2)

    assert world.steps() == [Restored(0, 6, [0, 2])]
    assert [call[0] for call in world.admin.calls[asked:]] == ["list_consumer_group_offsets", *["list_offsets"] * 2]
    assert "does not move" in caplog.text


def test_a_partition_that_went_is_dropped_in_any_state(world: World) -> None:
    world.ends(1, 0, 3)
    world.admin.hangs = True
    for number in (0, 1):
        world.restorer.add(number)
    world.steps()
    world.restorer.drop([0, 7])
    world.admin.answer()
    world.steps()
    world.admin.answer()
    world.steps()
    assert world.reader.positions == {(C, 1): 0, (X, 1): 0}

    world.restorer.drop([1])
    world.gives(value_of(0, number=1))

    assert world.steps() == []
    assert world.reader.positions == {}
    assert world.store.get(b'X\x00\x01["r","k"]') is None, "what comes late is nobody's"


def test_a_partition_that_comes_back_while_it_is_restored_begins_anew(world: World) -> None:
    world.admin.hangs = True
    world.restorer.add(0)
    world.steps()
    world.admin.committed[0] = 8
    world.restorer.add(0)
    world.admin.answer()
    world.steps()
    world.admin.answer()
    world.steps()
    world.admin.answer()

    assert world.steps() == [Restored(0, 8, [0, 0])], "the answer to the old question does not count"


# Warm copies.


def test_a_warm_copy_follows_its_changelogs_without_an_end(world: World) -> None:
    world.has_copy(1, 0, 2)
    world.ends(1, 0, 3)
    world.restorer.keep_warm([1])
    assert world.steps() == []
    assert world.restorer.warm == {1}
    assert world.restorer.restoring == {}
    assert world.reader.positions == {(C, 1): 0, (X, 1): 2}

    for at in range(2, 6):
        world.gives(value_of(at, b"%d" % at, number=1), end_of(at + 1, number=1))
        assert world.steps(1) == []
    assert world.store.get(b'X\x00\x01["r","k"]') == b"5"
    assert world.copy.progress(1) == [0, 6]
    assert not any(call[0] == "list_consumer_group_offsets" for call in world.admin.calls)


def test_it_is_told_now_and_then_how_many_records_a_warm_copy_lacks() -> None:
    time = SetTime()
    world = World(time)
    world.has_copy(1, 0, 2)
    world.ends(1, 4, 5)
    world.restorer.keep_warm([1, 2])
    world.steps()
    assert world.watched.lacking == [(1, 7), (2, 0)]

    world.gives(value_of(2, number=1), value_of(3, number=1))
    world.ends(1, 4, 9)
    world.steps()
    assert world.watched.lacking[2:] == [], "not with every record"
    time.at_s += restore.LOOK_S
    world.steps()
    assert world.watched.lacking[2:] == [(1, 9), (2, 0)], "four of one changelog, and five of the other"
    world.gives(*(value_of(at, topic=C, number=1, key=b'["r","r"]', value=None) for at in range(4)))
    world.gives(*(value_of(at, number=1) for at in range(4, 9)))
    world.steps()
    time.at_s += restore.LOOK_S
    world.steps()
    assert world.watched.lacking[4:] == [(1, 0), (2, 0)]

    world.restorer.keep_warm([2])
    world.restorer.add(2)
    assert world.watched.lacking[6:] == [(1, None), (2, None)], "one is not wanted any more, and one is restored"
    assert world.watched.restored == []


def test_ends_that_are_not_to_be_had_say_nothing_about_a_warm_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that was complete as far as is known may forget for how long it was not."""
    time = SetTime()
    world = World(time)
    complete: list[int] = []
    monkeypatch.setattr(world.copy, "reaches_end", complete.append)
    world.ends(1, 0, 3)
    world.restorer.keep_warm([1])
    world.steps()
    world.ends(1, -1001, -1001)
    time.at_s += restore.LOOK_S
    world.steps()
    world.gives(value_of(0, number=1))
    world.steps()

    assert (complete, world.watched.lacking) == ([], [(1, 3)])
    world.ends(1, 0, 2)
    time.at_s += restore.AGAIN_S
    world.steps()
    assert world.watched.lacking == [(1, 3), (1, 1)]


def test_a_warm_copy_that_is_taken_over_reads_only_what_it_lacks(world: World) -> None:
    world.ends(1, 0, 3)
    world.restorer.keep_warm([1])
    world.steps()
    world.gives(*(value_of(at, number=1) for at in range(3)))
    world.steps()

    world.admin.committed[1] = 12
    world.ends(1, 0, 5)
    world.restorer.add(1)
    assert world.restorer.warm == set()
    world.steps()
    assert world.restorer.restoring == {1: 2}
    world.gives(value_of(3, number=1), value_of(4, number=1))

    assert world.steps(1) == [Restored(1, 12, [0, 5])]
    assert len(world.reader.called("incremental_assign")) == 1, "it was read on where it was"


def test_a_warm_copy_that_rested_for_longer_than_deletes_are_told_is_made_anew(world: World) -> None:
    """Its worker was frozen, or cut off: what it reads then does not tell of every key that is gone."""
    world.ends(1, 0, 3)
    world.restorer.keep_warm([1])
    world.steps()
    world.gives(*(value_of(at, number=1) for at in range(3)))
    world.steps()

    world.now_ms += LAYOUT.tombstones_kept_ms + 1
    world.admin.committed[1] = 12
    world.ends(1, 0, 4)
    world.restorer.add(1)
    world.steps()
    world.gives(value_of(3, number=1))

    assert world.steps() == []
    world.steps()
    assert world.reader.positions == {(C, 1): 0, (X, 1): 0}, "it begins at the beginning"
    world.gives(value_of(3, number=1))
    assert world.steps(1) == [Restored(1, 12, [0, 4])]


def test_ends_that_were_asked_for_before_a_take_over_say_nothing_about_it(world: World) -> None:
    """What the old owner wrote since then lies behind them, and its offset has moved past the jobs of it."""
    world.admin.hangs = True
    world.ends(1, 0, 1)
    world.restorer.keep_warm([1])
    world.steps(1)
    world.ends(1, 0, 2)
    world.admin.committed[1] = 12
    world.restorer.add(1)
    for _ in range(3):
        world.steps(2)
        world.admin.answer()
    world.steps(2)
    world.gives(value_of(0, number=1))
    assert world.steps() == [], "one record is still to come"

    world.gives(value_of(1, number=1))
    assert world.steps(1) == [Restored(1, 12, [0, 2])]


def test_only_those_that_are_wanted_are_kept_warm(world: World) -> None:
    world.restorer.keep_warm([0, 1])
    world.steps()
    world.restorer.keep_warm([1, 2])
    world.steps()

    assert world.restorer.warm == {1, 2}
    assert {number for _, number in world.reader.positions} == {1, 2}


def test_what_is_restored_is_not_turned_into_a_warm_copy(world: World) -> None:
    world.ends(0, 0, 3)
    world.restorer.add(0)
    world.steps()

    world.restorer.keep_warm([0, 1])

    assert world.restorer.restoring == {0: 3}
    assert world.restorer.warm == {1}
    world.restorer.keep_warm([])
    assert world.restorer.restoring == {0: 3}


def test_closing_lets_go_of_the_reader(world: World) -> None:
    world.ends(0, 1, 1)
    world.restorer.add(0)
    world.steps()
    world.restorer.close()

    assert world.reader.called("close") == [()]
    assert world.steps() == []


def test_an_offset_that_this_worker_may_not_ask_for_ends_it(world: World) -> None:
    """An answer may be good as a whole, and refused for a partition."""
    world.admin.committed[0] = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    world.restorer.add(0)
    with pytest.raises(StoreError, match="asking for the committed offset of partition 0"):
        world.steps()

    world.admin.committed[1] = KafkaError(KafkaError.COORDINATOR_LOAD_IN_PROGRESS)
    world.restorer.drop([0])
    world.restorer.add(1)
    asked = len(world.admin.calls)
    world.steps(50)
    assert len(world.admin.calls) <= asked + 2, "not all the time"
    world.admin.committed[1] = 4
    assert world.restored() == [Restored(1, 4, [0, 0])]


def test_what_is_restoring_may_be_asked_while_partitions_come_and_go(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the thread of a server."""
    for number in range(3):
        world.restorer.add(number)

    def goes(task: RestoreTask) -> int:
        world.restorer.drop([2])
        return 0

    monkeypatch.setattr(RestoreTask, "remaining", property(goes))
    assert world.restorer.restoring == {0: 0, 1: 0, 2: 0}


def test_a_copy_that_was_never_complete_is_as_old_as_its_beginning(world: World) -> None:
    """Tombstones of what it copied first may be gone, however late it copied the rest."""
    now_ms, kept_ms = [NOW_MS], LAYOUT.tombstones_kept_ms
    world.copy._clock = lambda: now_ms[0]
    world.ends(0, 0, 3)
    for at in (0, 1):
        world.restorer.add(0)
        world.steps()
        world.gives(value_of(at))
        assert world.steps() == []
        world.restorer.drop([0])
        now_ms[0] += kept_ms * 2 // 3
    assert world.copy.progress(0) is None

    world.restorer.add(0)
    world.steps()
    world.gives(*(value_of(at) for at in range(3)))
    assert world.steps(1) == [Restored(0, 0, [0, 3])]
    now_ms[0] += kept_ms - 1
    assert world.copy.progress(0) == [0, 3], "it was complete"
