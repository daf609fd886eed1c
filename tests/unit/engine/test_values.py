"""Values as encoded JSON: what is taken, what is refused and why, and what is put together without decoding."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import ValueRefused
from headrace.limits import ID_BYTES_MAX
from headrace.values import (
    NESTING_MAX,
    NULL,
    check_made,
    check_name,
    check_size,
    decode,
    encode,
    encode_text,
    join_array,
    join_object,
    trimmed,
)

NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@given(JSON)
def test_what_is_json_comes_back_as_it_was_and_is_encoded_alike_each_time(value: Any) -> None:
    encoded = encode(value)

    assert decode(encoded) == value
    assert encode(decode(encoded)) == encoded


def test_decoding_gives_objects_of_its_own_each_time() -> None:
    encoded = encode({"a": []})
    first = decode(encoded)
    first["a"].append(1)

    assert decode(encoded) == {"a": []}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, [math.nan], {"a": {"b": (1, math.inf)}}], ids=str)
def test_numbers_that_json_has_not_are_refused_and_never_become_null(value: Any) -> None:
    with pytest.raises(ValueRefused, match=r"^the input is not JSON: it holds NaN or Infinity"):
        encode(value, what="the input")


def test_null_beside_numbers_is_not_taken_for_one() -> None:
    assert encode([None, 1.5, "null", {"null": None}]) == b'[null,1.5,"null",{"null":null}]'


@pytest.mark.parametrize("value", [{1}, b"x", object(), {1: 2}, 2**64, -(2**63) - 1, "\ud800", {"\ud800": 1}], ids=ascii)
def test_what_is_no_json_is_refused_and_named(value: Any) -> None:
    with pytest.raises(ValueRefused, match=r"^the payload is not JSON: "):
        encode(value, what="the payload")


def test_values_are_nested_so_deep_and_no_deeper() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)

    assert decode(encode(nested(NESTING_MAX))) == nested(NESTING_MAX)
    for value in (nested(NESTING_MAX + 1), nested(50_000), cycle):
        with pytest.raises(ValueRefused, match=f"^output is nested deeper than {NESTING_MAX} levels, or holds itself$"):
            encode(value, what="output")


def test_the_size_is_that_of_the_encoded_value() -> None:
    assert encode("é" * 4, bytes_max=10) == '"éééé"'.encode()
    with pytest.raises(ValueRefused, match=r"^value has 10 bytes and the limit is 9: .*value_bytes_max"):
        encode("é" * 4, bytes_max=9)
    check_size(b"123", 3, "it")
    with pytest.raises(ValueRefused, match=r"^it has 4 bytes and the limit is 3"):
        check_size(b"1234", 3, "it")


def test_what_was_put_together_is_held_to_the_same_bounds() -> None:
    fine = join_array([encode(nested(NESTING_MAX - 1))])
    check_made(fine, 10_000, "it")
    with pytest.raises(ValueRefused, match=r"nested deeper"):
        check_made(join_array([fine, encode("x" * 300)]), 10_000, "it")
    with pytest.raises(ValueRefused, match=r"the limit is 100"):
        check_made(fine, 100, "it")


@pytest.mark.parametrize("name", ["", "a", "k" * ID_BYTES_MAX, "\U0001f600" * (ID_BYTES_MAX // 4), "\x00"], ids=ascii)
def test_a_name_may_be_any_text_up_to_the_limit(name: str) -> None:
    check_name(name, "the id")


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("k" * (ID_BYTES_MAX + 1), "has 1025 bytes and the limit is 1024"),
        ("\U0001f600" * (ID_BYTES_MAX // 4) + "x", "has 1025 bytes"),
        ("\ud800", "not Unicode that UTF-8 can hold"),
    ],
    ids=["long", "many bytes", "surrogate"],
)
def test_a_name_that_no_key_can_hold_is_refused(name: str, part: str) -> None:
    with pytest.raises(ValueRefused, match=f"^the id .*{part}"):
        check_name(name, "the id")


def test_texts_are_encoded_and_lone_surrogates_refused() -> None:
    assert encode_text('a"b') == b'"a\\"b"'
    with pytest.raises(ValueRefused, match=r"UTF-8"):
        encode_text("\udfff")


@given(st.lists(st.tuples(st.text(), JSON), unique_by=lambda pair: pair[0], max_size=5))
def test_encoded_values_are_joined_as_if_they_were_encoded_together(pairs: list[tuple[str, Any]]) -> None:
    assert join_array(encode(value) for _, value in pairs) == encode([value for _, value in pairs])
    assert join_object((key, encode(value)) for key, value in pairs) == encode(dict(pairs))
    assert encode(None) == NULL


def test_what_is_kept_takes_no_more_memory_than_it_has_bytes() -> None:
    """The codec's own buffers have 4 KB each at least, and are not cut."""
    values = [{"number": number, "text": "x" * 60} for number in range(1_000)]
    tracemalloc.start()
    kept = [*map(encode, values), *map(encode_text, "x" * 100), *(trimmed(b"x" * 10) for _ in range(9))]
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()

    assert len(kept) > 1_000
    assert taken < 300_000
