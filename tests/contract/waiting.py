"""Waiting for what happens in other threads: looked at again and again, and an error when it takes too long."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

# Long for a machine that does much else; nothing is made to wait this long when all is well.
RESULT_S = 10.0


async def eventually(look: Callable[[], T | None] | Callable[[], Awaitable[T | None]]) -> T:
    """The first thing that *look* gives which counts as true."""
    async with asyncio.timeout(RESULT_S):
        while True:
            found = look()
            seen = await found if inspect.isawaitable(found) else found
            if seen:
                return seen  # type: ignore[return-value]
            await asyncio.sleep(0.005)
