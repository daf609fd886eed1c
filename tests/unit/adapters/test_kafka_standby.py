"""Which copies are kept warm: every worker finds the same answer, and few copies move."""

from __future__ import annotations

import pytest
from confluent_kafka import ConsumerGroupState, KafkaError
from hypothesis import given
from hypothesis import strategies as st
from tests.kafka.scripted_clients import ScriptedAdmin, failure
from tests.kafka.set_time import SetTime

from headrace_adapters.kafka import standby
from headrace_adapters.kafka.standby import Standby, warm_partitions

MEMBERS = st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=8, unique=True)


@st.composite
def groups(draw: st.DrawFn) -> tuple[list[str], dict[int, str], int]:
    """Members, who owns which partition, and how many copies there are to be."""
    members = draw(MEMBERS)
    numbers = draw(st.sets(st.integers(0, 200), max_size=30))
    return members, {number: draw(st.sampled_from(members)) for number in numbers}, draw(st.integers(0, 5))


def copies(members: list[str], owners: dict[int, str], replicas: int) -> dict[int, set[str]]:
    """By partition, who keeps it warm."""
    warm = {member: warm_partitions(member, owners, members, replicas) for member in members}
    return {number: {member for member in members if number in warm[member]} for number in owners}


@given(groups())
def test_each_partition_is_warm_at_as_many_others_as_wanted_and_never_at_its_owner(
    group: tuple[list[str], dict[int, str], int],
) -> None:
    members, owners, replicas = group
    for number, keepers in copies(members, owners, replicas).items():
        assert owners[number] not in keepers
        assert len(keepers) == min(replicas, len(members) - 1)


@given(groups(), st.randoms(use_true_random=False))
def test_the_order_in_which_members_are_told_does_not_matter(
    group: tuple[list[str], dict[int, str], int], draw: object
) -> None:
    members, owners, replicas = group
    shuffled = list(members)
    draw.shuffle(shuffled)  # type: ignore[attr-defined]
    assert copies(members, owners, replicas) == copies(shuffled, owners, replicas)


@given(groups(), st.data())
def test_when_a_member_leaves_only_its_own_copies_are_made_elsewhere(
    group: tuple[list[str], dict[int, str], int], data: st.DataObject
) -> None:
    members, owners, replicas = group
    gone = data.draw(st.sampled_from(members))
    kept = [member for member in members if member != gone]
    others = {number: owner for number, owner in owners.items() if owner != gone}

    before, after = copies(members, others, replicas), copies(kept, others, replicas)

    for number in others:
        stayed = before[number] - {gone}
        assert stayed <= after[number], "a copy that is there stays"
        assert len(after[number] - stayed) <= (gone in before[number])


def test_copies_are_spread_over_all_members() -> None:
    members = [f"member-{number}" for number in range(4)]
    owners = {number: members[number % 4] for number in range(400)}

    kept = [len(warm_partitions(member, owners, members, 1)) for member in members]

    assert sum(kept) == 400
    assert min(kept) > 60


# Asking.


@pytest.fixture
def admin() -> ScriptedAdmin:
    made = ScriptedAdmin({})
    made.has_member("me", 0)
    made.has_member("other", 1, 2)
    made.has_member("idle")
    return made


def test_what_others_have_is_asked_for_and_found_in_the_next_look(admin: ScriptedAdmin) -> None:
    asking = Standby(admin, "app", "app.jobs", 2)

    assert asking.look("me") is None, "nobody waits for the answer"
    assert asking.look("me") == {1, 2}
    assert asking.look("me") is None, "and not all the time"
    assert len(admin.called("describe_consumer_groups")) == 1


def test_it_is_asked_again_after_a_while(admin: ScriptedAdmin) -> None:
    time = SetTime(1_000.0)
    asking = Standby(admin, "app", "app.jobs", 1, time)
    assert [asking.look("me") is None for _ in range(4)] == [True, False, True, True]
    time.at_s += standby.LOOK_S

    admin.members.clear()
    admin.has_member("me", 0, 1, 2)

    assert [asking.look("me") for _ in range(2)] == [None, set()]


def test_other_topics_of_the_group_are_nobodys_concern(admin: ScriptedAdmin) -> None:
    admin.has_member("stranger", 7, topic="other.jobs")
    asking = Standby(admin, "app", "app.jobs", 3)

    asking.look("me")
    assert asking.look("me") == {1, 2}


def test_whoever_is_no_member_yet_or_keeps_nothing_does_not_ask(admin: ScriptedAdmin) -> None:
    assert [Standby(admin, "app", "app.jobs", 2).look("") for _ in range(2)] == [None, None]
    assert [Standby(admin, "app", "app.jobs", 0).look("me") for _ in range(2)] == [None, None]
    assert admin.calls == []


def test_copies_stay_as_they_are_where_nobody_answers(admin: ScriptedAdmin, caplog: pytest.LogCaptureFixture) -> None:
    admin.fails("describe_consumer_groups", failure(KafkaError._TIMED_OUT))
    asking = Standby(admin, "app", "app.jobs", 1)

    assert [asking.look("me") for _ in range(2)] == [None, None]
    assert "copies stay as they are" in caplog.text


def test_copies_stay_as_they_are_while_partitions_are_shared_out(admin: ScriptedAdmin) -> None:
    admin.group_state = ConsumerGroupState.PREPARING_REBALANCING
    asking = Standby(admin, "app", "app.jobs", 2)

    assert [asking.look("me") for _ in range(2)] == [None, None]


def test_an_answer_that_takes_long_holds_nobody_up(admin: ScriptedAdmin) -> None:
    admin.hangs = True
    asking = Standby(admin, "app", "app.jobs", 2)
    assert [asking.look("me") for _ in range(5)] == [None] * 5

    admin.answer()

    assert asking.look("me") == {1, 2}
