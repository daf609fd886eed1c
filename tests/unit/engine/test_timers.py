"""The timers of one partition: near ones in memory, all of them in the index."""

from __future__ import annotations

import random

import pytest

from headrace.ports import Ended, TimerEntry
from headrace.state import RunState
from headrace.timers import LOAD_MAX, WINDOW_MS, Timers


class Index:
    """The index of a store: what was committed, read by due time. Counts what it gives out."""

    def __init__(self) -> None:
        self.entries: set[TimerEntry] = set()
        self.given = 0

    def timers(self, after_ms: int, until_ms: int, limit: int) -> list[TimerEntry]:
        found = sorted(entry for entry in self.entries if after_ms < entry.due_ms <= until_ms)[:limit]
        self.given += len(found)
        return found

    def load(self, run_id: str) -> RunState | Ended | None:
        raise AssertionError("nobody asks for runs")

    def active_runs(self) -> list[str]:
        return []

    def parked_runs(self) -> list[str]:
        return []


def entry(due_ms: int, name: str = "n") -> TimerEntry:
    return TimerEntry(due_ms, "r", name, -1)


def fire(timers: Timers, now_ms: int) -> list[TimerEntry]:
    return list(iter(lambda: timers.due(now_ms), None))


def commit(timers: Timers, index: Index, *entries: TimerEntry) -> None:
    timers.taken()
    index.entries |= set(entries)
    timers.committed()


@pytest.fixture
def index() -> Index:
    return Index()


@pytest.mark.parametrize("delay_ms", [0, 1, WINDOW_MS - 1, WINDOW_MS, WINDOW_MS + 1, 50 * WINDOW_MS])
def test_a_timer_fires_when_it_is_due_and_no_earlier(index: Index, delay_ms: int) -> None:
    timers = Timers(index)
    start = 1_000_000
    assert fire(timers, start) == []
    due = entry(start + delay_ms)
    timers.set(due)
    commit(timers, index, due)

    if delay_ms:
        assert fire(timers, start + delay_ms - 1) == []
    assert fire(timers, start + delay_ms) == [due]
    assert fire(timers, start + delay_ms + 100 * WINDOW_MS) == [], "once"


def test_timers_fire_in_order_of_their_due_time(index: Index) -> None:
    timers = Timers(index)
    entries = [entry(10**6 + random.Random(number).randrange(10 * WINDOW_MS), str(number)) for number in range(200)]
    for one in entries:
        timers.set(one)
    commit(timers, index, *entries)

    fired = fire(timers, 10**6 + 11 * WINDOW_MS)

    assert sorted(fired) == sorted(entries)
    assert [one.due_ms for one in fired] == sorted(one.due_ms for one in entries)


def test_a_timer_may_fire_before_its_setting_is_committed(index: Index) -> None:
    timers = Timers(index)
    fire(timers, 0)
    timers.set(entry(5))
    timers.set(entry(10 * WINDOW_MS, "far"))

    assert fire(timers, 5) == [entry(5)]
    assert fire(timers, 10 * WINDOW_MS) == [entry(10 * WINDOW_MS, "far")], "it is not in the index, and known all the same"


def test_what_is_being_committed_while_the_horizon_moves_fires_once(index: Index) -> None:
    timers = Timers(index)
    fire(timers, 0)
    taken, fresh = entry(5 * WINDOW_MS, "taken"), entry(5 * WINDOW_MS, "fresh")
    timers.set(taken)
    timers.taken()
    timers.set(fresh)

    fired = fire(timers, 5 * WINDOW_MS)
    index.entries |= {taken}
    timers.committed()
    commit(timers, index, fresh)
    fired += fire(timers, 20 * WINDOW_MS)

    assert sorted(fired) == sorted([taken, fresh])


def test_after_an_abort_only_the_index_counts(index: Index) -> None:
    kept = entry(3 * WINDOW_MS, "kept")
    index.entries.add(kept)
    timers = Timers(index)
    fire(timers, 0)
    timers.set(entry(1, "lost"))
    timers.set(entry(3 * WINDOW_MS, "lost"))
    timers.forget()

    assert fire(timers, 4 * WINDOW_MS) == [kept]


def test_the_next_look_is_never_later_than_the_first_timer(index: Index) -> None:
    timers = Timers(index)
    fire(timers, 1_000)
    assert 1_000 < timers.next_due_ms() <= 1_000 + WINDOW_MS
    timers.set(entry(1_500))
    assert timers.next_due_ms() == 1_500

    far = entry(1_000 + 30 * WINDOW_MS)
    timers.set(far)
    commit(timers, index, entry(1_500), far)
    now_ms, fired = 1_000, []
    for _ in range(200):
        now_ms = max(now_ms, timers.next_due_ms())
        fired += [(now_ms, one) for one in fire(timers, now_ms)]
    assert fired == [(1_500, entry(1_500)), (far.due_ms, far)], "whoever comes back when told is never late"


def test_far_timers_are_read_once_and_not_held_in_memory_before(index: Index) -> None:
    index.entries = {entry(10**6 + number * 1_000, str(number)) for number in range(5_000)}
    timers = Timers(index)
    fired: list[TimerEntry] = []
    for now_ms in range(10**6, 10**6 + 5_020_000, 20_000):
        fired += fire(timers, now_ms)
        assert index.given - len(fired) <= 2 * WINDOW_MS // 1_000

    assert len(fired) == 5_000
    assert index.given == 5_000


def test_a_page_that_is_full_of_one_due_time_does_not_end_the_reading(index: Index) -> None:
    index.entries = {entry(77, str(number)) for number in range(LOAD_MAX + 5)} | {entry(78), entry(76)}
    timers = Timers(index)

    fired = fire(timers, 100)

    assert len(fired) == LOAD_MAX + 7
    assert fired[0] == entry(76)
    assert fired[-1] == entry(78)


def test_a_clock_that_jumps_by_years_fires_everything_in_between(index: Index) -> None:
    index.entries = {entry(number * 10**9, str(number)) for number in range(1, 50)}
    timers = Timers(index)
    fire(timers, 1)

    assert len(fire(timers, 10**12)) == 49
