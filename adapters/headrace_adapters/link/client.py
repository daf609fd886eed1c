"""The other side of a link: a client that reaches the running worker of a folder."""

from __future__ import annotations

__all__ = ["LinkClient", "connect"]

import asyncio
import contextlib
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
from headrace_adapters.link.limits import LinkLimits
from headrace_adapters.link.requester import Requester
from headrace_topics.jobs_record import encode_command

# A worker that is busy may take a while; one that takes longer hangs.
ANSWER_TIMEOUT_S = 10.0


async def connect(folder: Path, *, timeout_s: float = ANSWER_TIMEOUT_S) -> LinkClient | None:
    """Reach the worker of *folder*; None where none runs, so that the caller may open the folder itself.

    Raises :class:`StoreError` where a worker is there and cannot be talked to: it did not answer within *timeout_s*,
    it is another user's, or its version speaks another protocol.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    address = read_address(folder)
    reached = None if address is None else await _reach(folder, address, deadline)
    if address is None or reached is None:
        return None
    _, requester = await loop.create_unix_connection(lambda: Requester(LinkLimits()), sock=reached)
    try:
        if address.protocol != PROTOCOL:
            raise StoreError(
                f"the worker of {folder} (process {address.pid}, Headrace {address.version}) speaks protocol "
                f"{address.protocol} and this version speaks {PROTOCOL}; use the version of the worker, or stop it"
            )
        requester.keep_to(await _greet(requester, deadline))
        return LinkClient(requester, address)
    except TimeoutError:
        await requester.close()
        raise _silent(folder, address) from None
    except BaseException as error:
        is_gone = not requester.is_open
        await requester.close()
        if isinstance(error, StoreError) and is_gone:
            # It stopped between the two, and what it left is a folder without a worker.
            return None
        raise


async def _reach(folder: Path, address: Address, deadline: float) -> socket.socket | None:
    """A socket that is connected to the worker at *address*, or None where nobody listens."""
    path = address.path(folder)
    while True:
        reached = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        reached.setblocking(False)
        try:
            # A local socket connects at once or not at all.
            reached.connect(path)
            return reached
        except BlockingIOError:
            reached.close()
            if asyncio.get_running_loop().time() > deadline:
                raise _silent(folder, address) from None
            # More peers at once than the kernel lets wait; there is nothing to be woken by.
            await asyncio.sleep(0.02)
        except (ConnectionRefusedError, FileNotFoundError, NotADirectoryError):
            reached.close()
            return None
        except OSError as error:
            reached.close()
            raise StoreError(
                f"the worker of {folder} (process {address.pid}) cannot be reached at {path} "
                f"({error.strerror or error}); act as the user who started it, or give its folder by a shorter path"
            ) from None


async def _greet(requester: Requester, deadline: float) -> LinkLimits:
    """Ask the worker for its bounds; raises ``TimeoutError`` when it does not answer until *deadline*."""
    async with asyncio.timeout_at(deadline):
        hello = await requester.ask("hello", {"protocol": PROTOCOL})
    try:
        return LinkLimits(
            frame_bytes_max=hello["frameBytesMax"], in_flight_max=hello["inFlightMax"], waiting_max=hello["waitingMax"]
        )
    except (KeyError, TypeError, ValueError):
        raise HeadraceError("the worker's answer cannot be read; use the same version of Headrace") from None


def _silent(folder: Path, address: Address) -> StoreError:
    return StoreError(
        f"the worker of {folder} (process {address.pid}) is there and does not answer; look whether it is stopped or "
        "overloaded, then try again"
    )


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
            async with self._requester.place():
                return await self._result(run_id, None)
        if not timeout_s > 0:
            return await self._look(run_id)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        try:
            async with asyncio.timeout_at(deadline + ANSWER_TIMEOUT_S):
                async with self._requester.place(timeout_s) as is_free:
                    left_s = deadline - loop.time()
                    if is_free and left_s > 0:
                        return await self._result(run_id, left_s)
                # So many others wait that time is over: all that is left is to look once.
                return await self._look(run_id)
        except TimeoutError:
            raise StoreError(
                f"the worker (process {self.worker.pid}) does not answer; look whether it is stopped or overloaded, "
                "then try again"
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
        await self._requester.close()

    async def _look(self, run_id: str) -> RunResult | None:
        return _result(await self._requester.ask("result", {"runId": run_id, "timeoutS": 0}))

    async def _result(self, run_id: str, timeout_s: float | None) -> RunResult | None:
        return _result(await self._requester.ask_in_place("result", {"runId": run_id, "timeoutS": timeout_s}))


def _result(value: dict[str, Any] | None) -> RunResult | None:
    if value is None:
        return None
    return RunResult(
        run_id=value["runId"],
        blueprint_id=value["blueprintId"],
        version=value["version"],
        status=value["status"],
        output=value["output"],
        context=value["context"],
        errors=value["errors"],
        started_at_ms=value["startedAt"],
        ended_at_ms=value["endedAt"],
    )
