"""What a carrier owes the loop of a worker: atomic commits, a job log, and readers that give back what was written."""

from __future__ import annotations

from typing import Any

import pytest

from headrace import commands as c
from headrace.batch import Batch
from headrace.errors import RecordRefused
from headrace.events import Parent
from headrace.limits import Limits
from headrace.partition import Partition
from headrace.plans import Plans
from headrace.ports import Ended, TimerEntry
from headrace.state import RunState
from headrace.timers import LOAD_MAX, Timers
from headrace_adapters.base import Carrier
from headrace_adapters.local.carrier import LocalCarrier, append_jobs
from headrace_adapters.local.layout import DEAD_LETTER, JOB, Layout, number_key, timer_key
from headrace_adapters.memory import Crash, MemoryStore
from headrace_topics.dead_letters import decode_dead_letter
from tests.scenarios.backends import PARTITIONS, Backend
from tests.scenarios.world import assert_same, snapshot

from .driven import START_MS, Driven, history_of, result_of

DOUBLE = {
    "id": "double",
    "nodes": [{"id": "a", "uses": "double"}, {"id": "b", "uses": "double"}],
    "edges": [{"source": "a", "target": "b"}],
}
SCATTER = {"workerUsesKey": "picky", "onItemError": "collect", "gatherNodeId": "g"}
# A part of each kind: a batch, a loop, a child, kept signals, resume keys, errors, timers.
RICH: list[dict[str, Any]] = [
    {
        "id": "rich",
        "nodes": [
            {"id": "ask", "uses": "wait", "params": {"event": "e", "timeout": 60_000}},
            {"id": "asked", "uses": "wait"},
            {"id": "go", "uses": "double"},
            {"id": "c", "uses": "loop-controller", "params": {"condition": "input < 100", "maxIterations": 9}},
            {"id": "body", "uses": "double"},
            {"id": "hold", "uses": "wait"},
            {"id": "kid", "uses": "subflow", "params": {"blueprintId": "child"}},
            {"id": "list", "uses": "listed"},
            {
                "id": "s",
                "uses": "batch-scatter",
                "params": {"workerUsesKey": "picky", "onItemError": "collect", "gatherNodeId": "g"},
            },
            {"id": "g", "uses": "batch-gather"},
            {"id": "bad", "uses": "fail", "config": {"maxRetries": 3, "retryDelay": 1_000}},
            {"id": "saved", "uses": "fail", "config": {"fallback": "mend"}},
            {"id": "mend", "uses": "double"},
        ],
        "edges": [
            {"source": "go", "target": "c"},
            {"source": "c", "target": "body", "action": "continue"},
            {"source": "body", "target": "hold"},
            {"source": "hold", "target": "c"},
            {"source": "list", "target": "s"},
            {"source": "s", "target": "g"},
        ],
    },
    {"id": "child", "nodes": [{"id": "w", "uses": "wait", "params": {"event": "never"}}], "edges": []},
]


def fail() -> None:
    raise RuntimeError("no")


def picky(ctx: Any) -> Any:
    ctx.append("seen", ctx.input)
    if ctx.input == 1:
        raise RuntimeError("one is refused")
    return {"item": ctx.input}


FUNCTIONS = {"double": lambda ctx: (ctx.input or 1) * 2, "listed": lambda: [0, 1, 2], "picky": picky, "fail": fail}


def stored(carrier: Carrier, run_id: str) -> RunState | Ended | None:
    return carrier.reader(carrier.partition_of(run_id)).load(run_id)


# Readers.


