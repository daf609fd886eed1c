"""One batch as records: which topic, which key, in which order, and what fits a record."""

from __future__ import annotations

import time
from itertools import count
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.contract.driven import Driven
from tests.kafka.recorded_carrier import HOUR_MS, Log, RecordedCarrier, layout_of

from headrace import commands as c
from headrace import events as e
from headrace.events import Parent
from headrace.limits import Limits
from headrace.ports import Ended
from headrace_adapters.kafka import outgoing
from headrace_adapters.kafka.outgoing import BatchRecords, cut_events, fitting_job, fitting_result
from headrace_adapters.memory import MemoryStore
from headrace_topics.events_record import decode_events, encode_events
from headrace_topics.jobs_record import decode_command
from headrace_topics.names import OFFSET_KEY, split_key
from headrace_topics.results_record import decode_result

FLOWS: list[dict[str, Any]] = [
    {
        "id": "f",
        "nodes": [{"id": "r", "uses": "write"}, {"id": "ask", "uses": "wait", "params": {"event": "e"}}],
        "edges": [{"source": "r", "target": "ask"}],
    },
    {"id": "quick", "nodes": [{"id": "r", "uses": "echo"}], "edges": []},
    {"id": "parent", "nodes": [{"id": "kid", "uses": "subflow", "params": {"blueprintId": "quick"}}], "edges": []},
]
RUN_IDS = ["plain", 'quo"te', "back\\slash", "tür/🚪", "line\nbreak", '["r","r"]', "\x00\x1f", "x" * 1_024]


class World:
    """A worker whose records can be looked at."""

    def __init__(self) -> None:
        limits = Limits(dedup_window_ms=HOUR_MS)
        self.carrier = RecordedCarrier(MemoryStore(), limits, layout_of(1))
        functions = {"write": self._write, "echo": lambda ctx: ctx.input}
        self.driven = Driven(self.carrier, FLOWS, functions, limits=limits)

    @staticmethod
    def _write(ctx: Any) -> str:
        ctx.set("r", 1)
        ctx.set('k"\\', 2)
        return "written"

    def says(self, *commands: c.Command) -> None:
        for command in commands:
            self.carrier.say(command)
        self.driven.loop.wake()
        self.driven.settle()

    def log(self, name: str) -> Log:
        return self.carrier.logs[f"app.{name}", 0]

    def last(self, name: str) -> dict[bytes | None, bytes | None]:
        """The last record of each key."""
        return dict(self.log(name))


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("run_id", RUN_IDS)
def test_records_of_a_run_have_its_id_in_their_keys_whatever_it_is(world: World, run_id: str) -> None:
    world.says(c.Start(run_id, "f", input=b'"in"'))

    keys = [split_key(key) for key, _ in world.log("coordination-changelog") if key and key != OFFSET_KEY]
    assert {key[0] for key in keys} == {run_id}
    assert {tuple(key[1:]) for key in keys} == {("r",), ("i",), ("n", "r"), ("n", "ask")}
    assert {tuple(split_key(key or b"")) for key, _ in world.log("context-changelog")} == {(run_id, "r"), (run_id, 'k"\\')}
    assert {key for key, _ in world.log("events")} == {run_id.encode()}
    assert {key for key, _ in world.log("jobs")} == {run_id.encode()}
    assert world.log("results") == []

    world.says(c.Signal(run_id, "e"))

    assert [key for key, _ in world.log("results")] == [run_id.encode()]
    left = {key: value for key, value in world.last("coordination-changelog").items() if value is not None}
    assert set(left) == {OFFSET_KEY, orjson.dumps([run_id, "r"])}, "the dedup marker is all that is left"
    assert set(world.last("context-changelog").values()) == {None}
    result = decode_result(world.last("results")[run_id.encode()] or b"")
    assert (result.run_id, result.status) == (run_id, "completed")


def test_a_node_that_is_called_like_the_head_is_none(world: World) -> None:
    world.says(c.Start("run", "f"))
    records = world.last("coordination-changelog")

    assert orjson.loads(records[b'["run","r"]'] or b"")["blueprintId"] == "f"
    assert orjson.loads(records[b'["run","n","r"]'] or b"")["status"] == "completed"


def test_each_batch_tells_the_offset_of_the_next_job_first(world: World) -> None:
    world.says(c.Start("run", "f"))
    world.says(c.Signal("run", "e"))
    log = world.log("coordination-changelog")

    assert log[0] == (OFFSET_KEY, b'{"next":1}')
    assert world.last("coordination-changelog")[OFFSET_KEY] == b'{"next":%d}' % len(world.log("jobs"))


