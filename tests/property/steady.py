"""Flows whose end depends on nothing but themselves: not on who is first, on the clock, or on how often somebody dies.

They are random flows of which all that races is taken out: joins wait for all, nothing reads what others write, and what
an execution does follows from its attempt and not from how often the implementation was called before.
"""

from __future__ import annotations

from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from headrace.execution import Execution

from .choices import Draw
from .flows import CONDITIONS, Case, cases, problems_of
from .watched_world import WatchedScript

CALM = {text for text in CONDITIONS if "context" not in text and "outputs" not in text} | {"1 / 0 == 0", "'text'"}


class AttemptScript(WatchedScript):
    """The n-th entry of a behaviour is for the n-th attempt, however often a crash makes that execute."""

    def next_entry(self, execution: Execution) -> dict[str, Any]:
        super().next_entry(execution)
        entries = self.behaviours[execution.uses]
        return entries[min(execution.attempt, len(entries)) - 1]


def _steady_node(node: dict[str, Any]) -> dict[str, Any]:
    steady = {**node, "config": {k: v for k, v in node.get("config", {}).items() if k not in ("joinStrategy", "timeout")}}
    steady.pop("inputs", None)
    if node["uses"] == "batch-scatter":
        steady["inputs"] = "items"
        steady["params"] = {**node["params"], "onItemError": "collect"}
        steady["params"].pop("outputKey", None)
    elif node["uses"] == "subflow":
        steady["params"] = {"blueprintId": node["params"]["blueprintId"], "inputs": {"items": "items"}}
    elif node["uses"] == "wait":
        steady["params"] = {}
    return steady


def _steady_edge(edge: dict[str, Any]) -> dict[str, Any]:
    steady = dict(edge)
    if edge.get("condition", "true") not in CALM:
        steady["condition"] = "true"
    if "context" in edge.get("transform", ""):
        steady["transform"] = "[input, 1]"
    return steady


def _steady_entry(entry: dict[str, Any]) -> dict[str, Any]:
    steady = {key: value for key, value in entry.items() if key not in ("set", "append", "delete")}
    if steady.pop("hang", False):
        steady["raise"] = "instead of hanging"
    if steady.pop("read", None):
        steady["echo"] = True
    return steady


@st.composite
def steady_cases(draw: Draw) -> Case:
    """A valid flow that has one end only."""
    case = draw(cases())
    blueprints = [
        {
            "id": blueprint["id"],
            "nodes": [_steady_node(node) for node in blueprint["nodes"]],
            "edges": [_steady_edge(edge) for edge in blueprint["edges"]],
            "metadata": {key: value for key, value in blueprint["metadata"].items() if key != "onFailure"},
        }
        for blueprint in case.blueprints
    ]
    behaviours = {uses: [_steady_entry(entry) for entry in entries] for uses, entries in case.behaviours.items()}
    steady = Case(blueprints, behaviours, case.input, case.context)
    assume(not problems_of(steady))
    return steady
