"""The topics of an app, and the keys of their records.

Keys are JSON arrays that begin with the run id, so that a store which sorts by bytes keeps the records of a run
together, whatever characters an id holds, and a prefix of one run id is never one of another.
"""

from __future__ import annotations

__all__ = ["OFFSET_KEY", "TOPICS", "TopicSpec", "context_key", "coordination_key", "run_prefix", "split_key"]

from typing import NamedTuple

import orjson

from headrace.errors import RecordRefused


class TopicSpec(NamedTuple):
    """One topic of an app: ``<app>.<name>``. *keyed_by_run* topics have equal partition counts."""

    name: str
    cleanup: str
    keyed_by_run: bool
    meaning: str


TOPICS: tuple[TopicSpec, ...] = (
    TopicSpec("jobs", "delete", True, "start events, node jobs, resumes, signals, cancels"),
    TopicSpec("context-changelog", "compact", True, "changes of run context values"),
    TopicSpec("coordination-changelog", "compact", True, "run heads, nodes, items, kept signals, dedup markers"),
    TopicSpec("events", "delete", True, "the history of every run, in sequence"),
    TopicSpec("results", "compact,delete", True, "the one final result of each run"),
    TopicSpec("blueprints", "compact", False, "definitions that runs are pinned to"),
    TopicSpec("dead-letters", "delete", False, "records that could not be read or handled, with the reason"),
)


OFFSET_KEY = b'["","offset"]'
"""The coordination record of a partition itself, beside those of its runs, none of which has an empty id."""

# Enough for a thousand signals a second for a hundred days; the run keeps counting beyond, out of order.
_SIGNAL_DIGITS = 10


def run_prefix(run_id: str) -> bytes:
    """What the keys of all records of a run begin with. Raises :class:`RecordRefused` for what UTF-8 cannot hold."""
    try:
        return b"[" + orjson.dumps(run_id) + b","
    except TypeError:
        raise RecordRefused(f"run id {run_id!r}: expected text that UTF-8 can hold, found a lone surrogate") from None


def coordination_key(prefix: bytes, part: tuple[str, ...]) -> bytes:
    """The key of a part of a run's state: its kind, then what names it within the run.

    Kept signals go to waits in the order in which they came, so their numbers sort by bytes as they do by value.
    """
    if part[0] == "s":
        part = ("s", part[1].zfill(_SIGNAL_DIGITS))
    return prefix + orjson.dumps(part)[1:]


def context_key(prefix: bytes, key: str) -> bytes:
    """The key of one context value."""
    return prefix + orjson.dumps(key) + b"]"


def split_key(key: bytes) -> list[str]:
    """The run id and what follows it."""
    parts: list[str] = orjson.loads(key)
    return parts
