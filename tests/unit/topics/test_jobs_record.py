"""Commands survive their records, and what is no command is refused with the field and what was expected."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headrace import commands as c
from headrace.errors import RecordRefused
from headrace.events import Holder, Parent
from headrace.limits import ID_BYTES_MAX
from headrace.values import NULL, encode, join_array
from headrace_topics.jobs_record import decode_command, encode_command

GOLDEN = Path(__file__).parents[2] / "golden" / "jobs.jsonl"

LIMIT = 1_000_000

TEXTS = st.sampled_from(["", "\x00", '"\\', "\u2028", "ключ", "\U0001f600", "null"]) | st.text(max_size=12)
NAMES = TEXTS.filter(bool)
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
PARSED = st.recursive(
    SCALARS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
JSON = st.just(NULL) | PARSED.map(encode)

# Texts that name something have to have a character; the others may be empty.
MAY_BE_EMPTY = {"request_id", "reason", "error", "action"}


def strategy_of(hint: Any, name: str) -> st.SearchStrategy[Any]:
    """Anything that a field may hold, so that a new field or command is covered as soon as it exists."""
    arguments = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if origin in {types.UnionType, typing.Union}:
        return st.one_of(*(strategy_of(argument, name) for argument in arguments))
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(strategy_of(arguments[0], name), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*(strategy_of(argument, name) for argument in arguments))
    if origin is Mapping:
        return st.dictionaries(TEXTS, JSON, max_size=3)
    if isinstance(hint, type) and hasattr(hint, "_fields"):
        return built(hint)
    text = TEXTS if name in MAY_BE_EMPTY else NAMES
    numbers = st.integers(-1 if name == "item" else 1, 2**63 - 1)
    return {bytes: JSON, str: text, int: numbers, bool: st.booleans(), types.NoneType: st.none()}[hint]


def built(cls: type[Any]) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(cls)
    return st.builds(cls, *(strategy_of(hints[name], name) for name in cls._fields))


COMMANDS = st.one_of(*(built(cls) for cls in typing.get_args(c.Command)))

PARENT = Parent("r0", "child", 3, 2, 1, ("total",))

SAMPLES: list[c.Command] = [
    c.Start("r1", "order"),
    c.Start("r1", "order", "2", b'{"id":7}', {"who": b'"ada"', "none": NULL}, None, "q1"),
    c.Start("r1/child", "pack", None, NULL, {}, PARENT),
    c.Resume("r1", "approval"),
    c.Resume("r1", "child/approval", "ok", b'"yes"', "key-1", "q2"),
    c.Signal("r1", "paid"),
    c.Signal("r1", "paid", b'{"sum":12.5}', "child/wait", "q3"),
    c.Signal("r1/child", "paid", NULL, "wait", "", "r1"),
    c.Cancel("r1"),
    c.Cancel("größe", "no longer wanted", "q4"),
    c.Pause("r1", "lunch", "q5"),
    c.Unpause("r1", "q6"),
    c.RunNode("r1", "order", "charge"),
    c.RunNode("r1", "order", "pack", 4, 12, 2),
    c.ChildNews("r0", "r1", "child", True, (("approval", None), ("inner/wait", "paid"))),
    c.ChildNews("r0", "r1", "child", False, ()),
    c.ChildEnd("r0", "r1", "child", "completed", b"7", {"total": b"12", "none": NULL}, ""),
    c.ChildEnd("r0", "r1", "child", "failed", NULL, {}, "charge: no money"),
    c.ResumeApplied("r0", "key-1"),
    c.Resume("r1/child", "approval", None, NULL, "key-1", "", (Holder("r0", 3), Holder("r1", 12))),
    c.ResumeIgnored("r1", "key-1", 12),
]


def decode(record: bytes | str | dict[str, Any], key: str | None = None, limit: int = LIMIT) -> c.Command:
    if isinstance(record, dict):
        record = orjson.dumps(record)
    return decode_command(record.encode() if isinstance(record, str) else record, key, value_bytes_max=limit)


def refusal(record: bytes | str | dict[str, Any], key: str | None = None, limit: int = LIMIT) -> str:
    with pytest.raises(RecordRefused) as refused:
        decode(record, key, limit)
    return str(refused.value)


# What was written is read.


def test_the_samples_hold_every_type_of_command() -> None:
    assert {type(command) for command in SAMPLES} == set(typing.get_args(c.Command))


def test_the_format_does_not_change() -> None:
    """Others write these records, so what was ever read is read for ever."""
    lines = GOLDEN.read_bytes().splitlines()

    assert [encode_command(command) for command in SAMPLES] == lines
    assert [decode(line) for line in lines] == SAMPLES


@given(COMMANDS)
@settings(max_examples=200)
def test_a_command_survives_its_record(command: c.Command) -> None:
    back = decode(encode_command(command), command.run_id)

    assert type(back) is type(command)
    assert back == command


def test_a_start_event_is_plain_json_that_anybody_can_write() -> None:
    record = '{ "blueprintId": "order",\n "runId": "r1", "input": {"id": 7, "tags": ["a"]}, "type": "start" }'

    assert decode(record) == c.Start("r1", "order", None, b'{"id":7,"tags":["a"]}')


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"type": "start", "version": None, "input": None, "context": None, "blueprintId": "b"}, c.Start("r", "b")),
        ({"type": "resume", "nodeId": "n", "action": None, "idempotencyKey": None}, c.Resume("r", "n")),
        ({"type": "signal", "event": "e", "payload": None, "path": None}, c.Signal("r", "e")),
        ({"type": "cancel", "reason": None, "requestId": None}, c.Cancel("r")),
    ],
)
def test_an_optional_field_that_is_null_is_absent(record: dict[str, Any], expected: c.Command) -> None:
    assert decode({**record, "runId": "r"}) == expected


@pytest.mark.parametrize("command", SAMPLES, ids=lambda command: type(command).__name__)
def test_fields_of_a_newer_writer_are_not_looked_at(command: c.Command) -> None:
    parsed = orjson.loads(encode_command(command))

    assert decode({"mood": {"deep": [1]}, **parsed, "zeal": None}) == command


def test_a_record_without_a_key_is_accepted_for_its_run_id() -> None:
    assert decode({"type": "cancel", "runId": "r1"}, None) == c.Cancel("r1")


def test_what_the_engine_makes_of_several_values_may_be_larger_and_deeper_than_each() -> None:
    deep = join_array([b"[" * 254 + b"]" * 254])
    start = c.Start("r1", "b", None, deep, {"a": deep}, PARENT)
    end = c.ChildEnd("r0", "r1", "n", "completed", deep, {"a": deep}, "")

    assert [decode(encode_command(command), limit=100) for command in (start, end)] == [start, end]


def examples_of(section: str) -> list[str]:
    """The records that ``docs/records.md`` shows in a section."""
    text = (Path(__file__).parents[3] / "docs" / "records.md").read_text(encoding="utf-8")
    blocks = text.split(f"\n## {section}\n")[1].split("\n## ")[0].split("```json\n")[1:]
    return [line for block in blocks for line in block.split("```")[0].splitlines()]


def test_the_records_of_the_manual_can_be_read() -> None:
    start = decode(*examples_of("Starting a run"), "r1")
    jobs = [decode(line, "r1") for line in examples_of("Jobs")]

    assert start == c.Start("r1", "order", None, b'{"id":7}')
    assert [type(job) for job in jobs] == [c.Start, c.Resume, c.Signal, c.Cancel, c.Pause, c.Unpause]


def test_what_the_page_for_producers_shows_can_be_read() -> None:
    text = (Path(__file__).parents[3] / "docs" / "producers.md").read_text(encoding="utf-8")
    shown = [line for block in text.split("```json\n")[1:] for line in block.split("```")[0].splitlines()]
    commands = [decode(line, orjson.loads(line)["runId"]) for line in shown]

    assert [type(command) for command in commands] == [c.Start, c.Signal, c.Resume, c.Cancel]


# What is no command is refused.


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (b"", "expected a JSON object: "),
        (b'{"type":', "line 1 column 9 (char 8)"),
        (b'{"type":"cancel","runId":"\xff"}', "byte 26 is not UTF-8"),
        (b'{"type":"cancel","runId":"\\ud800"}', "surrogate in string: line 1 column 2"),
        (b'\xef\xbb\xbf{"type":"cancel","runId":"r"}', "line 1 column 1 (char 0)"),
        (b'{"type":"start","runId":"r","blueprintId":"b","input":NaN}', "line 1 column 55"),
        (b"[" * 100_000, "expected a JSON object"),
        (b'{"type":"start","input":' + b"[" * 2_000 + b"]" * 2_000 + b"}", "line 1 column 10"),
        (b"null", "expected a JSON object, found null"),
        (b'["start"]', "expected a JSON object, found a list"),
        (b'"start"', "expected a JSON object, found text"),
        (b"7", "expected a JSON object, found a number"),
    ],
)
def test_what_is_no_json_object_is_refused_with_the_place(record: bytes, expected: str) -> None:
    assert expected in refusal(record)


ID = f"expected text of 1 to {ID_BYTES_MAX} bytes, found"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"runId": 7}, f"field 'runId': {ID} a number"),
        ({"runId": None}, f"field 'runId': {ID} null"),
        ({"runId": ""}, f"field 'runId': {ID} empty text"),
        ({"runId": True}, f"field 'runId': {ID} a boolean"),
        ({"runId": "x" * 1_025}, f"field 'runId': {ID} text of 1025 bytes"),
        ({"runId": "é" * 513}, f"field 'runId': {ID} text of 1026 bytes"),
        ({"blueprintId": ["b"]}, f"field 'blueprintId': {ID} a list"),
        ({"version": 1}, f"field 'version': {ID} a number"),
        ({"context": []}, "field 'context': expected an object, found a list"),
        ({"context": "a"}, "field 'context': expected an object, found text"),
        ({"requestId": {}}, f"field 'requestId': expected text of at most {ID_BYTES_MAX} bytes, found an object"),
        ({"parent": "r0"}, "field 'parent': expected an object, found text"),
        ({"parent": {"nodeId": "n"}}, f"field 'parent.runId': {ID} nothing"),
        ({"parent": {"runId": "r", "nodeId": "n", "depth": 0}}, "field 'parent.depth': expected a whole number from 1"),
        ({"parent": {"runId": "r", "nodeId": "n", "outputs": [1]}}, "field 'parent.outputs': expected a list of texts"),
        ({"type": "resume"}, f"field 'nodeId': expected text of 1 to {32 * ID_BYTES_MAX} bytes, found nothing"),
        ({"type": "resume", "nodeId": "n", "action": 1}, "field 'action': expected text"),
        ({"type": "resume", "nodeId": "n", "idempotencyKey": ""}, f"field 'idempotencyKey': {ID} empty text"),
        ({"type": "signal"}, f"field 'event': {ID} nothing"),
        ({"type": "signal", "event": "e", "path": 7}, "field 'path': expected text"),
        ({"type": "cancel", "reason": 7}, f"field 'reason': expected text of at most {LIMIT} bytes, found a number"),
        ({"type": "pause", "reason": []}, "field 'reason'"),
        ({"type": "unpause", "requestId": 7}, "field 'requestId'"),
        ({"type": "node"}, f"field 'nodeId': {ID} nothing"),
        ({"type": "node", "nodeId": "n", "item": -2}, "field 'item': expected a whole number from 0"),
        ({"type": "node", "nodeId": "n", "attempt": 1.5}, "field 'attempt'"),
        ({"type": "node", "nodeId": "n", "attempt": True}, "found a boolean"),
        ({"type": "node", "nodeId": "n", "attempt": 2**63}, "found 9223372036854775808"),
        ({"type": "childNews", "childId": "c", "nodeId": "n"}, "field 'awaiting': expected true or false, found nothing"),
        ({"type": "childNews", "childId": "c", "nodeId": "n", "awaiting": True, "waits": [["a"]]}, "field 'waits'"),
        ({"type": "childNews", "childId": "c", "nodeId": "n", "awaiting": True, "waits": 7}, "expected a list"),
        ({"type": "childNews", "childId": "c", "nodeId": "n", "awaiting": True, "waits": [[1, None]]}, "field 'waits'"),
        ({"type": "childNews", "childId": "c", "nodeId": "n", "awaiting": True, "waits": [["a", 1]]}, "field 'waits'"),
        ({"type": "childEnd", "childId": "c", "nodeId": "n", "status": "failed", "error": 7}, "field 'error'"),
        ({"type": "resume", "nodeId": "n", "holders": 7}, "field 'holders': expected a list"),
        ({"type": "resume", "nodeId": "n", "holders": [["r0"]]}, "field 'holders': expected pairs of a run id and a number"),
        ({"type": "resume", "nodeId": "n", "holders": [[1, 2]]}, "field 'holders'"),
        ({"type": "resume", "nodeId": "n", "holders": [["r0", True]]}, "field 'holders'"),
        ({"type": "resumeApplied"}, f"field 'idempotencyKey': {ID} nothing"),
        ({"type": "resumeIgnored"}, f"field 'idempotencyKey': {ID} nothing"),
        ({"type": "resumeIgnored", "idempotencyKey": "k", "claim": "7"}, "field 'claim': expected a whole number from 1"),
    ],
)
def test_a_field_of_the_wrong_kind_is_named(fields: dict[str, Any], expected: str) -> None:
    assert expected in refusal({"type": "start", "runId": "r", "blueprintId": "b", **fields})


@pytest.mark.parametrize("name", ["type", "runId", "blueprintId"])
def test_a_field_that_is_missing_is_named(name: str) -> None:
    record = {"type": "start", "runId": "r", "blueprintId": "b"}
    del record[name]

    assert f"field {name!r}: expected" in refusal(record)
    assert refusal(record).endswith("found nothing")


def test_an_unknown_type_is_refused_with_those_that_there_are() -> None:
    text = "field 'type': expected one of start, resume, signal, cancel, pause, unpause, found "

    assert refusal({"type": "strat", "runId": "r"}) == f"{text}'strat'"
    assert refusal({"type": ["start"], "runId": "r"}) == f"{text}a list"
    assert len(refusal({"type": "x" * 10_000, "runId": "r"})) < 200


def test_a_key_that_contradicts_the_run_id_is_refused() -> None:
    assert refusal({"type": "cancel", "runId": "r1"}, "r2") == (
        "field 'runId': expected the key of the record, 'r2', found 'r1'"
    )
    assert "expected the key of the record, ''" in refusal({"type": "cancel", "runId": "r1"}, "")


def test_a_run_id_of_the_longest_length_is_taken() -> None:
    for run_id in ("x" * 1_024, "é" * 512, "\U0001f600" * 256):
        assert decode({"type": "cancel", "runId": run_id}).run_id == run_id


@pytest.mark.parametrize(
    ("record", "name"),
    [
        ({"type": "start", "blueprintId": "b", "input": "x" * 9}, "input"),
        ({"type": "start", "blueprintId": "b", "context": {"a": 1, "k": "x" * 9}}, "context.k"),
        ({"type": "resume", "nodeId": "n", "output": "x" * 9}, "output"),
        ({"type": "signal", "event": "e", "payload": "x" * 9}, "payload"),
    ],
)
def test_a_value_beyond_the_limit_is_refused_and_one_at_the_limit_is_taken(record: dict[str, Any], name: str) -> None:
    record["runId"] = "r"

    assert refusal(record, limit=10) == (
        f"field {name!r}: expected at most 10 bytes of JSON (value_bytes_max), found 11: pass its address instead"
    )
    decode(record, limit=11)


def test_the_limit_counts_compact_json_and_not_the_blanks_of_its_writer() -> None:
    record = '{"type": "start", "runId": "r", "blueprintId": "b", "input": [ 1 ,      2 ]}'

    assert decode(record, limit=5) == c.Start("r", "b", None, b"[1,2]")


def test_a_value_that_is_nested_too_deeply_is_refused() -> None:
    def record(levels: int) -> bytes:
        return b'{"type":"start","runId":"r","blueprintId":"b","input":' + b"[" * levels + b"]" * levels + b"}"

    assert "field 'input': expected JSON of at most 254 levels" in refusal(record(255))
    assert decode(record(254)) == c.Start("r", "b", None, b"[" * 254 + b"]" * 254)


@pytest.mark.parametrize("digits", ["18446744073709551616", "-9223372036854775809", "1" * 300])
def test_an_integer_that_would_become_another_number_is_refused(digits: str) -> None:
    text = refusal(f'{{"type":"start","runId":"r","blueprintId":"b","input":{{"id":{digits}}}}}')

    assert text == f"expected whole numbers of at most 64 bits, found {digits[:24]}: write it as text"


@pytest.mark.parametrize(
    "value", ["18446744073709551615", "-9223372036854775808", '"99999999999999999999999"', "0.1234567890123456"]
)
def test_a_number_of_64_bits_and_digits_in_text_are_taken_as_they_are(value: str) -> None:
    command = decode(f'{{"type":"start","runId":"r","blueprintId":"b","input":{value}}}')

    assert isinstance(command, c.Start)
    assert command.input == value.encode()


def test_digits_beside_a_field_that_nobody_reads_do_no_harm() -> None:
    deep = b"[" * 1_000 + b"]" * 1_000
    record = b'{"type":"cancel","runId":"r","note":"1234567890123456789","deep":' + deep + b"}"

    assert decode(record) == c.Cancel("r")


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (c.Cancel("\ud800"), "runId"),
        (c.Cancel("r", "\udfff"), "reason"),
        (c.Start("r", "b", context={"\ud800": NULL}), "context"),
        (c.Resume("r", "n", key="\ud800"), "idempotencyKey"),
        (c.Unpause("r", "\ud800"), "requestId"),
    ],
)
def test_text_that_utf_8_cannot_hold_is_not_written(command: c.Command, name: str) -> None:
    with pytest.raises(RecordRefused, match=f"field '{name}': expected text that UTF-8 can hold"):
        encode_command(command)


# Whatever comes, nothing but a command or a refusal.


def read_or_refuse(record: bytes, key: str | None = None) -> None:
    try:
        command = decode(record, key)
    except RecordRefused:
        return
    assert decode(encode_command(command)) == command


@given(st.binary(max_size=60))
@example(b"\x00")
@example(b'{"type":"start","runId":"r","blueprintId":"b","input":1e999}')
def test_random_bytes_are_refused_and_nothing_else(record: bytes) -> None:
    read_or_refuse(record)


@given(st.dictionaries(st.sampled_from(["type", "runId", "blueprintId", "nodeId", "event", "input"]) | TEXTS, PARSED))
def test_random_json_is_read_or_refused_and_nothing_else(record: dict[str, Any]) -> None:
    read_or_refuse(orjson.dumps(record))


@given(st.sampled_from(SAMPLES), st.data())
@settings(max_examples=300)
def test_a_changed_field_is_read_or_refused_and_nothing_else(command: c.Command, data: st.DataObject) -> None:
    parsed = orjson.loads(encode_command(command))
    for _ in range(data.draw(st.integers(1, 3))):
        name = data.draw(st.sampled_from(["parent", "waits", "values", "context", "item", *parsed]))
        inner = parsed.get(name)
        if isinstance(inner, dict) and inner and data.draw(st.booleans()):
            inner[data.draw(st.sampled_from(list(inner)))] = data.draw(PARSED)
        else:
            parsed[name] = data.draw(PARSED)

    read_or_refuse(orjson.dumps(parsed), data.draw(st.none() | st.just(command.run_id)))


@given(st.sampled_from(SAMPLES), st.data())
def test_a_record_with_changed_bytes_is_read_or_refused_and_nothing_else(command: c.Command, data: st.DataObject) -> None:
    record = bytearray(encode_command(command))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(record) - 1))
        record[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))

    read_or_refuse(bytes(record))
