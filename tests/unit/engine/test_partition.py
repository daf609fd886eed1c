"""The vocabulary of a partition, driven by hand: what comes out when, and what an abort takes back."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from headrace import commands as c
from headrace.apply import rebuild
from headrace.batch import Batch
from headrace.blueprint import from_json
from headrace.events import Holder
from headrace.execution import Failed, Succeeded
from headrace.limits import Limits
from headrace.partition import Partition
from headrace.plans import Plans
from headrace.ports import Ended, TimerEntry
from headrace.state import RunState
from headrace_topics.names import split_key
from headrace_topics.state_records import decode_head, decode_part, encode_marker, encode_part, run_parts

NOW = 1_700_000_000_000
CHAIN = {
    "id": "chain",
    "nodes": [{"id": "a", "uses": "f"}, {"id": "b", "uses": "f"}],
    "edges": [{"source": "a", "target": "b"}],
}
AHEAD = {
    "id": "ahead",
    "nodes": [{"id": "a", "uses": "f"}, {"id": "b", "uses": "f", "config": {"runAhead": True}}],
    "edges": [{"source": "a", "target": "b"}],
}
LATE = {
    "id": "late",
    "nodes": [{"id": "a", "uses": "f", "config": {"timeout": 50, "maxRetries": 2, "retryDelay": 10}}],
    "edges": [],
}
WAIT = {"id": "wait", "nodes": [{"id": "w", "uses": "wait", "params": {"timeout": 100}}], "edges": []}
PARENT = {"id": "parent", "nodes": [{"id": "kid", "uses": "subflow", "params": {"blueprintId": "chain"}}], "edges": []}


class Records:
    """The committed state, as the records that a driver writes for each batch."""

    def __init__(self) -> None:
        self.heads: dict[str, bytes] = {}
        self.parts: dict[str, dict[tuple[str, ...], bytes]] = {}
        self.contexts: dict[str, dict[str, bytes]] = {}

    def write(self, batch: Batch) -> None:
        for run_id, change in batch.runs.items():
            state = change.state
            if state.ended:
                ended = Ended(run_id, state.ended, change.events[-1][0] + Limits().dedup_window_ms, state.parent)
                self.heads[run_id] = encode_marker(ended, state.blueprint_id, state.version, 0, 0)
                self.parts.pop(run_id, None)
                continue
            head = encode_part(state, ("r",))
            assert head is not None
            self.heads[run_id] = head
            encoded = {part: encode_part(state, part) for part in run_parts(state)}
            self.parts[run_id] = {part: record for part, record in encoded.items() if record is not None and part != ("r",)}
            self.contexts[run_id] = dict(state.context)
        for ended in batch.expired:
            del self.heads[ended.run_id]

    def load(self, run_id: str) -> RunState | Ended | None:
        if run_id not in self.heads:
            return None
        run = decode_head(run_id, self.heads[run_id])
        if isinstance(run, RunState):
            for part, record in self.parts[run_id].items():
                decode_part(run, list(part), record)
            run.context.update(self.contexts[run_id])
            rebuild(run)
        return run

    def _live(self) -> list[RunState]:
        found = [self.load(run_id) for run_id in self.heads]
        return [run for run in found if isinstance(run, RunState)]

    def active_runs(self) -> list[str]:
        return [run.run_id for run in self._live() if run.active]

    def parked_runs(self) -> list[str]:
        return [run.run_id for run in self._live() if run.parked]

    def timers(self, after_ms: int, until_ms: int, limit: int) -> list[TimerEntry]:
        entries = [
            TimerEntry(node.due_ms, run.run_id, node_id, -1)
            for run in self._live()
            for node_id, node in run.nodes.items()
            if node.due_ms is not None and after_ms < node.due_ms <= until_ms
        ]
        for run_id in self.heads:
            run = self.load(run_id)
            if isinstance(run, Ended) and after_ms < run.until_ms <= until_ms:
                entries.append(TimerEntry(run.until_ms, run_id, "", -1))
        return sorted(entries)[:limit]


class Driver:
    """A partition with the records beneath it."""

    def __init__(self, records: Records | None = None, implementations: tuple[str, ...] = ("f",)) -> None:
        self.records = records or Records()
        self.plans = Plans(implementations)
        for blueprint in (CHAIN, AHEAD, LATE, WAIT, PARENT):
            self.plans.add(from_json(blueprint))
        self.partition = Partition(0, self.records, self.plans, Limits(), count(1))
        self.partition.open()
        self.partition.advance(NOW)

    def commit(self) -> Batch:
        batch = self.partition.take()
        assert batch is not None, "there was nothing to commit"
        self.records.write(batch)
        self.partition.committed()
        return batch

    def start(self, flow: str, run_id: str = "r", **more: Any) -> None:
        self.partition.receive(c.Start(run_id, flow, request_id="q", **more), NOW)

    def status(self, run_id: str = "r") -> str:
        run = self.partition.run(run_id)
        return "" if run is None else run.status


@pytest.fixture
def driver() -> Driver:
    return Driver()


def test_nothing_happens_without_a_command(driver: Driver) -> None:
    assert driver.partition.idle
    assert driver.partition.take() is None
    assert driver.partition.begin(10, NOW) == []
    assert driver.partition.next_due_ms() > NOW


def test_work_may_begin_once_what_it_depends_on_is_committed(driver: Driver) -> None:
    partition = driver.partition
    driver.start("chain", input=b"5")
    assert partition.begin(10, NOW) == [], "the start is not durable yet"
    batch = driver.commit()
    assert batch.ready == [("r", "a", -1)]
    assert [reply.outcome for reply in batch.replies] == ["applied"]

    (execution,) = partition.begin(10, NOW)
    assert (execution.run_id, execution.node_id, execution.input, execution.attempt) == ("r", "a", b"5", 1)
    partition.finished(execution.token, Succeeded(b"6"), NOW)
    assert partition.begin(10, NOW) == [], "the result is not durable yet"
    driver.commit()
    (second,) = partition.begin(10, NOW)
    assert (second.node_id, second.input) == ("b", b"6")
    partition.finished(second.token, Succeeded(b"7"), NOW)
    assert driver.status() == "completed"
    driver.commit()
    assert partition.idle
    assert isinstance(partition.run("r"), Ended)


def test_a_node_that_runs_ahead_does_not_wait_for_the_commit(driver: Driver) -> None:
    driver.start("ahead")
    driver.commit()
    (first,) = driver.partition.begin(10, NOW)
    driver.partition.finished(first.token, Succeeded(b"1"), NOW)

    (second,) = driver.partition.begin(10, NOW)
    assert second.node_id == "b"
    batch = driver.commit()
    assert ("r", "b", -1) in batch.ready, "its job is written all the same"
    assert driver.partition.begin(10, NOW) == [], "and recognised"


def test_no_more_begins_than_is_asked_for_in_the_order_of_becoming_ready(driver: Driver) -> None:
    for number in range(5):
        driver.start("chain", f"r{number}")
    driver.commit()
    assert driver.partition.backlog == 5
    first = driver.partition.begin(2, NOW)
    rest = driver.partition.begin(10, NOW)

    assert [execution.run_id for execution in (*first, *rest)] == [f"r{number}" for number in range(5)]
    assert driver.partition.executing == 5


def test_an_outcome_counts_once_and_only_while_it_is_wanted(driver: Driver) -> None:
    driver.start("chain")
    driver.commit()
    (execution,) = driver.partition.begin(1, NOW)
    driver.partition.finished(execution.token, Succeeded(b"1"), NOW)
    driver.commit()
    driver.partition.finished(execution.token, Succeeded(b"2"), NOW)
    driver.partition.finished(999, Succeeded(b"3"), NOW)
    assert driver.partition.take() is None

    (second,) = driver.partition.begin(1, NOW)
    assert second.input == b"1"
    driver.partition.receive(c.Cancel("r"), NOW)
    batch = driver.commit()
    assert batch.cancels == [second.token]
    driver.partition.finished(second.token, Succeeded(b"4"), NOW)
    assert driver.partition.take() is None


def test_while_one_batch_is_under_way_the_next_one_grows(driver: Driver) -> None:
    partition = driver.partition
    driver.start("wait")
    driver.commit()
    partition.begin(1, NOW)
    first = partition.take()
    assert first is not None
    partition.receive(c.Pause("r"), NOW)
    with pytest.raises(AssertionError, match="under way"):
        partition.take()
    partition.committed()
    second = partition.take()

    assert second is not None
    assert [type(event).__name__ for _, events in second.runs["r"].events for event in events] == ["RunPaused"]
    assert second.runs["r"].first_seq == first.runs["r"].first_seq + 4


def test_after_an_abort_nothing_since_the_last_commit_has_happened(driver: Driver) -> None:
    partition = driver.partition
    driver.start("chain")
    driver.commit()
    (execution,) = partition.begin(1, NOW)
    partition.finished(execution.token, Succeeded(b"1"), NOW)
    partition.receive(c.Start("other", "chain"), NOW)
    (later,) = [batch for batch in [partition.take()] if batch]
    assert set(later.runs) == {"r", "other"}
    partition.receive(c.Pause("r"), NOW)

    assert partition.aborted() == []
    assert driver.status() == "running"
    assert driver.status("other") == ""
    (again,) = partition.begin(10, NOW)
    assert (again.node_id, again.attempt) == ("a", 1)
    assert again.token != execution.token
    assert again.idempotency_key == execution.idempotency_key
    partition.finished(again.token, Succeeded(b"1"), NOW)
    driver.commit()


def test_an_abort_names_the_executions_that_are_no_longer_wanted(driver: Driver) -> None:
    driver.start("chain")
    driver.commit()
    (execution,) = driver.partition.begin(1, NOW)

    assert driver.partition.aborted() == [execution.token]
    driver.partition.finished(execution.token, Succeeded(b"1"), NOW)
    assert driver.partition.take() is None


@pytest.mark.parametrize("take", [False, True])
@pytest.mark.parametrize("end", [Partition.aborted, Partition.close])
def test_an_execution_whose_cancellation_was_not_told_is_no_longer_wanted_either(
    driver: Driver, end: Callable[[Partition], list[int]], *, take: bool
) -> None:
    driver.start("chain")
    driver.commit()
    (execution,) = driver.partition.begin(1, NOW)
    driver.commit()
    driver.partition.receive(c.Cancel("r"), NOW)
    if take:
        assert driver.partition.take() is not None

    assert end(driver.partition) == [execution.token]


def test_the_next_owner_takes_up_what_ran_and_what_was_scheduled(driver: Driver) -> None:
    for run_id in ("runs", "scheduled", "waits"):
        driver.start("wait" if run_id == "waits" else "chain", run_id)
    driver.commit()
    driver.partition.begin(1, NOW)
    driver.commit()
    driver.partition.begin(10, NOW)

    successor = Driver(driver.records)
    begun = successor.partition.begin(10, NOW)

    assert sorted(execution.run_id for execution in begun) == ["runs", "scheduled"]
    assert {execution.attempt for execution in begun} == {1}, "an attempt that a crash cut short does not count"


def test_a_time_limit_ends_an_attempt_and_its_execution_is_no_longer_wanted(driver: Driver) -> None:
    partition = driver.partition
    driver.start("late")
    driver.commit()
    (execution,) = partition.begin(1, NOW)
    assert partition.next_due_ms() == NOW + 50
    partition.advance(NOW + 49)
    assert driver.commit().cancels == []
    partition.advance(NOW + 50)
    batch = driver.commit()
    assert batch.cancels == [execution.token]
    partition.finished(execution.token, Succeeded(b"too late"), NOW + 51)
    assert partition.take() is None

    assert partition.next_due_ms() == NOW + 60, "the next attempt"
    partition.advance(NOW + 60)
    driver.commit()
    (second,) = partition.begin(1, NOW + 60)
    assert second.attempt == 2
    partition.finished(second.token, Failed("no"), NOW + 61)
    assert driver.status() == "failed"


def test_a_marker_is_forgotten_when_its_time_is_over(driver: Driver) -> None:
    driver.start("wait")
    driver.partition.receive(c.Cancel("r"), NOW)
    driver.commit()
    end = NOW + Limits().dedup_window_ms
    driver.partition.advance(end - 1)
    driver.partition.receive(c.Start("r", "wait", request_id="q"), end - 1)
    assert [reply.outcome for reply in driver.commit().replies] == ["duplicate"]

    driver.partition.advance(end)
    assert [ended.run_id for ended in driver.commit().expired] == ["r"]
    driver.partition.receive(c.Start("r", "wait", request_id="q"), end)
    assert [reply.outcome for reply in driver.commit().replies] == ["applied"]


def test_what_runs_say_to_each_other_can_be_delivered_within_the_batch(driver: Driver) -> None:
    partition = driver.partition
    driver.start("parent")
    driver.commit()
    assert partition.begin(10, NOW) == []
    (start,) = partition.published()
    assert isinstance(start, c.Start)
    assert start.run_id == "r/kid"
    assert partition.published() == [], "it is taken out"
    partition.receive(start, NOW)
    partition.receive(start, NOW)
    assert driver.status("r/kid") == "running"
    batch = driver.commit()
    assert set(batch.runs) == {"r", "r/kid"}
    assert batch.publish == []


def test_a_run_is_parked_for_what_is_lacking_and_goes_on_when_it_comes(driver: Driver) -> None:
    lacking = Driver(implementations=())
    lacking.start("chain")
    lacking.commit()
    assert lacking.status() == "parked"
    lacking.partition.plans_changed(NOW)
    assert lacking.partition.take() is None, "nothing has changed"

    owner = Driver(lacking.records)
    owner.partition.plans_changed(NOW)
    owner.commit()
    assert owner.status() == "running"
    assert [execution.node_id for execution in owner.partition.begin(1, NOW)] == ["a"]


def test_a_command_for_nobody_is_answered_and_recorded_and_those_of_families_are_not(driver: Driver) -> None:
    driver.partition.receive(c.Cancel("nobody", request_id="q"), NOW)
    batch = driver.commit()
    assert [reply.outcome for reply in batch.replies] == ["unknown"]
    assert [(rejection.run_id, rejection.command) for rejection in batch.rejections] == [("nobody", "cancel")]

    for command in (
        c.RunNode("nobody", "", "a"),
        c.ChildNews("nobody", "k", "n", False, ()),
        c.ChildEnd("nobody", "k", "n", "completed", b"1", {}, ""),
        c.ResumeApplied("nobody", "k"),
        c.ResumeIgnored("nobody", "k", 1),
    ):
        driver.partition.receive(command, NOW)
    assert driver.partition.take() is None


def test_whoever_holds_a_key_hears_that_nothing_could_be_decided_about_its_resume(driver: Driver) -> None:
    driver.records.heads["r"] = b"no head"
    holders = (Holder("up", 3), Holder("middle", 7))
    driver.partition.receive(c.Resume("r", "w", key="k", request_id="q", holders=holders), NOW)
    batch = driver.commit()

    assert [reply.outcome for reply in batch.replies] == ["refused"]
    assert batch.publish == [c.ResumeIgnored("up", "k", 3), c.ResumeIgnored("middle", "k", 7)]


def test_the_job_of_a_node_that_is_delivered_again_changes_nothing(driver: Driver) -> None:
    driver.start("chain")
    driver.commit()
    job = c.RunNode("r", "chain", "a")
    driver.partition.receive(job, NOW)
    driver.partition.receive(job, NOW)
    begun = driver.partition.begin(10, NOW)
    assert len(begun) == 1
    driver.commit()
    driver.partition.receive(job, NOW)
    assert driver.partition.begin(10, NOW) == []
    assert split_key(b'["r","n","a"]') == ["r", "n", "a"]
