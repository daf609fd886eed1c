"""The member of the group: what is assigned and what of it is read, pauses, and what goes wrong in callbacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException
from tests.kafka.scripted_clients import Record, ScriptedClients, ScriptedConsumer, failure

from headrace.errors import StoreError
from headrace_adapters.kafka.job_consumer import JobConsumer
from headrace_adapters.kafka.settings import KafkaSettings

J = "app.jobs"


class World:
    """A member, and an owner that writes down what it is told."""

    def __init__(self) -> None:
        self.clients = ScriptedClients()
        self.told: list[tuple[str, list[int]]] = []
        self.on_hand_over: Callable[[], None] = lambda: None
        settings = KafkaSettings("localhost:1", "app", "app")
        self.jobs = JobConsumer(
            self.clients, settings, J, "headrace|here", self, lambda numbers: self._tell("released", list(numbers))
        )

    @property
    def client(self) -> ScriptedConsumer:
        return self.clients.consumers[0]

    def _tell(self, what: str, numbers: Sequence[int]) -> None:
        self.told.append((what, list(numbers)))

    def take_over(self, number: int) -> None:
        raise AssertionError("a consumer does not know when")

    def hand_over(self, numbers: Sequence[int]) -> None:
        self._tell("hand over", numbers)
        self.on_hand_over()

    def drop(self, numbers: Sequence[int]) -> None:
        self._tell("drop", numbers)

    def given(self, *numbers: int) -> World:
        """These are assigned and read, from offset 0 on."""
        self.client.assign_by_group(*numbers)
        self.jobs.poll(1)
        for number in numbers:
            assert self.jobs.begin(number, 0)
        return self

    def comes(self, *places: tuple[int, int]) -> None:
        """Records with these partitions and offsets."""
        self.client.coming.extend(Record(J, number, at) for number, at in places)

    def polled(self, limit: int = 100) -> list[tuple[int, int]]:
        return [(message.partition(), message.offset()) for message in self.jobs.poll(limit)]


@pytest.fixture
def world() -> World:
    return World()


def test_a_partition_that_was_assigned_is_paused_until_somebody_begins_it(world: World) -> None:
    assert world.client.configuration["client.id"] == "headrace|here"
    assert world.client.called("subscribe") == [([J],)]
    world.client.assign_by_group(0, 2)

    assert world.polled() == []
    assert world.jobs.assigned == {0, 2}
    assert world.jobs.gained == [0, 2]
    assert world.jobs.reading == set()
    assert world.client.paused == {(J, 0), (J, 2)}
    assert set(world.client.positions.values()) == {OFFSET_BEGINNING}, "nobody asks for a committed offset"

    assert world.jobs.begin(2, 41)
    assert world.jobs.reading == {2}
    assert world.client.positions[J, 2] == 41
    assert world.client.paused == {(J, 0)}


def test_records_of_partitions_that_are_not_read_yet_are_dropped(world: World) -> None:
    world.client.assign_by_group(0, 1)
    world.polled()
    world.jobs.begin(1, 0)
    world.comes((0, 0), (1, 0), (0, 1))

    assert world.polled() == [(1, 0)]


def test_no_more_records_are_given_than_wanted_and_none_is_lost(world: World) -> None:
    world.given(0)
    world.comes(*((0, at) for at in range(7)))
    world.jobs.wait(0.1)

    assert [world.polled(3) for _ in range(4)] == [[(0, 0), (0, 1), (0, 2)], [(0, 3), (0, 4), (0, 5)], [(0, 6)], []]


def test_whoever_waited_for_a_record_finds_it_at_the_next_poll(world: World) -> None:
    world.given(0)
    world.comes((0, 0), (0, 1))
    world.jobs.wait(1.0)
    world.jobs.wait(1.0)

    assert len(world.client.called("poll")) == 1, "there is a record already"
    assert world.polled() == [(0, 0), (0, 1)]


def test_librdkafka_that_is_not_ready_is_asked_again(world: World) -> None:
    world.client.assign_by_group(0)
    world.polled()
    world.client.fails("seek", failure(KafkaError._STATE))

    assert not world.jobs.begin(0, 5)
    assert world.jobs.reading == set()
    assert (J, 0) in world.client.paused
    assert world.jobs.begin(0, 5)


def test_a_position_that_is_refused_ends_the_worker(world: World) -> None:
    world.client.assign_by_group(0)
    world.polled()
    world.client.fails("seek", failure(KafkaError._UNKNOWN_PARTITION))

    with pytest.raises(StoreError, match="reading partition 0 from offset 5"):
        world.jobs.begin(0, 5)
    with pytest.raises(AssertionError, match="not assigned"):
        world.jobs.begin(1, 5)


# A worker that is full.


def test_a_worker_that_is_full_pauses_and_still_serves_the_group(world: World) -> None:
    world.given(0, 1)

    assert world.polled(0) == []
    assert world.client.paused == {(J, 0), (J, 1)}
    world.client.revoke(1)
    assert world.polled(0) == []
    assert world.told == [("hand over", [1]), ("released", [1])]

    world.polled(5)
    assert world.client.paused == {(J, 1)}, "what is gone is nobody's to resume"


def test_pauses_are_told_once_and_not_at_every_step(world: World) -> None:
    world.given(0)
    before = len(world.client.called("pause")), len(world.client.called("resume"))
    for limit in (0, 0, 0, 5, 5, 0, 0):
        world.polled(limit)

    after = len(world.client.called("pause")), len(world.client.called("resume"))
    assert (after[0] - before[0], after[1] - before[1]) == (2, 1)


def test_a_partition_that_begins_while_the_worker_is_full_waits(world: World) -> None:
    world.client.assign_by_group(0)
    world.polled(0)
    world.jobs.begin(0, 3)
    assert world.client.paused == {(J, 0)}

    world.polled(1)
    assert world.client.paused == set()


def test_a_record_that_comes_to_a_full_worker_waits_for_room(world: World) -> None:
    world.given(0)
    world.comes((0, 0), (0, 1))

    assert world.polled(0) == []
    assert world.polled(5) == [(0, 0), (0, 1)]


# Partitions that come and go.


def test_records_of_a_partition_that_the_same_call_takes_away_are_dropped(world: World) -> None:
    world.given(0, 1)
    world.comes((0, 0), (1, 0))
    world.client.revoke(0)
    world.comes((1, 1))

    assert world.polled() == [(1, 0), (1, 1)]
    assert world.jobs.assigned == {1}
    assert world.client.positions == {(J, 1): 0}


def test_what_was_fetched_for_a_partition_that_goes_is_dropped(world: World) -> None:
    world.given(0, 1)
    world.comes((0, 0))
    world.jobs.wait(0.1)
    world.client.revoke(0)
    world.comes((1, 0))

    assert world.polled() == [(1, 0)]


def test_revoked_partitions_are_handed_over_while_they_are_still_ours_and_lost_ones_are_dropped(world: World) -> None:
    world.given(0, 1)
    world.on_hand_over = lambda: world._tell("still assigned", sorted(world.jobs.assigned))
    world.client.revoke(0)
    world.client.lose(1)
    world.polled()

    assert world.told == [
        ("hand over", [0]), ("still assigned", [0, 1]), ("released", [0]), ("drop", [1]), ("released", [1]),
    ]  # fmt: skip
    assert world.jobs.reading == set()


def test_a_partition_that_comes_and_goes_in_one_call_is_nobodys(world: World) -> None:
    world.client.assign_by_group(0, 1)
    world.client.revoke(0)
    world.polled()

    assert world.jobs.gained == [1]
    assert world.jobs.assigned == {1}


def test_a_partition_that_comes_back_is_paused_again_and_read_from_where_it_is_begun(world: World) -> None:
    world.given(0)
    world.client.revoke(0)
    world.client.assign_by_group(0)
    world.comes((0, 7))

    assert world.polled() == []
    assert world.jobs.gained[-1] == 0
    assert world.client.paused == {(J, 0)}
    assert world.jobs.begin(0, 9)
    world.comes((0, 9))
    assert world.polled() == [(0, 9)]


def test_what_is_to_be_read_again_is_neither_read_nor_kept_until_it_is_begun(world: World) -> None:
    world.given(0, 1)
    world.comes((0, 5), (1, 5))
    world.jobs.wait(0.1)
    world.jobs.stop_reading([0, 9])

    assert world.polled() == [(1, 5)]
    assert world.client.paused == {(J, 0)}
    assert world.jobs.assigned == {0, 1}
    world.jobs.begin(0, 3)
    assert world.client.positions[J, 0] == 3


# What goes wrong.


def test_what_goes_wrong_in_a_callback_is_raised_by_poll_and_the_partition_is_let_go_all_the_same(world: World) -> None:
    world.given(0)

    def fail() -> None:
        raise StoreError("the disk is full")

    world.on_hand_over = fail
    world.client.revoke(0)

    with pytest.raises(StoreError, match="the disk is full"):
        world.polled()

    assert world.jobs.assigned == set()
    assert world.client.positions == {}
    assert world.polled() == [], "it is raised once"


def test_what_goes_wrong_in_a_callback_during_a_wait_is_raised_by_the_next_poll(world: World) -> None:
    world.given(0)
    world.on_hand_over = lambda: (_ for _ in ()).throw(StoreError("no"))
    world.client.revoke(0)
    world.jobs.wait(0.1)

    with pytest.raises(StoreError, match="no"):
        world.polled()


def test_the_first_of_several_problems_is_told(world: World) -> None:
    world.given(0)
    world.on_hand_over = lambda: (_ for _ in ()).throw(StoreError("first"))
    world.client.fails("incremental_unassign", StoreError("second"))
    world.client.revoke(0)

    with pytest.raises(StoreError, match="first"):
        world.polled()


def test_an_assignment_that_fails_is_raised_by_poll(world: World) -> None:
    world.client.fails("incremental_assign", failure(KafkaError._STATE))
    world.client.assign_by_group(0)

    with pytest.raises(Exception, match="_STATE"):
        world.polled()
    assert world.jobs.assigned == set()


@pytest.mark.parametrize("code", [KafkaError._TRANSPORT, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._MAX_POLL_EXCEEDED])
def test_an_error_that_passes_is_no_record_and_no_end(world: World, code: int, caplog: pytest.LogCaptureFixture) -> None:
    world.given(0)
    world.client.coming.append(Record(J, 0, -1, problem=KafkaError(code)))
    world.comes((0, 0))

    assert world.polled() == [(0, 0)]
    assert "reading jobs" in caplog.text


@pytest.mark.parametrize("code", [KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.FENCED_INSTANCE_ID])
def test_an_error_that_does_not_pass_ends_the_worker_and_says_what_to_do(world: World, code: int) -> None:
    world.given(0)
    world.client.coming.append(Record(None, 0, -1, problem=KafkaError(code)))

    with pytest.raises(StoreError, match="reading jobs failed at Kafka"):
        world.polled()


def test_an_error_that_comes_during_a_wait_is_looked_at_by_the_next_poll(world: World) -> None:
    world.given(0)
    world.client.coming.append(Record(None, 0, -1, problem=KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)))
    world.jobs.wait(0.1)

    with pytest.raises(StoreError):
        world.polled()


def test_whoever_leaves_hands_everything_over_first(world: World) -> None:
    world.given(0, 1)
    world.client.revoke(0, 1)
    world.jobs.close()

    assert world.told == [("hand over", [0, 1]), ("released", [0, 1])]


def test_what_goes_wrong_while_leaving_is_raised(world: World) -> None:
    world.given(0)
    world.on_hand_over = lambda: (_ for _ in ()).throw(StoreError("no"))
    world.client.revoke(0)

    with pytest.raises(StoreError, match="no"):
        world.jobs.close()
    assert world.client.called("close") == [()]


# Members that the group has forgotten.


def test_what_another_member_was_given_is_not_committed_for(world: World) -> None:
    world.given(0, 1)
    assert world.jobs.consumer_group_metadata() == world.client.consumer_group_metadata()
    world.client.member = "somebody new"

    with pytest.raises(KafkaException) as raised:
        world.jobs.consumer_group_metadata()

    reason = raised.value.args[0]
    assert (reason.code(), reason.txn_requires_abort()) == (KafkaError.UNKNOWN_MEMBER_ID, True)
    assert "[0, 1]" in reason.str()


def test_a_revocation_from_a_member_that_was_given_nothing_is_a_loss(world: World) -> None:
    world.given(0, 1)
    world.client.member = "somebody new"
    world.client.revoke(0)

    world.polled()

    assert world.told == [("drop", [0]), ("released", [0])]


def test_what_the_group_leaves_with_a_new_member_is_restored(world: World) -> None:
    world.given(0, 1)
    world.client.member = "somebody new"
    world.jobs.gained.clear()
    world.client.assign_by_group()

    world.polled()

    assert world.told == [("drop", [0, 1]), ("released", [0, 1])]
    assert world.jobs.gained == [0, 1]
    assert world.jobs.reading == set()
    assert world.jobs.assigned == {0, 1}
    world.jobs.consumer_group_metadata()


# Seeks that are forgotten.


def test_records_from_before_the_place_of_beginning_are_dropped_and_it_is_sought_again(world: World) -> None:
    world.client.assign_by_group(0, 1)
    world.polled()
    assert world.jobs.begin(0, 5)
    assert world.jobs.begin(1, 0)
    world.comes((0, 0), (1, 0), (0, 1), (0, 5))

    assert world.polled() == [(1, 0)]
    assert [it.offset for (it,) in world.client.called("seek") if it.partition == 0] == [5, 5]
    world.comes((0, 5), (0, 6))
    assert world.polled() == [(0, 5), (0, 6)]


def test_a_partition_that_went_astray_is_read_when_it_can_be_sought(world: World) -> None:
    world.client.assign_by_group(0)
    world.polled()
    assert world.jobs.begin(0, 5)
    world.client.fails("seek", failure(KafkaError._STATE))
    world.comes((0, 3))
    assert world.polled() == []
    world.comes((0, 4), (0, 5))

    assert world.polled() == [], "nothing is read before it is sought"
    world.comes((0, 5))
    assert world.polled() == [(0, 5)]


def test_an_error_of_the_client_is_told_even_where_the_records_beside_it_are_dropped(world: World) -> None:
    """It comes once: whoever dropped it would wait for ever."""
    world.given(0)
    world.comes((0, 0))
    world.client.coming.append(Record(None, 0, -1, problem=KafkaError(KafkaError._FATAL, "fenced")))
    world.jobs.wait(0.1)
    world.jobs.poll(0)

    world.jobs.stop_reading([0])

    with pytest.raises(StoreError, match="fenced"):
        world.jobs.poll(10)
