"""Names on the wire: camelCase, as Flowcraft's; in Python snake_case."""

from __future__ import annotations

__all__ = ["camel"]

from functools import lru_cache

# Units and abbreviations that the wire writes without their suffix.
_NAMES = {"at_ms": "at", "due_ms": "due", "until_ms": "until", "started_at_ms": "startedAt", "ended_at_ms": "endedAt"}


@lru_cache(maxsize=1_000)
def camel(name: str) -> str:
    """``node_id`` becomes ``nodeId``."""
    if name in _NAMES:
        return _NAMES[name]
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)
