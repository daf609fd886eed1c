"""The bounds of a link, each with its reason. The worker's hold: a client learns them when it connects."""

from __future__ import annotations

__all__ = ["EVENTS_AHEAD_MAX", "LinkLimits"]

from dataclasses import dataclass

from headrace.limits import Limits

# Events that a server sends before its reader has asked for more; one of them may be as large as a value.
EVENTS_AHEAD_MAX = 64


@dataclass(frozen=True, slots=True)
class LinkLimits:
    """The bounds that a worker may set.

    *frame_bytes_max*: one request or one answer, so what one peer can make the other hold at once.
    *in_flight_max*: requests of one connection that are being answered; the server reads no further ones meanwhile.
    *waiting_max*: results that one connection waits for and events that it follows. They may last for days, so they
    are counted apart: otherwise nobody could send the signal that ends them.
    *value_bytes_max*: one value within a command, as in :class:`headrace.limits.Limits`.
    """

    frame_bytes_max: int = 8 * 1024 * 1024
    in_flight_max: int = 1_024
    waiting_max: int = 10_000
    value_bytes_max: int = Limits().value_bytes_max

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        # Less than this could not hold an error and what to do about it.
        if self.frame_bytes_max < 4_096:
            raise ValueError(f"frame_bytes_max must be at least 4096, not {self.frame_bytes_max}")
