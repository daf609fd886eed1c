"""What the clients of Kafka log, without the same line a hundred times."""

from __future__ import annotations

__all__ = ["LOGGER", "RepeatsFilter"]

import logging
import re
import time
from collections.abc import Callable

LOGGER = "headrace.kafka"

REPEAT_S = 30.0
_LINES_MAX = 1_000
_NUMBERS = re.compile(r"\(after \d+ms[^)]*\)|\d+ms\b|#(?:consumer|producer)-\d+")


class RepeatsFilter(logging.Filter):
    """Lets a line pass that has not passed for :data:`REPEAT_S`; how long something took does not make it another one.

    A client that does not reach a broker says so at every attempt.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._passed: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether *record* is logged."""
        now = self._clock()
        line = _NUMBERS.sub("", record.getMessage())
        if now - self._passed.get(line, now - REPEAT_S) < REPEAT_S:
            return False
        if len(self._passed) >= _LINES_MAX:
            self._passed.clear()
        self._passed[line] = now
        return True
