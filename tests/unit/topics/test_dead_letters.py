"""What could not be read is kept exactly, so that it can be written again."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headrace.errors import RecordRefused
from headrace_topics.dead_letters import (
    DeadLetter,
    RedrivenMark,
    decode_dead_letter,
    decode_dead_letters_record,
    encode_dead_letter,
    encode_redriven,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "dead-letters-v1.jsonl"
GOLDEN_REDRIVEN = Path(__file__).parents[2] / "golden" / "redriven-v1.jsonl"
MANUAL = Path(__file__).parents[3] / "docs" / "records.md"

SAMPLES = [
    DeadLetter(
        b'{"type": "strat"}\n', b"r1", "field 'type': expected one of start", "orders.jobs", 3, 41, 1_700_000_000_000
    ),
    DeadLetter("größe\x00".encode(), None, "no", "orders.jobs", 0, 0, 0),
    DeadLetter(b"\xff\xfe{", b"\x00\xff", "byte 0 is not UTF-8", "orders.jobs", 0, 2**63 - 1, 1),
    DeadLetter(None, b"r1", "a tombstone", "orders.jobs", 0, 1, 1),
    DeadLetter(b"", b"", "", "orders.jobs", 0, 1, 1),
]

MARKS = [
    RedrivenMark(0, 41, "orders.jobs", 3, 1_700_000_000_000),
    RedrivenMark(2, 2**63 - 1, "orders.jobs", 0, 0),
]


def encode(letter: DeadLetter) -> bytes:
    return encode_dead_letter(
        letter.record,
        letter.key,
        letter.reason,
        source_topic=letter.source_topic,
        partition=letter.partition,
        offset=letter.offset,
        at_ms=letter.at_ms,
    )


def test_the_format_of_version_1_does_not_change() -> None:
    """Another format is another version, with a file of its own, and its reader reads this one too."""
    lines = GOLDEN.read_bytes().splitlines()

    assert [encode(letter) for letter in SAMPLES] == lines
    assert [decode_dead_letter(line) for line in lines] == SAMPLES


def test_the_dead_letters_of_the_manual_can_be_read() -> None:
    block = MANUAL.read_text(encoding="utf-8").split("\n## Dead letters\n")[1].split("```json\n")[1].split("```")[0]

    assert [decode_dead_letter(line.encode()).record for line in block.splitlines()] == [
        b'{"type": "strat", "runId": "r1"}',
        b"\xff\xfe{",
    ]


def test_the_format_of_marks_of_version_1_does_not_change() -> None:
    lines = GOLDEN_REDRIVEN.read_bytes().splitlines()

    assert [encode_redriven(mark) for mark in MARKS] == lines
    assert [decode_dead_letters_record(line) for line in lines] == MARKS


def test_the_mark_of_the_manual_can_be_read() -> None:
    block = MANUAL.read_text(encoding="utf-8").split("\n## Dead letters\n")[1].split("```json\n")[2].split("```")[0]

    assert decode_dead_letters_record(block.encode()) == MARKS[0]


def test_both_forms_of_the_topic_are_told_apart() -> None:
    assert decode_dead_letters_record(encode(SAMPLES[0])) == SAMPLES[0]
    with pytest.raises(RecordRefused, match="field 'source': expected an object, found nothing"):
        decode_dead_letter(encode_redriven(MARKS[0]))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"v": 2}, "has version 2 and this Headrace reads up to 1"),
        ({"redriven": 7}, "field 'redriven': expected an object, found a number"),
        ({"redriven": {"partition": 0}}, "field 'offset': expected a whole number, found nothing"),
        ({"to": None}, "field 'to': expected an object, found null"),
        ({"to": {"topic": "", "partition": 0}}, "field 'topic': expected text of 1 to 1024 bytes, found empty text"),
        ({"at": "x"}, "field 'at': expected a whole number"),
    ],
)
def test_what_is_no_mark_is_refused_with_the_field(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(RecordRefused) as refused:
        decode_dead_letters_record(orjson.dumps({**orjson.loads(encode_redriven(MARKS[0])), **change}))

    assert expected in str(refused.value)


@given(st.none() | st.binary(max_size=40) | st.text(max_size=20).map(str.encode), st.none() | st.binary(max_size=20))
@example(b"\xed\xa0\x80", b"\xc0\x80")
@example("\ufeff{}".encode(), b"\x00")
def test_every_record_and_key_is_kept_to_the_byte(record: bytes | None, key: bytes | None) -> None:
    letter = DeadLetter(record, key, "because", "orders.jobs", 3, 41, 7)

    assert decode_dead_letter(encode(letter)) == letter


def test_a_record_that_is_text_can_be_read_in_the_dead_letter() -> None:
    assert orjson.loads(encode(SAMPLES[0]))["record"] == '{"type": "strat"}\n'


@pytest.mark.parametrize(
    ("record", "key", "kept"),
    [
        (b'"' * 60, b"r1", (None, b"r1", 60)),
        (b"\xff" * 120, None, (None, None, 120)),
        (b"r" * 20, b"k" * 200, (None, None, 220)),
        (None, b"\xff" * 200, (None, None, 200)),
        (b"r" * 20, b"r1", (b"r" * 20, b"r1", 0)),
    ],
)
def test_what_is_too_large_for_a_letter_is_left_where_it_lies(record: Any, key: Any, kept: tuple[Any, ...]) -> None:
    letter = encode_dead_letter(record, key, "r", source_topic="t", partition=0, offset=0, at_ms=0, bytes_max=160)

    read = decode_dead_letter(letter)
    assert (read.record, read.key, read.omitted) == kept
    assert len(letter) <= 160


@pytest.mark.parametrize("key", ["größe", "\ud800"])
def test_a_key_may_be_given_as_text(key: str) -> None:
    letter = encode_dead_letter(b"x", key, "r", source_topic="t", partition=0, offset=0, at_ms=0)

    assert decode_dead_letter(letter).key == key.encode("utf-8", "surrogatepass")


def test_a_reason_that_utf_8_cannot_hold_does_not_keep_a_record_from_being_put_aside() -> None:
    letter = encode_dead_letter(b"x", None, "found '\ud800'", source_topic="t", partition=0, offset=0, at_ms=0)

    assert decode_dead_letter(letter).reason == "found '?'"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"v": 2}, "has version 2 and this Headrace reads up to 1"),
        ({"v": None}, "field 'v': expected a whole number, found null"),
        ({"source": None}, "field 'source': expected an object, found null"),
        ({"source": {"topic": "t", "offset": 1}}, "field 'partition': expected a whole number, found nothing"),
        ({"record": 7}, "field 'record': expected text, found a number"),
        ({"keyBase64": "%%"}, "field 'keyBase64': expected base64"),
        ({"keyBase64": 7}, "field 'keyBase64': expected base64, found a number"),
        ({"at": 1.5}, "field 'at': expected a whole number"),
    ],
)
def test_what_is_no_dead_letter_is_refused_with_the_field(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(RecordRefused) as refused:
        decode_dead_letter(orjson.dumps({**orjson.loads(encode(SAMPLES[1])), **change}))

    assert expected in str(refused.value)


@given(st.binary(max_size=40), st.data())
def test_a_damaged_dead_letter_is_read_or_refused_and_nothing_else(record: bytes, data: st.DataObject) -> None:
    parsed = orjson.loads(encode(SAMPLES[2]))
    parsed[data.draw(st.sampled_from(list(parsed)))] = data.draw(st.none() | st.integers(0, 9) | st.text(max_size=5))

    mark = orjson.loads(encode_redriven(MARKS[0]))
    mark[data.draw(st.sampled_from(list(mark)))] = data.draw(st.none() | st.integers(0, 9) | st.text(max_size=5))

    for damaged in (record, orjson.dumps(parsed), orjson.dumps(mark)):
        for decode in (decode_dead_letter, decode_dead_letters_record):
            with contextlib.suppress(RecordRefused):
                decode(damaged)
