"""Records of the jobs topic that nobody can carry out, a thousand kinds of them, each with a name.

That they are bad follows from how they are made and from the format as it is documented, and not from the code that
refuses them. Random damage is kept where the standard library finds no JSON in what is left.
"""

from __future__ import annotations

__all__ = ["BadRecord", "bad_records"]

import json
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

ID_BYTES_MAX = 1_024
VALUE_BYTES_MAX = 1_000_000

# What others may write, with every field; and what only the engine writes, since anybody may send that too.
_GOOD: tuple[dict[str, Any], ...] = (
    {"type": "start", "runId": "bad", "blueprintId": "chained", "version": "1", "input": [1, "ä"], "context": {"k": {}}},
    {"type": "resume", "runId": "bad", "nodeId": "answer", "action": "ok", "output": {"a": [1.5]}, "idempotencyKey": "k"},
    {"type": "signal", "runId": "bad", "event": "answered", "payload": "värde", "requestId": "q"},
    {"type": "cancel", "runId": "bad", "reason": "enough"},
    {"type": "pause", "runId": "bad", "reason": "lunch"},
    {"type": "unpause", "runId": "bad", "requestId": "q"},
    {"type": "node", "runId": "bad", "blueprintId": "chained", "nodeId": "count_1", "activation": 1, "attempt": 2},
    {"type": "childEnd", "runId": "bad", "childId": "c", "nodeId": "n", "status": "completed", "output": 1, "error": "e"},
    {"type": "childNews", "runId": "bad", "childId": "c", "nodeId": "n", "awaiting": True, "waits": [["n", "e"]]},
    {"type": "resumeApplied", "runId": "bad", "idempotencyKey": "k"},
)
_NUMBERS: tuple[Any, ...] = (0, -1, 1.5, True, False, [], {}, ["x"], {"x": 1}, 2**63, 1e300)
_TEXTS: tuple[Any, ...] = ("", "x" * (ID_BYTES_MAX + 1), "ä" * (ID_BYTES_MAX // 2 + 1))

# By field: what may not stand there. A field that has to be there may not be null or missing either.
_IDS = ("type", "runId", "blueprintId", "nodeId", "event", "childId", "status")
_OPTIONAL_IDS = ("version", "idempotencyKey")
_OPTIONAL_TEXTS = ("reason", "action", "error", "requestId")
_COUNTS = ("activation", "attempt")


class BadRecord(NamedTuple):
    """*kind* is its name; *key* and *value* are its bytes."""

    kind: str
    key: bytes | None
    value: bytes | None


def bad_records(draw: random.Random) -> list[BadRecord]:
    """At least a thousand, all of different kinds."""
    found = [*_wrong_fields(), *_truncated(), *_no_objects(), *_wrong_keys(), *_too_much(), *_damaged(draw)]
    kinds = {record.kind for record in found}
    assert len(kinds) == len(found) >= 1_000, f"{len(found)} records of {len(kinds)} kinds"
    draw.shuffle(found)
    return found


def _record(kind: str, data: Any) -> BadRecord:
    return BadRecord(kind, b"bad", json.dumps(data, ensure_ascii=False).encode())


def _wrong_fields() -> Iterator[BadRecord]:
    for good in _GOOD:
        name = good["type"]
        for field in good:
            for number, value in enumerate(_values_against(name, field)):
                yield _record(f"{name}: wrong {field} {number}", {**good, field: value})
            if field in _IDS or (name, field) in (("resumeApplied", "idempotencyKey"), ("childNews", "awaiting")):
                yield _record(f"{name}: {field} is null", {**good, field: None})
                yield _record(f"{name}: without {field}", {key: value for key, value in good.items() if key != field})
    kinds = ("Start", "START", "start ", " start", "stop", "delete", "node2", "\u0000start", "runStarted")
    for number, kind in enumerate(kinds):
        yield _record(f"unknown type {number}", {**_GOOD[0], "type": kind})


def _values_against(name: str, field: str) -> Iterator[Any]:
    if field in _IDS or field in _OPTIONAL_IDS:
        yield from _NUMBERS
        # A wait in a child is named by a path, one id for each level.
        yield from ("", "x" * (32 * ID_BYTES_MAX + 1)) if (name, field) == ("resume", "nodeId") else _TEXTS
    elif field in _OPTIONAL_TEXTS:
        yield from _NUMBERS
        if field == "requestId":
            yield from _TEXTS[1:]
    elif field in _COUNTS:
        yield from (-1, 1.5, True, "1", [], {}, 2**63)
        if field == "attempt":
            yield 0
    elif field == "context":
        yield from (0, 1.5, True, "x", [], ["k"], {"k" * (ID_BYTES_MAX + 1): 1})
    elif field == "awaiting":
        yield from (0, 1, "true", [], {})
    elif field == "waits":
        yield from (0, True, "x", {}, [1], ["n"], [["n"]], [["n", 1]], [[1, "e"]], [["n", "e", "x"]], [{}], [None])
    if field in ("input", "output", "payload") and name != "childEnd":
        yield from _too_large_values()


def _too_large_values() -> Iterator[Any]:
    yield 2**64
    yield -(2**63) - 1
    yield [{"deep": 10**30}]


def _truncated() -> Iterator[BadRecord]:
    """Cut off at every byte, as a producer that died leaves it."""
    for good in _GOOD:
        whole = json.dumps(good, ensure_ascii=False).encode()
        for length in range(1, len(whole), 2):
            yield BadRecord(f"{good['type']}: the first {length} bytes", b"bad", whole[:length])


def _no_objects() -> Iterator[BadRecord]:
    values: tuple[bytes | None, ...] = (
        None, b"", b" ", b"\n", b"null", b"true", b"0", b"-1.5", b'"start"', b"[]", b"[{}]", b"{}", b"\x00", b"\x00" * 100,
        b"\xff\xfe", b"\xef\xbb\xbf{}", b"{'type':'start'}", b'{"type":"start",}', b'{type:"start"}', b"{}{}", b"// start",
        b'{"type":"start","runId":"bad","blueprintId":"chained","input":NaN}',
        b'{"type":"start","runId":"bad","blueprintId":"chained","input":Infinity}',
        b'{"type":"start","runId":"bad","blueprintId":"chained","input":01}',
        b'{"type":"start","runId":"bad","blueprintId":"chained","input":0x1}',
        b'{"type":"start","runId":"bad","blueprintId":"chained","input":"\n"}',
        b'{"type":"start","runId":"bad","blueprintId":"chained"} x',
        b'{"type":"start","runId":"\\ud800","blueprintId":"chained"}',
        b'{"type":"start","runId":"bad\xc3","blueprintId":"chained"}',
        b'{"type":"start","runId":"\xed\xa0\x80","blueprintId":"chained"}',
        b"<start run='bad'/>", b"type: start", "start bad chained".encode("utf-16"), b"\x1f\x8b\x08\x00" * 9,
        b"\x00\x00\x00\x00\x01\x06bad\x0echained",
    )  # fmt: skip
    for number, value in enumerate(values):
        yield BadRecord(f"no object {number}", b"bad", value)


def _wrong_keys() -> Iterator[BadRecord]:
    no_text = (b"\xff", b"\xc3\x28", b"b\xe4d", b"\x80\x00\x00\x03")
    keys = (b"", b"other", b"Bad", b"bad ", b"bad\x00", b'"bad"', b"x" * 5_000, *no_text)
    for good in _GOOD:
        value = json.dumps(good, ensure_ascii=False).encode()
        for number, key in enumerate(keys):
            yield BadRecord(f"{good['type']}: wrong key {number}", key, value)


def _too_much() -> Iterator[BadRecord]:
    head = b'{"type":"start","runId":"bad","blueprintId":"chained","input":'
    for depth in (255, 1_000, 1_025, 20_000, 100_000):
        yield BadRecord(f"lists {depth} deep", b"bad", head + b"[" * depth + b"]" * depth + b"}")
        yield BadRecord(f"objects {depth} deep", b"bad", head + b'{"a":' * depth + b"1" + b"}" * depth + b"}")
        yield BadRecord(f"lists {depth} deep without an end", b"bad", head + b"[" * depth)
    yield BadRecord("a value too large", b"bad", head + b'"' + b"x" * (VALUE_BYTES_MAX + 1) + b'"}')
    yield BadRecord("no JSON, 3 MB", b"bad", b"x" * 3_000_000)
    yield BadRecord("control characters, which are six times as large in JSON, 2 MB", b"bad", b"\x01" * 2_000_000)
    yield BadRecord("no UTF-8, 3 MB", b"bad", b"\xff" * 3_000_000)


def _damaged(draw: random.Random) -> Iterator[BadRecord]:
    """Some bytes are others now."""
    number = 0
    while number < 250:
        good = draw.choice(_GOOD)
        damaged = bytearray(json.dumps(good, ensure_ascii=False).encode())
        for _ in range(draw.randint(1, 4)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        try:
            json.loads(bytes(damaged).decode())
        except ValueError:
            number += 1
            yield BadRecord(f"damage {number} to {good['type']}", b"bad", bytes(damaged))
