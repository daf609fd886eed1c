"""Context writes on encoded values."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import ValueRefused
from headrace.execution import Operation
from headrace.operations import apply_operation, preview
from headrace.values import decode, encode


def of(kind: str, value: Any = None, key: str = "k") -> Operation:
    return Operation(kind, key, None if kind == "delete" else encode(value))


@pytest.mark.parametrize(
    ("operation", "before", "after"),
    [
        (of("set", 1), None, 1),
        (of("set", None), 5, None),
        (of("increment", 2), None, 2),
        (of("increment", 2), 3, 5),
        (of("increment", -0.5), 1, 0.5),
        (of("append", 1), None, [1]),
        (of("append", 1), [], [1]),
        (of("append", [2]), [1], [1, [2]]),
        (of("append", None), ["]"], ["]", None]),
    ],
    ids=str,
)
def test_an_operation_gives_the_next_value(operation: Operation, before: Any, after: Any) -> None:
    given_value = None if before is None else encode(before)
    result = apply_operation(operation, given_value)

    assert result is not None
    assert decode(result) == after


def test_a_deleted_key_is_gone_whether_it_was_there_or_not() -> None:
    assert apply_operation(of("delete"), None) is None
    assert apply_operation(of("delete"), encode(1)) is None


@pytest.mark.parametrize(
    ("operation", "before"),
    [
        (of("increment", 1), "text"),
        (of("increment", 1), True),
        (of("increment", 1), None),
        (of("append", 1), {}),
        (of("append", 1), 5),
    ],
    ids=str,
)
def test_an_operation_that_does_not_fit_the_value_is_refused_with_the_key(operation: Operation, before: Any) -> None:
    with pytest.raises(ValueRefused, match=r"^context key 'k' holds no (number|list)"):
        apply_operation(operation, encode(before))


def test_a_sum_that_no_number_can_hold_is_refused() -> None:
    with pytest.raises(ValueRefused, match=r"context key 'k'"):
        apply_operation(of("increment", 1), encode(2**64 - 1))
    with pytest.raises(ValueRefused, match=r"context key 'k'"):
        apply_operation(of("increment", 1e308), encode(1e308))


def test_a_preview_sees_its_own_writes_and_changes_nothing() -> None:
    context = {"n": encode(1), "gone": encode(2)}
    operations = [
        of("increment", 1, "n"),
        of("increment", 1, "n"),
        of("delete", key="gone"),
        of("append", 1, "l"),
        of("append", 2, "l"),
    ]

    assert preview(operations, context, 100) == {"n": b"3", "gone": None, "l": b"[1,2]"}
    assert context == {"n": b"1", "gone": b"2"}


def test_a_preview_refuses_what_grows_beyond_the_limit() -> None:
    assert preview([of("append", "x" * 6)], {"k": b"[]"}, 10) == {"k": b'["xxxxxx"]'}
    with pytest.raises(ValueRefused, match=r"^context key 'k' has 11 bytes and the limit is 10"):
        preview([of("append", "x" * 7)], {"k": b"[]"}, 10)
    assert preview([of("set", "x" * 50), of("delete")], {}, 100) == {"k": None}


@given(st.lists(st.integers(-1_000, 1_000)))
def test_increments_and_appends_lose_nothing_in_any_order(numbers: list[int]) -> None:
    operations = [operation for n in numbers for operation in (of("increment", n, "sum"), of("append", n, "list"))]
    context: dict[str, bytes] = {}
    for operation in operations:
        context |= {key: value for key, value in preview([operation], context, 10**6).items() if value is not None}

    together = preview(operations, {}, 10**6)
    assert context == together
    if numbers:
        assert decode(context["sum"]) == sum(numbers)
        assert decode(context["list"]) == numbers
