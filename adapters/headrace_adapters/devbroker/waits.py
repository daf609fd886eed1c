"""Waits that end: by their time, or because nobody wants what they wait for any more.

What is waited for is done by other processes, which say nothing when it happens: so it is looked for, in beats.
"""

from __future__ import annotations

__all__ = ["Unwanted", "beats", "never"]

import time
from collections.abc import Callable, Iterator

from headrace.errors import StoreError

Unwanted = Callable[[], bool]
"""Asked at every beat, from the thread that waits: whether to give up."""

BEAT_S = 0.03


def never() -> bool:
    """Never unwanted."""
    return False


def beats(timeout_s: float, unwanted: Unwanted = never) -> Iterator[None]:
    """Beats until *timeout_s* are over, the first one at once; raises :class:`StoreError` when it is *unwanted*."""
    deadline = time.monotonic() + timeout_s
    while True:
        if unwanted():
            raise StoreError("the broker was told to stop before it was ready; start it again when it is wanted")
        yield
        if time.monotonic() >= deadline:
            return
        time.sleep(BEAT_S)
