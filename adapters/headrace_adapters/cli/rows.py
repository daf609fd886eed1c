"""What the events of a run say about its nodes: one row for each, as people follow it.

The same rows are made while a run goes on (``run``) and from the history of one that has ended, of which the store
keeps nothing but its result (``status``). Events come as the client gives them: names and fields in camelCase, fields
with their empty value left out.
"""

from __future__ import annotations

__all__ = ["Row", "Rows"]

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

DECIDED = frozenset(("completed", "failed", "skipped", "poisoned", "cancelled"))
# What happens of itself: a row in one of these shows that time passes.
ACTIVE = frozenset(("running", "scheduled"))


@dataclass(slots=True)
class Row:
    """One node in its present activation. *since_ms* is when it was scheduled, *until_ms* when it was decided."""

    id: str
    state: str = "pending"
    attempt: int = 1
    since_ms: int | None = None
    until_ms: int | None = None
    due_ms: int | None = None
    detail: str = ""
    iteration: int = 0
    total: int | None = None
    done: int = 0
    failed: int = 0
    paths: tuple[str, ...] = ()
    """The waits that are open here: the node itself, or those of its child run."""

    def taken_ms(self, now_ms: int) -> int | None:
        """How long it took, or has taken so far; None where it did not begin."""
        return None if self.since_ms is None else max(0, (self.until_ms or now_ms) - self.since_ms)

    def to_json(self) -> dict[str, Any]:
        """As a node of ``status`` (see ``headrace.view``)."""
        view: dict[str, Any] = {"id": self.id, "state": self.state}
        if self.state not in ("pending", "skipped"):
            view["attempt"] = self.attempt
        if self.detail:
            view["message"] = self.detail
        if self.iteration:
            view["iteration"] = self.iteration
        if self.total is not None:
            view["items"] = {"done": self.done, "total": self.total, "failed": self.failed}
        return view


class Rows:
    """The rows of a run, in the order of *node_ids*; nodes that are not among these follow as they appear."""

    def __init__(self, node_ids: Iterable[str] = ()) -> None:
        self.by_id = {node_id: Row(node_id) for node_id in node_ids}
        self.run_state = "running"
        self.reason = ""
        self.started_ms: int | None = None
        self.ended_ms: int | None = None

    def apply(self, event: dict[str, Any]) -> None:
        """Take one event into account."""
        kind = event["type"]
        if kind.startswith("run"):
            self._apply_to_run(kind, event)
        elif "node" in event:
            row = self.by_id.setdefault(event["node"], Row(event["node"]))
            if event.get("item", -1) >= 0:
                _apply_to_item(row, kind)
            else:
                handle = _HANDLERS.get(kind)
                if handle is not None:
                    handle(row, event)
        for node_id in event.get("reset", ()):
            # A body begins anew; its rows show the present iteration.
            if node_id in self.by_id:
                self.by_id[node_id] = Row(node_id)

    def _apply_to_run(self, kind: str, event: dict[str, Any]) -> None:
        state = _RUN_STATES.get(kind)
        if state is not None:
            self.run_state = state
            self.reason = event.get("reason", "")
        if kind == "runStarted":
            self.started_ms = event["at"]
        elif state in ("completed", "failed", "cancelled"):
            self.ended_ms = event["at"]
            for row in self.by_id.values():
                if row.state not in DECIDED and row.state != "pending":
                    _decide(row, event, "cancelled", "")


_RUN_STATES = {
    "runStarted": "running",
    "runParked": "parked",
    "runUnparked": "running",
    "runAwaiting": "awaiting",
    "runResumed": "running",
    "runPaused": "paused",
    "runUnpaused": "running",
    "runCompleted": "completed",
    "runFailed": "failed",
    "runCancelled": "cancelled",
}


def _apply_to_item(row: Row, kind: str) -> None:
    if kind == "nodeCompleted":
        row.done += 1
    elif kind == "nodeFailed":
        row.failed += 1


def _decide(row: Row, event: dict[str, Any], state: str, detail: str) -> None:
    row.state, row.detail, row.due_ms, row.until_ms, row.paths = state, detail, None, event["at"], ()


def _scheduled(row: Row, event: dict[str, Any]) -> None:
    row.state, row.attempt, row.due_ms, row.until_ms = "scheduled", event.get("attempt", 1), None, None
    if row.attempt == 1:
        row.since_ms = event["at"]
        row.detail = ""


def _started(row: Row, event: dict[str, Any]) -> None:
    row.state, row.attempt = "running", event.get("attempt", 1)


def _completed(row: Row, event: dict[str, Any]) -> None:
    action = event.get("action")
    _decide(row, event, "completed", f"action {action}" if action is not None else "")


def _failed(row: Row, event: dict[str, Any]) -> None:
    fallback = event.get("recoveredBy")
    by = f" (recovered by {fallback})" if fallback else ""
    _decide(row, event, "failed", f"{event.get('message', '')}{by}")


def _retrying(row: Row, event: dict[str, Any]) -> None:
    row.state, row.attempt, row.due_ms = "retrying", event.get("attempt", 1), event["due"]
    row.detail = event.get("message", "")


def _poisoned(row: Row, event: dict[str, Any]) -> None:
    _decide(row, event, "poisoned", f"behind the failure of {event.get('predecessor', '?')}")


def _cancelled(row: Row, event: dict[str, Any]) -> None:
    predecessor = event.get("predecessor")
    _decide(row, event, "cancelled", f"lost its predecessor {predecessor}" if predecessor else "")


def _timer_set(row: Row, event: dict[str, Any]) -> None:
    row.due_ms = event["due"]
    if row.state in ACTIVE:
        row.state = "sleeping"


def _wait_opened(row: Row, event: dict[str, Any]) -> None:
    row.state, row.paths = "waiting", (row.id,)
    row.detail = f"for the event {event['event']}" if event.get("event") else "for a resume"


def _child_started(row: Row, event: dict[str, Any]) -> None:
    row.state, row.detail = "child", f"run {event['child']}"


def _child_changed(row: Row, event: dict[str, Any]) -> None:
    row.paths = tuple(f"{row.id}/{path}" for path, _ in event.get("waits", ()))
    row.state, row.detail = "child", f"its run awaits {', '.join(row.paths)}" if row.paths else ""


def _loop_iteration(row: Row, event: dict[str, Any]) -> None:
    row.state, row.iteration = "looping", event["iteration"]


def _batch_started(row: Row, event: dict[str, Any]) -> None:
    row.state, row.total, row.done, row.failed = "scattering", len(event["items"]), 0, 0


_HANDLERS: dict[str, Callable[[Row, dict[str, Any]], None]] = {
    "nodeScheduled": _scheduled,
    "nodeStarted": _started,
    "nodeCompleted": _completed,
    "nodeFailed": _failed,
    "nodeRetrying": _retrying,
    "nodeSkipped": lambda row, event: _decide(row, event, "skipped", ""),
    "nodePoisoned": _poisoned,
    "nodeCancelled": _cancelled,
    "timerSet": _timer_set,
    "waitOpened": _wait_opened,
    "childStarted": _child_started,
    "childChanged": _child_changed,
    "loopIteration": _loop_iteration,
    "batchStarted": _batch_started,
}
