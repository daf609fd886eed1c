from __future__ import annotations

from typing import Any

import pytest

from headrace import events as e
from headrace_adapters.cli.rows import Rows
from headrace_adapters.cli.sentences import sentence_of
from headrace_topics.events_record import EVENT_NAMES


def rows_after(*events: dict[str, Any], nodes: tuple[str, ...] = ("a", "b")) -> Rows:
    rows = Rows(nodes)
    for number, event in enumerate(events):
        rows.apply({"seq": number + 1, "at": 1_000 + number, **event})
    return rows


def scheduled(node: str = "a", **fields: Any) -> dict[str, Any]:
    return {"type": "nodeScheduled", "node": node, "activation": 0, **fields}


def started(node: str = "a", **fields: Any) -> dict[str, Any]:
    return {"type": "nodeStarted", "node": node, **fields}


def test_rows_stand_in_the_order_of_the_blueprint_and_strangers_follow() -> None:
    rows = rows_after(scheduled("stranger"), scheduled("b"))

    assert [(row.id, row.state) for row in rows.by_id.values()] == [
        ("a", "pending"),
        ("b", "scheduled"),
        ("stranger", "scheduled"),
    ]


def test_a_node_goes_from_scheduled_to_its_end_with_the_time_it_took() -> None:
    rows = rows_after(scheduled(), started(), {"type": "nodeCompleted", "node": "a", "output": 1, "action": "ok"})
    row = rows.by_id["a"]

    assert (row.state, row.detail) == ("completed", "action ok")
    assert row.taken_ms(now_ms=9_999) == 2


def test_a_node_that_goes_on_has_taken_the_time_since_it_was_scheduled() -> None:
    row = rows_after(scheduled(), started()).by_id["a"]

    assert row.taken_ms(now_ms=1_500) == 500
    assert rows_after().by_id["a"].taken_ms(now_ms=1_500) is None


def test_a_retry_keeps_when_it_began_and_says_what_is_next() -> None:
    retrying = {"type": "nodeRetrying", "node": "a", "attempt": 2, "due": 5_000, "code": "NODE_ERROR", "message": "boom"}
    rows = rows_after(scheduled(), started(), retrying)
    row = rows.by_id["a"]
    assert (row.state, row.attempt, row.due_ms, row.detail) == ("retrying", 2, 5_000, "boom")

    rows.apply({"at": 5_000, **scheduled(attempt=2)})

    assert (row.state, row.attempt, row.due_ms, row.since_ms) == ("scheduled", 2, None, 1_000)


def test_items_of_a_batch_are_counted_and_do_not_change_their_node() -> None:
    row = rows_after(
        scheduled(),
        {"type": "batchStarted", "node": "a", "items": [1, 2, 3]},
        scheduled(item=0),
        started(item=0),
        {"type": "nodeCompleted", "node": "a", "item": 0, "output": 1},
        {"type": "nodeFailed", "node": "a", "item": 1, "code": "X", "message": "boom"},
    ).by_id["a"]

    assert (row.state, row.total, row.done, row.failed) == ("scattering", 3, 1, 1)


def test_a_new_iteration_begins_with_new_rows_for_the_body() -> None:
    iteration = {"type": "loopIteration", "node": "b", "iteration": 2, "activation": 1, "value": 1, "reset": ["a"]}
    rows = rows_after(scheduled("b"), scheduled(), {"type": "nodeCompleted", "node": "a", "output": 1}, iteration)

    assert (rows.by_id["b"].state, rows.by_id["b"].iteration) == ("looping", 2)
    assert rows.by_id["a"].state == "pending"


def test_waits_of_the_run_and_of_children_have_their_paths() -> None:
    rows = rows_after(
        scheduled(),
        {"type": "waitOpened", "node": "a", "event": "paid"},
        scheduled("b"),
        {"type": "childStarted", "node": "b", "child": "r/b"},
        {"type": "childChanged", "node": "b", "awaiting": True, "waits": [["inner", None], ["other", "e"]]},
        {"type": "runAwaiting"},
    )

    assert rows.run_state == "awaiting"
    assert rows.by_id["a"].paths == ("a",)
    assert rows.by_id["a"].detail == "for the event paid"
    assert rows.by_id["b"].paths == ("b/inner", "b/other")

    rows.apply({"at": 2_000, "type": "nodeCompleted", "node": "a", "output": None})

    assert rows.by_id["a"].paths == ()


