"""Requests: what a client asks of a worker.

    {"id": 1, "op": "hello", "protocol": 1}
    {"id": 2, "op": "submit", "command": {...}}                          {"id": 2, "value": {"outcome", "reason"}}
    {"id": 3, "op": "result", "runId": "r1", "timeoutS": 2.5}            {"id": 3, "value": {...}}
    {"id": 4, "op": "status", "runId": "r1"}                             {"id": 4, "value": {...}}
    {"id": 5, "op": "runs", "states": [...], "flow": "f", "limit": 100}  {"id": 5, "value": [...]}
    {"id": 6, "op": "events", "runId": "r1", "follow": true}             {"id": 6, "event": {...}} ... {"id": 6, "end": true}
    {"op": "more", "request": 6, "count": 32}
    {"op": "abandon", "request": 3}

A result or a status that is null is there for none; a ``timeoutS``, ``states`` or ``flow`` that is null or absent limits
nothing. ``more`` lets so many further events come, ``abandon`` says that nobody waits; neither is answered.
Any of them may be answered ``{"id", "error": {"type", "message"}}``; ``id`` is null where the request had no usable
one. A command is the record that would lie on the jobs topic.
"""

from __future__ import annotations

__all__ = [
    "Abandon",
    "GetEvents",
    "GetResult",
    "GetRuns",
    "GetStatus",
    "Hello",
    "More",
    "Request",
    "Submit",
    "is_waiting",
    "read_id",
    "read_object",
    "read_request",
]

from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

from headrace.commands import Command
from headrace.errors import RecordRefused
from headrace_adapters.link.channel import encode_frame
from headrace_adapters.link.limits import EVENTS_AHEAD_MAX
from headrace_topics.jobs_record import decode_command


class Hello(NamedTuple):
    """The first request of a client."""

    protocol: int


class Submit(NamedTuple):
    """Hand a command over."""

    command: Command


class GetResult(NamedTuple):
    """Wait for a result."""

    run_id: str
    timeout_s: float | None


class GetStatus(NamedTuple):
    """Look at a run."""

    run_id: str


class GetRuns(NamedTuple):
    """List runs."""

    states: frozenset[str] | None
    flow: str | None
    limit: int


class GetEvents(NamedTuple):
    """Read, and with *follow* go on reading, what happened to a run."""

    run_id: str
    follow: bool


class More(NamedTuple):
    """Further events may come in answer to *request*. Not answered itself."""

    request: int
    events: int


class Abandon(NamedTuple):
    """Nobody waits for the answer to *request*. Not answered itself."""

    request: int


Request = Hello | Submit | GetResult | GetStatus | GetRuns | GetEvents | More | Abandon


def is_waiting(request: Request) -> bool:
    """Whether the answer may depend on what others do, and so take days."""
    return isinstance(request, GetEvents) or (isinstance(request, GetResult) and request.timeout_s != 0)


def read_object(frame: bytes) -> dict[str, Any]:
    """The object that a frame holds; raises :class:`RecordRefused`."""
    try:
        data = orjson.loads(frame)
    except ValueError as error:
        shown = frame[:40].decode("utf-8", "backslashreplace")
        raise RecordRefused(f"a request is one JSON object on one line, and {shown!r} is none: {error}") from None
    if not isinstance(data, dict):
        raise RecordRefused(f'a request is a JSON object like {{"id": 1, "op": "status"}}, not {_called(data)}')
    return data


def read_id(data: dict[str, Any]) -> int:
    """The number of a request; raises :class:`RecordRefused`."""
    number = data.get("id")
    if type(number) is not int or number < 0:
        raise RecordRefused(f"field id of a request: expected a whole number of 0 or more, not {_called(number)}")
    return number


def read_request(data: dict[str, Any], value_bytes_max: int) -> Request:
    """What *data* asks for.

    Raises :class:`RecordRefused`, which names the field and what was expected, and
    :class:`headrace.errors.ValueRefused` for a value above *value_bytes_max*.
    """
    op = data.get("op")
    if op == "submit":
        command = data.get("command")
        if not isinstance(command, dict):
            raise _unlike("command", "an object", command)
        return Submit(decode_command(encode_frame(command), value_bytes_max=value_bytes_max))
    read = _READERS.get(op) if isinstance(op, str) else None
    if read is None:
        known = ", ".join(["submit", *_READERS])
        raise RecordRefused(f"field op of a request: expected one of {known}, not {_called(op)}")
    return read(data)


def _called(value: Any) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"


def _unlike(field: str, expected: str, value: Any) -> RecordRefused:
    return RecordRefused(f"field {field} of this request: expected {expected}, not {_called(value)}")


def _text(data: dict[str, Any], field: str) -> str:
    value = data.get(field)
    if not isinstance(value, str):
        raise _unlike(field, "a text", value)
    return value


def _whole(data: dict[str, Any], field: str, least: int, most: int = 2**53) -> int:
    value = data.get(field)
    if type(value) is not int or not least <= value <= most:
        raise _unlike(field, f"a whole number from {least} to {most}", value)
    return value


def _flag(data: dict[str, Any], field: str) -> bool:
    value = data.get(field, False)
    if type(value) is not bool:
        raise _unlike(field, "true or false", value)
    return value


def _timeout(data: dict[str, Any]) -> float | None:
    value = data.get("timeoutS")
    if value is None:
        return None
    if type(value) not in {int, float} or value < 0:
        raise _unlike("timeoutS", "seconds of 0 or more, or null", value)
    return float(value)


def _states(data: dict[str, Any]) -> frozenset[str] | None:
    value = data.get("states")
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(state, str) for state in value):
        raise _unlike("states", "a list of texts, or null", value)
    return frozenset(value)


_READERS: dict[str, Callable[[dict[str, Any]], Request]] = {
    "hello": lambda data: Hello(_whole(data, "protocol", 1)),
    "result": lambda data: GetResult(_text(data, "runId"), _timeout(data)),
    "status": lambda data: GetStatus(_text(data, "runId")),
    "runs": lambda data: GetRuns(
        _states(data), None if data.get("flow") is None else _text(data, "flow"), _whole(data, "limit", 0)
    ),
    "events": lambda data: GetEvents(_text(data, "runId"), _flag(data, "follow")),
    "more": lambda data: More(_whole(data, "request", 0), _whole(data, "count", 1, EVENTS_AHEAD_MAX)),
    "abandon": lambda data: Abandon(_whole(data, "request", 0)),
}
