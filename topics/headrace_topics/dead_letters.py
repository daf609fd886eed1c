"""Records of ``<app>.dead-letters``: what could not be read or handled, with the reason and where it came from.

    {"v": 1, "source": {"topic", "partition", "offset"}, "at", "reason", "key"?, "record"?, "omitted"?}
    {"v": 1, "redriven": {"partition", "offset"}, "to": {"topic", "partition"}, "at"}

Key and record are kept exactly, so that a dead letter can be written again to where it came from once the cause is
gone: as text where they are UTF-8, else in base64 under ``keyBase64`` and ``recordBase64``, and absent where there was
none (a tombstone). Only what is too large for one more record is left where it lies, and ``omitted`` says how many bytes
that are. The record's own key is the source's.

The second form says that the dead letter at that place of this topic was written again, so that nobody does it twice. It
is written in the transaction that writes the record, on the partition of its dead letter and so behind it: retention,
which takes a partition from the front, never takes it before the letter.
"""

from __future__ import annotations

__all__ = [
    "DeadLetter",
    "RedrivenMark",
    "decode_dead_letter",
    "decode_dead_letters_record",
    "encode_dead_letter",
    "encode_redriven",
]

from base64 import b64decode, b64encode
from typing import Any, NamedTuple

import orjson

from headrace.errors import RecordRefused
from headrace_topics.json_values import parse_object, whole_number
from headrace_topics.record_fields import found_in, refuse, take_name, take_number, take_text

VERSION = 1


class DeadLetter(NamedTuple):
    """A record that was put aside. *record* and *key* are its bytes, None where it had none; *at_ms* is when.

    Where *omitted* bytes were too many to be kept here, *record* is None, and so may be *key*.
    """

    record: bytes | None
    key: bytes | None
    reason: str
    source_topic: str
    partition: int
    offset: int
    at_ms: int
    omitted: int = 0


class RedrivenMark(NamedTuple):
    """The dead letter at *partition* and *offset* was written again, to a partition of a topic; *at_ms* is when."""

    partition: int
    offset: int
    to_topic: str
    to_partition: int
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
    bytes_max: int | None = None,
) -> bytes:
    """The dead letter of a record; never refuses one, whatever it holds. One that is longer than *bytes_max* omits it."""
    data: dict[str, Any] = {
        "v": VERSION,
        "source": {"topic": source_topic, "partition": partition, "offset": offset},
        "at": at_ms,
        # A reason may quote what was found, and that may be text which UTF-8 cannot hold.
        "reason": reason.encode("utf-8", "replace").decode(),
    }
    key = key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key
    _put(data, "key", key)
    _put(data, "record", record)
    letter = orjson.dumps(data)
    if bytes_max is None:
        return letter
    omitted = 0
    for name, value in (("record", record), ("key", key)):
        if len(letter) > bytes_max and value is not None:
            omitted += len(value)
            data.pop(name, None)
            data.pop(f"{name}Base64", None)
            letter = orjson.dumps({**data, "omitted": omitted})
    return letter


def _put(data: dict[str, Any], name: str, value: bytes | None) -> None:
    if value is None:
        return
    try:
        data[name] = value.decode()
    except UnicodeDecodeError:
        data[f"{name}Base64"] = b64encode(value).decode()


def encode_redriven(mark: RedrivenMark) -> bytes:
    """The record that remembers what was written again."""
    return orjson.dumps(
        {
            "v": VERSION,
            "redriven": {"partition": mark.partition, "offset": mark.offset},
            "to": {"topic": mark.to_topic, "partition": mark.to_partition},
            "at": mark.at_ms,
        }
    )


def decode_dead_letter(record: bytes) -> DeadLetter:
    """What was put aside. Raises :class:`RecordRefused` for what is no dead letter, or of a newer version."""
    return _letter(_parse(record))


def decode_dead_letters_record(record: bytes) -> DeadLetter | RedrivenMark:
    """Any record of the topic. Raises :class:`RecordRefused` for what is none of both forms, or of a newer version."""
    data = _parse(record)
    return _mark(data) if "redriven" in data else _letter(data)


def _parse(record: bytes) -> dict[str, Any]:
    data = parse_object(record)
    version = whole_number(data, "v")
    if version > VERSION:
        raise RecordRefused(
            f"the dead letter has version {version} and this Headrace reads up to {VERSION}: read it with the version "
            "that wrote it, or a newer one"
        )
    return data


def _mark(data: dict[str, Any]) -> RedrivenMark:
    letter, to = _object(data, "redriven"), _object(data, "to")
    return RedrivenMark(
        whole_number(letter, "partition"),
        whole_number(letter, "offset"),
        take_name(to, "topic"),
        whole_number(to, "partition"),
        whole_number(data, "at"),
    )


def _object(data: dict[str, Any], name: str) -> dict[str, Any]:
    value = data.get(name)
    if type(value) is not dict:
        refuse(name, "an object", found_in(data, name))
    return value


def _letter(data: dict[str, Any]) -> DeadLetter:
    source = _object(data, "source")
    return DeadLetter(
        _take(data, "record"),
        _take(data, "key"),
        take_text(data, "reason"),
        take_name(source, "topic"),
        whole_number(source, "partition"),
        whole_number(source, "offset"),
        whole_number(data, "at"),
        take_number(data, "omitted", 0, 0),
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
