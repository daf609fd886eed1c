"""Records of the two changelogs: a run's state in parts, each under a key of its own.

    coordination   [run, "r"]            the head: blueprint, flags, errors; or the dedup marker of a run that has ended
                   [run, "i"]            the input of the run
                   [run, "n", node]      a node: status, activation, attempt, output, the edges that it has decided
                   [run, "m", node, i]   an item of a batch
                   [run, "k", key]       the key of a resume that was applied, or that is held for one on its way
                   [run, "s", number]    a signal that is kept; the number in ten digits, so that a store sorts them
    context        [run, key]            a context value, as it is

One record more belongs to the partition: ["", "offset"], the offset of the next job, as it was when the state was written.

Every coordination record of a run carries the run's sequence number at the time when it was written, so the highest one
is the run's. What is absent has its empty value. A part that is gone is a tombstone.
"""

from __future__ import annotations

__all__ = [
    "decode_head",
    "decode_offset",
    "decode_part",
    "encode_marker",
    "encode_node",
    "encode_offset",
    "encode_part",
    "run_parts",
]

from collections.abc import Iterator
from typing import Any

import orjson

from headrace.errors import RecordRefused
from headrace.ports import Ended
from headrace.state import BatchState, ChildState, Claim, EdgeOut, LoopState, NodeState, RunError, RunState
from headrace.values import NULL, Json
from headrace_topics.events_record import holders_from_json, holders_to_json, parent_from_json, parent_to_json
from headrace_topics.json_values import parse_object, reencode, whole_number

VERSION = 1
_F = orjson.Fragment


def run_parts(state: RunState) -> Iterator[tuple[str, ...]]:
    """The parts of which the state consists, but for context values; what :func:`encode_part` takes."""
    yield ("r",)
    if state.input != NULL:
        yield ("i",)
    for node_id, node in state.nodes.items():
        yield ("n", node_id)
        for index in range(len(node.batch.items)) if node.batch is not None else ():
            yield ("m", node_id, str(index))
    for key in (*state.keys, *state.claims):
        yield ("k", key)
    for number in state.signals:
        yield ("s", str(number))


def encode_part(state: RunState, part: tuple[str, ...]) -> bytes | None:
    """The record of a part as it is now; None where the part is gone."""
    kind = part[0]
    if kind == "n":
        node = state.nodes.get(part[1])
        return None if node is None else encode_node(node, state.seq)
    if kind == "m":
        # A batch that began anew may have fewer items than the one before it.
        item = state.work(part[1], int(part[2]))
        return None if item is None else encode_node(item, state.seq)
    if kind == "r":
        return orjson.dumps(_head_to_json(state))
    if kind == "i":
        return orjson.dumps({"seq": state.seq, "input": _F(state.input)})
    if kind == "k":
        return _encode_key(state, part[1])
    assert kind == "s", kind
    signal = state.signals.get(int(part[1]))
    return None if signal is None else orjson.dumps({"seq": state.seq, "event": signal[0], "payload": _F(signal[1])})


def _encode_key(state: RunState, key: str) -> bytes | None:
    claim = state.claims.get(key)
    if claim is None:
        return orjson.dumps({"seq": state.seq}) if key in state.keys else None
    data: dict[str, Any] = {"seq": state.seq, "claim": claim.number}
    if claim.holders:
        data["holders"] = holders_to_json(claim.holders)
    return orjson.dumps(data)


def encode_node(node: NodeState, seq: int) -> bytes:
    """The record of a node, or of an item; *seq* is the run's sequence number."""
    return orjson.dumps(_node_to_json(node, seq))


def _head_to_json(state: RunState) -> dict[str, Any]:
    data: dict[str, Any] = {
        "v": VERSION,
        "seq": state.seq,
        "blueprintId": state.blueprint_id,
        "version": state.version,
        "startedAt": state.started_at_ms,
    }
    if state.parent is not None:
        data["parent"] = parent_to_json(state.parent)
    if state.awaiting:
        data["awaiting"] = True
    if state.paused:
        data["paused"] = True
    if state.parked:
        data["parked"] = state.parked
    if state.signals_seq:
        data["signals"] = state.signals_seq
    if state.errors:
        data["errors"] = [list(error) for error in state.errors]
    return data


def _node_to_json(node: NodeState, seq: int) -> dict[str, Any]:
    data: dict[str, Any] = {"seq": seq, "status": node.status}
    if node.attempt != 1:
        data["attempt"] = node.attempt
    if node.activation:
        data["activation"] = node.activation
    if node.edges:
        data["edges"] = node.edges
    if node.input is not None:
        data["input"] = _F(node.input)
    if node.output is not None:
        data["output"] = _F(node.output)
    if node.action is not None:
        data["action"] = node.action
    if node.out:
        data["out"] = [
            [edge, o.status, o.source, o.target] if o.value is None else [edge, o.status, o.source, o.target, _F(o.value)]
            for edge, o in node.out.items()
        ]
    if node.due_ms is not None:
        data["due"] = node.due_ms
    if node.message is not None:
        data["message"] = list(node.message)
    _add_rare(node, data)
    return data


def _add_rare(node: NodeState, data: dict[str, Any]) -> None:
    if node.event is not None:
        data["event"] = node.event
    if node.error is not None:
        data["error"] = _F(node.error)
    if node.fallback is not None:
        data["fallback"] = node.fallback
    if node.prepared is not None:
        data["prepared"] = _F(node.prepared)
    if node.loop is not None:
        data["loop"] = [node.loop.iteration, node.loop.activation]
    if node.child is not None:
        child = node.child
        data["child"] = {"runId": child.run_id, "awaiting": child.awaiting, "waits": [list(w) for w in child.waits]}
    if node.batch is not None:
        batch = node.batch
        data["batch"] = {"items": len(batch.items), "next": batch.next, "open": batch.open, "failed": batch.failed}


