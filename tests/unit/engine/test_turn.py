"""One decision in the making."""

from __future__ import annotations

from headrace import events as e
from headrace.blueprint import from_json
from headrace.execution import NO_ITEM
from headrace.limits import Limits
from headrace.plan import compile_plan
from headrace.state import RunState
from headrace.turn import Reply, Turn
from headrace.values import NULL


def turn() -> Turn:
    plan = compile_plan(
        from_json({"id": "f", "nodes": [{"id": "a", "uses": "sleep", "params": {"duration": 5}}], "edges": []})
    )
    return Turn(RunState("r"), plan, 1_000, Limits())


def test_what_is_emitted_is_applied_at_once_and_kept_in_order() -> None:
    made = turn()
    made.emit(e.RunStarted("f", "1", NULL, {}, None, 1_000))
    made.emit(e.NodeScheduled("a", NO_ITEM, 0, 1, (), None))

    assert made.state.nodes["a"].status == "scheduled"
    assert made.state.seq == len(made.events) == 2


def test_a_timer_is_an_event_and_something_to_be_armed() -> None:
    made = turn()
    made.emit(e.NodeScheduled("a", NO_ITEM, 0, 1, (), None))
    made.emit(e.NodeStarted("a", NO_ITEM, 1))
    made.set_timer("a", 1_005)

    assert made.state.nodes["a"].due_ms == 1_005
    assert made.timers == [(1_005, "a", NO_ITEM)]


def test_only_whoever_waits_is_answered() -> None:
    made = turn()
    made.reply("", "applied")
    made.reply("7", "ignored", "because")

    assert made.replies == [Reply("7", "ignored", "because")]
