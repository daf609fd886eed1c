"""Records of ``<app>.dead-letters``: what could not be read or handled, with the reason and where it came from.

    {"v": 1, "source": {"topic", "partition", "offset"}, "at", "reason", "key"?, "record"?}

Key and record are kept exactly, so that a dead letter can be written again to where it came from once the cause is
gone: as text where they are UTF-8, else in base64 under ``keyBase64`` and ``recordBase64``, and absent where there was
none (a tombstone). The record's own key is the source's.
"""

from __future__ import annotations

__all__ = ["DeadLetter", "decode_dead_letter", "encode_dead_letter"]

from base64 import b64decode, b64encode
from typing import Any, NamedTuple

import orjson

from headrace.errors import RecordRefused
from headrace_topics.json_values import parse_object, whole_number
from headrace_topics.record_fields import found_in, refuse, take_name, take_text

VERSION = 1


class DeadLetter(NamedTuple):
    """A record that was put aside. *record* and *key* are its bytes, None where it had none; *at_ms* is when."""

    record: bytes | None
    key: bytes | None
    reason: str
    source_topic: str
    partition: int
    offset: int
    at_ms: int


def encode_dead_letter(
    record: bytes | None,
    key: bytes | str | None,
    reason: str,
    *,
    source_topic: str,
    partition: int,
    offset: int,
    at_ms: int,
) -> bytes:
    """The dead letter of a record; never refuses one, whatever it holds."""
    data: dict[str, Any] = {
        "v": VERSION,
        "source": {"topic": source_topic, "partition": partition, "offset": offset},
        "at": at_ms,
        # A reason may quote what was found, and that may be text which UTF-8 cannot hold.
        "reason": reason.encode("utf-8", "replace").decode(),
    }
    _put(data, "key", key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key)
    _put(data, "record", record)
    return orjson.dumps(data)


def _put(data: dict[str, Any], name: str, value: bytes | None) -> None:
    if value is None:
        return
    try:
        data[name] = value.decode()
    except UnicodeDecodeError:
        data[f"{name}Base64"] = b64encode(value).decode()


def decode_dead_letter(record: bytes) -> DeadLetter:
    """What was put aside. Raises :class:`RecordRefused` for what is no dead letter, or of a newer version."""
    data = parse_object(record)
    version = whole_number(data, "v")
    if version > VERSION:
        raise RecordRefused(
            f"the dead letter has version {version} and this Headrace reads up to {VERSION}: read it with the version "
            "that wrote it, or a newer one"
        )
    source = data.get("source")
    if type(source) is not dict:
        refuse("source", "an object", found_in(data, "source"))
    return DeadLetter(
        _take(data, "record"),
        _take(data, "key"),
        take_text(data, "reason"),
        take_name(source, "topic"),
        whole_number(source, "partition"),
        whole_number(source, "offset"),
        whole_number(data, "at"),
    )


def _take(data: dict[str, Any], name: str) -> bytes | None:
    if name in data:
        if type(data[name]) is not str:
            refuse(name, "text", found_in(data, name))
        return bytes(data[name], "utf-8")
    name = f"{name}Base64"
    if name not in data:
        return None
    try:
        return b64decode(data[name], validate=True)
    except (TypeError, ValueError):
        refuse(name, "base64", found_in(data, name))
