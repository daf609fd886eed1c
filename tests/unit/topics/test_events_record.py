"""Events survive their records, every type with every field, and the format is what it was."""

from __future__ import annotations

import contextlib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace import events as e
from headrace.batch import Rejection
from headrace.errors import RecordRefused
from headrace.execution import Operation
from headrace.values import NULL, encode, join_array, join_object
from headrace_topics.camel import camel
from headrace_topics.events_record import (
    EVENT_NAMES,
    decode_events,
    encode_events,
    encode_rejection,
    event_to_json,
    parent_from_json,
    parent_to_json,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "events-v1.jsonl"

ODD_TEXTS = ["", "\x00", '"\\', "\u2028", "ключ", "日本", "\U0001f600", "e\u0301", "\ufeff", "n" * 300]
TEXTS = st.sampled_from(ODD_TEXTS) | st.text(max_size=20)
WHOLE_NUMBERS = st.sampled_from([-1, 0, 1, 2, 1_700_000_000_000, 2**63 - 1, -(2**63)]) | st.integers(-5, 100_000)
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
).map(encode)


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


# What the engine makes of values that are as deep as the codec goes: the input of a join, the outputs of a batch.
DEEP = encode(nested(254))
DEEPER = join_array([NULL, join_object([("a", DEEP), ("b", join_array([])), ('"', join_object([]))]), DEEP])
JSON = st.sampled_from([NULL, b'""', b"[]", b"{}", b"0", b"-0.0", b"1.0", DEEPER]) | VALUES


