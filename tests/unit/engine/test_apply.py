"""apply: one event, one change; the same by whatever way the state was come by."""

from __future__ import annotations

import pytest

from headrace import events as e
from headrace.apply import apply, rebuild
from headrace.events import Event
from headrace.execution import NO_ITEM, Operation
from headrace.state import RunError, RunState
from headrace.values import NULL

STARTED = e.RunStarted("f", "1", b"5", {"k": b"1"}, None, 7)


def fold(*events: Event) -> RunState:
    state = RunState("r")
    for event in (STARTED, *events):
        apply(state, event)
    return state


def scheduled(node: str, item: int = NO_ITEM) -> e.NodeScheduled:
    return e.NodeScheduled(node, item, 0, 1, (), None)


def test_every_event_counts_and_a_start_gives_the_run_its_beginning() -> None:
    state = fold()

    assert (state.seq, state.blueprint_id, state.version, state.input) == (1, "f", "1", b"5")
    assert state.context == {"k": b"1"}
    assert state.started_at_ms == 7
    assert state.status == "running"


@pytest.mark.parametrize(
    ("events", "status"),
    [
        ([e.RunPaused("")], "paused"),
        ([e.RunPaused(""), e.RunUnpaused()], "running"),
        ([e.RunParked("why")], "parked"),
        ([e.RunParked("why"), e.RunUnparked("1")], "running"),
        ([e.RunAwaiting()], "awaiting"),
        ([e.RunAwaiting(), e.RunPaused("")], "paused"),
        ([e.RunAwaiting(), e.RunResumed()], "running"),
        ([e.RunCompleted(b"1")], "completed"),
        ([e.RunFailed()], "failed"),
        ([e.RunPaused(""), e.RunCancelled("x")], "cancelled"),
    ],
    ids=lambda it: it if isinstance(it, str) else "+".join(type(event).__name__ for event in it),
)
def test_the_visible_state_of_a_run(events: list[Event], status: str) -> None:
    assert fold(*events).status == status


@pytest.mark.parametrize(
    ("event", "errors"),
    [
        (e.RunFailed(), []),
        (e.RunFailed("too large", "STATE_TOO_LARGE"), [RunError("", "STATE_TOO_LARGE", "too large")]),
        (e.RunFailed("a defect", "INTERNAL_ERROR"), [RunError("", "INTERNAL_ERROR", "a defect")]),
        # A record that names no code.
        (e.RunFailed("a defect"), [RunError("", "INTERNAL_ERROR", "a defect")]),
    ],
)
def test_a_run_that_failed_without_a_node_to_blame_has_an_error_of_its_own(
    event: e.RunFailed, errors: list[RunError]
) -> None:
    assert fold(event).errors == errors


def test_outstanding_work_is_counted_as_it_comes_and_goes() -> None:
    state = fold(scheduled("a"), scheduled("w"))
    assert (state.open, state.waiting, state.active) == (2, 0, 2)
    apply(state, e.NodeStarted("w", NO_ITEM, 1))
    apply(state, e.WaitOpened("w", "event"))
    assert (state.open, state.waiting, state.active) == (2, 1, 1)
    apply(state, e.NodeStarted("a", NO_ITEM, 1))
    apply(state, e.NodeRetrying("a", NO_ITEM, 2, 100, "NODE_ERROR", "no", None))
    assert (state.open, state.waiting, state.active) == (2, 1, 0)
    apply(state, e.NodeCompleted("w", NO_ITEM, NULL, None))
    apply(state, e.NodeFailed("a", NO_ITEM, 2, "NODE_ERROR", "no", None))
    assert (state.open, state.waiting, state.active) == (0, 0, 0)
    assert [(error.node, error.code) for error in state.errors] == [("a", "NODE_ERROR")]


def test_a_failure_that_a_fallback_takes_over_is_no_error_of_the_run_yet() -> None:
    state = fold(scheduled("a"), e.NodeFailed("a", NO_ITEM, 1, "NODE_ERROR", "no", "b"), e.NodeFallback("a", "b", b"{}"))

    assert state.errors == []
    assert state.nodes["a"].fallback == "b"
    assert state.nodes["b"].error == b"{}"


def test_edges_are_held_by_their_giver_and_seen_at_their_target() -> None:
    state = fold(
        scheduled("a"),
        e.NodeCompleted("a", NO_ITEM, b"1", None),
        e.EdgeTaken(0, "a", "b", "a", None),
        e.EdgeDead(1, "a", "c", "a"),
        e.EdgeFailed(2, "a", "d", "a"),
    )

    assert state.joins["b"].arrived == {0: "a"}
    assert state.joins["c"].dead == {1: "a"}
    assert state.joins["d"].failed == {2: "a"}
    assert set(state.nodes["a"].out or {}) == {0, 1, 2}


def test_context_changes_are_applied_as_operations() -> None:
    operations = (Operation("set", "a", b"1"), Operation("increment", "k", b"2"), Operation("append", "l", b"3"))
    state = fold(e.ContextChanged("n", operations), e.ContextChanged("n", (Operation("delete", "a"),)))

    assert state.context == {"k": b"3", "l": b"[3]"}
    assert {("x", "a"), ("x", "k"), ("x", "l")} <= state.changed


def test_items_of_a_batch_are_work_of_their_own() -> None:
    state = fold(scheduled("s"), e.NodeStarted("s", NO_ITEM, 1), e.BatchStarted("s", (b"1", b"2")))
    batch = state.nodes["s"].batch
    assert batch is not None
    apply(state, scheduled("s", 0))
    apply(state, scheduled("s", 1))
    assert (batch.open, batch.next, state.open) == (2, 2, 2)
    apply(state, e.NodeStarted("s", 0, 1))
    apply(state, e.NodeCompleted("s", 0, b"10", None))
    apply(state, e.NodeFailed("s", 1, 1, "NODE_ERROR", "no", None))

    assert (batch.open, batch.failed, state.open) == (0, 1, 0)
    assert batch.items[0].output == b"10"
    assert state.errors == [], "the gather node is to say what comes of it"


def test_signals_are_kept_in_order_until_somebody_takes_them() -> None:
    state = fold(e.SignalReceived("e", b"1", True), e.SignalReceived("e", b"2", True), e.SignalReceived("e", b"3", False))
    assert list(state.signals.values()) == [("e", b"1"), ("e", b"2")]
    apply(state, e.SignalTaken(min(state.signals), "w"))

    assert list(state.signals.values()) == [("e", b"2")]


def test_what_an_event_touches_is_marked_and_nothing_else() -> None:
    state = fold(scheduled("a"))
    state.changed = set()
    apply(state, e.NodeStarted("a", NO_ITEM, 1))
    assert state.changed == {("n", "a")}
    state.changed = set()
    apply(state, e.RunDuplicate())
    assert state.changed == {("r",)}, "the sequence number of the run goes on"


def test_rebuilding_gives_what_was_counted() -> None:
    state = fold(
        scheduled("a"),
        e.NodeCompleted("a", NO_ITEM, b"1", None),
        e.EdgeTaken(0, "a", "b", "a", None),
        scheduled("b"),
        e.NodeStarted("b", NO_ITEM, 1),
        e.WaitOpened("b", None),
        scheduled("s"),
        e.NodeStarted("s", NO_ITEM, 1),
        e.BatchStarted("s", (b"1",)),
        scheduled("s", 0),
    )
    counted = (state.open, state.waiting, state.active, dict(state.joins["b"].arrived))
    state.joins, state.open, state.waiting, state.active = {}, 0, 0, 0
    rebuild(state)

    assert (state.open, state.waiting, state.active, state.joins["b"].arrived) == counted
