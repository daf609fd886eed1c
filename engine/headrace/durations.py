"""Durations as people write them: a number of milliseconds, ``500ms`` or ``1.5m``, or ISO-8601 (``PT2H30M``).

Whatever the form, the engine counts whole milliseconds. A fraction of one is rounded up, because a timer may be late
by a little but is never early. Text is computed as decimal fractions, so ``0.1s`` is 100 ms and not a bit more.
"""

from __future__ import annotations

__all__ = ["DURATION_MS_MAX", "parse_duration_ms"]

import math
import re
from fractions import Fraction

DURATION_MS_MAX = 100 * 365 * 24 * 3_600_000
"""A hundred years: whoever waits longer has mistaken the unit."""

_TEXT_CHARS_MAX = 64  # Conversion of a long row of digits is not linear; no sensible duration is longer.

_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_SHORT = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+) ?(ms|s|m|h|d)")

_NUMBER = r"([0-9]+(?:[.,][0-9]+)?)"
_ISO = re.compile(rf"P(?:{_NUMBER}W)?(?:{_NUMBER}D)?(?:T(?:{_NUMBER}H)?(?:{_NUMBER}M)?(?:{_NUMBER}S)?)?")
_ISO_UNIT_MS = (7 * 86_400_000, 86_400_000, 3_600_000, 60_000, 1_000)

_EXPECTED = "expected a number of milliseconds, or text such as 500ms, 5s, 1.5m, 1h, 1d or PT2H30M"


def parse_duration_ms(value: object) -> int:
    """The whole milliseconds of a duration, rounded up, from 0 to :data:`DURATION_MS_MAX`.

    A number counts milliseconds; text is a number with its unit (ms, s, m, h, d) or ISO-8601 in weeks, days, hours,
    minutes and seconds (a month or a year is no fixed time). Raises :class:`ValueError`, which says what was expected.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{_shown(value)} is not a duration: {_EXPECTED}")
    if isinstance(value, str):
        duration_ms = _text_ms(value)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is not a duration: {_EXPECTED}")
    else:
        duration_ms = math.ceil(value)
    # The raw number is looked at too: -0.5 would be rounded up to 0.
    if duration_ms < 0 or (not isinstance(value, str) and value < 0):
        raise ValueError(f"duration {_shown(value)} is negative: {_EXPECTED}")
    if duration_ms > DURATION_MS_MAX:
        raise ValueError(f"duration {_shown(value)} is longer than 100 years: {_EXPECTED}")
    return duration_ms


def _text_ms(text: str) -> int:
    stripped = text.strip()
    if len(stripped) <= _TEXT_CHARS_MAX:
        if short := _SHORT.fullmatch(stripped):
            return math.ceil(Fraction(short[1]) * _UNIT_MS[short[2]])
        iso = _ISO.fullmatch(stripped)
        # ``P`` and ``P1DT`` fit the pattern and name no time after their last letter.
        if iso and stripped[-1] not in "PT":
            parts = zip(iso.groups(), _ISO_UNIT_MS, strict=True)
            return math.ceil(sum(Fraction(part.replace(",", ".")) * unit_ms for part, unit_ms in parts if part))
        if stripped.startswith("-") and (_SHORT.fullmatch(stripped[1:]) or _ISO.fullmatch(stripped[1:])):
            raise ValueError(f"duration {_shown(text)} is negative: {_EXPECTED}")
    raise ValueError(f"{_shown(text)} is not a duration: {_EXPECTED}")


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python writes out
        return "an integer of thousands of digits"
    return text if len(text) <= _TEXT_CHARS_MAX else text[:_TEXT_CHARS_MAX] + "..."
