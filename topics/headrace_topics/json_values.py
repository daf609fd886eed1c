"""JSON values inside records: written as they are, and read back to the very bytes that were written.

The engine holds values as encoded JSON. A record takes them in as fragments, so nothing is encoded twice, and what was
written is what :func:`headrace.values.encode` gave. Reading parses the record once and encodes each value again; the codec
writes equal values alike, so the bytes are the same.
"""

from __future__ import annotations

__all__ = ["parse_object", "reencode", "refuse_long_integers", "whole_number"]

import json
import re
from typing import Any

import orjson

from headrace.errors import RecordRefused
from headrace.fields import kind_of
from headrace.values import Json, trimmed


def parse_object(record: bytes) -> dict[str, Any]:
    """The object that *record* is; raises :class:`RecordRefused` where it is no JSON (with the place), or no object."""
    try:
        data = orjson.loads(record)
    except ValueError as error:
        raise RecordRefused(f"expected a JSON object: {_place_of(record, error)}") from None
    if type(data) is not dict:
        raise RecordRefused(f"expected a JSON object, found {kind_of(data)}")
    return data


# The first integer that may be beyond 64 bits has 19 digits.
_LONG_NUMBER = re.compile(rb"[0-9]{19}")


def refuse_long_integers(record: bytes) -> None:
    """Refuse JSON with an integer beyond 64 bits: the codec reads it as the nearest float, and an id must not change.

    Raises :class:`RecordRefused`. *record* is known to be JSON.
    """
    if _LONG_NUMBER.search(record) is None:
        return
    try:
        json.loads(record, parse_int=_check_integer)
    except RecursionError:
        # Only a field that nobody looks at is nested so deep.
        return


def _check_integer(digits: str) -> None:
    if len(digits) > 20 or not -(2**63) <= int(digits) < 2**64:
        raise RecordRefused(f"expected whole numbers of at most 64 bits, found {digits[:24]}: write it as text")


def _place_of(record: bytes, error: ValueError) -> str:
    try:
        record.decode()
    except UnicodeDecodeError as invalid:
        # The JSON codec says of such bytes only that they are somewhere.
        return f"byte {invalid.start} is not UTF-8"
    return str(error)


def reencode(value: Any) -> Json:
    """The bytes of a value that was parsed out of a record."""
    try:
        return trimmed(orjson.dumps(value))
    except TypeError:
        return _encode_deep(value)


def _encode_deep(value: Any) -> Json:
    """As the codec writes it, without its bound on depth.

    Lists and objects that the engine makes of values (the input of a join, the outputs of a batch) are nested deeper
    than any one of these, so a record may hold what the codec, which reads deeper than it writes, refuses to write.
    """
    pieces: list[bytes] = []
    # What is still to be written, last first; bytes are punctuation, since no parsed value is bytes.
    stack: list[Any] = [value]
    while stack:
        item = stack.pop()
        if type(item) is bytes:
            pieces.append(item)
        elif type(item) is list and item:
            stack.append(b"]")
            for inner in reversed(item):
                stack += (inner, b",")
            stack[-1] = b"["
        elif type(item) is dict and item:
            stack.append(b"}")
            for key, inner in reversed(item.items()):
                stack += (inner, b"," + orjson.dumps(key) + b":")
            stack[-1] = b"{" + stack[-1][1:]
        else:
            pieces.append(orjson.dumps(item))
    return b"".join(pieces)


def whole_number(data: dict[str, Any], name: str) -> int:
    """A field that is a whole number; raises :class:`RecordRefused` where it is something else."""
    value = data.get(name)
    if type(value) is not int:
        found = "nothing" if name not in data else kind_of(value)
        raise RecordRefused(f"field {name!r}: expected a whole number, found {found}")
    return value
