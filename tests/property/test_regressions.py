"""What random flows and a second reading of the rules have found, and no scenario can say because its order is free."""

from __future__ import annotations

from typing import Any

from headrace.commands import Signal
from headrace.values import encode

from .flows import Case
from .operator_steps import RUNS, Operator
from .test_random_flows import memory
from .watched_world import Pace, WatchedWorld


def wait(node_id: str, timeout_ms: int | None = None) -> dict[str, Any]:
    params = {"event": "paid"} if timeout_ms is None else {"event": "paid", "timeout": timeout_ms}
    return {"id": node_id, "uses": "wait", "params": params}


def test_a_signal_that_crosses_the_end_of_a_child_is_kept_for_the_next_wait() -> None:
    """The signal is on its way to the wait in the child when that times out, and the child has ended."""
    parent = {
        "id": "parent",
        "nodes": [{"id": "child", "uses": "subflow", "params": {"blueprintId": "child"}}, wait("next")],
        "edges": [{"source": "child", "target": "next"}],
    }
    child = {"id": "child", "nodes": [wait("wait", 1_000)], "edges": []}
    case = Case([parent, child], {}, None, {})
    world = WatchedWorld(memory(), case, Pace())
    operator = Operator(world, case)
    world.order(operator.start(RUNS[0]))
    world.settle()
    assert world.awaited(RUNS[0]) == ["child/wait"]

    world.advance(1_000)
    world.order(Signal(RUNS[0], "paid", encode(5)))
    world.settle()

    assert world.result(RUNS[0]).output == 5
