"""What a source of flows gives to a case: a flow that can be started, and for each run of it the load and the opinion."""

from __future__ import annotations

__all__ = ["COUNTED", "Flow", "Run", "asked_again", "counting", "prefixed"]

from typing import Any, NamedTuple, Protocol

from headrace.blueprint import BUILT_IN_USES
from tests.property.choices import Choices

from .case_types import Entry, Expectation, Order


class Run(NamedTuple):
    """One run of a flow. *expected* is by run id, those of children included."""

    input: Any
    context: dict[str, Any]
    orders: list[Order]
    expected: dict[str, Expectation]


class Flow(Protocol):
    """A flow, which is the first of *blueprints*; the others are its children."""

    blueprints: list[dict[str, Any]]
    behaviours: dict[str, list[Entry]]

    def run(self, choices: Choices, run_id: str) -> Run:
        """Draw a run of it."""


COUNTED = "counted"
"""The context value to which every implementation of a case adds one; so it is the number of recorded completions."""


def counting(entry: Entry) -> Entry:
    """The entry, which also counts."""
    counted: Entry = {**entry, "incr": {**entry.get("incr", {}), COUNTED: 1}}
    if "by_input" in entry:
        counted["by_input"] = {given: counting(other) for given, other in entry["by_input"].items()}
    return counted


def prefixed(
    prefix: str, blueprints: list[dict[str, Any]], behaviours: dict[str, list[Entry]]
) -> tuple[list[dict[str, Any]], dict[str, list[Entry]]]:
    """The same with *prefix* before the ids of blueprints and the keys of implementations, so that they are its own."""
    known = {blueprint["id"] for blueprint in blueprints}
    named: list[dict[str, Any]] = []
    for blueprint in blueprints:
        nodes: list[dict[str, Any]] = []
        for node in blueprint["nodes"]:
            params = node.get("params")
            if params is not None:
                params = {**params}
                if "workerUsesKey" in params:
                    params["workerUsesKey"] = prefix + params["workerUsesKey"]
                if params.get("blueprintId") in known:
                    params["blueprintId"] = prefix + params["blueprintId"]
            uses = node["uses"] if node["uses"] in BUILT_IN_USES else prefix + node["uses"]
            nodes.append({**node, "uses": uses} if params is None else {**node, "uses": uses, "params": params})
        named.append({**blueprint, "id": prefix + blueprint["id"], "nodes": nodes})
    return named, {prefix + uses: entries for uses, entries in behaviours.items()}


def asked_again(order: Order, choices: Choices) -> Order:
    """The order, with a delay of its own, and perhaps sent twice where its key makes that harmless."""
    copies = 2 if order.key is not None and choices.chance(25) else 1
    return order._replace(after_ms=choices.one_of((0, 0, 1, 20, 150)), copies=copies)