def test_a_sleep_and_the_timeout_of_a_wait_are_told_apart() -> None:
    timer = {"type": "timerSet", "node": "a", "due": 9_000}

    assert rows_after(scheduled(), started(), timer).by_id["a"].state == "sleeping"
    assert rows_after(scheduled(), {"type": "waitOpened", "node": "a"}, timer).by_id["a"].state == "waiting"


@pytest.mark.parametrize(
    ("kind", "state"), [("runCompleted", "completed"), ("runFailed", "failed"), ("runCancelled", "cancelled")]
)
def test_the_end_of_a_run_leaves_nothing_open(kind: str, state: str) -> None:
    rows = rows_after({"type": "runStarted", "blueprintId": "f", "input": None}, scheduled(), {"type": kind, "reason": "x"})

    assert (rows.run_state, rows.reason) == (state, "x")
    assert (rows.started_ms, rows.ended_ms) == (1_000, 1_002)
    assert [row.state for row in rows.by_id.values()] == ["cancelled", "pending"]


def test_a_row_is_a_node_of_the_status() -> None:
    rows = rows_after(
        scheduled(attempt=2),
        {"type": "batchStarted", "node": "a", "items": [1]},
        {"type": "nodeFailed", "node": "a", "code": "X", "message": "boom", "recoveredBy": "b"},
    )

    assert rows.by_id["a"].to_json() == {
        "id": "a",
        "state": "failed",
        "attempt": 2,
        "message": "boom (recovered by b)",
        "items": {"done": 0, "total": 1, "failed": 0},
    }
    assert rows.by_id["b"].to_json() == {"id": "b", "state": "pending"}


# Of each event type its fields with plain values; the records' own codec names them (see ``headrace_topics``).
PLAIN: dict[str, Any] = {
    "activation": 0,
    "at": 1_000,
    "due": 2_000,
    "edge": 0,
    "edges": [0],
    "failed": 2,
    "items": [1],
    "iteration": 1,
    "iterations": 2,
    "kept": [],
    "number": 1,
    "operations": [["set", "k", 1]],
    "reset": [],
    "waits": [["w", None]],
}


def full_event(kind: str) -> dict[str, Any]:
    camel = {"due_ms": "due", "at_ms": "at", "blueprint_id": "blueprintId", "recovered_by": "recoveredBy"}
    names = [camel.get(name, name) for name in EVENT_NAMES[kind]._fields]
    names = [name for name in names if name != "item"]
    return {"seq": 1, "at": 1_000, "type": kind, **{name: PLAIN.get(name, name) for name in names}}


@pytest.mark.parametrize("kind", sorted(EVENT_NAMES))
def test_every_event_has_a_row_and_a_sentence(kind: str) -> None:
    event = full_event(kind)

    Rows().apply(event)
    sentence = sentence_of(event)

    assert sentence.text
    assert "{" not in sentence.text
    assert kind not in sentence.text


def test_every_event_type_is_looked_at() -> None:
    assert len(EVENT_NAMES) == len(e.EVENT_TYPES)


def test_an_event_of_a_newer_version_is_shown_as_it_is() -> None:
    event = {"seq": 1, "at": 1_000, "type": "runTeleported", "to": "mars"}

    assert sentence_of(event).text == 'runTeleported {"to":"mars"}'
    Rows().apply(event)


def test_an_item_is_named_by_its_index_and_its_usual_course_is_no_news() -> None:
    completed = sentence_of({"at": 1, "type": "nodeCompleted", "node": "a", "item": 3, "output": 1})
    failed = sentence_of({"at": 1, "type": "nodeFailed", "node": "a", "item": 3, "code": "X", "message": "a\nb"})

    assert (completed.subject, completed.detail) == ("a[3]", True)
    assert (failed.text, failed.detail) == ("failed (X): a / b", False)
