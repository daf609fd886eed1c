"""The loop of a worker, stepped by hand: its order, its bounds, and what it tells when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from tests.contract.driven import START_MS, Driven, InlineExecutor, result_of

from headrace import commands as c
from headrace.adapter import Answer
from headrace.batch import Batch
from headrace.errors import StoreFull
from headrace.limits import Limits
from headrace_adapters.base import Carrier
from headrace_adapters.base.worker_loop import LINGER_MS
from headrace_adapters.local.carrier import LocalCarrier, append_jobs
from headrace_adapters.local.layout import DEAD_LETTER
from headrace_adapters.memory import MemoryStore

QUICK = {"id": "quick", "nodes": [{"id": "a", "uses": "echo"}], "edges": []}
HANG = {"id": "hang", "nodes": [{"id": "a", "uses": "hang"}], "edges": []}
WAIT = {"id": "wait", "nodes": [{"id": "w", "uses": "wait", "params": {"event": "e"}}], "edges": []}
NAP = {"id": "nap", "nodes": [{"id": "s", "uses": "sleep", "params": {"duration": 1_000}}], "edges": []}
FUNCTIONS: dict[str, Any] = {"echo": lambda ctx: ctx.input, "hang": lambda: None}


class Watched(LocalCarrier):
    """Tells what is committed; fails when it is told to."""

    def __init__(self, store: MemoryStore, partitions: int = 2) -> None:
        super().__init__(store, Limits(), partitions)
        self.commits: list[tuple[list[int], int]] = []
        self.error: Exception | None = None

    def commit(self, batches: Sequence[tuple[int, Batch]], taken: Sequence[bytes], now_ms: int) -> None:
        if self.error is not None:
            raise self.error
        super().commit(batches, taken, now_ms)
        self.commits.append(([number for number, _ in batches], len(taken)))


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def driven(carrier: Carrier, **bounds: int) -> Driven:
    return Driven(carrier, [QUICK, HANG, WAIT, NAP], FUNCTIONS, hanging=["hang"], **bounds)


def test_an_idle_loop_commits_nothing(store: MemoryStore) -> None:
    carrier = Watched(store)
    made = driven(carrier)
    made.settle()
    for _ in range(5):
        assert not made.loop.step()

    assert carrier.commits == []
    assert made.loop.idle


def test_an_answer_comes_after_the_commit_and_never_without_one(store: MemoryStore) -> None:
    carrier = Watched(store)
    made = driven(carrier)
    answers: list[tuple[Answer, int]] = []
    made.loop.submit(c.Start("r", "wait"), lambda answer: answers.append((answer, len(carrier.commits))))
    carrier.error = StoreFull("no room")
    with pytest.raises(StoreFull):
        made.loop.step()
    assert answers == []

    again = driven(Watched(store))
    assert again.status("r") == "", "nothing of it has happened"
    assert again.submit(c.Start("r", "wait")).outcome == "applied"


def test_all_that_has_come_goes_into_one_commit(store: MemoryStore) -> None:
    carrier = Watched(store)
    made = driven(carrier)
    append_jobs(store, [c.Start(f"j{number}", "wait") for number in range(10)])
    answers: list[Answer] = []
    for number in range(10):
        made.loop.submit(c.Start(f"r{number}", "wait"), answers.append)
    made.loop.step()

    assert carrier.commits[0] == ([0, 1], 10)
    assert [answer.outcome for answer in answers] == ["applied"] * 10


def test_a_step_takes_no_more_than_its_bound(store: MemoryStore) -> None:
    made = driven(Watched(store), batch_max=3)
    answers: list[Answer] = []
    for number in range(10):
        made.loop.submit(c.Start(f"r{number}", "wait"), answers.append)
    counts = []
    for _ in range(5):
        made.loop.step()
        counts.append(len(answers))

    assert counts == [3, 6, 9, 10, 10]


def test_executions_are_bounded_by_slots_and_work_by_the_backlog(store: MemoryStore) -> None:
    made = driven(Watched(store), slots=2, backlog_max=3)
    answers: list[Answer] = []
    for number in range(20):
        made.loop.submit(c.Start(f"r{number}", "hang"), answers.append)
    made.settle_busy()

    assert made.executor.in_progress == 2
    assert sum(partition.backlog for partition in made.loop.partitions.values()) <= 3
    assert len(answers) < 20, "who starts more has to wait"


def test_a_worker_that_is_full_can_still_be_told_to_cancel_and_then_goes_on(store: MemoryStore) -> None:
    made = driven(Watched(store), slots=2, backlog_max=3)
    started: list[Answer] = []
    for number in range(20):
        made.loop.submit(c.Start(f"r{number}", "hang"), started.append)
    made.settle_busy()
    hanging = [execution.run_id for execution in made.executor.live.values()]

    for run_id in hanging:
        assert made.submit(c.Cancel(run_id)).outcome == "applied"
    made.settle_busy()
    assert made.executor.in_progress == 2, "others have taken the slots"
    assert not set(hanging) & {execution.run_id for execution in made.executor.live.values()}

    for number in range(20):
        if f"r{number}" not in hanging:
            assert made.submit(c.Cancel(f"r{number}")).outcome in {"applied", "ignored"}
    made.settle()
    assert len(started) == 20, "and every start was answered in the end"


def test_what_was_said_to_a_run_does_not_overtake_its_start(store: MemoryStore) -> None:
    made = driven(Watched(store), slots=1, backlog_max=1)
    answers: dict[str, Answer] = {}
    for number in range(4):
        made.loop.submit(c.Start(f"h{number}", "hang"), lambda _: None)
    made.loop.submit(c.Start("r", "wait"), lambda answer: answers.update(start=answer))
    made.loop.submit(c.Signal("r", "e", b"1"), lambda answer: answers.update(signal=answer))
    made.settle_busy()
    assert answers == {}
    for number in range(4):
        made.submit(c.Cancel(f"h{number}"))
    made.settle()

    assert {name: answer.outcome for name, answer in answers.items()} == {"start": "applied", "signal": "applied"}
    assert getattr(result_of(store, "r"), "output", None) == 1


def test_what_has_merely_begun_waits_a_moment_for_its_outcome(store: MemoryStore) -> None:
    carrier = Watched(store)
    made = driven(carrier)
    made.submit(c.Start("r", "hang"))
    before = len(carrier.commits)
    made.loop.step()
    assert len(carrier.commits) == before
    made.now_ms += LINGER_MS
    made.loop.step()
    assert len(carrier.commits) == before + 1, "then its beginning is committed by itself"


def test_an_outcome_in_time_shares_the_commit_of_its_beginning(store: MemoryStore) -> None:
    carrier = Watched(store)
    made = driven(carrier)
    made.submit(c.Start("r", "quick", input=b"5"))
    made.settle()

    assert len(carrier.commits) == 2
    assert getattr(result_of(store, "r"), "output", None) == 5


def test_timers_fire_when_the_clock_says_so(store: MemoryStore) -> None:
    made = driven(Watched(store))
    made.submit(c.Start("r", "nap", input=b"7"))
    made.settle()
    made.advance(999)
    assert result_of(store, "r") is None
    made.advance(1)
    assert getattr(result_of(store, "r"), "output", None) == 7


def test_after_a_stop_nothing_new_is_taken_and_nothing_begins(store: MemoryStore) -> None:
    made = driven(Watched(store))
    made.submit(c.Start("r", "wait"))
    made.loop.stop()
    answers: list[Answer] = []
    made.loop.submit(c.Signal("r", "e"), answers.append)
    append_jobs(store, [c.Start("later", "quick")])
    made.loop.run()

    assert answers == []
    assert made.status("later") == ""
    successor = driven(Watched(store))
    successor.settle()
    assert successor.status("later") == "completed"
    assert successor.status("r") == "awaiting"


def test_a_stop_waits_for_what_runs_as_long_as_its_grace_says(store: MemoryStore) -> None:
    made = driven(Watched(store))
    made.submit(c.Start("r", "hang"))
    made.loop.step()
    assert made.executor.in_progress == 1
    made.loop.stop()
    asked: list[int] = []

    def grace() -> bool:
        asked.append(1)
        return len(asked) < 4

    made.loop.run(grace)
    assert len(asked) == 4
    assert len(driven(Watched(store)).loop.partitions) == 2


def test_questions_are_answered_between_steps_and_after_the_end(store: MemoryStore) -> None:
    made = driven(Watched(store))
    seen: list[str] = []
    made.loop.ask(lambda: seen.append("first"))
    made.loop.step()
    made.loop.ask(lambda: seen.append("second"))
    assert made.loop.answer()
    assert not made.loop.answer()

    assert seen == ["first", "second"]


def test_who_listens_to_commits_hears_them_until_he_stops_listening(store: MemoryStore) -> None:
    made = driven(Watched(store))
    heard: list[str] = []

    def listen(batch: Batch) -> None:
        heard.extend(batch.runs)

    made.loop.on_commit(listen)
    made.submit(c.Start("r1", "wait"))
    made.loop.off_commit(listen)
    made.submit(c.Start("r2", "wait"))

    assert set(heard) == {"r1"}


def test_the_time_of_a_worker_never_goes_back(store: MemoryStore) -> None:
    made = driven(Watched(store))
    made.submit(c.Start("r", "nap"))
    made.settle()
    made.now_ms = START_MS - 10_000
    made.loop.wake()
    made.settle()
    made.submit(c.Start("q", "quick"))
    made.settle()

    result = result_of(store, "q")
    assert result is not None
    assert result.started_at_ms == START_MS


def test_dead_letters_are_numbered_on_over_workers(store: MemoryStore) -> None:
    for number in range(2):
        made = driven(Watched(store))
        made.loop.partitions[0]._growing.dead_letters.append((c.Cancel(f"r{number}"), "a defect"))
        made.loop.wake()
        made.loop.commit_begun()

    assert len(list(store.scan(DEAD_LETTER))) == 2


class Trickling(InlineExecutor):
    """Gives one outcome at a time; *asked* counts how often somebody looked."""

    asked = 0

    def drain(self) -> list[tuple[int, Any]]:
        self.asked += 1
        return [self._done.popleft()] if self._done else []


def trickled(store: MemoryStore, gather_s: float, flow: str) -> tuple[Driven, Watched, Trickling]:
    carrier = Watched(store)
    carrier.gather_s = gather_s
    made = driven(carrier)
    made.loop._executor = executor = Trickling(FUNCTIONS, ["hang"])
    for number in range(8):
        made.loop.submit(c.Start(f"r{number}", flow))
    made.loop.step()
    assert executor.in_progress == 8
    carrier.commits.clear()
    return made, carrier, executor


def test_outcomes_that_come_one_after_the_other_share_a_commit_where_a_commit_is_dear(store: MemoryStore) -> None:
    made, carrier, _ = trickled(store, 0.01, "quick")
    made.loop.step()

    assert len(carrier.commits) == 1
    assert [made.status(f"r{number}") for number in range(8)] == ["completed"] * 8


def test_a_commit_does_not_wait_for_executions_of_which_none_ends(store: MemoryStore) -> None:
    made, carrier, executor = trickled(store, 60.0, "hang")
    executor.asked = 0
    made.loop.submit(c.Start("late", "wait"))
    made.loop.step()

    assert len(carrier.commits) == 1
    assert executor.asked == 2, "it looked once more, saw that nothing ended, and committed"


def test_without_a_reason_to_gather_every_outcome_is_committed_at_once(store: MemoryStore) -> None:
    made, carrier, _ = trickled(store, 0.0, "quick")
    made.loop.step()

    assert len(carrier.commits) == 1
    assert [made.status(f"r{number}") for number in range(8)].count("completed") == 1
