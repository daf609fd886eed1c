"""The loop of a worker whose commits may be undone and whose partitions come and go."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest
from tests.contract.driven import Driven, result_of
from tests.contract.job_logs import Countdown, JobLogs, LogCarrier, UnsteadyCarrier

from headrace import commands as c
from headrace.adapter import Answer
from headrace.batch import Batch
from headrace.blueprint import from_json
from headrace.execution import Succeeded
from headrace.limits import Limits
from headrace.state import RunState
from headrace_adapters.base import Job
from headrace_adapters.base.worker_loop import IDLE_MS, LINGER_MS
from headrace_adapters.local.layout import JOB
from headrace_adapters.memory import MemoryStore

QUICK = {"id": "quick", "nodes": [{"id": "a", "uses": "echo"}], "edges": []}
HANG = {"id": "hang", "nodes": [{"id": "a", "uses": "hang"}], "edges": []}
WAIT = {"id": "wait", "nodes": [{"id": "w", "uses": "wait", "params": {"event": "e"}}], "edges": []}
NAP = {"id": "nap", "nodes": [{"id": "s", "uses": "sleep", "params": {"duration": 1_000}}], "edges": []}
PARENT = {"id": "parent", "nodes": [{"id": "kid", "uses": "subflow", "params": {"blueprintId": "quick"}}], "edges": []}
FUNCTIONS: dict[str, Any] = {"echo": lambda ctx: ctx.input, "hang": lambda: None}
FLOWS = [QUICK, HANG, WAIT, NAP, PARENT]


class Watched(LogCarrier):
    """Notes what is committed, and how long the loop was willing to wait."""

    def __init__(self, store: MemoryStore, logs: JobLogs) -> None:
        self.undo = Countdown()
        super().__init__(store, logs, Limits(), self.undo)
        self.commits: list[int] = []
        self.waits: list[float] = []
        self.nothing = 0

    def poll(self, limit: int) -> Sequence[Job]:
        jobs = [*super().poll(limit), *[Job(None, b"J\x00\x00nothing", 0)] * self.nothing]
        self.nothing = 0
        return jobs

    def commit(self, batches: Sequence[tuple[int, Batch]], taken: Sequence[bytes], now_ms: int) -> None:
        super().commit(batches, taken, now_ms)
        self.commits.append(len(taken))

    def wait(self, wake: threading.Event, timeout_s: float, executing: int) -> None:
        self.waits.append(timeout_s)


class Owner:
    """A worker that has one partition of two, and its log."""

    def __init__(self, blueprints: Sequence[dict[str, Any]] = FLOWS) -> None:
        self.store = MemoryStore()
        self.logs = JobLogs(self.store, 2)
        self.carrier, self.made = self.another(blueprints)
        self.heard: list[str] = []
        self.replies: list[str] = []
        self.made.loop.on_commit(self._listen)
        for number in range(2):
            self.carrier.gain(number)
        self.made.settle()

    def another(self, blueprints: Sequence[dict[str, Any]] = FLOWS) -> tuple[Watched, Driven]:
        carrier = Watched(self.store, self.logs)
        return carrier, Driven(carrier, blueprints, FUNCTIONS, hanging=["hang"])

    def _listen(self, batch: Batch) -> None:
        self.heard += batch.runs
        self.replies += [reply.outcome for reply in batch.replies]

    def jobs(self, *commands: c.Command) -> None:
        self.logs.append(commands)


@pytest.fixture
def owner() -> Owner:
    return Owner()


def run_in(number: int, carrier: LogCarrier) -> str:
    """A run id that falls into this partition."""
    return next(f"r{n}" for n in range(100) if carrier.partition_of(f"r{n}") == number)


# Commits that are undone.


def test_nothing_is_told_of_a_commit_that_was_undone(owner: Owner) -> None:
    owner.carrier.undo.left = 1
    owner.jobs(c.Start("r", "wait", request_id="q"))
    owner.made.loop.step()
    assert (owner.heard, owner.replies, owner.carrier.commits) == ([], [], [])
    assert owner.made.status("r") == "", "nothing of it has happened"

    owner.made.settle()
    assert owner.replies == ["applied"], "the job was polled again"
    assert owner.made.status("r") == "awaiting"


def test_commands_of_clients_come_again_in_their_order_and_are_answered_once() -> None:
    store = MemoryStore()
    carrier = UnsteadyCarrier(store, Limits(), 2)
    made = Driven(carrier, FLOWS, FUNCTIONS, batch_max=2)
    made.settle()
    carrier.undo.left = 1
    answers: list[str] = []

    def answer(name: str) -> Any:
        return lambda given: answers.append(f"{name} {given.outcome}")

    made.loop.submit(c.Start("r", "wait"), answer("start"))
    made.loop.submit(c.Signal("r", "e", b"1"), answer("signal"))
    made.loop.submit(c.Start("r", "wait"), answer("again"))
    made.loop.step()
    assert answers == []
    made.settle()

    assert answers == ["start applied", "signal applied", "again duplicate"]
    assert getattr(result_of(store, "r"), "output", None) == 1


def test_a_worker_that_is_full_takes_what_was_undone_before_what_it_held_back() -> None:
    carrier = UnsteadyCarrier(MemoryStore(), Limits(), 2)
    made = Driven(carrier, FLOWS, FUNCTIONS, hanging=["hang"], slots=1, backlog_max=1)
    answers: list[str] = []
    made.loop.submit(c.Start("h", "hang"))
    made.loop.submit(c.Start("g", "hang"))
    made.settle_busy()
    made.loop.submit(c.Start("r", "wait"), lambda given: answers.append(f"start {given.outcome}"))
    made.loop.submit(c.Signal("r", "e", b"1"), lambda given: answers.append(f"signal {given.outcome}"))
    made.loop.submit(c.Cancel("h"), lambda given: answers.append(f"cancel {given.outcome}"))
    carrier.undo.left = 1
    made.settle_busy()
    assert answers == ["cancel applied"], "it is full, and who cancels passes"

    assert made.submit(c.Cancel("g")) == Answer("applied")
    made.settle_busy()
    assert answers == ["cancel applied", "start applied", "signal applied"]


def test_the_outcome_of_an_execution_from_before_the_undo_is_ignored(owner: Owner) -> None:
    owner.jobs(c.Start("r", "hang"))
    owner.made.settle()
    (before,) = owner.made.executor.live
    owner.carrier.undo.left = 1
    owner.jobs(c.Pause("r"))
    owner.made.loop.step()
    owner.made.settle()
    assert before not in owner.made.executor.live, "nobody wants it any more"

    owner.made.executor._done.append((before, Succeeded(b"1")))
    owner.made.settle()
    assert owner.made.status("r") == "paused"
    (again,) = owner.made.executor.live
    owner.made.executor.live.clear()
    owner.made.executor._done.append((again, Succeeded(b"2")))
    owner.made.settle()
    assert getattr(result_of(owner.store, "r"), "output", None) == 2


def test_what_began_is_not_lost_where_its_commit_is_undone(owner: Owner) -> None:
    owner.carrier.undo.left = 2
    owner.jobs(c.Start("r", "parent", input=b"5"))
    owner.made.settle()

    assert getattr(result_of(owner.store, "r"), "output", None) == 5
    assert not owner.logs, "what the runs told each other was taken"


def test_a_timer_that_fired_in_a_commit_that_was_undone_fires_again(owner: Owner) -> None:
    owner.jobs(c.Start("r", "nap", input=b"7"))
    owner.made.settle()
    owner.carrier.undo.left = 1
    owner.made.advance(1_000)

    assert getattr(result_of(owner.store, "r"), "output", None) == 7


# Partitions that come and go.


def test_what_was_decided_is_committed_before_a_partition_is_handed_over(owner: Owner) -> None:
    owner.jobs(c.Start(run_in(0, owner.carrier), "hang"))
    owner.made.loop.step()
    owner.made.loop.step()
    commits = len(owner.carrier.commits)
    assert owner.made.loop.partitions[0].growing, "its node has begun"

    owner.carrier.lose(0, gently=True)
    owner.made.loop.step()

    assert len(owner.carrier.commits) == commits + 1
    assert list(owner.made.loop.partitions) == [1]
    assert owner.made.executor.live == {}, "the next owner begins it again"


def test_jobs_of_a_partition_that_is_lost_are_the_next_owners(owner: Owner) -> None:
    run_id = run_in(0, owner.carrier)
    owner.jobs(c.Start(run_id, "hang"))
    owner.made.loop.step()
    assert owner.made.executor.live, "it has begun, and is not committed yet"
    owner.carrier.lose(0, gently=False)
    owner.jobs(c.Start(run_in(1, owner.carrier), "quick", request_id="q"))
    owner.made.settle()
    assert (owner.replies, owner.heard.count(run_id)) == (["applied"], 0)

    carrier, next_owner = owner.another()
    carrier.gain(0)
    next_owner.settle()
    assert next_owner.status(run_id) == "running"


def test_jobs_that_ask_for_nothing_are_not_passed_in_a_partition_that_is_lost(owner: Owner) -> None:
    owner.carrier.nothing = 1
    owner.made.loop.step()
    owner.carrier.lose(0, gently=False)
    owner.made.loop.step()
    owner.made.now_ms += LINGER_MS
    owner.made.settle()

    assert owner.carrier.commits == []


def test_jobs_polled_while_a_hand_over_was_undone_are_polled_again(owner: Owner) -> None:
    first, second = c.Start(run_in(0, owner.carrier), "wait"), c.Start(run_in(1, owner.carrier), "wait")
    owner.jobs(c.Start("h", "hang"))
    owner.made.loop.step()
    owner.made.loop.step()
    owner.carrier.undo.left = 1
    owner.carrier.lose(0, gently=True)
    owner.jobs(first, second)
    owner.made.loop.step()
    assert list(owner.made.loop.partitions) == [1]
    owner.made.settle()

    assert owner.made.status(second.run_id) == "awaiting"
    assert owner.heard.count(second.run_id) == len(set(owner.heard) & {second.run_id}), "it was taken once"
    carrier, next_owner = owner.another()
    carrier.gain(0)
    next_owner.settle()
    assert next_owner.status(first.run_id) == "awaiting"


def test_tokens_are_not_used_again_after_a_partition_came_back(owner: Owner) -> None:
    run_id = run_in(0, owner.carrier)
    owner.jobs(c.Start(run_id, "hang"))
    owner.made.settle()
    seen = {*owner.made.executor.live}
    for gently in (True, False, True):
        owner.carrier.lose(0, gently=gently)
        owner.made.loop.step()
        owner.carrier.gain(0)
        owner.made.settle()
        (token,) = owner.made.executor.live
        assert token not in seen
        seen.add(token)

    for token in sorted(seen)[:-1]:
        owner.made.executor._done.append((token, Succeeded(b"late")))
    owner.made.settle()
    assert owner.made.status(run_id) == "running", "only the last execution counts"


def test_an_outcome_for_a_partition_that_is_gone_is_passed_over(owner: Owner) -> None:
    owner.jobs(c.Start(run_in(0, owner.carrier), "hang"))
    owner.made.settle()
    (token,) = owner.made.executor.live
    owner.carrier.lose(0, gently=True)
    owner.made.loop.step()
    owner.made.executor._done.append((token, Succeeded(b"1")))
    commits = len(owner.carrier.commits)
    owner.made.settle()

    assert len(owner.carrier.commits) == commits


def test_a_partition_is_taken_over_once(owner: Owner) -> None:
    with pytest.raises(AssertionError, match="already"):
        owner.made.loop.take_over(0)


def test_after_a_partition_went_away_the_loop_does_not_look_for_what_it_had_begun(owner: Owner) -> None:
    owner.jobs(c.Start(run_in(0, owner.carrier), "hang"))
    owner.made.loop.step()
    owner.made.loop.step()
    owner.carrier.lose(0, gently=False)
    owner.made.loop.step()
    owner.made.now_ms += LINGER_MS
    owner.made.settle()

    waits = owner.made.loop._wait_s()
    assert waits > LINGER_MS / 1_000
    assert waits <= IDLE_MS / 1_000


def test_clients_hand_commands_to_the_log_where_partitions_come_and_go(owner: Owner) -> None:
    with pytest.raises(AssertionError, match="job log"):
        owner.made.loop.submit(c.Start("r", "quick"))


# Jobs that ask for nothing, and work that others have.


def test_a_job_that_asks_for_nothing_is_passed_after_a_moment(owner: Owner) -> None:
    owner.carrier.nothing = 2
    owner.made.loop.step()
    owner.made.loop.step()
    assert owner.carrier.commits == []

    owner.made.now_ms += LINGER_MS
    owner.made.loop.step()
    assert owner.carrier.commits == [2]


def test_a_job_that_asks_for_nothing_goes_with_the_next_commit(owner: Owner) -> None:
    owner.carrier.nothing = 1
    owner.made.loop.step()
    owner.jobs(c.Cancel("nobody"))
    owner.made.loop.step()

    assert owner.carrier.commits == [2]


@pytest.mark.parametrize("state", ["paused", "parked", "retrying", "sleeping"])
def test_the_job_of_a_node_begins_nothing_that_its_owner_does_not_begin_by_itself(state: str) -> None:
    retried = {"id": "again", "nodes": [{"id": "a", "uses": "fail", "config": {"maxRetries": 2, "retryDelay": 1_000}}]}
    lacking = {"id": "lacking", "nodes": [{"id": "a", "uses": "unknown"}], "edges": []}
    flows = {"paused": QUICK, "parked": lacking, "retrying": {**retried, "edges": []}, "sleeping": NAP}

    def fail() -> None:
        raise RuntimeError("no")

    store = MemoryStore()
    logs = JobLogs(store, 1)
    for begun in range(2):
        # The second worker takes over what the first one has left.
        carrier = Watched(store, logs)
        made = Driven(carrier, flows.values(), {**FUNCTIONS, "fail": fail})
        carrier.gain(0)
        if not begun:
            pause = [c.Pause("r")] if state == "paused" else []
            logs.append([c.Start("r", flows[state]["id"]), *pause])
        made.settle()
        run = made.run("r")
        assert isinstance(run, RunState)
        before = run.seq
        logs.append([c.RunNode("r", "f", "a"), c.RunNode("r", "f", "s"), c.RunNode("r", "f", "a", attempt=2)])
        made.settle()
        assert run.seq == before, "the jobs say nothing new"
        assert not list(store.scan(JOB)), "and are done"
    logs.append([c.Unpause("r")])
    made.advance(1_000)
    assert made.status("r") == {"parked": "parked", "retrying": "failed"}.get(state, "completed")


# Blueprints that come later.


def test_runs_that_were_parked_go_on_when_plans_have_changed_though_nothing_else_happens() -> None:
    owner = Owner([])
    owner.jobs(c.Start("r", "quick", input=b"5"))
    owner.made.settle()
    assert owner.made.status("r") == "parked"

    owner.made.plans.add(from_json(QUICK))
    owner.made.loop.plans_changed()
    owner.made.settle()

    assert getattr(result_of(owner.store, "r"), "output", None) == 5


def test_timers_that_were_held_fire_when_plans_have_changed() -> None:
    store = MemoryStore()
    made = Driven(UnsteadyCarrier(store, Limits(), 1), [NAP], FUNCTIONS)
    made.submit(c.Start("r", "nap", input=b"7"))
    made.settle()
    lacking = Driven(UnsteadyCarrier(store, Limits(), 1), [], FUNCTIONS, now_ms=made.now_ms)
    lacking.advance(1_000)
    assert lacking.status("r") == "running", "its owner does not know what to do with the timer"

    lacking.plans.add(from_json(NAP))
    lacking.loop.plans_changed()
    lacking.settle()

    assert getattr(result_of(store, "r"), "output", None) == 7


def test_parked_runs_and_jobs_are_taken_over_with_their_partition() -> None:
    owner = Owner([])
    owner.jobs(c.Start(run_in(0, owner.carrier), "quick", input=b"5"))
    owner.made.settle()
    owner.carrier.lose(0, gently=True)
    owner.made.settle()

    carrier, next_owner = owner.another()
    carrier.gain(0)
    next_owner.settle()
    assert getattr(result_of(owner.store, run_in(0, carrier)), "output", None) == 5
    assert not list(owner.store.scan(JOB))
