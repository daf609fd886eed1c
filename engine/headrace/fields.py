"""Takes the fields of a decoded document by their type, and collects every one that has another.

So a document of five mistakes is refused with all five named, and whoever takes a field gets a value of the right type
in any case.
"""

from __future__ import annotations

__all__ = ["FieldReader", "copied", "kind_of"]

from collections.abc import Mapping
from typing import Any

from headrace.errors import Problem, ValueRefused
from headrace.limits import ID_BYTES_MAX
from headrace.values import decode, encode, encode_text


class FieldReader:
    """Takes fields by type; one of another type becomes a ``BLUEPRINT_MALFORMED`` problem and an empty value."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def refuse(self, path: str, expected: str) -> None:
        self.problems.append(Problem("BLUEPRINT_MALFORMED", path, f"{path} {expected}"))

    def object_at(self, path: str, value: object) -> Mapping[str, Any]:
        if isinstance(value, Mapping):
            return value
        self.refuse(path, f"must be an object, not {kind_of(value)}")
        return {}

    def json_object_at(self, path: str, value: object) -> dict[str, Any]:
        """An object of any JSON, as an own copy; absent is empty."""
        if value is None:
            return {}
        try:
            return copied(self.object_at(path, value))
        except ValueRefused as error:
            self.refuse(path, f"must be JSON: {error}")
            return {}

    def list_at(self, path: str, value: object) -> list[Any]:
        if isinstance(value, list):
            return value
        self.refuse(path, f"must be a list, not {kind_of(value)}")
        return []

    def text_at(self, path: str, value: object) -> str:
        if not isinstance(value, str):
            self.refuse(path, "is missing" if value is None else f"must be text, not {kind_of(value)}")
            return ""
        try:
            encode_text(value)
        except ValueRefused as error:
            self.refuse(path, f"cannot be used: {error}")
            return ""
        return value

    def text_or_none_at(self, path: str, value: object) -> str | None:
        return None if value is None else self.text_at(path, value)

    def id_at(self, path: str, value: object) -> str:
        text = self.text_at(path, value)
        if len(text.encode()) > ID_BYTES_MAX:
            self.refuse(path, f"has {len(text.encode())} bytes, and an id may have {ID_BYTES_MAX}")
        return text


def copied(value: Mapping[str, Any]) -> dict[str, Any]:
    """A deep copy of an object; raises :class:`ValueRefused` where it is no JSON."""
    copy: dict[str, Any] = decode(encode(dict(value)))
    return copy


def kind_of(value: object) -> str:
    """What a value of a document is, in words."""
    kinds = {type(None): "null", bool: "a boolean", str: "text", list: "a list", dict: "an object"}
    return kinds.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)
