"""The network between simulated clients and brokers: delays, broken connections, outages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.simulation.broker.network import LOST, TIMED_OUT, Answer, Line
from tests.simulation.broker.refused import Refused
from tests.simulation.broker.small_cluster import SmallCluster


class Wire:
    """A line, and what was made and answered on it."""

    def __init__(self, cluster: SmallCluster, name: str = "a") -> None:
        self.cluster = cluster
        self.line = Line(cluster.network, cluster.process(name))
        self.made: list[Any] = []
        self.answers: list[Any] = []

    def ask(self, what: Any, **options: Any) -> None:
        def call() -> Any:
            self.made.append(what)
            if isinstance(what, Refused):
                raise what
            return what

        self.line.request("ask", what, call, self.answers.append, **options)

    def ask_held(self) -> Callable[[Any], None]:
        """Gives what answers it."""
        replies: list[Answer] = []
        self.line.request_held("join", None, replies.append, self.answers.append)
        self.cluster.pass_time(0.1)
        return replies.pop()


@pytest.fixture
def cluster() -> SmallCluster:
    return SmallCluster()


@pytest.fixture
def wire(cluster: SmallCluster) -> Wire:
    return Wire(cluster)


def test_a_request_takes_one_way_and_its_answer_the_other(cluster: SmallCluster, wire: Wire) -> None:
    cluster.network.delay((10_000, 10_001))
    wire.ask(1)
    cluster.pass_time(0.009)
    assert (wire.made, wire.answers) == ([], [])
    cluster.pass_time(0.002)
    assert (wire.made, wire.answers) == ([1], [])
    cluster.pass_time(0.01)
    assert wire.answers == [1]
    cluster.network.delay(None)
    wire.ask(2)
    cluster.pass_time(0.002)
    assert wire.answers == [1, 2]


def test_nothing_overtakes_on_one_line(cluster: SmallCluster, wire: Wire) -> None:
    cluster.network.delay((0, 50_000))
    for number in range(50):
        wire.ask(number)
    cluster.pass_time(1)
    assert wire.made == list(range(50))
    assert wire.answers == list(range(50))


def test_what_the_brokers_refuse_is_an_answer(cluster: SmallCluster, wire: Wire) -> None:
    refused = Refused(3)
    wire.ask(refused)
    cluster.pass_time(1)
    assert wire.answers == [refused]


def test_a_request_whose_answer_is_held_back_holds_up_those_behind_it(cluster: SmallCluster, wire: Wire) -> None:
    reply = wire.ask_held()
    wire.ask(2)
    cluster.pass_time(1)
    assert (wire.made, wire.answers) == ([], [])
    reply("joined")
    cluster.pass_time(1)
    assert wire.answers == ["joined", 2]


def test_a_connection_that_breaks_is_noticed_and_nobody_knows_whether_the_request_was_made(
    cluster: SmallCluster, wire: Wire
) -> None:
    cluster.network.lose(1, 0)
    wire.ask(1)
    cluster.network.lose(0, 1)
    wire.ask(2)
    cluster.pass_time(1)
    assert wire.made == [2]
    assert wire.answers == [LOST, LOST]
    cluster.network.lose(0, 0)
    wire.ask(3)
    cluster.pass_time(1)
    assert wire.answers == [LOST, LOST, 3]


def test_brokers_that_stand_still_do_what_was_sent_when_they_go_on_even_if_it_was_given_up(
    cluster: SmallCluster, wire: Wire
) -> None:
    cluster.network.go_down(stands_still=True)
    assert not cluster.network.is_up
    wire.ask(1, timeout_us=1_000_000)
    wire.ask(2)
    cluster.pass_time(2)
    assert (wire.made, wire.answers) == ([], [TIMED_OUT])
    cluster.network.come_back()
    cluster.pass_time(1)
    assert (wire.made, wire.answers) == ([1, 2], [TIMED_OUT, 2])


def test_brokers_that_went_away_lost_what_was_under_way_and_get_what_waited_for_them(
    cluster: SmallCluster, wire: Wire
) -> None:
    cluster.network.delay((10_000, 10_001))
    wire.ask(1)
    cluster.pass_time(0.001)
    cluster.network.go_down(stands_still=False)
    wire.ask(2, timeout_us=1_000_000)
    wire.ask(3)
    cluster.pass_time(2)
    assert (wire.made, wire.answers) == ([], [LOST, TIMED_OUT])
    cluster.network.come_back()
    cluster.pass_time(1)
    assert (wire.made, wire.answers) == ([3], [LOST, TIMED_OUT, 3])


@pytest.mark.parametrize("stands_still", [True, False])
def test_an_answer_to_what_was_done_before_an_outage_comes_after_it_or_never(
    cluster: SmallCluster, wire: Wire, stands_still: bool
) -> None:
    reply = wire.ask_held()
    cluster.network.go_down(stands_still=stands_still)
    reply("joined")
    cluster.pass_time(1)
    cluster.network.come_back()
    cluster.pass_time(1)
    assert wire.answers == ["joined" if stands_still else LOST]


def test_a_process_that_is_cut_off_is_late_and_the_others_are_not(cluster: SmallCluster, wire: Wire) -> None:
    other = Wire(cluster, "b")
    cluster.network.cut_off(cluster.process("a"))
    wire.ask(1)
    other.ask(2)
    cluster.pass_time(1)
    assert (wire.answers, other.answers) == ([], [2])
    cluster.network.join_again(cluster.process("a"))
    cluster.pass_time(1)
    assert wire.answers == [1]


def test_what_a_process_that_is_cut_off_gave_up_is_never_made(cluster: SmallCluster, wire: Wire) -> None:
    cluster.network.cut_off(cluster.process("a"))
    wire.ask(1, timeout_us=500_000)
    cluster.pass_time(1)
    cluster.network.calm()
    cluster.pass_time(1)
    assert (wire.made, wire.answers) == ([], [TIMED_OUT])


def test_a_request_of_a_process_that_was_killed_is_made_and_nobody_hears_of_it(cluster: SmallCluster, wire: Wire) -> None:
    wire.ask(1)
    cluster.kernel.kill(cluster.process("a"))
    cluster.pass_time(1)
    assert (wire.made, wire.answers) == ([1], [])


def test_a_frozen_process_hears_the_answer_when_it_goes_on(cluster: SmallCluster, wire: Wire) -> None:
    wire.ask(1)
    cluster.kernel.freeze(cluster.process("a"))
    cluster.pass_time(1)
    assert (wire.made, wire.answers) == ([1], [])
    cluster.kernel.thaw(cluster.process("a"))
    cluster.pass_time(0.001)
    assert wire.answers == [1]


def test_every_request_and_answer_is_traced_where_somebody_asks_for_it(cluster: SmallCluster, wire: Wire) -> None:
    lines: list[str] = []
    cluster.network.trace = lines.append
    wire.ask(1)
    cluster.pass_time(1)
    assert lines == ["a > ask 1", "a < ask 1: 1"]
