"""The other side of a link: a client that reaches the running worker of a folder."""

from __future__ import annotations

__all__ = ["LinkClient", "connect"]

import asyncio
import contextlib
import errno
import math
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson

from headrace.adapter import Answer, Client, RunResult
from headrace.commands import Command
from headrace.errors import HeadraceError, StoreError
from headrace_adapters.link.address import PROTOCOL, Address, read_address
from headrace_adapters.link.limits import EVENTS_AHEAD_MAX, LinkLimits
from headrace_adapters.link.requester import Requester
from headrace_topics.jobs_record import encode_command

# A worker that is busy may take a while; one that takes longer hangs.
ANSWER_TIMEOUT_S = 10.0


async def connect(folder: Path, *, timeout_s: float = ANSWER_TIMEOUT_S) -> LinkClient | None:
    """Reach the worker of *folder*; None where none runs, so that the caller may open the folder itself.

    Raises :class:`StoreError` where a worker is there and cannot be talked to: it did not answer within *timeout_s*,
    it is another user's, or its version speaks another protocol.
    """
    address = read_address(folder)
    if address is None:
        return None
    if address.protocol != PROTOCOL and await _reach(folder, address, timeout_s) is not None:
        raise StoreError(
            f"the worker of {folder} (process {address.pid}, Headrace {address.version}) speaks protocol "
            f"{address.protocol} and this version speaks {PROTOCOL}; use the version of the worker, or stop it"
        )
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    connected = await _reach(folder, address, timeout_s)
    if connected is None:
        return None
    _, requester = await loop.create_unix_connection(lambda: Requester(LinkLimits()), sock=connected)
    try:
        hello = await asyncio.wait_for(requester.ask("hello", {"protocol": PROTOCOL}), deadline - loop.time())
        requester.limits = LinkLimits(
            frame_bytes_max=hello["frameBytesMax"],
            in_flight_max=hello["inFlightMax"],
            waiting_max=hello["waitingMax"],
        )
        return LinkClient(requester, address)
    except TimeoutError:
        await requester.finish(0)
        raise _silent(folder, address, timeout_s) from None
    except StoreError:
        # It stopped between the two; what it left is as good as a folder without a worker.
        await requester.finish(0)
        return None
    except BaseException:
        await requester.finish(0)
        raise


class LinkClient(Client):
    """A client of the worker of another process. When that worker stops, every further call raises a StoreError.

    *worker* is what the worker says of itself. Get one from :func:`connect`.
    """

    def __init__(self, requester: Requester, worker: Address) -> None:
        self._requester = requester
        self.worker = worker

    async def submit(self, command: Command) -> Answer:
        fields = {"command": orjson.Fragment(encode_command(command))}
        value = await self._requester.ask("submit", fields, command=command)
        return Answer(value["outcome"], value["reason"])

    async def result(self, run_id: str, timeout_s: float | None = None) -> RunResult | None:
        """As in :class:`Client`; the worker does the waiting. Raises :class:`StoreError` when it falls silent."""
        if timeout_s is None or timeout_s == math.inf:
            return _result(await self._requester.wait("result", {"runId": run_id, "timeoutS": None}))
        if not timeout_s > 0:
            return _result(await self._requester.ask("result", {"runId": run_id, "timeoutS": 0}))
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        try:
            async with asyncio.timeout_at(deadline + ANSWER_TIMEOUT_S):
                if not await self._requester.may_wait(timeout_s):
                    # Too many others wait already: all that is left is to look once.
                    return _result(await self._requester.ask("result", {"runId": run_id, "timeoutS": 0}))
                left_s = max(0.0, deadline - loop.time())
                return _result(await self._requester.wait("result", {"runId": run_id, "timeoutS": left_s}))
        except TimeoutError:
            raise StoreError(
                f"the worker (process {self.worker.pid}) does not answer; look at what it does, then try again"
            ) from None

    async def status(self, run_id: str) -> dict[str, Any] | None:
        status: dict[str, Any] | None = await self._requester.ask("status", {"runId": run_id})
        return status

    async def runs(
        self, *, states: frozenset[str] | None = None, flow: str | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        fields = {"states": None if states is None else sorted(states), "flow": flow, "limit": limit}
        runs: list[dict[str, Any]] = await self._requester.ask("runs", fields)
        return runs

    async def events(self, run_id: str, *, follow: bool = False) -> AsyncIterator[dict[str, Any]]:
        async with contextlib.aclosing(self._requester.stream("events", {"runId": run_id, "follow": follow})) as events:
            async for event in events:
                yield event

    async def close(self) -> None:
        await self._requester.finish(1.0)
