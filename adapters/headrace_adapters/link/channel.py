"""One end of a connection: frames in, frames out.

A frame is one JSON object on one line. What is sent within one turn of the loop leaves in one piece, since a system
call for each of thousands of small frames would cost more than all the rest.
"""

from __future__ import annotations

__all__ = ["Channel", "FrameSplitter", "encode_frame"]

import asyncio
from collections.abc import Iterator
from typing import Any, cast

import orjson

from headrace.errors import ValueRefused
from headrace_topics.json_values import reencode


def encode_frame(frame: Any) -> bytes:
    """Encode *frame*, without its line end; raises :class:`ValueRefused` for what is not JSON."""
    try:
        try:
            return orjson.dumps(frame)
        except TypeError as error:
            # orjson writes 254 levels, which a value may have by itself; a frame adds a few around it.
            if "Recursion" not in str(error):
                raise
            return reencode(frame)
    except TypeError as error:
        raise ValueRefused(f"this is not JSON and cannot be sent: {error}") from None


class FrameSplitter:
    """Cuts a stream of bytes into frames of *bytes_max* each, at most, and skips longer ones without keeping them."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self._rest = bytearray()
        self._skipping = False

    def split(self, data: bytes) -> Iterator[bytes | None]:
        """The frames that *data* completes; None stands for one that is too long, once. Empty lines are left out."""
        *lines, rest = data.split(b"\n")
        for line in lines:
            frame = line
            if self._rest:
                self._rest += line
                frame = bytes(self._rest)
                self._rest.clear()
            if self._skipping:
                self._skipping = False
            elif len(frame) > self.bytes_max:
                yield None
            elif frame:
                yield frame
        if self._skipping:
            return
        self._rest += rest
        if len(self._rest) > self.bytes_max:
            self._rest = bytearray()
            self._skipping = True
            yield None


class Channel(asyncio.Protocol):
    """The part that both ends share; a subclass says what a frame means."""

    def __init__(self, frame_bytes_max: int) -> None:
        self._splitter = FrameSplitter(frame_bytes_max)
        self._transport: asyncio.Transport | None = None
        self._outgoing: list[bytes] = []
        self._free = asyncio.Event()
        self._free.set()
        self.lost = asyncio.Event()

    def frame_received(self, frame: bytes | None) -> None:
        """*frame* came; None stands for one that was too long and is skipped."""
        raise NotImplementedError

    def opened(self) -> None:
        """The connection is there."""

    def closed(self) -> None:
        """The connection is gone, whoever ended it; nothing more comes and nothing more can be sent."""

    @property
    def is_open(self) -> bool:
        """Whether frames can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def is_writable(self) -> bool:
        """Whether the peer takes what it is sent; where it does not, it must not be sent more."""
        return self._free.is_set()

    async def writable(self) -> None:
        """Wait until the peer takes more, or is gone."""
        await self._free.wait()

    def send(self, frame: bytes) -> None:
        """Send *frame* soon; it is dropped when the connection is gone, which :meth:`closed` tells."""
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outgoing.append(frame)

    def read_on(self, wanted: bool) -> None:
        """Read what the peer sends, or leave it with the kernel, which then stops the peer."""
        if self._transport is not None and self.is_open:
            if wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    async def finish(self, wait_s: float) -> None:
        """Send what is left to send, for *wait_s* at most, and close."""
        if self._transport is None:
            return
        self._flush()
        self._transport.close()
        try:
            await asyncio.wait_for(self.lost.wait(), wait_s)
        except TimeoutError:
            self._transport.abort()
            await self.lost.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.opened()

    def data_received(self, data: bytes) -> None:
        for frame in self._splitter.split(data):
            self.frame_received(frame)

    def pause_writing(self) -> None:
        self._free.clear()

    def resume_writing(self) -> None:
        self._free.set()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._free.set()
        self.lost.set()
        self._outgoing.clear()
        self.closed()

    def _flush(self) -> None:
        if self._outgoing and self._transport is not None and self.is_open:
            self._outgoing.append(b"")
            self._transport.write(b"\n".join(self._outgoing))
        self._outgoing.clear()