def test_work_that_is_scheduled_is_a_job_on_the_partition_of_its_run(world: World) -> None:
    world.says(c.Start("run", "f"))
    jobs = [decode_command(value or b"", value_bytes_max=1_000) for _, value in world.log("jobs")]

    assert jobs[1:] == [c.RunNode("run", "f", "r", -1, 0, 1), c.RunNode("run", "f", "ask", -1, 0, 1)]


def test_what_runs_tell_other_runs_goes_through_their_jobs(world: World) -> None:
    world.says(c.Start("run", "parent", input=b"5"))
    jobs = [decode_command(value or b"", value_bytes_max=1_000) for _, value in world.log("jobs")]
    child = next(command for command in jobs if isinstance(command, c.Start) and command.parent is not None)
    end = next(command for command in jobs if isinstance(command, c.ChildEnd))

    assert (child.blueprint_id, child.run_id) == ("quick", "run/kid")
    assert (end.run_id, end.child_id, end.status) == ("run", "run/kid", "completed")
    assert {key for key, _ in world.log("results")} == {b"run", b"run/kid"}


def test_a_rejection_is_told_in_the_history_alone(world: World) -> None:
    world.says(c.Cancel("nobody"))

    ((key, value),) = world.log("events")
    assert key == b"nobody"
    assert orjson.loads(value or b"")["rejected"]["command"] == "cancel"
    assert [key for key, _ in world.log("coordination-changelog")] == [OFFSET_KEY]


def test_a_marker_that_has_served_its_time_leaves_tombstones_for_head_and_result(world: World) -> None:
    world.says(c.Start("run", "quick"))
    world.driven.advance(HOUR_MS)

    assert world.log("coordination-changelog")[-1] == (b'["run","r"]', None)
    assert world.log("results")[-1] == (b"run", None)
    assert [key for key, _ in world.carrier.store.scan(b"") if key[:1] != b"M"] == []


def test_a_run_that_is_forgotten_and_begins_anew_in_one_batch_is_not_deleted(world: World) -> None:
    """The records of what is new must not have a tombstone behind them."""
    partition = world.driven.loop.partitions[0]
    partition.receive(c.Start("run", "f", input=b'"second"'), world.driven.now_ms)
    batch = partition.take()
    assert batch is not None
    batch.expired = [Ended("run", "completed", 7, None), Ended("gone", "completed", 7, None)]

    world.carrier.commit([(0, batch)], [], world.driven.now_ms)

    head = world.last("coordination-changelog")[b'["run","r"]']
    assert head is not None
    assert "ended" not in orjson.loads(head)
    assert world.carrier.store.get(b'H\x00\x00["run",') == head
    assert world.last("coordination-changelog")[b'["gone","r"]'] is None


def test_forgetting_thousands_of_runs_beside_much_else_takes_no_time() -> None:
    """Looking for each in all that is written took seconds for some thousands."""
    world = World()
    world.says(*(c.Start(f"q{number}", "quick") for number in range(1_500)))
    ended = [world.driven.run(f"q{number}") for number in range(1_500)]
    partition = world.driven.loop.partitions[0]
    for number in range(1_500):
        partition.receive(c.Start(f"new{number}", "f"), world.driven.now_ms)
    grown = partition.take()
    assert grown is not None
    grown.expired = [run for run in ended if isinstance(run, Ended)] * 4
    records = BatchRecords(world.carrier.layout, count(), HOUR_MS)

    begun_s = time.process_time()
    records.add(0, grown, 1)

    assert time.process_time() - begun_s < 2
    assert sum(record.value is None for record in records.records) == 12_000


# Events that are cut.

