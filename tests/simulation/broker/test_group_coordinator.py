"""Groups of the classic protocol: generations, members that come, go and fall silent, and who may commit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from confluent_kafka import KafkaError

from tests.simulation.broker.cluster import Cluster, refusal
from tests.simulation.broker.messages import Assignment, Joined, Place, Subscription
from tests.simulation.broker.options import ServerOptions
from tests.simulation.broker.refused import Refused
from tests.simulation.broker.server import Server

SESSION_MS = 6_000
REBALANCE_MS = 20_000
PLACES: list[Place] = [("in", number) for number in range(4)]


class Member:
    """A client that answers nothing by itself: each step is one request, and what came back is kept."""

    def __init__(self, server: Server, name: str, instance_id: str | None = None) -> None:
        self.server = server
        self.name = name
        self.instance_id = instance_id
        self.member_id = ""
        self.generation = -1
        self.owned: tuple[Place, ...] = ()
        self.joined: Joined | Refused | None = None
        self.places: list[Place] | Refused | None = None

    def join(self, protocol: str = "cooperative-sticky", owned: tuple[Place, ...] | None = None) -> Member:
        self.joined = self.places = None
        subscription = Subscription(("in",), self.owned if owned is None else owned, self.generation)
        self.server.join_group(
            "g", self.member_id, self.instance_id, self.name, SESSION_MS, REBALANCE_MS, subscription, protocol, self._joined
        )
        if isinstance(self.joined, Refused) and self.joined.code == KafkaError.MEMBER_ID_REQUIRED:
            self.member_id = self.joined.member_id
            self.join(protocol, owned)
        return self

    def _joined(self, answer: Joined | Refused) -> None:
        self.joined = answer
        if isinstance(answer, Joined):
            self.member_id, self.generation = answer.member_id, answer.generation

    def sync(self, assignments: Assignment | None = None) -> Member:
        self.places = None
        self.server.sync_group("g", self.member_id, self.generation, assignments, self._synced, self.instance_id)
        return self

    def _synced(self, answer: list[Place] | Refused) -> None:
        self.places = answer

    def beat(self) -> int:
        return refusal(lambda: self.server.heartbeat("g", self.member_id, self.generation, self.instance_id))

    def commit(self, offset: int, *places: Place) -> int:
        offsets = dict.fromkeys(places, (offset, ""))
        return refusal(lambda: self.server.offset_commit("g", self.member_id, self.generation, self.instance_id, offsets))

    @property
    def leads(self) -> bool:
        return isinstance(self.joined, Joined) and self.joined.leader_id == self.member_id

    @property
    def refused(self) -> int:
        answer = self.joined if self.places is None else self.places
        return answer.code if isinstance(answer, Refused) else 0


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster(ServerOptions())
    made.server.create_topic("in", len(PLACES))
    return made


@pytest.fixture
def server(cluster: Cluster) -> Server:
    return cluster.server


@pytest.fixture
def pair(server: Server, cluster: Cluster) -> tuple[Member, Member]:
    """A leader and a follower in a stable group; each has two places."""
    leader, follower = Member(server, "one").join(), Member(server, "two").join()
    cluster.pass_ms(1)
    follower.sync()
    leader.sync({leader.member_id: PLACES[:2], follower.member_id: PLACES[2:]})
    return leader, follower


def state(server: Server) -> str:
    return server.describe_group("g").state


def test_the_leader_is_told_all_and_everybody_gets_what_it_shares_out(pair: tuple[Member, Member], server: Server) -> None:
    leader, follower = pair
    assert leader.leads
    assert not follower.leads
    assert isinstance(leader.joined, Joined)
    assert isinstance(follower.joined, Joined)
    assert list(leader.joined.members) == [leader.member_id, follower.member_id]
    assert follower.joined.members == {}
    assert (leader.generation, follower.generation) == (1, 1)
    assert (leader.places, follower.places) == (PLACES[:2], PLACES[2:])
    described = server.describe_group("g")
    assert described.state == "Stable"
    assert [(member.client_id, member.places) for member in described.members] == [("one", PLACES[:2]), ("two", PLACES[2:])]


def test_a_group_that_was_empty_waits_for_more_members() -> None:
    cluster = Cluster(ServerOptions(initial_rebalance_ms=3_000))
    first = Member(cluster.server, "one").join()
    cluster.pass_ms(2_000)
    second = Member(cluster.server, "two").join()
    cluster.pass_ms(3_900)
    assert (first.joined, second.joined) == (None, None), "the second one put it off"
    cluster.pass_ms(200)
    assert (first.generation, second.generation) == (1, 1)


def test_a_member_that_did_not_come_back_for_its_id_holds_up_joins_for_a_session_only(
    server: Server, cluster: Cluster
) -> None:
    first = Member(server, "one").join()
    cluster.pass_ms(1)
    first.sync({first.member_id: PLACES})
    ghost = Member(server, "ghost")
    server.join_group(
        "g", "", None, "ghost", SESSION_MS, REBALANCE_MS, Subscription(("in",)), "cooperative-sticky", ghost._joined
    )
    second = Member(server, "two").join()
    first.join()
    cluster.pass_ms(SESSION_MS - 10)
    assert second.joined is None
    cluster.pass_ms(20)
    assert (first.generation, second.generation) == (2, 2)
    assert len(server.describe_group("g").members) == 2


def test_a_new_member_makes_all_join_again(pair: tuple[Member, Member], server: Server, cluster: Cluster) -> None:
    leader, follower = pair
    third = Member(server, "three").join()
    assert state(server) == "PreparingRebalance"
    assert [member.places for member in server.describe_group("g").members] == [[], [], []]
    rebalancing = KafkaError.REBALANCE_IN_PROGRESS
    assert (leader.beat(), follower.beat(), follower.sync().refused) == (rebalancing, rebalancing, rebalancing)
    assert leader.commit(3, PLACES[0]) == 0, "until all have joined commits are taken"
    leader.join()
    assert third.joined is None
    follower.join()
    assert {leader.generation, follower.generation, third.generation} == {2}
    assert leader.beat() == 0
    assert leader.commit(3, PLACES[0]) == rebalancing, "between join and sync they are not"
    leader.sync({third.member_id: PLACES})
    assert (third.sync().places, leader.places, follower.sync().places) == (PLACES, [], [])


def test_who_does_not_join_again_in_time_is_out(pair: tuple[Member, Member], server: Server, cluster: Cluster) -> None:
    leader, follower = pair
    third = Member(server, "three").join()
    follower.join()
    for _ in range(REBALANCE_MS // 1_000 + 1):
        assert leader.beat() in (KafkaError.REBALANCE_IN_PROGRESS, KafkaError.UNKNOWN_MEMBER_ID)
        cluster.pass_ms(1_000)
    assert (follower.generation, third.generation) == (2, 2)
    assert follower.leads, "another one leads"
    assert leader.beat() == KafkaError.UNKNOWN_MEMBER_ID


def test_a_member_that_falls_silent_loses_its_session(pair: tuple[Member, Member], server: Server, cluster: Cluster) -> None:
    leader, follower = pair
    for _ in range(3):
        cluster.pass_ms(SESSION_MS // 2)
        follower.beat()
    assert follower.beat() == KafkaError.REBALANCE_IN_PROGRESS
    assert follower.join().generation == 2
    assert follower.leads
    assert leader.beat() == KafkaError.UNKNOWN_MEMBER_ID
    assert leader.commit(5, PLACES[0]) == KafkaError.UNKNOWN_MEMBER_ID
    assert leader.join().refused == KafkaError.UNKNOWN_MEMBER_ID


def test_a_plain_commit_is_a_sign_of_life_and_one_in_a_transaction_is_not(
    pair: tuple[Member, Member], server: Server, cluster: Cluster
) -> None:
    leader, follower = pair
    producer = server.init_producer_id("t", 60_000)
    server.add_offsets("t", *producer, "g")
    code = 0
    for _ in range(3):
        cluster.pass_ms(SESSION_MS // 2)
        assert leader.commit(1, PLACES[0]) == 0
        code = refusal(
            lambda: server.txn_offset_commit(
                "t", *producer, "g", follower.member_id, follower.generation, None, {PLACES[2]: (1, "")}
            )
        )
    assert code == KafkaError.UNKNOWN_MEMBER_ID
    assert leader.beat() == KafkaError.REBALANCE_IN_PROGRESS


def test_who_waits_for_an_answer_keeps_its_session(pair: tuple[Member, Member], server: Server, cluster: Cluster) -> None:
    leader, follower = pair
    third = Member(server, "three").join()
    follower.join()
    for _ in range(4):
        cluster.pass_ms(SESSION_MS // 2)
        leader.beat()
    leader.join()
    assert {leader.generation, follower.generation, third.generation} == {2}
    third.sync()
    follower.sync()
    for _ in range(4):
        cluster.pass_ms(SESSION_MS // 2)
        leader.beat()
    leader.sync({follower.member_id: PLACES})
    assert (follower.places, third.places) == (PLACES, [])
    cluster.pass_ms(SESSION_MS - 1)
    assert (follower.beat(), third.beat()) == (0, 0)


def test_who_joined_and_never_asked_for_its_places_is_out(
    pair: tuple[Member, Member], server: Server, cluster: Cluster
) -> None:
    leader, follower = pair
    leader.join()
    follower.join()
    leader.sync({leader.member_id: PLACES})
    for _ in range(REBALANCE_MS // 1_000 + 1):
        leader.beat()
        follower.beat()
        cluster.pass_ms(1_000)
    assert state(server) == "PreparingRebalance"
    assert (leader.beat(), follower.beat()) == (KafkaError.REBALANCE_IN_PROGRESS, KafkaError.UNKNOWN_MEMBER_ID)


def test_a_member_that_leaves_lets_the_others_join_again(pair: tuple[Member, Member], server: Server) -> None:
    leader, follower = pair
    server.leave_group("g", leader.member_id)
    assert refusal(lambda: server.leave_group("g", leader.member_id)) == KafkaError.UNKNOWN_MEMBER_ID
    assert follower.join().generation == 2
    server.leave_group("g", follower.member_id)
    assert state(server) == "Empty"
    assert server.describe_group("none") == ("Dead", [])


def test_an_answer_that_was_lost_is_given_again(pair: tuple[Member, Member], server: Server) -> None:
    leader, follower = pair
    generation = leader.generation
    follower.generation = -1
    assert follower.join().generation == generation
    assert follower.sync().places == PLACES[2:]
    assert state(server) == "Stable"
    follower.join(owned=tuple(PLACES[2:]))
    assert state(server) == "PreparingRebalance", "what it says of itself has changed"


def test_a_leader_that_joins_again_makes_a_new_generation(pair: tuple[Member, Member], server: Server) -> None:
    leader, follower = pair
    leader.generation = -1
    leader.join()
    assert state(server) == "PreparingRebalance"
    assert follower.join().generation == 2


def test_all_members_speak_one_protocol(pair: tuple[Member, Member], server: Server) -> None:
    assert Member(server, "three").join("range").refused == KafkaError.INCONSISTENT_GROUP_PROTOCOL
    code = refusal(lambda: server.consumer_heartbeat("g", "m", 0, None, "c", ["in"], []))
    assert code == KafkaError.GROUP_ID_NOT_FOUND


def test_a_static_member_takes_its_place_again_and_fences_who_had_it(server: Server, cluster: Cluster) -> None:
    old, other = Member(server, "one", "i").join(), Member(server, "two", "j").join()
    cluster.pass_ms(1)
    old.sync({old.member_id: PLACES[:2], other.member_id: PLACES[2:]})
    other.sync()
    new = Member(server, "elsewhere", "i").join()
    assert new.generation == old.generation, "nobody else notices"
    assert (new.leads, new.sync().places) == (False, PLACES[:2])
    assert (old.beat(), other.beat(), new.beat()) == (KafkaError.FENCED_INSTANCE_ID, 0, 0)
    assert old.commit(1, PLACES[0]) == KafkaError.FENCED_INSTANCE_ID
    other.join(owned=tuple(PLACES[2:]))
    new.join()
    assert new.leads, "it leads in its predecessor's place"
    new.sync({})
    assert {member.client_id for member in server.describe_group("g").members} == {"one", "two"}, "as it was at first"


def test_a_member_may_commit_for_places_that_it_does_not_own(
    pair: tuple[Member, Member], server: Server, cluster: Cluster
) -> None:
    leader, follower = pair
    assert follower.commit(7, PLACES[0]) == 0
    assert server.offset_fetch("g", [PLACES[0]], True) == {PLACES[0]: (7, "")}
    producer = server.init_producer_id("t", 60_000)
    server.add_offsets("t", *producer, "g")
    server.txn_offset_commit("t", *producer, "g", follower.member_id, follower.generation, None, {PLACES[1]: (8, "m")})
    server.end_txn("t", *producer, True)
    cluster.pass_ms(10)
    assert server.offset_fetch("g", [PLACES[1]], True) == {PLACES[1]: (8, "m")}
    assert leader.beat() == 0


def commits_in_transaction(server: Server) -> Callable[[str, int], int]:
    """What commits in a transaction as a member of that id and generation."""
    producer = server.init_producer_id("t", 60_000)
    server.add_offsets("t", *producer, "g")
    offsets = {PLACES[0]: (1, "")}
    return lambda member_id, generation: refusal(
        lambda: server.txn_offset_commit("t", *producer, "g", member_id, generation, None, offsets)
    )


def test_a_generation_of_before_is_fenced(pair: tuple[Member, Member], server: Server) -> None:
    leader, follower = pair
    commits = commits_in_transaction(server)
    before = leader.generation
    leader.join()
    assert commits(leader.member_id, before) == 0, "while joins are collected it is still this generation"
    follower.join()
    assert commits(leader.member_id, before) == KafkaError.ILLEGAL_GENERATION
    assert commits(leader.member_id, leader.generation) == 0, "in a transaction even before its places are known"
    assert commits("nobody", leader.generation) == KafkaError.UNKNOWN_MEMBER_ID
    assert commits("", -1) == 0, "of whom nothing is said in a transaction, is not asked for"


def test_while_there_are_members_nobody_else_commits(pair: tuple[Member, Member], server: Server) -> None:
    offsets = {PLACES[0]: (1, "")}
    outside = refusal(lambda: server.offset_commit("g", "", -1, None, offsets))
    assert outside == KafkaError.UNKNOWN_MEMBER_ID
    server.offset_commit("h", "", -1, None, offsets)
    assert server.offset_fetch("h", [PLACES[0]], False) == {PLACES[0]: (1, "")}
    assert refusal(lambda: server.offset_commit("x", "m", 1, None, offsets)) == KafkaError.GROUP_ID_NOT_FOUND


def test_when_coordinators_move_a_group_is_as_it_was_shared_out_last(
    pair: tuple[Member, Member], server: Server, cluster: Cluster
) -> None:
    leader, follower = pair
    third = Member(server, "three").join()
    leader.join()
    server.restart()
    assert (leader.refused, third.refused) == (KafkaError.NOT_COORDINATOR, KafkaError.NOT_COORDINATOR)
    assert state(server) == "Stable"
    assert (leader.beat(), follower.beat()) == (0, 0)
    assert follower.sync().places == PLACES[2:]
    assert third.join().refused == KafkaError.UNKNOWN_MEMBER_ID
    for _ in range(4):
        cluster.pass_ms(SESSION_MS // 2)
        leader.beat()
    assert follower.beat() == KafkaError.UNKNOWN_MEMBER_ID
    assert leader.join().generation == 2
