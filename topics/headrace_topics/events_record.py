"""Records of ``<app>.events``: what happened to a run in one batch, in order.

    {"v": 1, "runId": "r1", "seq": 7, "decisions": [{"at": 1700000000000, "events": [{"type": "nodeStarted", ...}]}]}

``seq`` is the sequence number of the first event; the others follow without a gap. A rejection, a command that met no
run, is a record of this topic too: ``{"v": 1, "runId": "r9", "rejected": {"command", "reason", "at"}}``. Field names are
those of ``headrace.events`` in camelCase; a field that is absent has its empty value. The absence of a JSON value is the
absence of its field; the JSON value null is written as null.

How a field is written follows from its event and name (``_SPECIAL``, ``_EMPTY``). The events of which every step has some
are written by functions of their own, for speed only: the format is the same, which a test compares.
"""

from __future__ import annotations

__all__ = [
    "EVENT_NAMES",
    "decode_events",
    "encode_events",
    "encode_rejection",
    "event_from_json",
    "event_to_json",
    "holders_from_json",
    "holders_to_json",
    "parent_from_json",
    "parent_to_json",
]

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, get_type_hints

import orjson

from headrace import events as e
from headrace.batch import Rejection
from headrace.errors import RecordRefused
from headrace.execution import NO_ITEM, Operation
from headrace.values import Json
from headrace_topics.camel import camel
from headrace_topics.json_values import parse_object, reencode, whole_number

VERSION = 1

_Fragment = orjson.Fragment


def parent_to_json(parent: e.Parent) -> dict[str, Any]:
    """A parent as it stands in records."""
    return {camel(name): value for name, value in zip(e.Parent._fields, parent, strict=True)}


def parent_from_json(data: Any) -> e.Parent:
    """The parent that a record holds."""
    fields = {name: data[camel(name)] for name in e.Parent._fields}
    return e.Parent(**{**fields, "outputs": tuple(fields["outputs"])})


def holders_to_json(holders: Iterable[e.Holder]) -> list[Any]:
    """Those who hold the key of a resume, as they stand in records."""
    return [list(holder) for holder in holders]


def holders_from_json(data: list[Any]) -> tuple[e.Holder, ...]:
    """Those who hold the key of a resume, as a record says it."""
    return tuple(e.Holder(h[0], h[1]) for h in data)


def _operations(operations: Iterable[Operation]) -> list[Any]:
    return [[kind, key] if value is None else [kind, key, _Fragment(value)] for kind, key, value in operations]


def _operations_from(data: list[Any]) -> tuple[Operation, ...]:
    return tuple(Operation(o[0], o[1], reencode(o[2]) if len(o) > 2 else None) for o in data)


def _kept(kept: Iterable[e.Kept]) -> list[Any]:
    return [[*k[:4]] if k.value is None else [*k[:4], _Fragment(k.value)] for k in kept]


def _kept_from(data: list[Any]) -> tuple[e.Kept, ...]:
    return tuple(e.Kept(k[0], k[1], k[2], k[3], reencode(k[4]) if len(k) > 4 else None) for k in data)


def _list_of(values: Iterable[Json]) -> list[orjson.Fragment]:
    return [_Fragment(value) for value in values]


def _map_of(values: Mapping[str, Json]) -> dict[str, orjson.Fragment]:
    return {key: _Fragment(value) for key, value in values.items()}


# How fields are written and read that are not plain JSON already, by event and field.
_Pair = tuple[Callable[[Any], Any], Callable[[Any], Any]]
_JSON: _Pair = (_Fragment, reencode)
_TUPLE: _Pair = (list, tuple)
_WAITS: _Pair = (lambda waits: [list(w) for w in waits], lambda waits: tuple((w[0], w[1]) for w in waits))
_SPECIAL: dict[tuple[type[e.Event], str], _Pair] = {
    (e.RunStarted, "input"): _JSON,
    (e.RunStarted, "context"): (_map_of, lambda data: {key: reencode(value) for key, value in data.items()}),
    (e.RunStarted, "parent"): (parent_to_json, parent_from_json),
    (e.RunCompleted, "output"): _JSON,
    (e.NodeScheduled, "edges"): _TUPLE,
    (e.NodeScheduled, "input"): _JSON,
    (e.NodeCompleted, "output"): _JSON,
    (e.NodeFailed, "unrecovered"): _TUPLE,
    (e.NodeRetrying, "prepared"): _JSON,
    (e.NodeFallback, "error"): _JSON,
    (e.EdgeTaken, "value"): _JSON,
    (e.JoinFired, "edges"): _TUPLE,
    (e.SignalReceived, "payload"): _JSON,
    (e.ResumeClaimed, "holders"): (holders_to_json, holders_from_json),
    (e.ChildChanged, "waits"): _WAITS,
    (e.LoopIteration, "value"): _JSON,
    (e.LoopIteration, "reset"): _TUPLE,
    (e.LoopIteration, "kept"): (_kept, _kept_from),
    (e.LoopEnded, "value"): _JSON,
    (e.BatchStarted, "items"): (_list_of, lambda data: tuple([reencode(item) for item in data])),
    (e.ContextChanged, "operations"): (_operations, _operations_from),
}

_EMPTY: dict[str, Any] = {
    "activation": 0,
    "attempt": 1,
    "edges": (),
    "failed": NO_ITEM,
    "holders": (),
    "item": NO_ITEM,
    "predecessor": "",
    "reason": "",
    "unrecovered": (),
}
"""Values that are not written."""

# A field that has no empty value and may not be None has to be there.
_REQUIRED = object()