def strategy_of(hint: Any) -> st.SearchStrategy[Any]:
    """Anything that a field of this type may hold, so that a new field or event is covered as soon as it exists."""
    arguments = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if origin in {types.UnionType, typing.Union}:
        return st.one_of(*(strategy_of(argument) for argument in arguments))
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(strategy_of(arguments[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*(strategy_of(argument) for argument in arguments))
    if origin is Mapping:
        return st.dictionaries(strategy_of(arguments[0]), strategy_of(arguments[1]), max_size=3)
    if isinstance(hint, type) and hasattr(hint, "_fields"):
        hints = typing.get_type_hints(hint)
        return st.builds(hint, *(strategy_of(hints[name]) for name in hint._fields))
    return {bytes: JSON, str: TEXTS, int: WHOLE_NUMBERS, bool: st.booleans(), types.NoneType: st.none()}[hint]


EVENTS = st.one_of(*(strategy_of(cls) for cls in e.EVENT_TYPES))

PARENT = e.Parent("r0", "child", 3, 2, 1, ("total", "größe"))

SAMPLES: list[e.Event] = [
    e.RunStarted("order", "1", b'{"id":7}', {"who": b'"ada"', "none": NULL}, PARENT, 1_700_000_000_000),
    e.RunStarted("order", "", NULL, {}, None, 0),
    e.RunParked("no blueprint"),
    e.RunUnparked("2"),
    e.RunAwaiting(),
    e.RunResumed(),
    e.RunPaused("lunch"),
    e.RunUnpaused(),
    e.RunCompleted(b'{"paid":true}'),
    e.RunFailed(),
    e.RunFailed("too many nodes"),
    e.RunFailed("too large", "STATE_TOO_LARGE"),
    e.RunCancelled(""),
    e.RunDuplicate(),
    e.CommandIgnored("resume", "approval", "the node does not wait"),
    e.NodeScheduled("charge", -1, 0, 1, (0,), None),
    e.NodeScheduled("pack", 4, 12, 2, (3, 1), NULL),
    e.NodeStarted("charge", -1, 1),
    e.NodeStarted("pack", 0, 3),
    e.NodeCompleted("charge", -1, NULL, None),
    e.NodeCompleted("pack", 4, b"[1,2.5]", "done"),
    e.NodeFailed("charge", -1, 1, "NODE_ERROR", "no money", None, ("reserve",)),
    e.NodeFailed("charge", -1, 3, "TIMEOUT", "too late", "by-hand"),
    e.NodeRetrying("charge", 2, 2, 1_700_000_002_000, "NODE_ERROR", "no money", NULL),
    e.NodeSkipped("ship"),
    e.NodePoisoned("ship", "charge", True),
    e.NodeCancelled("ship", -1, ""),
    e.NodeCancelled("ship", 0, "charge"),
    e.NodeFallback("charge", "by-hand", b'{"node":"charge","message":"no money","attempt":3}'),
    e.EdgeTaken(0, "charge", "ship", "by-hand", None),
    e.EdgeTaken(1, "charge", "ship", "charge", NULL),
    e.EdgeDead(2, "charge", "refuse", "charge"),
    e.EdgeFailed(3, "charge", "ship", "charge"),
    e.ActionUnheard("charge", ""),
    e.JoinFired("ship", (0, 2)),
    e.TimerSet("nap", -1, 1_700_000_005_000),
    e.TimerFired("nap", -1, 1_700_000_005_000),
    e.WaitOpened("approval", None),
    e.WaitOpened("approval", "approved"),
    e.SignalReceived("approved", NULL, False),
    e.SignalTaken(1, "approval"),
    e.WaitResumed("approval", None),
    e.WaitResumed("approval", "key-1"),
    e.ResumeForwarded("key-1"),
    e.ChildStarted("child", "r1/child"),
    e.ChildChanged("child", True, (("approval", None), ("inner/wait", "paid"))),
    e.ChildEnded("child", "r1/child", "completed"),
    e.LoopIteration(
        "loop",
        2,
        41,
        b"3",
        ("a", "b"),
        (e.Kept(5, "taken", "a", "x", None), e.Kept(6, "taken", "a", "y", NULL), e.Kept(7, "dead", "b", "z", None)),
    ),
    e.LoopEnded("loop", 2, NULL),
    e.BatchStarted("scatter", (b"1", NULL, b'{"a":[]}')),
    e.BatchFinished("scatter"),
    e.BatchFinished("scatter", 0),
    e.ContextChanged(
        "charge",
        (
            Operation("set", "a", NULL),
            Operation("delete", "b"),
            Operation("increment", "c", b"1"),
            Operation("append", "d", b'"x"'),
        ),
    ),
    e.ResumeClaimed("child", "key-1"),
    e.ResumeClaimed("child", "key-1", (e.Holder("r0", 3), e.Holder("größe", 12))),
    e.ResumeReleased("key-1"),
]


def record_of(event: e.Event) -> bytes:
    return encode_events("r1", 7, [(1_700_000_000_000, [event])])


def read(record: bytes) -> e.Event:
    ((_, _, event),) = decode_events(record)
    return event


def test_the_samples_hold_every_type_of_event() -> None:
    assert {type(event) for event in SAMPLES} == set(e.EVENT_TYPES) == set(EVENT_NAMES.values())


def test_the_format_of_version_1_does_not_change() -> None:
    """Another format is another version, with a file of its own, and its reader reads this one too."""
    lines = GOLDEN.read_bytes().splitlines()

    assert [record_of(event) for event in SAMPLES] == lines
    assert [read(line) for line in lines] == SAMPLES


@given(EVENTS)
@settings(max_examples=200)
def test_an_event_survives_its_record(event: e.Event) -> None:
    back = read(record_of(event))

    assert type(back) is type(event)
    assert back == event


@pytest.mark.parametrize("cls", e.EVENT_TYPES)
def test_every_type_of_event_survives_its_record(cls: type[e.Event]) -> None:
    @given(strategy_of(cls))
    @settings(max_examples=15)
    def survives(event: e.Event) -> None:
        assert read(record_of(event)) == event

    survives()


@given(EVENTS)
def test_the_fast_writers_write_the_common_format(event: e.Event) -> None:
    written = orjson.dumps(event_to_json(event))

    assert record_of(event) == (
        b'{"v":1,"runId":"r1","seq":7,"decisions":[{"at":1700000000000,"events":[' + written + b"]}]}"
    )


@pytest.mark.parametrize("value", [None, NULL, b'"null"', b"[null]"])
@pytest.mark.parametrize(
    "event",
    [
        e.NodeScheduled("a", -1, 0, 1, (), None),
        e.EdgeTaken(0, "a", "b", "a", None),
        e.NodeRetrying("a", -1, 1, 0, "", "", None),
    ],
    ids=lambda event: type(event).__name__,
)
def test_no_value_is_told_from_null(event: Any, value: bytes | None) -> None:
    field = next(name for name in ("input", "value", "prepared") if name in event._fields)
    event = event._replace(**{field: value})

    assert read(record_of(event)) == event


def test_a_kept_edge_without_a_value_is_told_from_one_with_null() -> None:
    kept = (e.Kept(0, "taken", "a", "b", None), e.Kept(1, "taken", "a", "b", NULL))
    event = e.LoopIteration("loop", 1, 9, NULL, (), kept)

    assert read(record_of(event)) == event


def test_the_manual_names_every_event_with_every_field() -> None:
    text = (Path(__file__).parents[3] / "docs" / "records.md").read_text(encoding="utf-8")
    rows = text.split("\n## Events\n")[1].split("\n## ")[0].split("|---|---|---|\n")[1].split("\n\n")[0].splitlines()
    told = {row.split("`")[1]: row.split("|")[2].replace("?", "") for row in rows}

    assert {name: [field.strip(" `") for field in fields.split(",") if field.strip()] for name, fields in told.items()} == {
        name: [camel(field) for field in cls._fields] for name, cls in EVENT_NAMES.items()
    }


def test_the_records_of_the_manual_can_be_read() -> None:
    text = (Path(__file__).parents[3] / "docs" / "records.md").read_text(encoding="utf-8")
    block = text.split("\n## Events\n")[1].split("```json\n")[1].split("```")[0]

    assert [[type(event) for _, _, event in decode_events(line.encode())] for line in block.splitlines()] == [
        [e.NodeCompleted, e.EdgeTaken, e.NodeScheduled],
        [],
    ]


def test_events_are_numbered_without_a_gap_and_keep_the_time_of_their_decision() -> None:
    record = encode_events("r1", 5, [(10, [e.RunAwaiting(), e.RunResumed()]), (20, []), (30, [e.RunPaused("x")])])

    assert list(decode_events(record)) == [
        (5, 10, e.RunAwaiting()),
        (6, 10, e.RunResumed()),
        (7, 30, e.RunPaused("x")),
    ]


def test_a_rejection_is_a_record_without_events() -> None:
    record = encode_rejection(Rejection("r9", "resume", "there is no such run", 30))

    assert record == (b'{"v":1,"runId":"r9","rejected":{"command":"resume","reason":"there is no such run","at":30}}')
    assert list(decode_events(record)) == []


@given(strategy_of(e.Parent))
def test_a_parent_survives_its_record(parent: e.Parent) -> None:
    assert parent_from_json(orjson.loads(orjson.dumps(parent_to_json(parent)))) == parent


def test_fields_of_a_newer_writer_are_not_looked_at() -> None:
    record = record_of(e.NodeStarted("a", -1, 1)).replace(b'"node":"a"', b'"node":"a","mood":"fine"')

    assert read(record) == e.NodeStarted("a", -1, 1)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (b"", "expected a JSON object"),
        (b"[]", "found a list"),
        (b"{}", "field 'v': expected a whole number, found nothing"),
        (b'{"v":"1"}', "field 'v': expected a whole number, found text"),
        (b'{"v":2,"seq":1,"decisions":[]}', "has version 2 and this Headrace reads up to 1"),
        (b'{"v":1,"decisions":[]}', "field 'seq'"),
        (b'{"v":1,"seq":1}', "not an events record"),
        (b'{"v":1,"seq":1,"decisions":[{"at":1,"events":[{"type":"nodeVanished"}]}]}', "event 1: KeyError"),
        (b'{"v":1,"seq":4,"decisions":[{"at":1,"events":[{"type":"nodeSkipped"}]}]}', "event 4: KeyError: 'node'"),
        (b'{"v":1,"seq":1,"decisions":[{"at":1,"events":[7]}]}', "not an events record"),
        (b'{"v":1,"seq":1,"decisions":7}', "not an events record"),
    ],
)
def test_what_is_no_record_of_events_is_refused(record: bytes, expected: str) -> None:
    with pytest.raises(RecordRefused) as refused:
        list(decode_events(record))

    assert expected in str(refused.value)


@given(st.sampled_from(SAMPLES), st.data())
def test_a_damaged_record_is_read_or_refused_and_nothing_else(event: e.Event, data: st.DataObject) -> None:
    parsed = orjson.loads(record_of(event))
    inner = parsed["decisions"][0]["events"][0]
    inner[data.draw(st.sampled_from(list(inner)))] = orjson.loads(data.draw(VALUES))

    with contextlib.suppress(RecordRefused):
        list(decode_events(orjson.dumps(parsed)))