TEXTS = st.text(max_size=40)
JSON = st.recursive(
    st.none() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
EVENT = st.one_of(
    st.tuples(TEXTS, JSON.map(orjson.dumps)).map(lambda it: e.NodeCompleted(it[0], -1, it[1], None)),
    TEXTS.map(e.RunPaused),
    st.just(e.RunAwaiting()),
)
DECISIONS = st.lists(st.tuples(st.integers(0, 10**13), st.lists(EVENT, min_size=1, max_size=6)), min_size=1, max_size=6)


@given(DECISIONS, st.integers(1, 10**9), st.integers(1, 400))
def test_events_that_are_cut_are_the_same_events(
    decisions: list[tuple[int, list[e.Event]]], first_seq: int, bytes_max: int
) -> None:
    whole = encode_events('r"\\ü', first_seq, decisions)
    before = outgoing.EVENTS_BYTES_MAX
    outgoing.EVENTS_BYTES_MAX = bytes_max
    try:
        parts = list(cut_events(whole))
    finally:
        outgoing.EVENTS_BYTES_MAX = before

    assert [event for part in parts for event in decode_events(part)] == list(decode_events(whole))
    assert {orjson.loads(part)["runId"] for part in parts} == {'r"\\ü'}
    for part in parts:
        events = [event for decision in orjson.loads(part)["decisions"] for event in decision["events"]]
        assert len(events) == 1 or len(b"".join(orjson.dumps(event) for event in events)) <= bytes_max
        assert events, "no part is empty"


def test_a_batch_with_much_to_tell_becomes_several_records(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "EVENTS_BYTES_MAX", 200)
    world.says(c.Start("run", "f", input=b'"%s"' % (b"x" * 300)))
    world.says(c.Signal("run", "e"))

    seqs = [seq for _, record in world.log("events") for seq, _, _ in decode_events(record or b"")]
    assert seqs == list(range(1, len(seqs) + 1))
    assert len(world.log("events")) > 4


def test_an_event_that_no_record_can_hold_names_what_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many context values of one node are one event. The state does not depend on it, and a partition must not stop."""
    monkeypatch.setattr(outgoing, "VALUE_BYTES_MAX", 100_000)
    operations = tuple(("set", f"k{number}", b'"%s"' % (b"x" * 9_000)) for number in range(20))
    events = [e.RunPaused("before"), e.ContextChanged("n", operations), e.RunUnpaused()]  # type: ignore[arg-type]
    whole = encode_events("r", 7, [(5, events)])
    assert len(whole) > 100_000

    parts = [orjson.loads(part) for part in cut_events(whole)]

    told = [event for part in parts for decision in part["decisions"] for event in decision["events"]]
    assert [event["type"] for event in told] == ["runPaused", "contextChanged", "runUnpaused"]
    assert told[1] == {"type": "contextChanged", "node": "n", "omitted": ["operations"]}
    assert parts[0]["seq"] == 7


# What fits a record.


def result(context: int, output: int) -> bytes:
    errors = [{"nodeId": "n", "code": "NODE_ERROR", "message": "m"}]
    data = {"v": 1, "runId": "r", "context": {"k": "x" * context}, "output": "x" * output, "errors": errors}
    return orjson.dumps(data)


@pytest.mark.parametrize(
    ("context", "output", "left_out"),
    [(10, 10, []), (5_000, 10, ["context"]), (10, 5_000, ["context", "output"]), (5_000, 5_000, ["context", "output"])],
)
def test_a_result_that_no_record_can_hold_says_what_it_leaves_out(
    monkeypatch: pytest.MonkeyPatch, context: int, output: int, left_out: list[str]
) -> None:
    monkeypatch.setattr(outgoing, "VALUE_BYTES_MAX", 2_000)
    whole = result(context, output)

    record = fitting_result(whole)

    assert len(record) <= 2_000
    data = orjson.loads(record)
    assert [name for name in ("context", "output") if data[name] in ({}, None)] == left_out
    errors = data["errors"][1:]
    assert [error["code"] for error in errors] == ["RESULT_TOO_LARGE"] * len(left_out)
    assert all(name in error["message"] for name, error in zip(left_out, errors, strict=True))
    assert (record is whole) == (not left_out)


def test_a_child_whose_start_no_record_can_hold_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "VALUE_BYTES_MAX", 1_000)
    parent = Parent("p", "kid", 0, 1, 1, ("out",))
    small, record = fitting_job(c.Start("p/kid", "f", input=b"1", parent=parent))
    assert isinstance(small, c.Start)
    assert decode_command(record, value_bytes_max=10) == small

    command, record = fitting_job(c.Start("p/kid", "f", input=b'"%s"' % (b"x" * 1_000), parent=parent))

    assert isinstance(command, c.ChildEnd)
    assert (command.run_id, command.child_id, command.node_id, command.status) == ("p", "p/kid", "kid", "failed")
    assert "pass the address of large data" in command.error
    assert decode_command(record, value_bytes_max=10) == command


def test_a_child_whose_end_no_record_can_hold_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "VALUE_BYTES_MAX", 1_000)
    large = b'"%s"' % (b"x" * 1_000)
    for output, values in ((large, {}), (b"1", {"out": large})):
        command, record = fitting_job(c.ChildEnd("p", "p/kid", "kid", "completed", output, values, ""))
        assert isinstance(command, c.ChildEnd)
        assert command.status == "failed"
        assert "at most 1000" in command.error
        assert len(record) <= 1_000
