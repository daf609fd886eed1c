"""The result of a run as others read it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.adapter import RunResult
from headrace.errors import RecordRefused
from headrace.events import Parent
from headrace.state import RunError, RunState
from headrace.values import NULL, encode
from headrace_topics.results_record import decode_result, encode_result

GOLDEN = Path(__file__).parents[2] / "golden" / "results.jsonl"

TEXTS = st.sampled_from(["", "\x00", '"\\', "ключ", "\U0001f600"]) | st.text(max_size=12)
PARSED = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


def ended(status: str = "completed", run_id: str = "r1") -> RunState:
    state = RunState(run_id)
    state.ended, state.blueprint_id, state.version, state.started_at_ms = status, "order", "1", 1_700_000_000_000
    return state


def samples() -> list[RunState]:
    completed, failed, child = ended(), ended("failed"), ended("cancelled", "r1/größe")
    completed.output, completed.context = b'{"paid":true}', {"who": b'"ada"', "none": NULL}
    failed.errors = [
        RunError("charge", "NODE_ERROR", "no money"),
        RunError("ship", "POISONED", "not executed: its predecessor 'charge' failed", "charge"),
    ]
    child.parent = Parent("r1", "größe", 0, 1, 1)
    return [completed, failed, child]


def test_the_format_does_not_change() -> None:
    """Others read these records."""
    lines = GOLDEN.read_bytes().splitlines()

    assert [encode_result(state, 1_700_000_009_000) for state in samples()] == lines


def test_the_samples_are_read_as_they_were_written() -> None:
    completed, failed, child = (decode_result(line) for line in GOLDEN.read_bytes().splitlines())

    times = {"started_at_ms": 1_700_000_000_000, "ended_at_ms": 1_700_000_009_000}
    context = {"who": "ada", "none": None}
    assert completed == RunResult("r1", "order", "1", "completed", {"paid": True}, context, [], **times)
    assert failed.errors == [
        {"nodeId": "charge", "code": "NODE_ERROR", "message": "no money"},
        {
            "nodeId": "ship",
            "code": "POISONED",
            "message": "not executed: its predecessor 'charge' failed",
            "predecessor": "charge",
        },
    ]
    assert child == RunResult("r1/größe", "order", "1", "cancelled", None, {}, [], **times)


@given(
    TEXTS.filter(bool),
    st.sampled_from(["completed", "failed", "cancelled"]),
    PARSED,
    st.dictionaries(TEXTS, PARSED, max_size=3),
    st.lists(st.builds(RunError, TEXTS, TEXTS, TEXTS, TEXTS), max_size=3),
)
def test_a_result_survives_its_record(
    run_id: str, status: str, output: Any, context: dict[str, Any], errors: list[RunError]
) -> None:
    state = ended(status, run_id)
    state.output, state.context = encode(output), {key: encode(value) for key, value in context.items()}
    state.errors = errors

    result = decode_result(encode_result(state, 7))

    assert (result.run_id, result.status, result.output, result.context) == (run_id, status, output, context)
    assert [RunError(e["nodeId"], e["code"], e["message"], e.get("predecessor", "")) for e in result.errors] == errors


def test_the_results_of_the_manual_can_be_read() -> None:
    text = (Path(__file__).parents[3] / "docs" / "records.md").read_text(encoding="utf-8")
    block = text.split("\n## Results\n")[1].split("```json\n")[1].split("```")[0]

    assert [decode_result(line.encode()).status for line in block.splitlines()] == ["completed", "failed"]


def test_a_result_as_json_is_the_record_but_for_the_parent() -> None:
    for line in GOLDEN.read_bytes().splitlines():
        parsed = orjson.loads(line)
        parsed.pop("parentRunId", None)

        assert decode_result(line).to_json() == parsed


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"runId": 7}, "field 'runId': expected text of 1 to 1024 bytes, found a number"),
        ({"status": "running"}, "field 'status': expected one of completed, failed, cancelled, found 'running'"),
        ({"status": None}, "found null"),
        ({"context": []}, "field 'context': expected an object, found a list"),
        ({"errors": [7]}, "field 'errors': expected a list of objects"),
        ({"endedAt": "now"}, "field 'endedAt': expected a whole number, found text"),
    ],
)
def test_what_is_no_result_is_refused_with_the_field(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(RecordRefused) as refused:
        decode_result(orjson.dumps({**orjson.loads(encode_result(ended(), 7)), **change}))

    assert expected in str(refused.value)


@given(st.data())
def test_a_damaged_result_is_read_or_refused_and_nothing_else(data: st.DataObject) -> None:
    parsed = orjson.loads(data.draw(st.sampled_from(GOLDEN.read_bytes().splitlines())))
    parsed[data.draw(st.sampled_from(list(parsed)))] = data.draw(PARSED)

    with contextlib.suppress(RecordRefused):
        decode_result(orjson.dumps(parsed))
