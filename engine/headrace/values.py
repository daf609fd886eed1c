"""Values as the engine holds them: encoded JSON, decoded only where something looks inside.

A value that a node returned, an input or a context value is encoded once, at the door, and travels as ``bytes``
through state, events and records. So nobody can change a value that somebody else holds, two states can be compared
byte for byte, the size of a value is known, and nothing is encoded twice. This is the one module of the engine that
knows a JSON library (docs/decisions/0002-values-are-encoded-json.md).
"""

from __future__ import annotations

__all__ = [
    "NULL",
    "Json",
    "check_made",
    "check_name",
    "check_size",
    "decode",
    "encode",
    "encode_text",
    "join_array",
    "join_object",
    "trimmed",
]

import math
from collections.abc import Iterable
from typing import Any

import orjson

from headrace.errors import ValueRefused
from headrace.limits import ID_BYTES_MAX

Json = bytes
"""One JSON value in UTF-8, as :func:`encode` wrote it."""

NULL: Json = b"null"

# What the codec writes; it reads more, so a value that was put together can still be looked at.
NESTING_MAX = 254


def encode(value: Any, *, bytes_max: int | None = None, what: str = "value") -> Json:
    """Encode *value*; the result is the same for equal values with the same key order.

    Raises :class:`ValueRefused`, which names *what*, when the value is no JSON (sets, objects, NaN, integers
    beyond 64 bits, keys that are not text), is nested deeper than the codec goes (about 250 levels, so cycles too),
    or is larger than *bytes_max*.
    """
    try:
        encoded = orjson.dumps(value)
    except (TypeError, ValueError, RecursionError) as error:
        if "ecursion" in str(error):
            raise ValueRefused(f"{what} is nested deeper than {NESTING_MAX} levels, or holds itself") from None
        raise ValueRefused(f"{what} is not JSON: {error}") from None
    # orjson writes NaN and Infinity as null; a number must not become nothing on its way.
    if b"null" in encoded and _has_non_finite(value):
        raise ValueRefused(f"{what} is not JSON: it holds NaN or Infinity, which JSON has no number for")
    if bytes_max is not None:
        check_size(encoded, bytes_max, what)
    return trimmed(encoded)


def trimmed(encoded: Json) -> Json:
    """The same bytes, in as much memory as they need: for what is kept.

    orjson gives them in a buffer of at least 4 KB that it never cuts, and of runs that wait there are very many.
    """
    return b"".join((encoded, b""))


def decode(encoded: Json) -> Any:
    """Decode what :func:`encode` wrote; every call gives objects of its own."""
    return orjson.loads(encoded)


def encode_text(text: str) -> Json:
    """Encode one text; lone surrogates, which UTF-8 cannot hold, are refused."""
    try:
        return trimmed(orjson.dumps(text))
    except TypeError as error:
        raise ValueRefused(f"text {text!r} is not Unicode that UTF-8 can hold: {error}") from None


def check_made(encoded: Json, bytes_max: int, what: str) -> None:
    """Refuse a value that the engine put together from others where :func:`encode` would not take it.

    Raises :class:`ValueRefused` when it is larger than *bytes_max*, or nested too deeply.
    """
    check_size(encoded, bytes_max, what)
    if len(encoded) >= 2 * NESTING_MAX:
        encode(decode(encoded), what=what)


def check_size(encoded: Json, bytes_max: int, what: str) -> None:
    """Refuse a value that is larger than *bytes_max*. Raises :class:`ValueRefused`."""
    if len(encoded) > bytes_max:
        raise ValueRefused(
            f"{what} has {len(encoded)} bytes and the limit is {bytes_max}: keep large data elsewhere and pass its "
            "address, or raise the limit (value_bytes_max)"
        )


def check_name(name: str, what: str) -> None:
    """Refuse text that cannot be part of a key: what UTF-8 cannot hold, or more than ``ID_BYTES_MAX``.

    Raises :class:`ValueRefused`, which names *what*.
    """
    if len(name) <= ID_BYTES_MAX and name.isascii():
        return
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        raise ValueRefused(f"{what} is not Unicode that UTF-8 can hold: {error}") from None
    if size > ID_BYTES_MAX:
        raise ValueRefused(f"{what} has {size} bytes and the limit is {ID_BYTES_MAX}: give a shorter one")


def join_array(items: Iterable[Json]) -> Json:
    """The array of values that are already encoded."""
    return b"[" + b",".join(items) + b"]"


def join_object(pairs: Iterable[tuple[str, Json]]) -> Json:
    """The object of values that are already encoded."""
    return b"{" + b",".join([orjson.dumps(key) + b":" + value for key, value in pairs]) + b"}"


def _has_non_finite(value: Any) -> bool:
    """Whether a NaN or an Infinity is anywhere in a value that has already been encoded (so it is finite in depth)."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, float):
            if not math.isfinite(item):
                return True
        elif isinstance(item, dict):
            stack.extend(item.values())
        elif isinstance(item, list | tuple):
            stack.extend(item)
    return False
