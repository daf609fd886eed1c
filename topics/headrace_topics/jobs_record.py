"""Records of ``<app>.jobs``: commands, by run.

What anybody may write (a field with ``?`` may be absent or null; others are not looked at):

    {"type": "start", "runId", "blueprintId", "version"?, "input"?, "context"?: {}, "requestId"?}
    {"type": "resume", "runId", "nodeId", "action"?, "output"?, "idempotencyKey"?, "requestId"?}
    {"type": "signal", "runId", "event", "payload"?, "requestId"?}
    {"type": "cancel" | "pause", "runId", "reason"?, "requestId"?}
    {"type": "unpause", "runId", "requestId"?}

What only the engine writes: ``node`` (the job of a node), ``childNews``, ``childEnd``, ``resumeApplied`` and
``resumeIgnored`` (what the runs of a family tell each other), a ``start`` with ``parent``, a ``signal`` with ``path`` and
``origin`` and a ``resume`` with ``holders``. Values in records that go from one run to another have passed the limits
before, and an object made of several of them may be larger and deeper than each; refusing such a record would leave a run
waiting for ever, so their size is not looked at again.
"""

from __future__ import annotations

__all__ = ["decode_command", "encode_command"]

from collections.abc import Callable
from typing import Any

import orjson

from headrace import commands as c
from headrace.errors import RecordRefused
from headrace.events import Holder, Parent
from headrace.execution import NO_ITEM
from headrace.limits import ID_BYTES_MAX, SUBFLOW_DEPTH_MAX
from headrace.values import NULL
from headrace_topics.events_record import holders_to_json, parent_to_json
from headrace_topics.json_values import parse_object, reencode, refuse_long_integers
from headrace_topics.record_fields import (
    found_in,
    refuse,
    shown,
    take_flag,
    take_list,
    take_name,
    take_number,
    take_object,
    take_optional_name,
    take_text,
    take_value,
)

# A wait in a child is named by a path of node ids, one for each level.
_PATH_BYTES_MAX = ID_BYTES_MAX * SUBFLOW_DEPTH_MAX

_Fragment = orjson.Fragment
_Data = dict[str, Any]


# Writing.


def _start_to_json(command: c.Start) -> _Data:
    data: _Data = {"type": "start", "runId": command.run_id, "blueprintId": command.blueprint_id}
    if command.version is not None:
        data["version"] = command.version
    if command.input != NULL:
        data["input"] = _Fragment(command.input)
    if command.context:
        data["context"] = {key: _Fragment(value) for key, value in command.context.items()}
    if command.parent is not None:
        data["parent"] = parent_to_json(command.parent)
    return data


def _resume_to_json(command: c.Resume) -> _Data:
    data: _Data = {"type": "resume", "runId": command.run_id, "nodeId": command.node_id}
    if command.action is not None:
        data["action"] = command.action
    if command.output != NULL:
        data["output"] = _Fragment(command.output)
    if command.key is not None:
        data["idempotencyKey"] = command.key
    if command.holders:
        data["holders"] = holders_to_json(command.holders)
    return data


def _signal_to_json(command: c.Signal) -> _Data:
    data: _Data = {"type": "signal", "runId": command.run_id, "event": command.event}
    if command.payload != NULL:
        data["payload"] = _Fragment(command.payload)
    if command.path is not None:
        data["path"] = command.path
    if command.origin is not None:
        data["origin"] = command.origin
    return data


def _cancel_to_json(command: c.Cancel) -> _Data:
    return _with_reason({"type": "cancel", "runId": command.run_id}, command.reason)


def _pause_to_json(command: c.Pause) -> _Data:
    return _with_reason({"type": "pause", "runId": command.run_id}, command.reason)


def _with_reason(data: _Data, reason: str) -> _Data:
    if reason:
        data["reason"] = reason
    return data


def _unpause_to_json(command: c.Unpause) -> _Data:
    return {"type": "unpause", "runId": command.run_id}


def _node_to_json(command: c.RunNode) -> _Data:
    run_id, blueprint_id, node_id, item, activation, attempt = command
    data: _Data = {"type": "node", "runId": run_id, "blueprintId": blueprint_id, "nodeId": node_id}
    if item != NO_ITEM:
        data["item"] = item
    if activation:
        data["activation"] = activation
    if attempt != 1:
        data["attempt"] = attempt
    return data


def _news_to_json(command: c.ChildNews) -> _Data:
    run_id, child_id, node_id, awaiting, waits = command
    data: _Data = {"type": "childNews", "runId": run_id, "childId": child_id, "nodeId": node_id, "awaiting": awaiting}
    if waits:
        data["waits"] = waits
    return data