def test_every_part_of_a_run_comes_back_as_it_was(backend: Backend) -> None:
    carrier = backend.carrier()
    driven = Driven(carrier, RICH, FUNCTIONS)
    driven.submit(c.Start("r", "rich", None, b'{"deep":[1.5,null,"\xc3\xa9"]}', {"k": b"[]", "\x00": b'"nul"'}))
    driven.settle()
    driven.submit(c.Signal("r", "kept", b'{"n":1}'))
    driven.submit(c.Signal("r", "kept", b"2"))
    driven.submit(c.Resume("r", "asked", "yes", b"7", "key-1"))
    driven.submit(c.Resume("r", "hold", None, b"3", "key-2"))
    driven.submit(c.Pause("r", "a while"))
    driven.settle()

    live = driven.run("r")
    assert isinstance(live, RunState)
    assert {part[0] for part in snapshot(live)["parts"]} == {"r", "i", "n", "m", "k", "s"}
    read = stored(carrier, "r")
    assert isinstance(read, RunState)
    assert_same(snapshot(read), snapshot(live), "what is read == what is decided")
    child = stored(carrier, "r/kid")
    assert isinstance(child, RunState)
    assert child.parent == Parent("r", "kid", 0, 1, 1)

    backend.die()
    reopened = stored(backend.carrier(), "r")
    assert isinstance(reopened, RunState)
    assert_same(snapshot(reopened), snapshot(live), "what is read later == what was decided")


def test_a_run_that_has_ended_leaves_its_result_its_history_and_a_marker(backend: Backend) -> None:
    driven = Driven(backend.carrier(), [*RICH, DOUBLE], FUNCTIONS)
    driven.submit(c.Start("r", "rich"))
    driven.settle()
    driven.submit(c.Cancel("r"))
    driven.submit(c.Start("d", "double", input=b"5"))
    driven.settle()

    result = result_of(backend.store, "d")
    assert result is not None
    assert result.output == 20
    assert history_of(backend.store, "d")[-1] == "RunCompleted"
    marker = stored(driven.carrier, "r")
    assert isinstance(marker, Ended)
    assert (marker.status, marker.until_ms) == ("cancelled", START_MS + Limits().dedup_window_ms)
    left = {key[:1] for key, _ in backend.store.scan(b"")}
    assert left == {b"H", b"T", b"E", b"R", b"M"}, "no part, no index, no timer but those of the markers"


def test_a_run_id_that_begins_another_one_is_another_run(backend: Backend) -> None:
    ids = ["r", "r/", "r,", 'r","n', "r\x00", "r\uffff", "R", "r1", "r10", "[", '["r"']
    driven = Driven(backend.carrier(), [{"id": "w", "nodes": [{"id": "w", "uses": "wait"}], "edges": []}], {})
    for number, run_id in enumerate(ids):
        driven.submit(c.Start(run_id, "w", context={"n": str(number).encode()}))
    driven.submit(c.Cancel("r"))
    driven.settle()

    for number, run_id in enumerate(ids[1:], 1):
        run = stored(driven.carrier, run_id)
        assert isinstance(run, RunState)
        assert run.context == {"n": str(number).encode()}
        assert history_of(backend.store, run_id) == [
            "RunStarted",
            "NodeScheduled",
            "NodeStarted",
            "WaitOpened",
            "RunAwaiting",
        ]


def test_active_and_parked_runs_are_found(backend: Backend) -> None:
    hanging = {"id": "hang", "nodes": [{"id": "h", "uses": "hang"}], "edges": []}
    driven = Driven(backend.carrier(), [hanging, *RICH], {**FUNCTIONS, "hang": fail}, hanging=["hang"])
    driven.submit(c.Start("active", "hang"))
    driven.submit(c.Start("waiting", "child"))
    driven.submit(c.Start("parked", "nobody has it"))
    driven.settle()

    readers = [driven.carrier.reader(number) for number in range(driven.carrier.partitions)]
    assert [run_id for reader in readers for run_id in reader.active_runs()] == ["active"]
    assert [run_id for reader in readers for run_id in reader.parked_runs()] == ["parked"]


# Timers.


def timers_of(driven: Driven, run_id: str, after_ms: int, until_ms: int, limit: int = 100) -> list[TimerEntry]:
    return driven.carrier.reader(driven.carrier.partition_of(run_id)).timers(after_ms, until_ms, limit)


def test_timers_are_read_by_due_time_within_bounds(backend: Backend) -> None:
    sleeps = {
        "id": "sleeps",
        "nodes": [{"id": str(ms), "uses": "sleep", "params": {"duration": ms}} for ms in (300, 100, 200, 90_000)],
        "edges": [],
    }
    driven = Driven(backend.carrier(), [sleeps], {})
    driven.submit(c.Start("r", "sleeps"))
    driven.settle()

    def due(after_ms: int, until_ms: int, limit: int = 100) -> list[str]:
        return [entry.node_id for entry in timers_of(driven, "r", START_MS + after_ms, START_MS + until_ms, limit)]

    assert due(-1, 100_000) == ["100", "200", "300", "90000"]
    assert due(100, 300) == ["200", "300"], "after is excluded, until is included"
    assert due(0, 100_000, 2) == ["100", "200"]
    driven.advance(250)
    assert due(-1, 100_000) == ["300", "90000"], "those that have fired are gone"


