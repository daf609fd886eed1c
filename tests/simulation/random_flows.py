"""Drawn flows: plain ones, of which the reference says what becomes of them, and others, which have to keep the rules.

Every implementation of these adds one to the context value ``counted``, so a result that is recorded twice, or whose
writes are, shows in the context of the run, whatever the flow does otherwise.
"""

from __future__ import annotations

__all__ = ["AnyFlow", "PlainFlow", "draw_any_flow", "draw_plain_flow"]

from typing import Any

from tests.property import flows, plain_flows
from tests.property.choices import Choices
from tests.property.reference import Reference

from .case_types import Entry, Expectation, Order
from .drawn_runs import COUNTED, Run, asked_again, counting, prefixed

# Time costs the worker nothing, but a consumer's heartbeats go on in it: hours would be millions of them.
TIMES = flows.Times(
    retry_delays=(0, 0, 20, 200),
    timeouts=(50, 200, 1_000),
    wait_timeouts=(50, 300, 2_000),
    sleeps=(0, 20, 150, 800),
)


def draw_any_flow(choices: Choices, prefix: str, units: int) -> AnyFlow:
    """A valid flow of anything that the generator knows, with children."""
    while True:
        case = flows.make_case(choices, max(1, units // 2), depth=1, times=TIMES)
        if not flows.problems_of(case):
            return AnyFlow(case, prefix)


class AnyFlow:
    """A flow of which nobody knows what it comes to: much of it depends on the moment."""

    def __init__(self, case: flows.Case, prefix: str) -> None:
        self._case = case
        behaviours = {uses: [counting(entry) for entry in entries] for uses, entries in case.behaviours.items()}
        self.blueprints, self.behaviours = prefixed(prefix, case.blueprints, behaviours)

    def run(self, choices: Choices, run_id: str) -> Run:
        """Whatever waits is answered each time that it opens, and some signals come of themselves."""
        key = choices.one_of(("key", None))
        action = choices.one_of((None, None, *flows.ACTIONS, "timeout"))
        answer = Order(run_id, "resume", "open", nodes=("*",), action=action, value=choices.number(0, 3), key=key)
        orders = [asked_again(answer, choices)]
        for event in choices.some(flows.EVENTS, 0, 2):
            orders.append(Order(run_id, "signal", after_ms=choices.one_of((0, 10, 200)), event=event, value={"payload": 1}))
        flow_id = self.blueprints[0]["id"]
        return Run(self._case.input, self._case.context, orders, {run_id: Expectation(flow_id)})


def draw_plain_flow(choices: Choices, prefix: str, units: int) -> PlainFlow:
    """A valid flow of plain functions, perhaps in a child of another one."""
    while True:
        case = plain_flows.make_plain_case(choices, units)
        if not flows.problems_of(case):
            return PlainFlow(case, prefix, choices)


class PlainFlow:
    """A flow of which the reference knows what it comes to, in whatever order its nodes end."""

    def __init__(self, case: flows.Case, prefix: str, choices: Choices) -> None:
        blueprint = case.blueprints[0]
        self._nodes: list[dict[str, Any]] = blueprint["nodes"]
        self._plain = case
        self._own_keys = {node: f"only {node}" for node in case.behaviours if choices.chance(25)}
        _vary(blueprint, choices)
        blueprints = case.blueprints
        behaviours = {node: [self._counting(node, entry) for entry in entries] for node, entries in case.behaviours.items()}
        self._wrapped = choices.chance(25)
        if self._wrapped:
            blueprints = [_wrapped(blueprint["id"]), *blueprints]
            behaviours["after"] = [counting({"echo": True})]
        self.blueprints, self.behaviours = prefixed(prefix, blueprints, behaviours)

    def _counting(self, node: str, entry: Entry) -> Entry:
        """Some nodes count under a key of their own too."""
        counted = counting(entry)
        if node in self._own_keys:
            counted["incr"][self._own_keys[node]] = 1
        return counted

    def run(self, choices: Choices, run_id: str) -> Run:
        """A run with one of some inputs."""
        given = choices.one_of((None, 1, {"a": 2}))
        plain = self._expected(Reference(self._plain.blueprints[0], self._plain.behaviours, given))
        if not self._wrapped:
            return Run(given, {}, [], {run_id: plain})
        failed = plain.statuses == ("failed",)
        outer = Expectation(
            self.blueprints[0]["id"],
            plain.statuses,
            output=plain.output,
            context={} if failed else {COUNTED: 1},
            completions={"sub": int(not failed), "after": int(not failed)},
            attempts={"sub": 1, "after": int(not failed)},
            errors=("sub",) if failed else (),
            whole=True,
        )
        return Run(given, {}, [], {run_id: outer, f"{run_id}/sub": plain})

    def _expected(self, reference: Reference) -> Expectation:
        ids = [node["id"] for node in self._nodes]
        done = [node for node in ids if reference.states[node] == "completed"]
        context: dict[str, Any] = {COUNTED: len(done)} if done else {}
        context |= {key: 1 for node, key in self._own_keys.items() if node in reference.outputs}
        return Expectation(
            self.blueprints[-1]["id"],
            (reference.status,),
            output=reference.output,
            context=context,
            outputs=reference.outputs,
            completions={node: int(node in reference.outputs) for node in ids},
            attempts={node: reference.attempts.get(node, 0) for node in ids},
            skipped=tuple(node for node in ids if reference.states[node] == "skipped"),
            errors=tuple(node for node in ids if node in reference.errors),
            whole=True,
        )


def _vary(blueprint: dict[str, Any], choices: Choices) -> None:
    """What must not change what the flow comes to."""
    if choices.chance(15):
        blueprint["metadata"]["runAhead"] = True
    for node in blueprint["nodes"]:
        if node["config"]["maxRetries"] > 1:
            node["config"]["retryDelay"] = choices.one_of(TIMES.retry_delays)
        if choices.chance(6):
            node["config"]["runAhead"] = True


def _wrapped(child: str) -> dict[str, Any]:
    return {
        "id": f"{child}-outer",
        "nodes": [{"id": "sub", "uses": "subflow", "params": {"blueprintId": child}}, {"id": "after", "uses": "after"}],
        "edges": [{"source": "sub", "target": "after"}],
        "metadata": {"version": "1"},
    }
