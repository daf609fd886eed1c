"""The worker's end of one connection: reads requests, asks the worker's own client, sends its answers.

Requests are answered side by side and in no order, but they are handed to the client in the order in which they came,
so a signal that was sent after a start arrives after it. While ``in_flight_max`` of them are being answered, or the
peer does not take its answers, nothing further is read, and the kernel stops the peer.
"""

from __future__ import annotations

__all__ = ["Connection"]

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable
from typing import Any

from headrace.adapter import Client
from headrace.errors import CommandRefused, HeadraceError, RecordRefused, ValueRefused
from headrace_adapters.link.address import PROTOCOL, installed_version
from headrace_adapters.link.channel import Channel, encode_frame
from headrace_adapters.link.failures import error_to_wire, stopped_error, stopping_error
from headrace_adapters.link.limits import EVENTS_AHEAD_MAX, LinkLimits
from headrace_adapters.link.request import (
    Abandon,
    GetEvents,
    GetResult,
    GetRuns,
    GetStatus,
    Hello,
    More,
    Request,
    Submit,
    is_waiting,
    read_id,
    read_object,
    read_request,
)

_log = logging.getLogger(__name__)


class Connection(Channel):
    """One connection; *on_closed* is called once, when it is gone."""

    def __init__(self, client: Client, limits: LinkLimits, on_closed: Callable[[Connection], None]) -> None:
        super().__init__(limits.frame_bytes_max)
        self._client = client
        self._limits = limits
        self._on_closed = on_closed
        self._unread: deque[bytes | None] = deque()
        self._in_flight: dict[int, asyncio.Task[None]] = {}
        self._waiting: dict[int, asyncio.Task[None]] = {}
        self._credits: dict[int, asyncio.Semaphore] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_reading = True
        self._is_stopping = False

    def fileno(self) -> int:
        """The descriptor of the socket, -1 when it is closed."""
        transport_socket = None if self._transport is None else self._transport.get_extra_info("socket")
        return -1 if transport_socket is None else int(transport_socket.fileno())

    def opened(self) -> None:
        if self._is_stopping and self._transport is not None:
            self._transport.close()

    def frame_received(self, frame: bytes | None) -> None:
        self._unread.append(frame)
        self._read()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._read()

    def closed(self) -> None:
        self._unread.clear()
        self._cancel_all()
        self._on_closed(self)

    def refuse(self) -> None:
        """Take nothing: the worker stopped while this connection was being made."""
        self._is_stopping = True

    async def stop(self, grace_s: float) -> None:
        """Take no further request, answer those in flight within *grace_s*, and close.

        What waits for others to do something is not waited for: the peer sees the end of the connection.
        """
        self._is_stopping = True
        if self._in_flight:
            await asyncio.wait([*self._in_flight.values()], timeout=grace_s)
        self._cancel_all()
        if self._tasks:
            await asyncio.wait([*self._tasks], timeout=1.0)
        await self.finish(1.0)

    def _read(self) -> None:
        while self._unread and self.is_writable and len(self._in_flight) < self._limits.in_flight_max:
            self._handle(self._unread.popleft())
        wanted = not self._unread
        if wanted != self._is_reading:
            self._is_reading = wanted
            self.read_on(wanted)

    def _handle(self, frame: bytes | None) -> None:
        number: int | None = None
        try:
            if frame is None:
                raise RecordRefused(
                    f"a request has more than {self._limits.frame_bytes_max} bytes and was skipped: keep large data "
                    "elsewhere and pass its address, or raise the limit of the worker (frame_bytes_max)"
                )
            data = read_object(frame)
            if data.get("op") in ("more", "abandon"):
                self._steer(read_request(data, self._limits.value_bytes_max))
                return
            unconfirmed = read_id(data)
            if unconfirmed in self._in_flight or unconfirmed in self._waiting:
                raise RecordRefused(f"field id of a request: {unconfirmed} is in use; expected a number of its own")
            number = unconfirmed
            if self._is_stopping:
                raise stopping_error()
            self._begin(number, read_request(data, self._limits.value_bytes_max))
        except HeadraceError as error:
            self._send_error(number, error)
        except Exception as error:  # noqa: BLE001 - whatever a frame holds, the other requests are answered
            self._fail(number, error)

    def _steer(self, request: Request) -> None:
        if isinstance(request, Abandon):
            task = self._in_flight.pop(request.request, None) or self._waiting.pop(request.request, None)
            self._credits.pop(request.request, None)
            if task is not None:
                task.cancel()
        elif isinstance(request, More):
            credit = self._credits.get(request.request)
            for _ in range(0 if credit is None else request.events):
                assert credit is not None
                credit.release()

    def _begin(self, number: int, request: Request) -> None:
        lane = self._in_flight
        if is_waiting(request):
            lane = self._waiting
            if len(lane) >= self._limits.waiting_max:
                raise CommandRefused(
                    f"this connection already waits for {len(lane)} results and histories, which is the limit: end "
                    "some, open another connection, or raise the limit of the worker (waiting_max)"
                )
        if isinstance(request, GetEvents):
            self._credits[number] = asyncio.Semaphore(EVENTS_AHEAD_MAX)
        task = asyncio.get_running_loop().create_task(self._answer(number, request, lane))
        lane[number] = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, number: int, request: Request, lane: dict[int, asyncio.Task[None]]) -> None:
        try:
            if isinstance(request, GetEvents):
                await self._stream(number, request, self._credits[number])
            else:
                self._send_value(number, await self._ask(request))
        except asyncio.CancelledError:
            if number not in lane or self._is_stopping:
                raise
            # Nobody here cancelled it: it is the worker that lets go of what it was asked.
            self._send_error(number, stopped_error(request.command if isinstance(request, Submit) else None))
        except HeadraceError as error:
            self._send_error(number, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this request only
            self._fail(number, error)
        finally:
            if lane.get(number) is asyncio.current_task():
                del lane[number]
            if isinstance(request, GetEvents):
                self._credits.pop(number, None)
            if self._unread:
                self._read()

    async def _ask(self, request: Request) -> Any:
        if isinstance(request, Submit):
            answer = await self._client.submit(request.command)
            return {"outcome": answer.outcome, "reason": answer.reason}
        if isinstance(request, GetResult):
            result = await self._client.result(request.run_id, request.timeout_s)
            return None if result is None else result.to_json()
        if isinstance(request, GetStatus):
            return await self._client.status(request.run_id)
        if isinstance(request, GetRuns):
            return await self._client.runs(states=request.states, flow=request.flow, limit=request.limit)
        assert isinstance(request, Hello)
        if request.protocol != PROTOCOL:
            raise RecordRefused(
                f"field protocol of a request: expected {PROTOCOL}, as the worker speaks it, not {request.protocol}; "
                "use the same version of Headrace"
            )
        return {
            "pid": os.getpid(),
            "version": installed_version(),
            "frameBytesMax": self._limits.frame_bytes_max,
            "inFlightMax": self._limits.in_flight_max,
            "waitingMax": self._limits.waiting_max,
        }

    async def _stream(self, number: int, request: GetEvents, credit: asyncio.Semaphore) -> None:
        events = self._client.events(request.run_id, follow=request.follow)
        try:
            async for event in events:
                await credit.acquire()
                await self.writable()
                self._send_bounded({"id": number, "event": event}, "an event")
        finally:
            # An iterator need not be a generator.
            if (close := getattr(events, "aclose", None)) is not None:
                await close()
        self.send(encode_frame({"id": number, "end": True}))

    def _send_value(self, number: int, value: Any) -> None:
        self._send_bounded({"id": number, "value": value}, "the answer")

    def _send_bounded(self, response: dict[str, Any], what: str) -> None:
        frame = encode_frame(response)
        if len(frame) > self._limits.frame_bytes_max:
            raise ValueRefused(
                f"{what} has {len(frame)} bytes and the limit is {self._limits.frame_bytes_max}: ask for less, or "
                "raise the limit of the worker (frame_bytes_max)"
            )
        self.send(frame)

    def _send_error(self, number: int | None, error: BaseException) -> None:
        wire = error_to_wire(error)
        frame = encode_frame({"id": number, "error": wire})
        if len(frame) > self._limits.frame_bytes_max:
            wire = {"type": wire["type"], "message": wire["message"][:500] + " ..."}
            frame = encode_frame({"id": number, "error": wire})
        self.send(frame)

    def _fail(self, number: int | None, error: Exception) -> None:
        _log.error("a request over the local socket failed; its sender was told", exc_info=error)
        self._send_error(number, error)

    def _cancel_all(self) -> None:
        for lane in (self._in_flight, self._waiting):
            tasks = [*lane.values()]
            lane.clear()
            for task in tasks:
                task.cancel()
