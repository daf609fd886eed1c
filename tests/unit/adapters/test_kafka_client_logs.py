from __future__ import annotations

import logging

from headrace_adapters.kafka.client_logs import REPEAT_S, RepeatsFilter


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("headrace.kafka", logging.ERROR, "", 0, "%s", (text,), None)


REFUSED = "FAIL [headrace#producer-{}] [thrd:h:1/bootstrap]: h:1: Connection refused (after {}ms in state CONNECT)"


def test_a_line_that_repeats_passes_now_and_then() -> None:
    clock = Clock()
    passes = RepeatsFilter(clock)

    assert passes.filter(record("down"))
    clock.now = REPEAT_S / 2
    assert not passes.filter(record("down"))
    assert passes.filter(record("up"))
    clock.now = REPEAT_S
    assert passes.filter(record("down"))
    assert not passes.filter(record("down"))


def test_how_long_something_took_and_by_whom_makes_it_no_other_line() -> None:
    passes = RepeatsFilter(Clock())

    assert passes.filter(record(REFUSED.format(1, 0)))
    assert not passes.filter(record(REFUSED.format(1, 17)))
    assert not passes.filter(record(REFUSED.format(2, 3)))
    assert passes.filter(record(REFUSED.replace("h:1", "h:2").format(1, 0)))


def test_what_is_remembered_is_bounded() -> None:
    passes = RepeatsFilter(Clock())

    for number in range(5_000):
        assert passes.filter(record(f"line {number}"))

    assert len(passes._passed) <= 1_000
