"""Delays before further attempts."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.retry import DELAY_MS_MAX, retry_delay_ms


@dataclass
class Policy:
    retry_delay_ms: int = 100
    retry_backoff: float = 2
    max_retry_delay_ms: int | None = None
    retry_jitter: float = 0


def delays(policy: Policy, number: int = 5, seed: str = "r/n") -> list[int]:
    return [retry_delay_ms(policy, seed, attempt) for attempt in range(1, number + 1)]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Policy(), [100, 200, 400, 800, 1_600]),
        (Policy(retry_backoff=1), [100] * 5),
        (Policy(retry_backoff=1.5), [100, 150, 225, 338, 506]),
        (Policy(max_retry_delay_ms=300), [100, 200, 300, 300, 300]),
        (Policy(max_retry_delay_ms=50), [50] * 5),
        (Policy(retry_delay_ms=0, retry_jitter=1), [0] * 5),
    ],
    ids=str,
)
def test_the_first_retry_waits_the_delay_and_each_further_one_the_factor_more(policy: Policy, expected: list[int]) -> None:
    assert delays(policy) == expected


def test_a_delay_has_a_ceiling_however_many_attempts_there_are() -> None:
    assert retry_delay_ms(Policy(), "r", 1_000) == DELAY_MS_MAX
    assert retry_delay_ms(Policy(retry_backoff=1e300), "r", 10**9) == DELAY_MS_MAX
    # Here a factor goes beyond what a float can hold, and before that its product with the delay does.
    for attempt in range(1_010, 1_030):
        assert DELAY_MS_MAX // 2 <= retry_delay_ms(Policy(retry_jitter=0.5), "r", attempt) <= DELAY_MS_MAX
    assert retry_delay_ms(Policy(max_retry_delay_ms=7), "r", 10**9) == 7


@given(st.text(), st.integers(1, 50), st.floats(0, 1))
def test_jitter_stays_within_its_bounds_and_is_drawn_alike_each_time(seed: str, attempt: int, jitter: float) -> None:
    plain = retry_delay_ms(Policy(max_retry_delay_ms=10_000), seed, attempt)
    policy = Policy(retry_jitter=jitter)
    ceiling = Policy(retry_jitter=jitter, max_retry_delay_ms=10_000)

    drawn = retry_delay_ms(ceiling, seed, attempt)
    assert 0 <= drawn <= 10_000
    assert drawn == retry_delay_ms(ceiling, seed, attempt)
    if attempt <= 5:
        assert plain * (1 - jitter) - 1 <= retry_delay_ms(policy, seed, attempt) <= plain * (1 + jitter) + 1


def test_jitter_differs_between_runs_and_attempts() -> None:
    policy = Policy(retry_delay_ms=1_000_000, retry_backoff=1, retry_jitter=0.5)

    assert len({retry_delay_ms(policy, f"r{number}/n", 1) for number in range(50)}) == 50
    assert len(set(delays(policy, 50))) == 50


def test_an_attempt_is_counted_from_one() -> None:
    with pytest.raises(AssertionError):
        retry_delay_ms(Policy(), "r", 0)
