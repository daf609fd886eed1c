"""Values that come from a command line: JSON as such, from a file (``@file``) or from standard input (``-``)."""

from __future__ import annotations

__all__ = ["read_document", "read_json", "read_object"]

import sys
from pathlib import Path
from typing import Any

import orjson

from headrace.errors import DefinitionError, RecordRefused, ValueRefused
from headrace_topics.json_values import refuse_long_integers


def read_json(text: str | None, option: str) -> Any:
    """The value that *text* stands for, None where there is none; *option* names it in messages.

    Raises :class:`ValueRefused` that says where the text stops being JSON.
    """
    if text is None:
        return None
    if text == "-":
        data, source = sys.stdin.buffer.read(), "standard input"
    elif text.startswith("@"):
        data, source = _read_file(Path(text[1:]), option), text[1:]
    else:
        data, source = text.encode("utf-8", "surrogateescape"), ""
    return _decoded(data, f"{option}{source and f' ({source})'}", hint=not source)


def read_object(text: str | None, option: str) -> dict[str, Any] | None:
    """As :func:`read_json`, for what has to be an object."""
    value = read_json(text, option)
    if value is None or isinstance(value, dict):
        return value
    raise ValueRefused(f"{option} has to be a JSON object, and is {kind_of(value)}")


def read_document(path: Path) -> Any:
    """The JSON of a file."""
    return _decoded(_read_file(path, "the blueprint"), str(path), hint=False)


def kind_of(value: object) -> str:
    """What JSON calls a value of this type."""
    kinds = {type(None): "null", bool: "a boolean", str: "text", list: "a list", dict: "an object"}
    return kinds.get(type(value), "a number")


def _read_file(path: Path, option: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DefinitionError(f"{option}: {path} cannot be read: {error.strerror or error}") from None


def _decoded(data: bytes, what: str, *, hint: bool) -> Any:
    try:
        data = data.removeprefix(b"\xef\xbb\xbf")
        value = orjson.loads(data)
        refuse_long_integers(data)
        return value
    except RecordRefused as error:
        raise ValueRefused(f"{what}: {error}") from None
    except orjson.JSONDecodeError as error:
        advice = ""
        if hint:
            advice = "; text is written with quotes of its own ('\"text\"'), a file as @file, standard input as -"
        raise ValueRefused(f"{what} is not JSON: {error}{advice}") from None
