"""Scenarios as flows of worlds: those whose course depends neither on the moment of an operation nor on that of a crash.

A scenario is taken if it can be said as a case (``_said`` tells why not), and if it is not named in ``MOMENTS``, which lists
those that are about a moment. Where their times are long they are cut: what passes in virtual time costs heartbeats.
"""

from __future__ import annotations

__all__ = ["MOMENTS", "ScenarioFlow", "scenario_flows"]

from functools import cache
from pathlib import Path
from typing import Any

import orjson

from headrace.blueprint import BUILT_IN_USES, from_json
from headrace.durations import parse_duration_ms
from headrace.plan import compile_plan
from tests.property.choices import Choices

from .case_types import UNKNOWN, Entry, Expectation, Order
from .drawn_runs import Run, asked_again, counting, prefixed

FOLDER = Path(__file__).parents[1] / "scenarios"

LONGEST_MS = 1_500

MOMENTS = {
    "cancel-pill-after-the-join-ran": "an any-join runs, or is cancelled, by who comes first",
    "cancel-pill-before-any-arrival": "an any-join runs, or is cancelled, by who comes first",
}


class NotSaid(Exception):
    """A scenario cannot be said as a case."""


class ScenarioFlow:
    """One scenario. *weight* is about how many nodes a run of it executes."""

    def __init__(self, scenario: dict[str, Any]) -> None:
        self.name: str = scenario["name"]
        prefix = f"{self.name}: "
        flows = [scenario["blueprint"], *scenario.get("subflows", [])]
        self._main: dict[str, Any] = scenario["blueprint"]
        self._scenario = scenario
        self._orders = _orders_of(scenario)
        self._expected = self._expectation(prefix)
        behaviours: dict[str, list[Entry]] = scenario.get("behaviours", {})
        _check_behaviours(self._main, flows, behaviours)
        _check_times(flows, behaviours, self._orders)
        counted = {uses: [counting(entry) for entry in entries] for uses, entries in behaviours.items()}
        self.blueprints, self.behaviours = prefixed(prefix, [_cut(flow) for flow in flows], counted)
        calls = scenario["expect"].get("executions", {}).values()
        self.weight = max(sum(len(flow["nodes"]) for flow in flows), sum(calls))

    def run(self, choices: Choices, run_id: str) -> Run:
        """The run of the scenario, with what the operator does in it."""
        orders = [asked_again(order._replace(run_id=run_id), choices) for order in self._orders]
        return Run(self._scenario.get("input"), self._scenario.get("context", {}), orders, {run_id: self._expected})

    def _expectation(self, prefix: str) -> Expectation:
        expect = self._scenario["expect"]
        own = {node["id"]: node for node in self._main["nodes"]}
        # What a scenario counts, it counts over the run and its children together.
        others = {node["id"] for flow in self._scenario.get("subflows", []) for node in flow["nodes"]}
        mine = own.keys() - others
        functions = [name for name, node in own.items() if node["uses"] not in BUILT_IN_USES and name in mine]
        never = [name for name in expect.get("never", []) if name in mine]
        attempts = {name: n for name, n in expect.get("executions", {}).items() if name in functions}
        return Expectation(
            prefix + self._main["id"],
            (expect["status"],),
            output=expect.get("output", UNKNOWN),
            context=expect.get("context", {}),
            absent=tuple(expect.get("absent", ())),
            outputs={name: value for name, value in expect.get("outputs", {}).items() if name in mine},
            completions=dict.fromkeys(never, 0),
            attempts=attempts,
            skipped=tuple(name for name in expect.get("skipped", ()) if name in mine),
            errors=tuple(expect["errors"]) if "errors" in expect else None,
        )


@cache
def scenario_flows() -> tuple[ScenarioFlow, ...]:
    """All that can be said as cases, by name."""
    found = []
    for file in sorted(FOLDER.glob("*.json")):
        scenario = orjson.loads(file.read_bytes())
        if "invalid" in scenario["expect"] or scenario["name"] in MOMENTS:
            continue
        try:
            found.append(ScenarioFlow(scenario))
        except NotSaid:
            continue
    return tuple(found)


# What the operator does.


