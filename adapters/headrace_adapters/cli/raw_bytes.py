"""Bytes that nobody understood, for people and for programs: all of them, and none that a terminal would obey."""

from __future__ import annotations

__all__ = ["key_text", "lines_of", "record_fields"]

from base64 import b64encode
from collections.abc import Iterator
from typing import Any

BYTES_A_LINE = 16


def key_text(key: bytes | None) -> str:
    """A key on one line; empty where there is none. Bytes that are not UTF-8 are shown as ``\\xff``."""
    return "" if key is None else _visible(key.decode("utf-8", "backslashreplace"))


def lines_of(record: bytes) -> Iterator[str]:
    """A record as text where it is text, with marks for what cannot be seen; else in hexadecimal digits, with places."""
    try:
        text = record.decode()
    except UnicodeDecodeError:
        yield from _hexadecimal(record)
        return
    for line in text.split("\n"):
        yield _visible(line.removesuffix("\r"))


def record_fields(name: str, value: bytes | None) -> dict[str, Any]:
    """Bytes as the topic of dead letters has them: text, or base64 under another name; nothing where there are none."""
    if value is None:
        return {}
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}Base64": b64encode(value).decode()}


def _visible(text: str) -> str:
    return "".join(sign if sign.isprintable() or sign == "\t" else sign.encode("unicode_escape").decode() for sign in text)


def _hexadecimal(record: bytes) -> Iterator[str]:
    for start in range(0, len(record), BYTES_A_LINE):
        part = record[start : start + BYTES_A_LINE]
        pairs = part.hex(" ").ljust(3 * BYTES_A_LINE - 1)
        seen = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        yield f"{start:08x}  {pairs}  {seen}"
