"""Records of ``<app>.results``: the one final result of each run, under the run id.

    {"runId", "blueprintId", "version", "status": "completed" | "failed" | "cancelled", "output": any, "context": {},
     "errors": [{"nodeId", "code", "message", "predecessor"?}], "startedAt", "endedAt", "parentRunId"?}

Others read these records, so the format grows only by fields that may be absent. Times are milliseconds since 1970.
"""

from __future__ import annotations

__all__ = ["decode_result", "encode_result"]

from typing import Any

import orjson

from headrace.adapter import RunResult
from headrace.state import RunError, RunState
from headrace_topics.json_values import parse_object, whole_number
from headrace_topics.record_fields import found_in, refuse, shown, take_list, take_name, take_object, take_text

_FINAL = ("completed", "failed", "cancelled")


def encode_result(state: RunState, ended_at_ms: int) -> bytes:
    """The result of a run that has ended."""
    assert state.ended in _FINAL, state.ended
    data: dict[str, Any] = {
        "runId": state.run_id,
        "blueprintId": state.blueprint_id,
        "version": state.version,
        "status": state.ended,
        "output": orjson.Fragment(state.output),
        "context": {key: orjson.Fragment(value) for key, value in state.context.items()},
        "errors": [_error_to_json(error) for error in state.errors],
        "startedAt": state.started_at_ms,
        "endedAt": ended_at_ms,
    }
    if state.parent is not None:
        data["parentRunId"] = state.parent.run_id
    return orjson.dumps(data)


def _error_to_json(error: RunError) -> dict[str, str]:
    data = {"nodeId": error.node, "code": error.code, "message": error.message}
    if error.predecessor:
        data["predecessor"] = error.predecessor
    return data


def decode_result(record: bytes) -> RunResult:
    """The result that a record holds. Raises :class:`RecordRefused` for what is no result, naming the field."""
    data = parse_object(record)
    status = data.get("status")
    if status not in _FINAL:
        refuse("status", f"one of {', '.join(_FINAL)}", shown(status) if type(status) is str else found_in(data, "status"))
    errors = take_list(data, "errors")
    if not all(type(error) is dict for error in errors):
        refuse("errors", "a list of objects", "something else in it")
    return RunResult(
        take_name(data, "runId"),
        take_name(data, "blueprintId"),
        take_text(data, "version"),
        status,
        data.get("output"),
        take_object(data, "context"),
        errors,
        whole_number(data, "startedAt"),
        whole_number(data, "endedAt"),
    )
