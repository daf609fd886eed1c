"""What clients of every adapter do with records: check a command at the door, and show what was committed to people."""

from __future__ import annotations

__all__ = ["at_the_door", "history_of", "result_view", "run_row"]

from typing import Any

import orjson

from headrace.commands import Command, EngineCommand
from headrace.errors import RecordRefused
from headrace_topics.jobs_record import decode_command, encode_command


def at_the_door(command: Command, value_bytes_max: int) -> bytes:
    """The record of a command that comes from a program, checked as one that comes from a producer is.

    Raises :class:`RecordRefused`, which names the field, for a command that could not stand in a record, and for one
    that the engine says to itself.
    """
    if isinstance(command, EngineCommand):
        raise RecordRefused(f"{type(command).__name__} is what the engine says to itself: no client may send it")
    try:
        record = encode_command(command)
    except (TypeError, ValueError, AttributeError) as error:
        raise RecordRefused(f"{type(command).__name__} cannot be written as a record: {error}") from None
    decode_command(record, value_bytes_max=value_bytes_max)
    return record


def run_row(run_id: str, record: bytes) -> dict[str, Any]:
    """One line of a list of runs, from the record of a run's head or dedup marker; ``unreadable`` for anything else."""
    try:
        return _readable_row(run_id, orjson.loads(record))
    except (ValueError, KeyError, AttributeError, TypeError):
        return {"runId": run_id, "flow": "", "version": "", "status": "unreadable", "startedAt": 0}


def _readable_row(run_id: str, head: dict[str, Any]) -> dict[str, Any]:
    status = head.get("ended")
    if status is None:
        flags = ("parked", "paused", "awaiting")
        status = next((flag for flag in flags if head.get(flag)), "running")
    row = {"runId": run_id, "flow": head["blueprintId"], "version": head["version"], "status": status}
    row["startedAt"] = head["startedAt"]
    if "endedAt" in head:
        row["endedAt"] = head["endedAt"]
    return row


def result_view(record: bytes) -> dict[str, Any]:
    """The status of a run that has ended, from the record of its result."""
    data: dict[str, Any] = orjson.loads(record)
    data["flow"] = data.pop("blueprintId")
    return {**data, "nodes": [], "awaiting": []}


def history_of(record: bytes) -> list[dict[str, Any]]:
    """The events that one record of the history holds, each with its number and time; or its rejection, without one."""
    data = orjson.loads(record)
    if "rejected" in data:
        return [{"seq": None, "at": data["rejected"]["at"], "type": "commandRejected", **data["rejected"]}]
    events: list[dict[str, Any]] = []
    for decision in data["decisions"]:
        for event in decision["events"]:
            events.append({"seq": data["seq"] + len(events), "at": decision["at"], **event})
    return events
