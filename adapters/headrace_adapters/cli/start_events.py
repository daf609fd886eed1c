"""Start events from a file: one JSON object a line, as they stand in the jobs topic.

    {"runId": "r1", "blueprintId": "order", "version": "1", "input": {"n": 1}, "context": {"k": 2}}

``runId`` is what makes sending twice harmless: without one, every time is a new run. ``blueprintId`` may be left out
where the command names the flow; ``version``, ``input`` and ``context`` may always be. ``type`` is ``start`` if given.
Every line is checked by itself, so one bad line says what is wrong with it and keeps no other one from being sent.
"""

from __future__ import annotations

__all__ = ["BadLine", "StartLine", "read_line", "read_lines"]

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import IO, Any, NamedTuple

import orjson

from headrace.errors import HeadraceError, RecordRefused
from headrace_adapters.cli.inputs import kind_of
from headrace_topics.json_values import refuse_long_integers

# Larger than any value that is accepted by default, several times; a line without end must not fill the memory.
LINE_BYTES_MAX = 16 * 1024 * 1024

# Lines that are read ahead of those that are sent.
LINES_AHEAD = 1_000

_KINDS: dict[str, tuple[type, str]] = {
    "type": (str, "the text 'start'"),
    "runId": (str, "text that is not empty"),
    "blueprintId": (str, "text that is not empty, the id of a flow"),
    "version": (str, "text that is not empty"),
    "context": (dict, "an object"),
    "requestId": (str, "text"),
}
_FIELDS = (*_KINDS, "input")


class StartLine(NamedTuple):
    """One run to be started."""

    run_id: str | None
    flow: str
    version: str | None
    input: Any
    context: dict[str, Any]


class BadLine(HeadraceError):
    """Raised for a line that is no start event: *field* is the one that is wrong, *expected* what belongs there."""

    def __init__(self, field: str, expected: str, found: str) -> None:
        super().__init__(f"{field}: expected {expected}, found {found}" if field else f"expected {expected}: {found}")
        self.field = field
        self.expected = expected


def read_line(line: bytes, flow: str | None) -> StartLine:
    """The start event on a line; *flow* is meant where the line names none. Raises :class:`BadLine`."""
    if len(line) > LINE_BYTES_MAX:
        raise BadLine("", f"a line of at most {LINE_BYTES_MAX} bytes", "it is longer")
    try:
        data = orjson.loads(line)
        refuse_long_integers(line)
    except RecordRefused as error:
        raise BadLine("", "a JSON object", str(error)) from None
    except orjson.JSONDecodeError as error:
        raise BadLine("", "a JSON object", f"not JSON: {error}") from None
    if not isinstance(data, dict):
        raise BadLine("", "a JSON object", kind_of(data))
    for name, value in data.items():
        if name not in _FIELDS:
            raise BadLine(name, f"one of the fields {', '.join(_FIELDS)}", "a field that nobody reads")
        if name in _KINDS and value is not None:
            kind, expected = _KINDS[name]
            if not isinstance(value, kind):
                raise BadLine(name, expected, kind_of(value))
            if value == "":
                raise BadLine(name, expected, "empty text")
    if data.get("type") not in (None, "start"):
        raise BadLine("type", "'start'", repr(data["type"]))
    named = data.get("blueprintId") or flow
    if named is None:
        raise BadLine("blueprintId", "the id of a flow, here or as FLOW of the command", "nothing")
    return StartLine(data.get("runId"), named, data.get("version"), data.get("input"), data.get("context") or {})


async def read_lines(stream: IO[bytes]) -> AsyncIterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers; of too long a line only the beginning.

    A thread reads, so that a slow producer at the other end of a pipe holds up nobody, and never stops the program from
    ending.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[tuple[int, bytes] | BaseException | None] = asyncio.Queue()
    room = threading.Semaphore(LINES_AHEAD)

    def put(item: tuple[int, bytes] | BaseException | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(queue.put_nowait, item)

    def read() -> None:
        try:
            number = 0
            while line := stream.readline(LINE_BYTES_MAX + 1):
                number += 1
                whole = line.endswith(b"\n")
                while not whole and (rest := stream.readline(LINE_BYTES_MAX)):
                    whole = rest.endswith(b"\n")
                stripped = line.removeprefix(b"\xef\xbb\xbf").strip() if number == 1 else line.strip()
                if stripped:
                    room.acquire()
                    put((number, stripped))
            put(None)
        except (OSError, ValueError) as error:
            put(error)

    threading.Thread(target=read, name="headrace-lines", daemon=True).start()
    while (item := await queue.get()) is not None:
        if isinstance(item, BaseException):
            raise item
        room.release()
        yield item