# Name of the type, then for each field its key, how it is written and read (None: as it is), and its empty value.
_Field = tuple[str, Callable[[Any], Any] | None, Callable[[Any], Any] | None, Any]
_Shape = tuple[str, tuple[_Field, ...]]


def _shape(cls: type[e.Event]) -> _Shape:
    hints = get_type_hints(cls)
    fields: list[_Field] = []
    for name in cls._fields:
        write, read = _SPECIAL.get((cls, name), (None, None))
        empty = None if type(None) in getattr(hints[name], "__args__", ()) else _EMPTY.get(name, _REQUIRED)
        fields.append((camel(name), write, read, empty))
    return cls.__name__[0].lower() + cls.__name__[1:], tuple(fields)


_SHAPES: dict[type[Any], _Shape] = {cls: _shape(cls) for cls in e.EVENT_TYPES}

EVENT_NAMES: dict[str, type[e.Event]] = {shape[0]: cls for cls, shape in _SHAPES.items()}
"""The classes of events by the ``type`` of their records."""

_READERS: dict[str, tuple[type[e.Event], tuple[_Field, ...]]] = {
    name: (cls, fields) for cls, (name, fields) in _SHAPES.items()
}


def event_to_json(event: e.Event) -> dict[str, Any]:
    """An event as ``orjson.dumps`` takes it; JSON values in it are fragments."""
    name, fields = _SHAPES[type(event)]
    data: dict[str, Any] = {"type": name}
    for (key, write, _, empty), value in zip(fields, event, strict=True):
        if value is not None and value != empty:
            data[key] = value if write is None else write(value)
    return data


# The events of every step.


def _node_scheduled(event: e.NodeScheduled) -> dict[str, Any]:
    node, item, activation, attempt, edges, value = event
    data: dict[str, Any] = {"type": "nodeScheduled", "node": node}
    if item != NO_ITEM:
        data["item"] = item
    if activation:
        data["activation"] = activation
    if attempt != 1:
        data["attempt"] = attempt
    if edges:
        data["edges"] = edges
    if value is not None:
        data["input"] = _Fragment(value)
    return data


def _node_started(event: e.NodeStarted) -> dict[str, Any]:
    node, item, attempt = event
    data: dict[str, Any] = {"type": "nodeStarted", "node": node}
    if item != NO_ITEM:
        data["item"] = item
    if attempt != 1:
        data["attempt"] = attempt
    return data


def _node_completed(event: e.NodeCompleted) -> dict[str, Any]:
    node, item, output, action = event
    data: dict[str, Any] = {"type": "nodeCompleted", "node": node}
    if item != NO_ITEM:
        data["item"] = item
    data["output"] = _Fragment(output)
    if action is not None:
        data["action"] = action
    return data


def _edge_taken(event: e.EdgeTaken) -> dict[str, Any]:
    edge, source, target, giver, value = event
    data: dict[str, Any] = {"type": "edgeTaken", "edge": edge, "source": source, "target": target, "giver": giver}
    if value is not None:
        data["value"] = _Fragment(value)
    return data


_WRITERS: dict[type[Any], Callable[[Any], dict[str, Any]]] = {
    **dict.fromkeys(e.EVENT_TYPES, event_to_json),
    e.EdgeTaken: _edge_taken,
    e.NodeCompleted: _node_completed,
    e.NodeScheduled: _node_scheduled,
    e.NodeStarted: _node_started,
}


def encode_events(run_id: str, first_seq: int, decisions: Iterable[tuple[int, list[e.Event]]]) -> bytes:
    """One record with the events of a run since its last one; *first_seq* is the number of the first of them."""
    writers = _WRITERS
    return orjson.dumps(
        {
            "v": VERSION,
            "runId": run_id,
            "seq": first_seq,
            "decisions": [
                {"at": at_ms, "events": [writers[type(event)](event) for event in events]} for at_ms, events in decisions
            ],
        }
    )


def encode_rejection(rejection: Rejection) -> bytes:
    """The record of a command that changed nothing because it met no run."""
    rejected = {"command": rejection.command, "reason": rejection.reason, "at": rejection.at_ms}
    return orjson.dumps({"v": VERSION, "runId": rejection.run_id, "rejected": rejected})


def decode_events(record: bytes) -> Iterator[tuple[int, int, e.Event]]:
    """The events of a record as (sequence number, time in ms since 1970, event); a rejection holds none.

    Raises :class:`RecordRefused`, when the first event is asked for or a later one, for what is no record of this topic
    or is of a newer version.
    """
    data = parse_object(record)
    version = whole_number(data, "v")
    if version > VERSION:
        raise RecordRefused(
            f"the events record has version {version} and this Headrace reads up to {VERSION}: read it with the "
            "version that wrote it, or a newer one"
        )
    if "rejected" in data:
        return
    seq = whole_number(data, "seq")
    try:
        for decision in data["decisions"]:
            at_ms = decision["at"]
            for event in decision["events"]:
                yield seq, at_ms, event_from_json(event)
                seq += 1
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise RecordRefused(f"not an events record: event {seq}: {type(error).__name__}: {error}") from None


def event_from_json(data: dict[str, Any]) -> e.Event:
    """The event that a parsed record holds. Raises KeyError, TypeError and so on where it is none."""
    cls, fields = _READERS[data["type"]]
    values: list[Any] = []
    for key, _, read, empty in fields:
        if key in data:
            values.append(data[key] if read is None else read(data[key]))
        elif empty is _REQUIRED:
            raise KeyError(key)
        else:
            values.append(empty)
    event: e.Event = cls._make(values)
    return event


assert all(name in cls._fields for cls, name in _SPECIAL), "special fields exist"