def _end_to_json(command: c.ChildEnd) -> _Data:
    run_id, child_id, node_id, status, output, values, error = command
    data: _Data = {"type": "childEnd", "runId": run_id, "childId": child_id, "nodeId": node_id, "status": status}
    if output != NULL:
        data["output"] = _Fragment(output)
    if values:
        data["values"] = {key: _Fragment(value) for key, value in values.items()}
    if error:
        data["error"] = error
    return data


def _applied_to_json(command: c.ResumeApplied) -> _Data:
    return {"type": "resumeApplied", "runId": command.run_id, "idempotencyKey": command.key}


def _ignored_to_json(command: c.ResumeIgnored) -> _Data:
    run_id, key, claim = command
    return {"type": "resumeIgnored", "runId": run_id, "idempotencyKey": key, "claim": claim}


_WRITERS: dict[type[Any], Callable[[Any], _Data]] = {
    c.Start: _start_to_json,
    c.Resume: _resume_to_json,
    c.Signal: _signal_to_json,
    c.Cancel: _cancel_to_json,
    c.Pause: _pause_to_json,
    c.Unpause: _unpause_to_json,
    c.RunNode: _node_to_json,
    c.ChildNews: _news_to_json,
    c.ChildEnd: _end_to_json,
    c.ResumeApplied: _applied_to_json,
    c.ResumeIgnored: _ignored_to_json,
}


def encode_command(command: c.Command) -> bytes:
    """The record of a command; its key is the run id.

    Raises :class:`RecordRefused` for text that UTF-8 cannot hold. Whether the rest can be read, ``decode_command`` says.
    """
    data = _WRITERS[type(command)](command)
    request_id = getattr(command, "request_id", "")
    if request_id:
        data["requestId"] = request_id
    try:
        return orjson.dumps(data)
    except TypeError as error:
        raise RecordRefused(f"{_unwritable(data)}: {error}") from None


def _unwritable(data: _Data) -> str:
    """Which field cannot be written; their JSON values can, since they are encoded already."""
    for name, value in data.items():
        try:
            orjson.dumps(value)
        except TypeError:
            return f"field {name!r}: expected text that UTF-8 can hold, found another"
    return "not a record"


# Reading.


def _start(data: _Data, run_id: str, bytes_max: int) -> c.Start:
    parent = _parent(data)
    limit = bytes_max if parent is None else None
    context = take_object(data, "context")
    for key in context:
        if len(key) * 4 > ID_BYTES_MAX and len(key.encode()) > ID_BYTES_MAX:
            refuse("context", f"keys of at most {ID_BYTES_MAX} bytes", f"one of {len(key.encode())}")
    named = _named_within("context", context) if context else context
    return c.Start(
        run_id,
        take_name(data, "blueprintId"),
        take_optional_name(data, "version"),
        take_value(data, "input", limit),
        {key: take_value(named, f"context.{key}", limit) for key in context},
        parent,
        _request_id(data),
    )


def _parent(data: _Data) -> Parent | None:
    if data.get("parent") is None:
        return None
    parent = _named_within("parent", take_object(data, "parent"))
    return Parent(
        take_name(parent, "parent.runId"),
        take_name(parent, "parent.nodeId"),
        take_number(parent, "parent.activation", 0, 0),
        take_number(parent, "parent.attempt", 1, 1),
        take_number(parent, "parent.depth", 1, 1),
        tuple(_texts(take_list(parent, "parent.outputs"), "parent.outputs")),
    )


def _named_within(name: str, fields: _Data) -> _Data:
    """The fields of an inner object by their path, so that a refusal names them as they stand in the record."""
    return {f"{name}.{key}": value for key, value in fields.items()}


def _texts(values: list[Any], name: str) -> list[str]:
    if not all(type(value) is str for value in values):
        refuse(name, "a list of texts", "something else in it")
    return values


def _resume(data: _Data, run_id: str, bytes_max: int) -> c.Resume:
    holders = tuple(_holder(holder) for holder in take_list(data, "holders"))
    return c.Resume(
        run_id,
        take_name(data, "nodeId", _PATH_BYTES_MAX),
        _action(data, bytes_max),
        take_value(data, "output", None if holders else bytes_max),
        take_optional_name(data, "idempotencyKey"),
        _request_id(data),
        holders,
    )


