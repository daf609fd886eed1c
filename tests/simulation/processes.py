"""Processes that run worlds. They are made anew: whoever makes them may have threads of clients, which no fork survives."""

from __future__ import annotations

__all__ = ["process_pool"]

import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

ROOT = str(Path(__file__).parents[2])


@contextmanager
def process_pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """So many processes, in which these tests can be imported.

    They look for modules where this one does; and pytest imports tests without looking for them there.
    """
    added = ROOT not in sys.path
    if added:
        sys.path.append(ROOT)
    try:
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            yield pool
    finally:
        if added:
            sys.path.remove(ROOT)
