"""Takes the fields of records that others write, one at a time, by type and size.

Each refusal names the field, what was expected and what was found: ``field 'runId': expected text of 1 to 1024 bytes,
found a number``. An optional field that is null is taken as absent, since many writers give their empty fields so.
Fields that nobody asks for are not looked at: a newer writer may have more of them.
"""

from __future__ import annotations

__all__ = [
    "found_in",
    "refuse",
    "shown",
    "take_flag",
    "take_list",
    "take_name",
    "take_number",
    "take_object",
    "take_optional_name",
    "take_text",
    "take_value",
]

from typing import Any, NoReturn

from headrace.errors import RecordRefused, ValueRefused
from headrace.fields import kind_of
from headrace.limits import ID_BYTES_MAX
from headrace.values import NULL, Json, encode
from headrace_topics.json_values import reencode

_FOUND_CHARS_MAX = 60


def refuse(name: str, expected: str, found: str) -> NoReturn:
    """Refuse a record for one field."""
    raise RecordRefused(f"field {name!r}: expected {expected}, found {found}")


def found_in(data: dict[str, Any], name: str) -> str:
    """What a field holds, in words."""
    if name not in data:
        return "nothing"
    value = data[name]
    if type(value) is not str:
        return kind_of(value)
    return f"text of {len(value.encode())} bytes" if value else "empty text"


def shown(text: str) -> str:
    """A text as it stands in a message: quoted, and cut where it is long."""
    return repr(text if len(text) <= _FOUND_CHARS_MAX else text[: _FOUND_CHARS_MAX - 1] + "…")


def take_name(data: dict[str, Any], name: str, bytes_max: int = ID_BYTES_MAX) -> str:
    """A name that has to be there: text of at least one byte."""
    value = data.get(name)
    # A character has at most four bytes, so nearly every name is known to fit without being encoded.
    if type(value) is str and value and (len(value) * 4 <= bytes_max or len(value.encode()) <= bytes_max):
        return value
    refuse(name, f"text of 1 to {bytes_max} bytes", found_in(data, name))


def take_optional_name(data: dict[str, Any], name: str) -> str | None:
    """A name that may be absent."""
    return None if data.get(name) is None else take_name(data, name)


def take_text(data: dict[str, Any], name: str, bytes_max: int | None = None) -> str:
    """A text of any length up to *bytes_max*; empty where it is absent."""
    value = data.get(name)
    if value is None:
        return ""
    if type(value) is str and (bytes_max is None or len(value) * 4 <= bytes_max or len(value.encode()) <= bytes_max):
        return value
    refuse(name, "text" if bytes_max is None else f"text of at most {bytes_max} bytes", found_in(data, name))


def take_number(data: dict[str, Any], name: str, default: int, least: int) -> int:
    """A whole number of 64 bits from *least* on."""
    value = data.get(name)
    if value is None:
        return default
    if type(value) is int and least <= value < 2**63:
        return value
    found = str(value) if type(value) in {int, float} else kind_of(value)
    refuse(name, f"a whole number from {least} to {2**63 - 1}", found)


def take_flag(data: dict[str, Any], name: str) -> bool:
    """A boolean that has to be there."""
    value = data.get(name)
    if type(value) is bool:
        return value
    refuse(name, "true or false", found_in(data, name))


def take_object(data: dict[str, Any], name: str) -> dict[str, Any]:
    """An object; empty where it is absent."""
    value = data.get(name)
    if value is None:
        return {}
    if type(value) is dict:
        return value
    refuse(name, "an object", found_in(data, name))


def take_list(data: dict[str, Any], name: str) -> list[Any]:
    """A list; empty where it is absent."""
    value = data.get(name)
    if value is None:
        return []
    if type(value) is list:
        return value
    refuse(name, "a list", found_in(data, name))


def take_value(data: dict[str, Any], name: str, bytes_max: int | None) -> Json:
    """Any JSON; null where it is absent. Without *bytes_max* it is taken as the engine wrote it."""
    value = data.get(name)
    if value is None:
        return NULL
    if bytes_max is None:
        return reencode(value)
    try:
        encoded = encode(value)
    except ValueRefused:
        # The value was parsed, so it is JSON, and depth is all that can be wrong with it.
        refuse(name, "JSON of at most 254 levels", "a value nested deeper than that")
    if len(encoded) > bytes_max:
        # Larger data belongs elsewhere, with its address in the record; or the limit (value_bytes_max) is to be raised.
        refuse(name, f"at most {bytes_max} bytes of JSON (value_bytes_max)", f"{len(encoded)}: pass its address instead")
    return encoded
