from __future__ import annotations

from typing import Any

from headrace import events as e
from headrace.apply import apply
from headrace.builder import Flow
from headrace.events import Event, Parent
from headrace.execution import NO_ITEM, Operation
from headrace.plan import compile_plan
from headrace.state import RunState
from headrace.values import encode
from headrace.view import CONTEXT_KEYS_MAX, VALUE_BYTES_MAX, status_view


def state_after(*events: Event) -> RunState:
    state = RunState("r1")
    apply(state, e.RunStarted("f", "1", b"null", {}, None, 1_000))
    for event in events:
        apply(state, event)
    return state


def node_of(view: dict[str, Any], node_id: str) -> dict[str, Any]:
    return next(node for node in view["nodes"] if node["id"] == node_id)


def scheduled(node: str, attempt: int = 1, item: int = NO_ITEM) -> Event:
    return e.NodeScheduled(node, item, 0, attempt, (), None)


def test_a_run_that_has_just_started_shows_its_nodes_as_pending() -> None:
    plan = compile_plan(Flow("f").node("a", lambda: 1).node("b", lambda: 1, after="a").to_blueprint())

    view = status_view(state_after(), plan, 2_000)

    assert view == {
        "runId": "r1",
        "flow": "f",
        "version": "1",
        "status": "running",
        "startedAt": 1_000,
        "at": 2_000,
        "nodes": [{"id": "a", "uses": "f.a", "state": "pending"}, {"id": "b", "uses": "f.b", "state": "pending"}],
        "awaiting": [],
        "waits": [],
        "errors": [],
        "context": {},
    }


def test_without_a_plan_only_nodes_with_a_state_are_shown() -> None:
    view = status_view(state_after(scheduled("a"), e.NodeStarted("a", NO_ITEM, 1)), None, 2_000)

    assert view["nodes"] == [{"id": "a", "state": "running", "attempt": 1}]


def test_a_retry_says_when_it_is_due_and_why() -> None:
    flow = Flow("f").node("a", lambda: 1, max_retries=3)
    retrying = e.NodeRetrying("a", NO_ITEM, 2, 9_000, "NODE_ERROR", "boom", None)
    state = state_after(scheduled("a"), e.NodeStarted("a", NO_ITEM, 1), retrying)

    node = node_of(status_view(state, compile_plan(flow.to_blueprint()), 2_000), "a")

    assert node == {
        "id": "a",
        "uses": "f.a",
        "state": "retrying",
        "attempt": 2,
        "attemptsMax": 3,
        "due": 9_000,
        "dueInMs": 7_000,
        "code": "NODE_ERROR",
        "message": "boom",
    }


def test_something_overdue_is_due_in_no_time() -> None:
    state = state_after(scheduled("a"), e.NodeStarted("a", NO_ITEM, 1), e.TimerSet("a", NO_ITEM, 1_500))

    assert node_of(status_view(state, None, 2_000), "a")["dueInMs"] == 0


def test_waits_are_listed_with_their_event_and_those_of_children_by_their_path() -> None:
    state = state_after(
        scheduled("w"),
        e.WaitOpened("w", "paid"),
        scheduled("sub"),
        e.ChildStarted("sub", "r1/sub"),
        e.ChildChanged("sub", True, (("inner", None),)),
    )

    view = status_view(state, None, 2_000)

    assert view["awaiting"] == ["sub/inner", "w"], "in the order of their ids"
    assert view["waits"] == [{"node": "sub/inner"}, {"node": "w", "event": "paid"}]
    assert node_of(view, "w")["event"] == "paid"
    assert node_of(view, "sub")["child"] == "r1/sub"


def test_a_batch_is_shown_as_counts() -> None:
    state = state_after(
        scheduled("s"),
        e.BatchStarted("s", (b"1", b"2", b"3")),
        scheduled("s", item=0),
        scheduled("s", item=1),
        e.NodeCompleted("s", 0, b"1", None),
        e.NodeFailed("s", 1, 1, "NODE_ERROR", "boom", None),
    )

    assert node_of(status_view(state, None, 2_000), "s")["items"] == {"done": 1, "total": 3, "failed": 1}


def test_a_failed_run_names_its_errors_and_what_recovered() -> None:
    state = state_after(
        scheduled("a"),
        e.NodeFailed("a", NO_ITEM, 1, "NODE_ERROR", "boom", "b"),
        scheduled("c"),
        e.NodeFailed("c", NO_ITEM, 1, "FATAL", "bad", None),
        e.NodePoisoned("d", "c", True),
        e.RunFailed(),
    )

    view = status_view(state, None, 2_000)

    assert view["status"] == "failed"
    assert node_of(view, "a")["recoveredBy"] == "b"
    assert view["errors"][0] == {"nodeId": "c", "code": "FATAL", "message": "bad"}
    assert view["errors"][1]["nodeId"] == "d"
    assert view["errors"][1]["predecessor"] == "c"


def test_a_parked_run_says_why_and_a_child_names_its_parent() -> None:
    state = RunState("r1")
    apply(state, e.RunStarted("f", "", b"null", {}, Parent("p", "sub", 0, 1, 1), 1_000))
    apply(state, e.RunParked("lacks it"))

    view = status_view(state, None, 2_000)

    assert view["status"] == "parked"
    assert view["parkedReason"] == "lacks it"
    assert view["parent"] == {"runId": "p", "node": "sub"}


def test_context_values_are_shown_and_large_ones_are_cut() -> None:
    large = encode("x" * VALUE_BYTES_MAX)
    state = state_after(
        scheduled("a"),
        e.ContextChanged("a", (Operation("set", "small", b'{"n":1}'), Operation("set", "large", large))),
    )

    context = status_view(state, None, 2_000)["context"]

    assert context["small"] == {"n": 1}
    assert context["large"].startswith(f'({len(large)} bytes) "xxx')
    assert len(context["large"]) < 300


def test_of_many_context_keys_some_are_shown_and_the_others_counted() -> None:
    writes = tuple(Operation("set", f"k{number}", b"1") for number in range(CONTEXT_KEYS_MAX + 5))

    context = status_view(state_after(scheduled("a"), e.ContextChanged("a", writes)), None, 2_000)["context"]

    assert len(context) == CONTEXT_KEYS_MAX + 1
    assert context["..."] == "5 more keys"


def test_a_completed_run_shows_its_output() -> None:
    view = status_view(state_after(e.RunCompleted(b"[1]")), None, 2_000)

    assert view["status"] == "completed"
    assert view["output"] == [1]


def test_a_view_is_json() -> None:
    state = state_after(scheduled("a"), e.NodeStarted("a", NO_ITEM, 1), e.RunCancelled("enough"))

    view = status_view(state, None, 2_000)

    assert encode(view)
    assert view["reason"] == "enough"
