"""Processes that run worlds. They are made anew: whoever makes them may have threads of clients, which no fork survives."""

from __future__ import annotations

__all__ = ["in_order"]

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

PartT = TypeVar("PartT")
DoneT = TypeVar("DoneT")

ROOT = str(Path(__file__).parents[2])


def in_order(run: Callable[[PartT], DoneT], parts: Iterator[PartT], jobs: int, ahead: int) -> Iterator[DoneT]:
    """What *run* gives for each part, in their order, by so many processes; with one, in this one.

    At most *ahead* parts are given out and not told of yet, so whoever has enough of it has little to wait for.
    """
    if jobs == 1:
        yield from map(run, parts)
        return
    with process_pool(jobs) as pool:
        running: list[Future[DoneT]] = []
        try:
            while True:
                while len(running) < ahead and (part := next(parts, None)) is not None:
                    running.append(pool.submit(run, part))
                if not running:
                    return
                yield running.pop(0).result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


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
