"""A time limit that is put off whenever there is a sign of life."""

from __future__ import annotations

__all__ = ["Expiry"]

from collections.abc import Callable

from tests.simulation.broker.messages import CallIn, Cancel


class Expiry:
    """Calls *expired* once nobody has put it off for as long as was allowed. It begins with the first :meth:`put_off`.

    A timer that is put off is not made anew: when it fires it looks how much time is left. So a heartbeat costs nothing.
    """

    __slots__ = ("_at_ms", "_call_in_ms", "_clock_ms", "_expired", "_fires_ms", "_timer")

    def __init__(self, clock_ms: Callable[[], int], call_in_ms: CallIn, expired: Callable[[], None]) -> None:
        self._clock_ms = clock_ms
        self._call_in_ms = call_in_ms
        self._expired = expired
        self._at_ms = 0
        self._fires_ms = 0
        self._timer: Cancel | None = None

    def put_off(self, timeout_ms: int) -> None:
        """It expires so long after now."""
        now_ms = self._clock_ms()
        self._at_ms = at_ms = now_ms + timeout_ms
        if self._timer is not None:
            if self._fires_ms <= at_ms:
                return
            self._timer.cancel()
        self._fires_ms = at_ms
        self._timer = self._call_in_ms(timeout_ms, self._fire)

    def cancel(self) -> None:
        """It never expires, unless it is put off again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        left_ms = self._at_ms - self._clock_ms()
        if left_ms > 0:
            self._fires_ms = self._at_ms
            self._timer = self._call_in_ms(left_ms, self._fire)
        else:
            self._timer = None
            self._expired()
