"""Groups of the consumer protocol (KIP-848): places move only when nobody has them any more, and epochs fence."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from tests.simulation.broker.cluster import Cluster, refusal
from tests.simulation.broker.messages import Place
from tests.simulation.broker.options import ServerOptions
from tests.simulation.broker.server import Server

SESSION_MS, REBALANCE_MS = 6_000, 9_000
PLACES: list[Place] = [("in", number) for number in range(4)]


class Member:
    """A client that says what it has in every heartbeat, and takes over what it is told by the next one."""

    def __init__(self, server: Server, member_id: str, instance_id: str | None = None) -> None:
        self.server = server
        self.member_id = member_id
        self.instance_id = instance_id
        self.epoch = 0
        self.owned: list[Place] = []

    def beat(self) -> Member:
        topics = None if self.epoch else ["in"]
        self.epoch, _, places = self.server.consumer_heartbeat(
            "g", self.member_id, self.epoch, self.instance_id, "client", topics, self.owned, REBALANCE_MS
        )
        if places is not None:
            self.owned = places
        return self

    def leave(self, epoch: int = -1) -> None:
        self.server.consumer_heartbeat("g", self.member_id, epoch, self.instance_id, "client", None, None)

    def commit(self, epoch: int, *places: Place) -> int:
        offsets = dict.fromkeys(places, (1, ""))
        return refusal(lambda: self.server.offset_commit("g", self.member_id, epoch, self.instance_id, offsets))

    def refused(self) -> int:
        return refusal(self.beat)


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster(ServerOptions(consumer_session_ms=SESSION_MS, assignment_interval_ms=0))
    made.server.create_topic("in", len(PLACES))
    return made


@pytest.fixture
def server(cluster: Cluster) -> Server:
    return cluster.server


def state(server: Server) -> str:
    return server.describe_group("g").state


def shared(server: Server) -> tuple[Member, Member]:
    """Two members with two places each."""
    first, second = Member(server, "m1").beat(), Member(server, "m2").beat()
    for _ in range(3):
        first.beat()
        second.beat()
    return first, second


def test_a_member_alone_gets_everything_at_once(server: Server) -> None:
    member = Member(server, "m1").beat()
    assert (member.epoch, member.owned, state(server)) == (1, PLACES, "Stable")
    answer = server.consumer_heartbeat("g", "m1", 1, None, "client", None, None)
    assert answer == (1, 5_000, None), "nothing has changed"


def test_a_place_moves_only_when_its_owner_has_given_it_up(server: Server) -> None:
    first = Member(server, "m1").beat()
    second = Member(server, "m2").beat()
    assert (second.epoch, second.owned) == (2, [])
    assert server.consumer_heartbeat("g", "m1", 1, None, "client", None, None) == (1, 5_000, PLACES[:2])
    assert state(server) == "Reconciling"
    # It does not say that it has given them up, so nobody gets them.
    assert server.consumer_heartbeat("g", "m1", 1, None, "client", None, PLACES) == (1, 5_000, None)
    assert second.beat().owned == []
    first.owned = PLACES[:2]
    assert first.beat().epoch == 2
    assert second.beat().owned == PLACES[2:]
    assert state(server) == "Stable"


def test_few_places_change_hands(server: Server) -> None:
    first, second = shared(server)
    before = list(first.owned)
    third = Member(server, "m3").beat()
    for _ in range(3):
        for member in (first, second, third):
            member.beat()
    assert sorted(len(member.owned) for member in (first, second, third)) == [1, 1, 2]
    assert set(first.owned) <= set(before)
    assert sorted(first.owned + second.owned + third.owned) == PLACES


def test_who_leaves_or_falls_silent_makes_room(server: Server, cluster: Cluster) -> None:
    first, second = shared(server)
    second.leave()
    assert first.beat().owned == PLACES
    assert second.refused() == KafkaError.UNKNOWN_MEMBER_ID
    third = Member(server, "m3").beat()
    for _ in range(3):
        cluster.pass_ms(SESSION_MS // 2)
        third.beat()
    assert sorted(third.beat().owned) == PLACES
    assert first.refused() == KafkaError.UNKNOWN_MEMBER_ID
    third.leave()
    assert state(server) == "Empty"


def test_who_does_not_give_up_in_time_is_out(server: Server, cluster: Cluster) -> None:
    first = Member(server, "m1").beat()
    second = Member(server, "m2").beat()
    for _ in range(REBALANCE_MS // 1_000 + 1):
        refusal(lambda: server.consumer_heartbeat("g", "m1", 1, None, "client", None, PLACES))
        cluster.pass_ms(1_000)
        second.beat()
    assert sorted(second.owned) == PLACES
    assert first.refused() == KafkaError.UNKNOWN_MEMBER_ID


def test_an_epoch_of_before_is_taken_once_more_where_its_answer_was_lost(server: Server) -> None:
    first = Member(server, "m1").beat()
    Member(server, "m2").beat()
    first.beat()
    first.beat()
    assert first.epoch == 2
    answer = server.consumer_heartbeat("g", "m1", 1, None, "client", None, PLACES[:2])
    assert answer[0] == 2
    fenced = KafkaError.FENCED_MEMBER_EPOCH
    assert refusal(lambda: server.consumer_heartbeat("g", "m1", 1, None, "client", None, PLACES)) == fenced
    assert refusal(lambda: server.consumer_heartbeat("g", "m1", 3, None, "client", None, [])) == fenced
    assert server.consumer_heartbeat("g", "m1", 0, None, "client", ["in"], []) == (2, 5_000, PLACES[:2])


def test_assignments_are_made_no_more_often_than_the_interval_says() -> None:
    cluster = Cluster(ServerOptions(assignment_interval_ms=1_000))
    cluster.server.create_topic("in", len(PLACES))
    first, second = Member(cluster.server, "m1").beat(), Member(cluster.server, "m2").beat()
    assert (second.epoch, second.owned, state(cluster.server)) == (1, [], "Assigning")
    assert first.beat().owned == PLACES
    cluster.pass_ms(1_000)
    first.beat()
    first.beat()
    second.beat()
    assert (len(first.owned), len(second.owned)) == (2, 2)


def test_a_static_member_that_left_for_a_while_finds_its_places_again(server: Server) -> None:
    first, second = Member(server, "m1", "i").beat(), Member(server, "m2", "j").beat()
    for _ in range(3):
        first.beat()
        second.beat()
    again = Member(server, "m3", "i")
    assert again.refused() == KafkaError.UNRELEASED_INSTANCE_ID
    first.leave(-2)
    assert second.beat().owned == PLACES[2:]
    assert again.beat().owned == PLACES[:2]
    assert first.refused() == KafkaError.FENCED_INSTANCE_ID


def test_commits_with_the_current_epoch_are_taken_for_any_place(server: Server) -> None:
    first, second = shared(server)
    assert second.commit(second.epoch, *first.owned) == 0
    assert second.commit(second.epoch + 1, *second.owned) == KafkaError.STALE_MEMBER_EPOCH


def test_commits_with_an_older_epoch_are_taken_for_places_that_are_kept_since_then(server: Server) -> None:
    first, second = shared(server)
    assert first.epoch == 2
    assert first.commit(1, *first.owned) == 0
    assert first.commit(1, *second.owned) == KafkaError.STALE_MEMBER_EPOCH
    assert second.commit(1, *second.owned) == KafkaError.STALE_MEMBER_EPOCH
    producer = server.init_producer_id("t", 60_000)
    server.add_offsets("t", *producer, "g")
    offsets = {second.owned[0]: (1, "")}
    code = refusal(lambda: server.txn_offset_commit("t", *producer, "g", "m2", 1, None, offsets))
    assert code == KafkaError.ILLEGAL_GENERATION
    server.txn_offset_commit("t", *producer, "g", "m2", second.epoch, None, offsets)


def test_offsets_are_told_to_members_of_the_current_epoch(server: Server) -> None:
    member = Member(server, "m1").beat()
    member.commit(1, PLACES[0])
    assert server.offset_fetch("g", PLACES[:1], True, "m1", 1) == {PLACES[0]: (1, "")}
    assert server.offset_fetch("g", PLACES[:1], True) == {PLACES[0]: (1, "")}
    stale = refusal(lambda: server.offset_fetch("g", PLACES[:1], True, "m1", 0))
    assert stale == KafkaError.STALE_MEMBER_EPOCH


def test_topics_that_come_later_are_shared_out(server: Server) -> None:
    topics = ["in", "late"]
    answer = server.consumer_heartbeat("g", "m1", 0, None, "client", topics, [])
    assert answer == (1, 5_000, PLACES)
    server.create_topic("other", 1)
    assert server.consumer_heartbeat("g", "m1", 1, None, "client", None, None) == (1, 5_000, None)
    server.create_topic("late", 1)
    assert server.consumer_heartbeat("g", "m1", 1, None, "client", None, PLACES) == (2, 5_000, [*PLACES, ("late", 0)])


def test_an_empty_group_changes_its_protocol(server: Server) -> None:
    first, second = shared(server)
    first.leave()
    second.leave()
    server.offset_commit("g", "", -1, None, {PLACES[0]: (3, "")})
    assert refusal(lambda: server.heartbeat("g", "m1", 1)) == KafkaError.UNKNOWN_MEMBER_ID
    assert server.offset_fetch("g", PLACES[:1], True) == {PLACES[0]: (3, "")}


def test_when_coordinators_move_members_stay_and_their_time_begins_anew(server: Server, cluster: Cluster) -> None:
    first, second = shared(server)
    cluster.pass_ms(SESSION_MS - 1)
    server.restart()
    cluster.pass_ms(SESSION_MS - 1)
    assert (first.beat().epoch, second.refused()) == (2, 0)
    cluster.pass_ms(SESSION_MS)
    assert first.refused() == KafkaError.UNKNOWN_MEMBER_ID
