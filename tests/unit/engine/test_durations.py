from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.durations import DURATION_MS_MAX, parse_duration_ms


@pytest.mark.parametrize(
    ("written", "duration_ms"),
    [
        (0, 0),
        (1000, 1000),
        (0.5, 1),
        (1000.0, 1000),
        ("500ms", 500),
        ("5s", 5_000),
        ("1.5m", 90_000),
        ("1h", 3_600_000),
        ("1d", 86_400_000),
        ("2 h", 7_200_000),
        (" 5s ", 5_000),
        (".5s", 500),
        ("0.1s", 100),
        ("PT2H30M", 9_000_000),
        ("P1DT12H", 129_600_000),
        ("PT1M30S", 90_000),
        ("PT0.5S", 500),
        ("PT0,5S", 500),
        ("P2W", 1_209_600_000),
        ("P1D", 86_400_000),
        ("PT0S", 0),
    ],
)
def test_every_way_of_writing_a_duration_gives_milliseconds(written: object, duration_ms: int) -> None:
    assert duration_ms == parse_duration_ms(written)


@pytest.mark.parametrize(("written", "duration_ms"), [("0.0001s", 1), ("1.0001s", 1_001), (0.001, 1), ("PT0.0001S", 1)])
def test_a_fraction_of_a_millisecond_is_rounded_up_so_that_nothing_is_early(written: object, duration_ms: int) -> None:
    assert duration_ms == parse_duration_ms(written)


@pytest.mark.parametrize(
    "written",
    [
        *("soon", "", " ", "5", "s", "5 parsecs", "5S", "1e3s", "0x5s", "\u0665s", "5s5s", "1h30m", "--5s", "inf", "nan"),
        *("P", "PT", "P1DT", "P1Y", "P1M", "PT5", "5PT", "T5S", "PT5S5H", "p1d"),
        *(True, False, None, [], {}, b"5s", math.nan, math.inf, -math.inf, pytest.param("9" * 10_000 + "s", id="long")),
    ],
)
def test_what_is_no_duration_is_refused_and_the_error_says_what_was_expected(written: Any) -> None:
    with pytest.raises(ValueError, match="is not a duration: expected a number of milliseconds, or text such as 500ms"):
        parse_duration_ms(written)


@pytest.mark.parametrize("written", [-1, -0.5, "-5s", "-PT5S", -(10**30)])
def test_a_negative_duration_is_refused_as_negative(written: object) -> None:
    with pytest.raises(ValueError, match="is negative"):
        parse_duration_ms(written)


@pytest.mark.parametrize(
    "written",
    [DURATION_MS_MAX + 1, "36501d", "P99999W", 10**40, pytest.param(10**5000, id="5000 digits"), 1e300, "9" * 40 + "d"],
)
def test_a_duration_of_more_than_a_hundred_years_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="longer than 100 years"):
        parse_duration_ms(written)


def test_a_hundred_years_are_allowed() -> None:
    assert DURATION_MS_MAX == parse_duration_ms("36500d") == parse_duration_ms(DURATION_MS_MAX)


@given(st.integers(min_value=0, max_value=DURATION_MS_MAX))
def test_whole_milliseconds_are_themselves_as_number_and_as_text(duration_ms: int) -> None:
    assert duration_ms == parse_duration_ms(duration_ms) == parse_duration_ms(f"{duration_ms}ms")


@given(st.one_of(st.text(max_size=12), st.from_regex(r"-?P?T?[0-9.]{0,6}[WDHMSdhms]{0,2}", fullmatch=True)))
def test_any_text_is_a_duration_in_bounds_or_a_value_error(text: str) -> None:
    try:
        duration_ms = parse_duration_ms(text)
    except ValueError:
        return
    assert 0 <= duration_ms <= DURATION_MS_MAX
