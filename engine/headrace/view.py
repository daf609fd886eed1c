"""A run as people look at it: what ``status`` prints, a web page shows and tests ask for.

Pure functions over the state of a run. A view is small whatever the run holds: large values are cut, and of a batch
there are counts, not items. Times are ms since 1970.
"""

from __future__ import annotations

__all__ = ["status_view"]

from typing import Any, Final

from headrace.plan import Plan, PlanNode
from headrace.state import CANCELLED, COMPLETED, FAILED, POISONED, SKIPPED, WAITING, NodeState, RunState
from headrace.values import Json, decode
from headrace.waits import open_waits

# Whoever wants all of a large value reads the run's result.
VALUE_BYTES_MAX: Final = 2_000
CONTEXT_KEYS_MAX: Final = 200

# The state of a node about which nothing has been decided yet.
PENDING: Final = "pending"

_DECIDED: Final = frozenset((COMPLETED, FAILED, SKIPPED, POISONED, CANCELLED))


def status_view(state: RunState, plan: Plan | None, now_ms: int) -> dict[str, Any]:
    """The view of a run at *now_ms*.

    With its *plan*, nodes stand in the order of the blueprint and those that nothing was decided about are there too,
    as ``pending``; without, only those that have a state. What does not apply is left out. ``awaiting`` holds the paths
    of all open waits, those of children too; ``waits`` adds to each the event that it asks for.
    """
    view: dict[str, Any] = {
        "runId": state.run_id,
        "flow": state.blueprint_id,
        "version": state.version,
        "status": state.status,
        "startedAt": state.started_at_ms,
        "at": now_ms,
    }
    if state.parked:
        view["parkedReason"] = state.parked
    if state.reason:
        view["reason"] = state.reason
    if state.parent is not None:
        view["parent"] = {"runId": state.parent.run_id, "node": state.parent.node_id}
    ids = dict.fromkeys(plan.nodes if plan is not None else ()) | dict.fromkeys(state.nodes)
    view["nodes"] = [
        _node_view(node_id, state.nodes.get(node_id), None if plan is None else plan.nodes.get(node_id), now_ms)
        for node_id in ids
    ]
    waits = open_waits(state)
    view["awaiting"] = [path for path, _ in waits]
    view["waits"] = [{"node": path} | ({"event": event} if event is not None else {}) for path, event in waits]
    view["errors"] = [
        {"nodeId": error.node, "code": error.code, "message": error.message}
        | ({"predecessor": error.predecessor} if error.predecessor else {})
        for error in state.errors
    ]
    view["context"] = _context_view(state)
    if state.ended and state.ended == "completed":
        view["output"] = _value_view(state.output)
    return view


def _node_view(node_id: str, work: NodeState | None, planned: PlanNode | None, now_ms: int) -> dict[str, Any]:
    view: dict[str, Any] = {"id": node_id}
    if planned is not None:
        view["uses"] = planned.uses
    if work is None:
        return view | {"state": PENDING}
    view["state"] = work.status
    if work.attempt:
        view["attempt"] = work.attempt
    if planned is not None and planned.max_retries != 1:
        view["attemptsMax"] = planned.max_retries
    if work.due_ms is not None and work.status not in _DECIDED:
        view["due"] = work.due_ms
        view["dueInMs"] = max(0, work.due_ms - now_ms)
    if work.status == WAITING and work.event is not None:
        view["event"] = work.event
    if work.action is not None:
        view["action"] = work.action
    if work.message is not None:
        view["code"], view["message"] = work.message
    if work.fallback is not None:
        view["recoveredBy"] = work.fallback
    if work.child is not None:
        view["child"] = work.child.run_id
    if work.loop is not None:
        view["iteration"] = work.loop.iteration
    if work.batch is not None:
        states = [item.status for item in work.batch.items]
        view["items"] = {
            "done": states.count(COMPLETED),
            "total": len(states),
            "failed": states.count(FAILED),
        }
    return view


def _context_view(state: RunState) -> dict[str, Any]:
    keys = list(state.context)
    view = {key: _value_view(state.context[key]) for key in keys[:CONTEXT_KEYS_MAX]}
    if len(keys) > CONTEXT_KEYS_MAX:
        view["..."] = f"{len(keys) - CONTEXT_KEYS_MAX} more keys"
    return view


def _value_view(value: Json) -> Any:
    """A value, or a text that says how large it is and how it begins."""
    if len(value) <= VALUE_BYTES_MAX:
        return decode(value)
    return f"({len(value)} bytes) {value[:200].decode(errors='ignore')}..."