def encode_marker(ended: Ended, blueprint_id: str, version: str, started_at_ms: int, ended_at_ms: int) -> bytes:
    """The dedup marker that takes the head's place when the run has ended."""
    data: dict[str, Any] = {
        "v": VERSION,
        "ended": ended.status,
        "until": ended.until_ms,
        "blueprintId": blueprint_id,
        "version": version,
        "startedAt": started_at_ms,
        "endedAt": ended_at_ms,
    }
    if ended.parent is not None:
        data["parent"] = parent_to_json(ended.parent)
    return orjson.dumps(data)


def encode_offset(next_job: int) -> bytes:
    """The record of the offset behind the last job that is in the state of a partition."""
    return b'{"next":%d}' % next_job


def decode_offset(record: bytes) -> int:
    """The offset of the next job. Raises :class:`RecordRefused` for what is no such record."""
    return whole_number(parse_object(record), "next")


# What reading a record that is not as it should be can raise.
_MALFORMED = (ValueError, KeyError, TypeError, IndexError, AttributeError)


def decode_head(run_id: str, record: bytes) -> RunState | Ended:
    """A run with its head only, or its dedup marker.

    Raises :class:`RecordRefused` for what is no head, or is of a newer version.
    """
    data = parse_object(record)
    version = whole_number(data, "v")
    if version > VERSION:
        raise RecordRefused(
            f"the state of run {run_id!r} has version {version} and this Headrace reads up to {VERSION}: use the version "
            "that wrote it, or a newer one"
        )
    try:
        parent = parent_from_json(data["parent"]) if "parent" in data else None
        if "ended" in data:
            return Ended(run_id, data["ended"], data["until"], parent)
        state = RunState(run_id)
        state.seq = data["seq"]
        state.blueprint_id = data["blueprintId"]
        state.version = data["version"]
        state.started_at_ms = data["startedAt"]
        state.parent = parent
        state.awaiting = data.get("awaiting", False)
        state.paused = data.get("paused", False)
        state.parked = data.get("parked", "")
        state.signals_seq = data.get("signals", 0)
        state.errors = [RunError(*error) for error in data.get("errors", ())]
    except _MALFORMED as error:
        raise RecordRefused(f"not the head of run {run_id!r}: {type(error).__name__}: {error}") from None
    return state


def decode_part(state: RunState, part: list[str], record: bytes) -> None:
    """Put a coordination record other than the head into *state*; items come before or after their node.

    *part* is what follows the run id in the record's key. When all parts are in, ``headrace.apply.rebuild`` derives the
    rest. Raises :class:`RecordRefused` for what is no such part.
    """
    data = parse_object(record)
    state.seq = max(state.seq, whole_number(data, "seq"))
    try:
        kind = part[0]
        if kind == "n":
            _node_from_json(state.nodes.setdefault(part[1], NodeState()), data)
        elif kind == "m":
            _item_from_json(state.nodes.setdefault(part[1], NodeState()), int(part[2]), data)
        elif kind == "i":
            state.input = reencode(data["input"])
        elif kind == "k" and "claim" in data:
            state.claims[part[1]] = Claim(data["claim"], holders_from_json(data.get("holders", [])))
        elif kind == "k":
            state.keys.add(part[1])
        elif kind == "s":
            state.signals[int(part[1])] = (data["event"], reencode(data["payload"]))
        else:
            raise RecordRefused(f"run {state.run_id!r} has a record of kind {kind!r}: use the version that wrote it")
    except _MALFORMED as error:
        what = f"not the part {part!r} of run {state.run_id!r}"
        raise RecordRefused(f"{what}: {type(error).__name__}: {error}") from None


def _json(data: dict[str, Any], name: str) -> Json | None:
    return reencode(data[name]) if name in data else None


def _item_from_json(node: NodeState, index: int, data: dict[str, Any]) -> None:
    if node.batch is None:
        node.batch = BatchState()
    items = node.batch.items
    items.extend(NodeState() for _ in range(index + 1 - len(items)))
    _node_from_json(items[index], data)


def _node_from_json(node: NodeState, data: dict[str, Any]) -> None:
    node.status = data["status"]
    node.attempt = data.get("attempt", 1)
    node.activation = data.get("activation", 0)
    node.edges = tuple(data.get("edges", ()))
    node.input = _json(data, "input")
    node.output = _json(data, "output")
    node.action = data.get("action")
    if "out" in data:
        node.out = {o[0]: EdgeOut(o[1], o[2], o[3], reencode(o[4]) if len(o) > 4 else None) for o in data["out"]}
    node.due_ms = data.get("due")
    node.event = data.get("event")
    node.message = (data["message"][0], data["message"][1]) if "message" in data else None
    node.error = _json(data, "error")
    node.fallback = data.get("fallback")
    node.prepared = _json(data, "prepared")
    if "loop" in data:
        node.loop = LoopState()
        node.loop.iteration, node.loop.activation = data["loop"]
    if "child" in data:
        node.child = ChildState(data["child"]["runId"])
        node.child.awaiting = data["child"]["awaiting"]
        node.child.waits = tuple((w[0], w[1]) for w in data["child"]["waits"])
    if "batch" in data:
        batch = node.batch = node.batch or BatchState()
        batch.items.extend(NodeState() for _ in range(data["batch"]["items"] - len(batch.items)))
        batch.next, batch.open, batch.failed = data["batch"]["next"], data["batch"]["open"], data["batch"]["failed"]
