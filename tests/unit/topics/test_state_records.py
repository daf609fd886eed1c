"""A run's state survives its parts, whatever the order in which a store gives them back."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.apply import rebuild
from headrace.errors import RecordRefused
from headrace.events import Holder, Parent
from headrace.ports import Ended
from headrace.state import OPEN, BatchState, ChildState, Claim, EdgeOut, LoopState, NodeState, RunError, RunState
from headrace.values import NULL, encode, join_array
from headrace_topics.names import coordination_key, run_prefix, split_key
from headrace_topics.state_records import decode_head, decode_part, encode_marker, encode_part, run_parts

GOLDEN = Path(__file__).parents[2] / "golden" / "state-v1.jsonl"

TEXTS = st.sampled_from(["", "\x00", '"\\', "\u2028", "ключ", "\U0001f600", "a/b", "n" * 300]) | st.text(max_size=12)
NAMES = TEXTS.filter(bool)
WHOLE_NUMBERS = st.sampled_from([0, 1, 2, 1_700_000_000_000]) | st.integers(0, 100_000)
JSON = st.sampled_from([NULL, b'""', b"[]", b"{}", b"-0.0", b"1.0", join_array([b"[" * 254 + b"]" * 254])]) | (
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
        max_leaves=6,
    ).map(encode)
)
DECIDED = ["completed", "failed", "skipped", "poisoned", "cancelled"]
STATUSES = st.sampled_from([*sorted(OPEN), "looping", "scattering", *DECIDED])
WAITS = st.lists(st.tuples(TEXTS, st.none() | TEXTS), max_size=3).map(tuple)
PARENTS = st.builds(
    Parent, NAMES, NAMES, WHOLE_NUMBERS, WHOLE_NUMBERS, WHOLE_NUMBERS, st.lists(TEXTS, max_size=2).map(tuple)
)
EDGES_OUT = st.dictionaries(
    st.integers(0, 9), st.builds(EdgeOut, st.sampled_from(["taken", "dead", "failed"]), TEXTS, NAMES, st.none() | JSON)
)


@st.composite
def loops(draw: st.DrawFn) -> LoopState:
    loop = LoopState()
    loop.iteration, loop.activation = draw(WHOLE_NUMBERS), draw(WHOLE_NUMBERS)
    return loop


@st.composite
def children(draw: st.DrawFn) -> ChildState:
    child = ChildState(draw(NAMES))
    child.awaiting, child.waits = draw(st.booleans()), draw(WAITS)
    return child


@st.composite
def batches(draw: st.DrawFn) -> BatchState:
    batch = BatchState()
    batch.items = draw(st.lists(nodes(within_a_batch=True), max_size=12))
    batch.next, batch.open, batch.failed = draw(WHOLE_NUMBERS), draw(WHOLE_NUMBERS), draw(st.integers(-1, 11))
    return batch


@st.composite
def nodes(draw: st.DrawFn, *, within_a_batch: bool = False) -> NodeState:
    node = NodeState()
    node.status = draw(STATUSES)
    node.activation, node.attempt = draw(WHOLE_NUMBERS), draw(WHOLE_NUMBERS)
    node.edges = draw(st.lists(st.integers(0, 9), max_size=3).map(tuple))
    for name in ("input", "output", "error", "prepared"):
        setattr(node, name, draw(st.none() | JSON))
    for name in ("action", "event", "fallback"):
        setattr(node, name, draw(st.none() | TEXTS))
    node.due_ms = draw(st.none() | WHOLE_NUMBERS)
    node.message = draw(st.none() | st.tuples(TEXTS, TEXTS))
    if not within_a_batch:
        node.out = draw(st.none() | EDGES_OUT)
        node.loop = draw(st.none() | loops())
        node.child = draw(st.none() | children())
        node.batch = draw(st.none() | batches())
    return node


@st.composite
def states(draw: st.DrawFn) -> RunState:
    state = RunState(draw(NAMES))
    state.seq, state.started_at_ms = draw(WHOLE_NUMBERS), draw(WHOLE_NUMBERS)
    state.blueprint_id, state.version, state.parked = draw(TEXTS), draw(TEXTS), draw(TEXTS)
    state.awaiting, state.paused = draw(st.booleans()), draw(st.booleans())
    state.input = draw(JSON)
    state.parent = draw(st.none() | PARENTS)
    state.errors = draw(st.lists(st.builds(RunError, TEXTS, TEXTS, TEXTS, TEXTS), max_size=2))
    state.nodes = draw(st.dictionaries(NAMES, nodes(), max_size=4))
    for number, node in enumerate(state.nodes.values()):
        # An edge is decided once, so one node holds it.
        node.out = None if node.out is None else {number * 10 + edge: out for edge, out in node.out.items()}
    state.keys = draw(st.sets(TEXTS, max_size=3))
    holders = st.lists(st.builds(Holder, NAMES, WHOLE_NUMBERS), max_size=2).map(tuple)
    claims = draw(st.dictionaries(TEXTS, st.builds(Claim, WHOLE_NUMBERS, holders), max_size=3))
    state.claims = {key: claim for key, claim in claims.items() if key not in state.keys}
    state.signals = draw(st.dictionaries(st.integers(1, 200), st.tuples(TEXTS, JSON), max_size=3))
    state.signals_seq = draw(WHOLE_NUMBERS)
    rebuild(state)
    return state


def records_of(state: RunState) -> dict[bytes, bytes]:
    prefix = run_prefix(state.run_id)
    records = {}
    for part in run_parts(state):
        record = encode_part(state, part)
        assert record is not None
        records[coordination_key(prefix, part)] = record
    return records


def read(records: dict[bytes, bytes], order: list[bytes]) -> RunState:
    (run_id,) = {split_key(key)[0] for key in records}
    state = decode_head(run_id, records[coordination_key(run_prefix(run_id), ("r",))])
    assert isinstance(state, RunState)
    for key in order:
        part = split_key(key)[1:]
        if part != ["r"]:
            decode_part(state, part, records[key])
    rebuild(state)
    return state


def picture(thing: Any) -> Any:
    """All that a state holds, to be compared; only what is not written is left out."""
    if isinstance(thing, dict):
        return {key: picture(value) for key, value in thing.items()} or None
    if isinstance(thing, list):
        return [picture(value) for value in thing]
    if hasattr(thing, "__slots__") and not isinstance(thing, tuple | str | bytes | int):
        names = set(thing.__slots__) - {"changed", "indexed", "token", "context"}
        return {name: picture(getattr(thing, name)) for name in names}
    return thing


@given(states(), st.randoms(use_true_random=False))
def test_a_state_survives_its_parts_in_any_order(state: RunState, random: Any) -> None:
    records = records_of(state)
    order = list(records)
    random.shuffle(order)

    back = read(records, order)

    assert picture(back) == picture(state)
    assert records_of(back) == records


@given(states())
def test_a_state_survives_the_order_of_a_store_that_sorts_by_bytes(state: RunState) -> None:
    records = records_of(state)

    assert records_of(read(records, sorted(records))) == records


@pytest.mark.parametrize("name", ["input", "output", "error", "prepared"])
@pytest.mark.parametrize("value", [None, NULL, b'"null"'])
def test_no_value_is_told_from_null(name: str, value: bytes | None) -> None:
    state = RunState("r1")
    node = state.nodes["a"] = NodeState()
    node.status = "running"
    setattr(node, name, value)

    records = records_of(state)

    assert getattr(read(records, list(records)).nodes["a"], name) == value


@pytest.mark.parametrize("value", [None, NULL])
def test_an_edge_without_a_value_is_told_from_one_with_null(value: bytes | None) -> None:
    state = RunState("r1")
    node = state.nodes["a"] = NodeState()
    node.out = {0: EdgeOut("taken", "a", "b", value)}

    records = records_of(state)

    assert read(records, list(records)).nodes["a"].out == node.out


def test_the_sequence_number_is_the_highest_of_the_parts() -> None:
    """A step writes what it changed, so most parts are older than the run."""
    state = RunState("r1")
    state.nodes["a"], state.nodes["b"] = NodeState(), NodeState()
    state.seq = 4
    records = records_of(state)
    state.seq = 9
    part = ("n", "a")
    record = encode_part(state, part)
    assert record is not None
    records[coordination_key(run_prefix("r1"), part)] = record

    assert read(records, list(records)).seq == 9


def test_kept_signals_come_back_in_the_order_in_which_they_came() -> None:
    state = RunState("r1")
    state.signals = {number: ("paid", str(number).encode()) for number in range(1, 121)}
    records = records_of(state)

    assert list(read(records, sorted(records)).signals) == list(range(1, 121))


@pytest.mark.parametrize("part", [("n", "gone"), ("m", "gone", "0"), ("m", "plain", "0"), ("k", "gone"), ("s", "7")])
def test_a_part_that_is_gone_has_no_record(part: tuple[str, ...]) -> None:
    state = RunState("r1")
    state.nodes["plain"] = NodeState()

    assert encode_part(state, part) is None


@given(NAMES, st.sampled_from(["completed", "failed", "cancelled"]), WHOLE_NUMBERS, st.none() | PARENTS)
def test_a_dedup_marker_survives_its_record(run_id: str, status: str, until_ms: int, parent: Parent | None) -> None:
    marker = Ended(run_id, status, until_ms, parent)

    assert decode_head(run_id, encode_marker(marker, "order", "1", 5, 6)) == marker


def sample() -> RunState:
    state = RunState("r1")
    state.seq, state.started_at_ms = 41, 1_700_000_000_000
    state.blueprint_id, state.version = "order", "1"
    state.input = b'{"id":7}'
    state.parent = Parent("r0", "child", 3, 2, 1, ("total",))
    state.awaiting, state.paused, state.parked, state.signals_seq = True, True, "no blueprint", 2
    state.errors = [RunError("a", "NODE_ERROR", "no"), RunError("b", "POISONED", "not executed", "a")]
    state.keys, state.claims = {"key-1"}, {"key-2": Claim(40, (Holder("r0", 3),))}
    state.signals = {2: ("paid", NULL)}
    done = state.nodes["done"] = NodeState()
    done.status, done.attempt, done.edges, done.output = "completed", 1, (0,), b'{"paid":true}'
    done.out = {1: EdgeOut("taken", "done", "größe", None), 2: EdgeOut("dead", "done", "x", None)}
    full = state.nodes["größe"] = NodeState()
    full.status, full.attempt, full.activation, full.edges = "retrying", 3, 12, (1, 4)
    full.input, full.output, full.error, full.prepared = NULL, NULL, b'{"node":"a"}', b"[1,[]]"
    full.action, full.event, full.fallback = "ok", "paid", "by-hand"
    full.due_ms, full.message = 1_700_000_002_000, ("NODE_ERROR", "no money")
    full.out = {5: EdgeOut("taken", "done", "y", NULL)}
    full.loop, full.child, full.batch = LoopState(), ChildState("r1/child"), BatchState()
    full.loop.iteration, full.loop.activation = 2, 38
    full.child.awaiting, full.child.waits = True, (("approval", None), ("inner/wait", "paid"))
    item = NodeState()
    item.status, item.attempt, item.input = "running", 1, b'"x"'
    full.batch.items = [item]
    full.batch.next, full.batch.open, full.batch.failed = 1, 1, -1
    return state


def test_the_format_of_version_1_does_not_change() -> None:
    """Another format is another version, with a file of its own, and its reader reads this one too."""
    marker = encode_marker(Ended("r1", "failed", 9, Parent("r0", "n", 0, 1, 1)), "order", "1", 5, 6)
    records = records_of(sample())

    assert [*records.values(), marker] == GOLDEN.read_bytes().splitlines()
    assert picture(read(records, list(records))) == picture(with_derived(sample()))


def with_derived(state: RunState) -> RunState:
    rebuild(state)
    return state


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (b"", "expected a JSON object"),
        (b"[]", "found a list"),
        (b"{}", "field 'v'"),
        (b'{"v":2}', "has version 2 and this Headrace reads up to 1"),
        (b'{"v":1,"seq":3}', "not the head of run 'r1'"),
        (b'{"v":1,"ended":"failed"}', "not the head of run 'r1'"),
    ],
)
def test_what_is_no_head_is_refused(record: bytes, expected: str) -> None:
    with pytest.raises(RecordRefused) as refused:
        decode_head("r1", record)

    assert expected in str(refused.value)


@pytest.mark.parametrize(
    ("part", "record", "expected"),
    [
        (["n", "a"], b"{", "expected a JSON object"),
        (["n", "a"], b'{"status":"running"}', "field 'seq'"),
        (["n", "a"], b'{"seq":1}', "not the part ['n', 'a'] of run 'r1'"),
        (["m", "a", "x"], b'{"seq":1,"status":"running"}', "not the part"),
        (["s", "1"], b'{"seq":1}', "not the part"),
        (["z"], b'{"seq":1}', "a record of kind 'z'"),
        ([], b'{"seq":1}', "not the part"),
    ],
)
def test_what_is_no_part_is_refused(part: list[str], record: bytes, expected: str) -> None:
    with pytest.raises(RecordRefused) as refused:
        decode_part(RunState("r1"), part, record)

    assert expected in str(refused.value)


@given(st.data())
def test_a_damaged_part_is_read_or_refused_and_nothing_else(data: st.DataObject) -> None:
    key, record = data.draw(st.sampled_from(list(records_of(sample()).items())))
    parsed = orjson.loads(record)
    parsed[data.draw(st.sampled_from(list(parsed)))] = data.draw(
        st.none() | st.booleans() | st.text(max_size=3) | st.lists(st.integers(0, 3), max_size=3)
    )

    with contextlib.suppress(RecordRefused):
        if split_key(key)[1:] == ["r"]:
            decode_head("r1", orjson.dumps(parsed))
        else:
            decode_part(RunState("r1"), split_key(key)[1:], orjson.dumps(parsed))