def test_more_timers_than_one_read_gives_come_though_all_are_due_at_the_same_time(backend: Backend) -> None:
    """The index is read a page at a time, by due time; a page that is full of one due time must not end it."""
    carrier = backend.carrier()
    prefix = Layout(0).timer
    due = [(START_MS + 1, LOAD_MAX + 300), (START_MS + 2, 5), (START_MS + 3, LOAD_MAX)]
    entries = [TimerEntry(due_ms, "r", "n", item) for due_ms, number in due for item in range(number)]
    backend.store.write([(timer_key(prefix, entry), b"") for entry in entries])
    timers = Timers(carrier.reader(0))

    def fire(now_ms: int) -> list[TimerEntry]:
        return list(iter(lambda: timers.due(now_ms), None))

    assert fire(START_MS) == []
    assert sorted(fire(START_MS + 1)) == entries[: LOAD_MAX + 300]
    assert sorted(fire(START_MS + 10)) == entries[LOAD_MAX + 300 :]
    assert fire(START_MS + 1_000_000) == []


# The job log.


def test_jobs_come_in_order_once_and_are_gone_when_they_are_taken(backend: Backend) -> None:
    commands: list[c.Command] = [c.Start("r", "f", input=b"1"), c.Signal("r", "e"), c.Cancel("r", "x")]
    append_jobs(backend.store, commands[:2])
    append_jobs(backend.store, commands[2:])
    carrier = backend.carrier()

    first = carrier.poll(2)
    rest = carrier.poll(10)

    assert [job.command for job in (*first, *rest)] == commands
    assert carrier.poll(10) == [], "what was polled does not come again"

    carrier.commit([], [job.position for job in first], 0)
    backend.die()
    assert [job.command for job in backend.carrier().poll(10)] == commands[2:], "what was not taken does"


def test_jobs_that_come_after_all_others_were_taken_are_seen(backend: Backend) -> None:
    for number in range(3):
        carrier = backend.carrier()
        append_jobs(backend.store, [c.Cancel(f"r{number}")])
        (job,) = carrier.poll(10)
        assert job.command.run_id == f"r{number}"
        carrier.commit([], [job.position], 0)
        backend.die()


def test_a_job_that_cannot_be_read_becomes_a_dead_letter_with_the_reason_and_the_others_go_on(backend: Backend) -> None:
    append_jobs(backend.store, [c.Start("r1", "double", input=b"1")])
    bad = [
        b"\xff\xfe",
        b"{}",
        b'{"type":"start"}',
        b'{"type":"start","runId":5,"blueprintId":"f"}',
        b'{"type":"dance","runId":"r"}',
    ]
    backend.store.write([(number_key(JOB, 1 + number), record) for number, record in enumerate(bad)])
    append_jobs(backend.store, [c.Start("r2", "double", input=b"2")])

    driven = Driven(backend.carrier(), [DOUBLE], FUNCTIONS)
    driven.settle()

    assert [getattr(result_of(backend.store, run_id), "output", None) for run_id in ("r1", "r2")] == [4, 8]
    letters = [decode_dead_letter(record) for _, record in backend.store.scan(DEAD_LETTER)]
    assert [letter.record for letter in letters] == bad
    for letter, part in zip(letters, ["not UTF-8", "'type'", "'runId'", "'runId'.*number", "'type'.*'dance'"], strict=True):
        with pytest.raises(RecordRefused, match=part):
            raise RecordRefused(letter.reason)
    assert list(backend.store.scan(JOB)) == [], "and it does not come again"


# Commits are atomic. Faults are injected into memory; a real disk is killed by the tests with processes.


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_at_any_write_leaves_all_of_a_commit_or_nothing(when: str) -> None:
    """The run is driven to its end with a crash at each of its writes in turn; what was recorded is the same always."""
    whole = _run_with_a_crash(0, when)
    writes = whole.pop("writes")
    assert writes >= 3
    for number in range(1, writes + 1):
        crashed = _run_with_a_crash(number, when)
        crashed.pop("writes")
        assert crashed == whole, f"crash {when} write {number}"


