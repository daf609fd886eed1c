"""Many starts at once, with back-pressure: what is read from their source is bounded by what is under way.

An adapter that can hand over many in one go does so by itself (``Client.start_many``); for every other one they are
submitted here, a bounded number at once.
"""

from __future__ import annotations

__all__ = ["Starts", "checked_bound", "each", "starts_failed", "submit_each"]

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final, TypeVar

from headrace.commands import Command, Start
from headrace.errors import HeadraceError, StartsFailed

if TYPE_CHECKING:
    from headrace.adapter import Answer

_T = TypeVar("_T")

Starts = Iterable[Start] | AsyncIterable[Start]

# Each start that is submitted by itself has a task; more of them at once make none of them faster.
SUBMITTED_MAX: Final = 256


async def submit_each(submit: Callable[[Command], Awaitable[Answer]], starts: Starts, outstanding_max: int) -> int:
    """Submit every start; gives how many. Raises as ``Client.start_many`` says."""
    room = asyncio.Semaphore(min(checked_bound(outstanding_max), SUBMITTED_MAX))
    tasks: set[asyncio.Task[None]] = set()
    failures: dict[str, str] = {}
    defects: list[BaseException] = []
    number = 0

    async def submit_one(start: Start) -> None:
        try:
            answer = await submit(start)
            if answer.outcome == "refused":
                failures[start.run_id] = answer.reason
        except HeadraceError as error:
            failures[start.run_id] = str(error)
        except Exception as error:  # noqa: BLE001 (raised below, when the others have ended)
            defects.append(error)
        finally:
            room.release()

    try:
        async for start in each(starts):
            await room.acquire()
            if failures or defects:
                break
            number += 1
            task = asyncio.create_task(submit_one(start))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    finally:
        if tasks:
            await asyncio.wait(set(tasks))
    if defects:
        raise defects[0]
    if failures:
        raise starts_failed(failures, number - len(failures))
    return number


def checked_bound(outstanding_max: int) -> int:
    """The bound, if it is one."""
    if outstanding_max < 1:
        raise ValueError(f"outstanding_max is at least 1, not {outstanding_max}")
    return outstanding_max


def starts_failed(failures: Mapping[str, str], durable: int) -> StartsFailed:
    """The error for starts that failed, with the reason by run id."""
    named = ", ".join(repr(run_id) for run_id in list(failures)[:5]) + (", ..." if len(failures) > 5 else "")
    return StartsFailed(
        f"{len(failures)} of {durable + len(failures)} starts failed ({named}): {next(iter(failures.values()))} (the other "
        f"{durable} are durable; to start all of them again under the same run ids is harmless)",
        tuple(failures),
    )


async def each(values: Iterable[_T] | AsyncIterable[_T]) -> AsyncIterator[_T]:
    """The values of an iterable of either kind."""
    if isinstance(values, AsyncIterable):
        async for value in values:
            yield value
    else:
        for value in values:
            yield value
