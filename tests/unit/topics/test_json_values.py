"""Values come back out of records as the bytes that went in."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import RecordRefused
from headrace.values import encode, join_array, join_object
from headrace_topics.json_values import parse_object, reencode, whole_number

TEXTS = st.sampled_from(["", '"', "\\", "\x00", "\u2028", "\U0001f600"]) | st.text(max_size=8)
PARSED = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


@given(PARSED)
def test_a_value_is_encoded_again_to_the_same_bytes(value: object) -> None:
    encoded = encode(value)

    assert reencode(orjson.loads(encoded)) == encoded


@given(PARSED, TEXTS, st.sampled_from([253, 254, 700]))
def test_so_is_a_value_that_is_deeper_than_the_codec_writes(value: object, key: str, levels: int) -> None:
    deep = join_array([encode(value), nested(levels), join_object([(key, nested(levels)), (f"{key}+", encode(value))])])

    assert reencode(orjson.loads(deep)) == deep


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (b"", "expected a JSON object: "),
        (b'{"a":1', "line 1 column 7"),
        (b'{"a":"\xc3\x28"}', "byte 6 is not UTF-8"),
        (b"[{}]", "found a list"),
        (b"true", "found a boolean"),
    ],
)
def test_what_is_no_object_is_refused_with_the_place(record: bytes, expected: str) -> None:
    with pytest.raises(RecordRefused) as refused:
        parse_object(record)

    assert expected in str(refused.value)


def test_a_whole_number_is_neither_a_boolean_nor_a_float() -> None:
    assert whole_number({"n": 0}, "n") == 0
    for other in (True, 1.0, "1", None):
        with pytest.raises(RecordRefused, match="field 'n': expected a whole number, found"):
            whole_number({"n": other}, "n")