def _run_with_a_crash(number: int, when: str) -> dict[str, Any]:
    store = MemoryStore()
    seen: set[str] = set()

    def open_worker() -> Driven:
        return Driven(LocalCarrier(store, Limits(), 1), [DOUBLE], {"double": double})

    def double(ctx: Any) -> int:
        seen.add(ctx.idempotency_key)
        ctx.append("by", ctx.node_id)
        return ctx.input * 2

    driven = open_worker()
    setattr(store.faults, when, number)
    started = False
    for _ in range(200):
        try:
            if not started:
                assert driven.submit(c.Start("r", "double", input=b"1")).outcome in {"applied", "duplicate"}
                started = True
            driven.settle()
            if result_of(store, "r") is not None:
                break
        except Crash:
            driven = open_worker()
    result = result_of(store, "r")
    assert result is not None
    history = history_of(store, "r")
    return {
        "writes": driven.loop.commits,
        "output": result.output,
        "context": result.context,
        "keys": sorted(seen),
        "effects": [name for name in history if name in {"RunStarted", "NodeCompleted", "ContextChanged", "RunCompleted"}],
    }


def test_a_commit_that_fails_has_written_nothing() -> None:
    store = MemoryStore()
    carrier = LocalCarrier(store, Limits(), PARTITIONS)
    before = dict(store.scan(b""))
    driven = Driven(carrier, [DOUBLE], FUNCTIONS)
    store.faults.before = 1

    with pytest.raises(Crash):
        driven.submit(c.Start("r", "double", input=b"1"))

    assert dict(store.scan(b"")) == before


def test_one_commit_holds_the_batches_of_all_partitions_and_what_was_taken(backend: Backend) -> None:
    append_jobs(backend.store, [c.Start(f"r{number}", "child") for number in range(20)])
    carrier = backend.carrier()
    driven = Driven(carrier, RICH, FUNCTIONS)

    driven.settle()

    assert {carrier.partition_of(f"r{number}") for number in range(20)} == set(range(PARTITIONS))
    assert driven.loop.commits == 2, "all starts in one, all waits in another"
    assert list(backend.store.scan(JOB)) == []
    assert {driven.status(f"r{number}") for number in range(20)} == {"awaiting"}


def test_an_empty_batch_with_jobs_taken_is_a_commit_too(backend: Backend) -> None:
    append_jobs(backend.store, [c.RunNode("gone", "", "a")])
    driven = Driven(backend.carrier(), [], {})
    driven.settle()

    assert list(backend.store.scan(JOB)) == [], "a job that changes nothing is done"
    backend.carrier().commit([(0, Batch())], [], 0)


# Partitions.


def test_the_number_of_partitions_is_fixed_when_the_store_is_first_used(backend: Backend) -> None:
    first = LocalCarrier(backend.store, Limits(), 7)
    again = LocalCarrier(backend.store, Limits(), 2)

    assert (first.partitions, again.partitions) == (7, 7)
    assert [first.partition_of(f"r{number}") for number in range(50)] == [
        again.partition_of(f"r{number}") for number in range(50)
    ]
    assert {first.partition_of(f"r{number}") for number in range(200)} == set(range(7))


def test_a_partition_reads_nothing_of_another_one(backend: Backend) -> None:
    carrier = LocalCarrier(backend.store, Limits(), 300)
    driven = Driven(carrier, RICH, FUNCTIONS)
    ids = [f"r{number}" for number in range(50)]
    for run_id in ids:
        driven.submit(c.Start(run_id, "child"))
    driven.settle()

    owners = {run_id: carrier.partition_of(run_id) for run_id in ids}
    heads = {number: {run_id for run_id, _ in carrier.reader(number).heads()} for number in range(300)}

    assert heads == {number: {run_id for run_id in ids if owners[run_id] == number} for number in range(300)}
    assert Partition(0, carrier.reader(0), Plans({}), Limits(), iter(())).run(next(r for r in ids if owners[r])) is None
