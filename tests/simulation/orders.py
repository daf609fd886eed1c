"""When an order is due, by what can be seen of a run, and the command that it is."""

from __future__ import annotations

__all__ = ["Due", "OrderBook", "command_of", "start_of"]

from collections import Counter
from typing import NamedTuple

from headrace import events as e
from headrace.commands import Cancel, Command, Pause, Resume, Signal, Start, Unpause
from headrace.values import encode

from .case_types import Case, Order, RunStart


class Due(NamedTuple):
    """A command that is to be sent, so many times, after so long."""

    after_ms: int
    command: Command
    copies: int = 1


def start_of(start: RunStart) -> Start:
    """The command that starts a run."""
    context = {key: encode(value) for key, value in start.context.items()}
    return Start(start.run_id, start.flow, input=encode(start.input), context=context)


def command_of(order: Order, start: RunStart | None = None) -> Command:
    """The command that an order is; *start* is how its run was started, for one that starts it again."""
    kind, run_id = order.kind, order.run_id
    if kind == "resume":
        return Resume(run_id, order.target, order.action, encode(order.value), order.key)
    if kind == "signal":
        return Signal(run_id, order.event, encode(order.value))
    if kind == "cancel":
        return Cancel(run_id, "on a whim")
    if kind == "pause":
        return Pause(run_id, "on a whim")
    if kind == "unpause":
        return Unpause(run_id)
    assert kind == "start", kind
    assert start is not None, f"nobody has started {run_id}"
    return start_of(start)


class OrderBook:
    """The orders of a case. Whoever carries the load tells it what happened, and gets what is due because of that.

    ``begin`` when the load begins, ``started`` when the start of a run was handed over, ``seen`` with every event of every
    run, children included, once it is durable, in sequence. An event that is seen again changes nothing more.
    """

    def __init__(self, case: Case) -> None:
        self._starts = {start.run_id: start for start in case.starts}
        # By what they depend on, and by the run that was started.
        self._orders: dict[str, dict[str, list[Order]]] = {}
        for order in case.orders:
            self._orders.setdefault(order.when, {}).setdefault(order.run_id, []).append(order)
        # Of a child, the run that started it and its node; and what was seen of children whose parents were not seen yet:
        # partitions show what is committed each at a time of its own.
        self._parents: dict[str, tuple[str, str]] = {}
        self._apart: list[tuple[str, str, int, str]] = []
        self._times: Counter[tuple[str, str, str]] = Counter()
        self._seen: dict[str, int] = {}

    def begin(self) -> list[Due]:
        """The load begins: its starts, and what comes at a time of its own."""
        starts = [Due(start.at_ms, start_of(start), start.copies) for start in self._starts.values()]
        return starts + [self._due(order) for orders in self._orders.get("time", {}).values() for order in orders]

    def started(self, run_id: str) -> list[Due]:
        """The start of a run was handed over, for the first time."""
        return self._all("sent", run_id)

    def seen(self, run_id: str, seq: int, event: e.Event) -> list[Due]:
        """An event of a run is durable."""
        kind = _SEEN.get(type(event))
        if kind is None or seq <= self._seen.get(run_id, 0):
            return []
        self._seen[run_id] = seq
        if isinstance(event, e.WaitOpened | e.WaitResumed):
            return self._at_wait(kind, run_id, seq, event.node)
        due = self._all(kind, run_id)
        if isinstance(event, e.RunStarted) and event.parent is not None:
            self._parents[run_id] = (event.parent.run_id, event.parent.node_id)
            apart, self._apart = self._apart, []
            for seen in apart:
                due += self._at_wait(*seen)
        return due

    def _root_of(self, run_id: str) -> tuple[str, str] | None:
        """The run that was started from outside, and the path in it that leads here; None where that is not known yet."""
        path = ""
        while run_id not in self._starts:
            parent = self._parents.get(run_id)
            if parent is None:
                return None
            run_id, path = parent[0], f"{parent[1]}/{path}"
        return run_id, path

    def _all(self, when: str, run_id: str) -> list[Due]:
        return [self._due(order) for order in self._orders.get(when, {}).get(run_id, ())]

    def _at_wait(self, when: str, run_id: str, seq: int, node: str) -> list[Due]:
        found = self._root_of(run_id)
        if found is None:
            self._apart.append((when, run_id, seq, node))
            return []
        root, path = found
        orders = self._orders.get(when, {}).get(root)
        if not orders:
            return []
        name = path + node
        self._times[when, root, name] += 1
        due: list[Due] = []
        for order in orders:
            if "*" in order.nodes:
                # The run that waits is told itself: its parents may not have heard of the wait yet.
                key = None if order.key is None else f"{order.key}/{name}/{seq}"
                due.append(self._due(order._replace(run_id=run_id, target=node, key=key)))
            elif name in order.nodes:
                times = [self._times[when, root, path] for path in order.nodes]
                if min(times) == order.opening == self._times[when, root, name]:
                    due.append(self._due(order if order.target else order._replace(target=name)))
        return due

    def _due(self, order: Order) -> Due:
        return Due(order.after_ms, command_of(order, self._starts.get(order.run_id)), order.copies)


_SEEN: dict[type[e.Event], str] = {
    e.RunStarted: "begun",
    e.RunPaused: "paused",
    e.WaitOpened: "open",
    e.WaitResumed: "resumed",
}