def _orders_of(scenario: dict[str, Any]) -> list[Order]:
    """The orders of a run without its id; raises where they depend on a moment."""
    orders: list[Order] = []
    awaited: tuple[str, ...] = ()
    resumed: dict[str, int] = {}
    keys: set[str] = set()
    last = ""
    for step in scenario.get("drive", []):
        if "await_state" in step:
            awaited = tuple(step.get("awaiting", ()))
        elif "resume" in step:
            given = step["resume"]
            node, key = given["node"], given.get("key")
            order = Order("", "resume", "open", target=node, action=given.get("action"), value=given.get("output"), key=key)
            if step["result"] == "applied":
                resumed[node] = resumed.get(node, 0) + 1
                orders.append(order._replace(nodes=(node,), opening=resumed[node]))
                keys.add(key)
                last = node
            elif key in keys or node in resumed:
                # It comes after one that was applied, and so changes nothing, whenever it comes.
                orders.append(order._replace(when="resumed", nodes=(last,), opening=resumed[last]))
        elif "signal" in step:
            _need(awaited, "a signal at no particular wait")
            signal = step["signal"]
            orders.append(Order("", "signal", "open", nodes=awaited, event=signal["event"], value=signal.get("payload")))
        elif "cancel" in step:
            if scenario["expect"]["status"] == "cancelled":
                _need(awaited, "it is cancelled at a moment")
                orders.append(Order("", "cancel", "open", nodes=awaited))
        elif "start_again" in step:
            orders.append(Order("", "start"))
        elif step.keys() & {"pause", "unpause"}:
            raise NotSaid("it is about a pause")
        else:
            assert step.keys() & {"settle", "advance_ms", "expect", "crash", "redeliver"}, step
    return orders


def _need(condition: object, why: str) -> None:
    if not condition:
        raise NotSaid(why)


# What nodes do.


def _check_behaviours(main: dict[str, Any], flows: list[dict[str, Any]], behaviours: dict[str, list[Entry]]) -> None:
    """In a scenario the second call has the second entry, and here the second attempt; raises where that differs."""
    users: dict[str, list[dict[str, Any]]] = {}
    for flow in flows:
        for node in flow["nodes"]:
            users.setdefault(node["uses"], []).append(node)
            if node["uses"] == "batch-scatter":
                users.setdefault(node["params"]["workerUsesKey"], []).append(node)
    plan = compile_plan(from_json(main))
    for uses, entries in behaviours.items():
        for node in users.get(uses, []):
            if len(entries) > 1:
                _need(
                    len(users[uses]) == 1 and node in main["nodes"] and node["uses"] == uses, f"calls of {uses} are counted"
                )
                _need(not plan.nodes[node["id"]].loops, f"{uses} does something else in each turn of a loop")


def _check_times(flows: list[dict[str, Any]], behaviours: dict[str, list[Entry]], orders: list[Order]) -> None:
    """Whether time is over before something else happens depends on the moment, so only one of the two may ever happen."""
    answered = {order.target.rpartition("/")[2] for order in orders if order.kind == "resume"}
    signalled = {order.event for order in orders if order.kind == "signal"}
    for node in (node for flow in flows for node in flow["nodes"]):
        limited = "timeout" in node.get("config", {})
        params = node.get("params") or {}
        if node["uses"] == "wait":
            _need(
                "timeout" not in params or not (node["id"] in answered or params.get("event") in signalled), "it is a race"
            )
        elif node["uses"] == "subflow":
            _need(not limited, "the time of a child is limited")
        else:
            hanging = ["hang" in entry for entry in behaviours.get(params.get("workerUsesKey", node["uses"]), [])]
            _need(limited or not any(hanging), f"{node['id']} hangs for ever")
            _need(not limited or all(hanging), f"{node['id']} may or may not have the time that it needs")


def _cut(flow: dict[str, Any]) -> dict[str, Any]:
    """The same flow with times that are not long."""
    nodes = []
    for node in flow["nodes"]:
        params, config = dict(node.get("params") or {}), dict(node.get("config") or {})
        for values, names in ((params, ("duration", "timeout")), (config, ("timeout", "retryDelay"))):
            for name in names:
                if name in values and not (node["uses"] not in BUILT_IN_USES and values is params):
                    values[name] = min(LONGEST_MS, parse_duration_ms(values[name]))
        nodes.append(node | ({"params": params} if params else {}) | ({"config": config} if config else {}))
    return {**flow, "nodes": nodes}
