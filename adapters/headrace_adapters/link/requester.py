"""The client's end of a connection: sends requests and gives each its answer.

It keeps to the bounds that the worker told it, so requests that are too many wait here and not on the wire. Those
that may last for days have places of their own: a signal must get through to the run that they wait for.
"""

from __future__ import annotations

__all__ = ["Requester"]

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

import orjson

from headrace.commands import Command
from headrace.errors import HeadraceError, StoreError, ValueRefused
from headrace_adapters.link.channel import Channel, FrameSplitter, encode_frame
from headrace_adapters.link.failures import error_from_wire, gone_error, stopped_error
from headrace_adapters.link.limits import EVENTS_AHEAD_MAX, LinkLimits


class _Reply:
    """A request with one answer; *command* is what it hands over, if it does."""

    __slots__ = ("command", "future")

    def __init__(self, future: asyncio.Future[Any], command: Command | None) -> None:
        self.future = future
        self.command = command

    def take(self, response: dict[str, Any]) -> None:
        if self.future.done():
            return
        if "error" in response:
            self.future.set_exception(error_from_wire(response["error"]))
        else:
            self.future.set_result(response["value"])

    def fail(self, error: HeadraceError | None) -> None:
        if not self.future.done():
            self.future.set_exception(error or stopped_error(self.command))


class _Stream:
    """A request with any number of answers."""

    __slots__ = ("responses",)

    def __init__(self) -> None:
        self.responses: asyncio.Queue[dict[str, Any] | HeadraceError] = asyncio.Queue()

    def take(self, response: dict[str, Any]) -> None:
        self.responses.put_nowait(error_from_wire(response["error"]) if "error" in response else response)

    def fail(self, error: HeadraceError | None) -> None:
        self.responses.put_nowait(error or stopped_error(None))


class Requester(Channel):
    """Sends requests over one connection, many at once, within *limits*."""

    def __init__(self, limits: LinkLimits) -> None:
        super().__init__(limits.frame_bytes_max)
        self._pending: dict[int, _Reply | _Stream] = {}
        self._last = 0
        self._why: HeadraceError | None = None
        self.keep_to(limits)

    def keep_to(self, limits: LinkLimits) -> None:
        """Take over the bounds of the worker; to be called before there are requests that they concern."""
        self._limits = limits
        self._splitter = FrameSplitter(limits.frame_bytes_max)
        self._in_flight = asyncio.Semaphore(limits.in_flight_max)
        self._waiting = asyncio.Semaphore(limits.waiting_max)

    async def ask(self, op: str, fields: Mapping[str, Any], command: Command | None = None) -> Any:
        """The answer to a request that the worker answers by itself; *command* is what it hands over.

        Raises what the worker raised, :class:`StoreError` when it stopped, and :class:`ValueRefused` for a request
        that is too large.
        """
        async with self._in_flight:
            return await self.ask_in_place(op, fields, command)

    async def ask_in_place(self, op: str, fields: Mapping[str, Any], command: Command | None = None) -> Any:
        """As :meth:`ask`, for one that holds its place already."""
        while not self.is_writable:
            await self.writable()
        reply = _Reply(asyncio.get_running_loop().create_future(), command)
        number = self._send(op, fields, reply)
        try:
            return await reply.future
        except asyncio.CancelledError:
            self._abandon(number)
            raise
        finally:
            self._pending.pop(number, None)

    @contextlib.asynccontextmanager
    async def place(self, timeout_s: float | None = None) -> AsyncIterator[bool]:
        """Hold one of the places of requests that may last; gives False when none became free in time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._waiting.acquire()
        except TimeoutError:
            yield False
            return
        try:
            yield True
        finally:
            self._waiting.release()

    async def stream(self, op: str, fields: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The events that answer a request; errors as in :meth:`ask`, after the events that came before."""
        async with self.place():
            while not self.is_writable:
                await self.writable()
            stream = _Stream()
            number = self._send(op, fields, stream)
            taken = 0
            try:
                while True:
                    response = await stream.responses.get()
                    if isinstance(response, HeadraceError):
                        raise response
                    if "event" not in response:
                        return
                    yield response["event"]
                    taken += 1
                    if taken == EVENTS_AHEAD_MAX // 2:
                        self.send(encode_frame({"op": "more", "request": number, "count": taken}))
                        taken = 0
            finally:
                # To the server it has ended, or was ended by the end of the connection, unless it is left early.
                self._abandon(number)

    async def close(self) -> None:
        """Let go of the connection; who still waits for an answer gets a :class:`StoreError`."""
        self._why = self._why or StoreError("this connection to the worker was closed; connect again, then try again")
        await self.finish(1.0)

    def frame_received(self, frame: bytes | None) -> None:
        try:
            response = orjson.loads(frame or b"")
            number = response["id"]
            if number is None:
                raise error_from_wire(response["error"])
            pending = self._pending.get(number)
            if pending is not None:
                pending.take(response)
                if "event" not in response:
                    del self._pending[number]
        except HeadraceError as error:
            self._break(error)
        except (ValueError, KeyError, TypeError):
            self._break(HeadraceError("the worker's answer cannot be read; use the same version of Headrace"))

    def closed(self) -> None:
        pending, self._pending = self._pending, {}
        for request in pending.values():
            request.fail(self._why)

    def _send(self, op: str, fields: Mapping[str, Any], pending: _Reply | _Stream) -> int:
        self._last += 1
        number = self._last
        frame = encode_frame({"id": number, "op": op, **fields})
        if len(frame) > self._limits.frame_bytes_max:
            raise ValueRefused(
                f"this request has {len(frame)} bytes and the limit is {self._limits.frame_bytes_max}: keep large "
                "data elsewhere and pass its address, or raise the limit of the worker (frame_bytes_max)"
            )
        if b"\n" in frame:
            raise ValueRefused("this request holds a value with line breaks between its parts; give it as compact JSON")
        if not self.is_open:
            raise self._why or gone_error()
        self._pending[number] = pending
        self.send(frame)
        return number

    def _abandon(self, number: int) -> None:
        """Tell the worker that nobody waits for *number*, if an answer to it is still to come."""
        if self._pending.pop(number, None) is not None:
            self.send(encode_frame({"op": "abandon", "request": number}))

    def _break(self, error: HeadraceError) -> None:
        """What the peer says makes no sense, so nobody can rely on an answer of it."""
        self._why = self._why or error
        if self._transport is not None:
            self._transport.abort()