def _holder(holder: Any) -> Holder:
    if not (type(holder) is list and len(holder) == 2 and type(holder[0]) is str and type(holder[1]) is int):
        refuse("holders", "pairs of a run id and a number", "something else in it")
    return Holder(holder[0], holder[1])


def _action(data: _Data, bytes_max: int) -> str | None:
    return None if data.get("action") is None else take_text(data, "action", bytes_max)


def _signal(data: _Data, run_id: str, bytes_max: int) -> c.Signal:
    path = None if data.get("path") is None else take_name(data, "path", _PATH_BYTES_MAX)
    limit = bytes_max if path is None else None
    event = take_name(data, "event")
    payload, origin = take_value(data, "payload", limit), take_optional_name(data, "origin")
    return c.Signal(run_id, event, payload, path, _request_id(data), origin)


def _cancel(data: _Data, run_id: str, bytes_max: int) -> c.Cancel:
    return c.Cancel(run_id, take_text(data, "reason", bytes_max), _request_id(data))


def _pause(data: _Data, run_id: str, bytes_max: int) -> c.Pause:
    return c.Pause(run_id, take_text(data, "reason", bytes_max), _request_id(data))


def _unpause(data: _Data, run_id: str, _: int) -> c.Unpause:
    return c.Unpause(run_id, _request_id(data))


def _request_id(data: _Data) -> str:
    return take_text(data, "requestId", ID_BYTES_MAX)


def _node(data: _Data, run_id: str, _: int) -> c.RunNode:
    return c.RunNode(
        run_id,
        take_name(data, "blueprintId"),
        take_name(data, "nodeId"),
        take_number(data, "item", NO_ITEM, 0),
        take_number(data, "activation", 0, 0),
        take_number(data, "attempt", 1, 1),
    )


def _news(data: _Data, run_id: str, _: int) -> c.ChildNews:
    waits = tuple(_wait(wait) for wait in take_list(data, "waits"))
    return c.ChildNews(run_id, take_name(data, "childId"), take_name(data, "nodeId"), take_flag(data, "awaiting"), waits)


def _wait(wait: Any) -> tuple[str, str | None]:
    if not (type(wait) is list and len(wait) == 2 and type(wait[0]) is str and type(wait[1]) in {str, type(None)}):
        refuse("waits", "pairs of a path and an event or null", "something else in it")
    return wait[0], wait[1]


def _end(data: _Data, run_id: str, _: int) -> c.ChildEnd:
    return c.ChildEnd(
        run_id,
        take_name(data, "childId"),
        take_name(data, "nodeId"),
        take_name(data, "status"),
        take_value(data, "output", None),
        {key: reencode(value) for key, value in take_object(data, "values").items()},
        take_text(data, "error"),
    )


def _applied(data: _Data, run_id: str, _: int) -> c.ResumeApplied:
    return c.ResumeApplied(run_id, take_name(data, "idempotencyKey"))


def _ignored(data: _Data, run_id: str, _: int) -> c.ResumeIgnored:
    return c.ResumeIgnored(run_id, take_name(data, "idempotencyKey"), take_number(data, "claim", 0, 1))


_PUBLIC_READERS: dict[str, Callable[[_Data, str, int], c.Command]] = {
    "start": _start,
    "resume": _resume,
    "signal": _signal,
    "cancel": _cancel,
    "pause": _pause,
    "unpause": _unpause,
}
_READERS = {
    **_PUBLIC_READERS,
    "node": _node,
    "childNews": _news,
    "childEnd": _end,
    "resumeApplied": _applied,
    "resumeIgnored": _ignored,
}


def decode_command(record: bytes, key: str | None = None, *, value_bytes_max: int) -> c.Command:
    """The command that a record of the jobs topic holds.

    *key* is the record's key, None where it has none (it is then accepted for its ``runId``). A value, that is an input,
    an output, a payload or one entry of a context, may have *value_bytes_max* bytes as compact JSON.

    Raises :class:`RecordRefused`, and nothing else, for whatever is no such record: it belongs with the dead letters.
    """
    data = parse_object(record)
    kind = data.get("type")
    reader = _READERS.get(kind) if type(kind) is str else None
    if reader is None:
        found = shown(kind) if type(kind) is str else found_in(data, "type")
        refuse("type", f"one of {', '.join(_PUBLIC_READERS)}", found)
    run_id = take_name(data, "runId")
    if key is not None and key != run_id:
        refuse("runId", f"the key of the record, {shown(key)}", shown(run_id))
    command = reader(data, run_id, value_bytes_max)
    if kind in _PUBLIC_READERS:
        refuse_long_integers(record)
    return command
