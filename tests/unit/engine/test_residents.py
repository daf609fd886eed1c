"""The runs that are decoded in memory."""

from __future__ import annotations

import pytest

from headrace import events as e
from headrace.apply import apply
from headrace.batch import RunChange
from headrace.errors import RecordRefused
from headrace.events import Event
from headrace.ports import Ended, TimerEntry
from headrace.residents import Residents
from headrace.state import RunState
from headrace.values import NULL

STARTED = e.RunStarted("f", "1", NULL, {}, None, 5)
ENDED = Ended("r", "completed", 9, None)


class Stored:
    """The committed state, as histories; counts how often each run is read."""

    def __init__(self, **histories: list[Event] | Ended | None) -> None:
        self.histories = histories
        self.loads: list[str] = []

    def load(self, run_id: str) -> RunState | Ended | None:
        self.loads.append(run_id)
        history = self.histories.get(run_id, Ended("", "", 0, None))
        if history is None:
            raise RecordRefused(f"{run_id} cannot be read")
        if isinstance(history, Ended):
            return history if history.run_id else None
        state = RunState(run_id)
        for event in history:
            apply(state, event)
        state.changed = set()
        return state

    def active_runs(self) -> list[str]:
        return []

    def parked_runs(self) -> list[str]:
        return []

    def timers(self, after_ms: int, until_ms: int, limit: int) -> list[TimerEntry]:
        return []


def test_a_run_is_read_once_and_then_found_in_memory() -> None:
    stored = Stored(r=[STARTED])
    residents = Residents(stored)
    run = residents.find("r")

    assert isinstance(run, RunState)
    assert residents.find("r") is run
    assert stored.loads == ["r"]
    assert len(residents) == 1
    assert list(residents.known()) == ["r"]


def test_markers_and_absent_runs_are_not_held() -> None:
    residents = Residents(Stored(r=ENDED))

    assert residents.find("r") == ENDED
    assert residents.find("nobody") is None
    assert len(residents) == 0


def test_a_run_that_has_ended_is_its_marker_until_that_is_committed() -> None:
    stored = Stored(r=[STARTED])
    residents = Residents(stored)
    run = residents.find("r")
    assert isinstance(run, RunState)
    apply(run, e.RunCompleted(NULL))
    residents.end("r", ENDED)

    assert residents.find("r") == ENDED
    assert stored.loads == ["r"], "the store would still say that it runs"
    stored.histories["r"] = ENDED
    residents.drop("r")
    assert residents.find("r") == ENDED
    assert len(residents) == 0


def test_a_run_that_cannot_be_read_is_as_if_it_were_not_there_and_is_named() -> None:
    residents = Residents(Stored(bad=None, good=[STARTED]))

    assert residents.find("bad") is None
    assert residents.unreadable == {"bad": "bad cannot be read"}
    assert isinstance(residents.find("good"), RunState)


def test_runs_that_only_wait_are_dropped_those_looked_at_longest_ago_first() -> None:
    stored = Stored(**{f"r{number}": [STARTED] for number in range(6)})
    residents = Residents(stored)
    for number in range(6):
        residents.find(f"r{number}")
    residents.evict(2, in_use={"r0"})

    assert sorted(residents.known()) == ["r0", "r5"]
    residents.evict(2, in_use=())
    assert len(residents) == 2, "there is room for these"


def test_runs_that_work_or_have_changed_stay_in_memory() -> None:
    working: list[Event] = [STARTED, e.NodeScheduled("a", -1, 0, 1, (), None)]
    residents = Residents(Stored(works=working, waits=[STARTED], changed=[STARTED]))
    for run_id in ("works", "waits", "changed"):
        residents.find(run_id)
    changed = residents.find("changed")
    assert isinstance(changed, RunState)
    apply(changed, e.RunPaused(""))

    residents.evict(1, in_use=())

    assert sorted(residents.known()) == ["changed", "works"]


def change(run: RunState, *events: Event) -> RunChange:
    made = RunChange(run, run.seq + 1)
    for event in events:
        apply(run, event)
    made.events.append((5, list(events)))
    return made


def test_a_run_is_put_back_to_what_was_decided_before_a_decision_failed() -> None:
    residents = Residents(Stored(r=[STARTED]))
    run = residents.find("r")
    assert isinstance(run, RunState)
    under_way = change(run, e.RunPaused("first"))
    run.changed = set()
    growing = change(run, e.RunUnpaused(), e.NodeScheduled("a", -1, 0, 1, (), None))
    apply(run, e.NodeStarted("a", -1, 1))  # half a decision

    back = residents.put_back("r", under_way, growing)

    assert back is not None
    assert back is residents.find("r")
    assert back is not run
    assert (back.seq, back.paused, back.nodes["a"].status) == (4, False, "scheduled")
    assert growing.state is back
    assert ("n", "a") in back.changed, "what is not taken yet is still to be written"


def test_a_run_that_was_not_there_before_the_decision_is_gone_again() -> None:
    residents = Residents(Stored())
    run = residents.create("r", "f", "1")
    apply(run, STARTED)

    assert residents.put_back("r", None, None) is None
    assert residents.find("r") is None
    residents.create("r", "f", "1")


def test_a_run_that_exists_is_not_made_again() -> None:
    residents = Residents(Stored())
    residents.create("r", "f", "1")
    with pytest.raises(AssertionError):
        residents.create("r", "f", "1")


def test_after_clearing_only_what_is_committed_counts() -> None:
    residents = Residents(Stored(r=[STARTED]))
    run = residents.find("r")
    assert isinstance(run, RunState)
    apply(run, e.RunPaused(""))
    residents.create("new", "f", "1")
    residents.clear()

    again = residents.find("r")
    assert isinstance(again, RunState)
    assert not again.paused
    assert residents.find("new") is None
