"""Python's garbage collector, set for a process that holds many runs for long.

Runs are small objects without cycles, and a worker may hold a million of them: looking through all of them for cycles again
and again took a third of its time. What was loaded before the work begins is not looked at any more, and the rest
less often. Programs that work with ``App.work`` are left as they are, because a process belongs to its program.
"""

from __future__ import annotations

__all__ = ["settle_collector"]

import gc

THRESHOLDS = (100_000, 50, 100)


def settle_collector() -> None:
    """Once everything is loaded: collect, keep what is left for good, and look less often from now on."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
