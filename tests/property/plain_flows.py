"""Random flows of plain functions, for which ``reference.py`` has an opinion."""

from __future__ import annotations

from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from .choices import Choices, Draw, DrawnChoices
from .flows import Case, problems_of, some_names
from .reference import CONDITIONS, TRANSFORMS

FAILING = ("'text'", "1 / 0 == 0", "1 / 0")


class PlainFlowMaker:
    """Draws nodes one after the other, each behind some that came before."""

    def __init__(self, choices: Choices) -> None:
        self._choices = choices
        # Who is first at an any-join matters only where something may fail; then there are no such joins.
        self._failures = choices.chance(60)
        # Nodes whose input depends on who came first; nothing else may depend on it.
        self._first_come: set[str] = set()
        self.nodes: list[dict[str, Any]] = []
        self.edges: list[dict[str, Any]] = []
        self.behaviours: dict[str, list[dict[str, Any]]] = {}

    def make(self, size: int) -> None:
        for _ in range(size):
            before = [node["id"] for node in self.nodes]
            node = self._node()
            sources = []
            if before and not self._choices.chance(10):
                sources = self._choices.some(before[-5:], 1, 4)
            for source in sources:
                self._edge(source, node["id"])
            self._join(node, len(sources))
            self._inputs(node, sources)
            self._behave(node)
            while self._failures and self._choices.chance(25):
                fallback = self._node()
                node["config"]["fallback"] = fallback["id"]
                if node["id"] in self._first_come:
                    self._first_come.add(fallback["id"])
                self._inputs(fallback, sources)
                self._behave(fallback)
                node = fallback

    def _node(self) -> dict[str, Any]:
        name = f"n{len(self.nodes)}"
        self.nodes.append({"id": name, "uses": name, "config": {}})
        return self.nodes[-1]

    def _edge(self, source: str, target: str) -> None:
        choices = self._choices
        edge = {"source": source, "target": target}
        if choices.chance(20):
            edge["action"] = choices.one_of("xy")
        for name, texts in (("condition", tuple(CONDITIONS)), ("transform", tuple(TRANSFORMS))):
            if choices.chance(25):
                known = [text for text in texts if self._failures or text not in FAILING]
                if source in self._first_come:
                    known = [text for text in known if text != "input == null"]
                edge[name] = choices.one_of(known)
        self.edges.append(edge)

    def _join(self, node: dict[str, Any], incoming: int) -> None:
        strategies: list[Any] = ["all", "all"]
        if incoming > 1:
            # A join of at least n fails by itself where it is out of reach.
            strategies.append({"atLeast": self._choices.number(1, incoming)} if self._failures else "any")
        node["config"]["joinStrategy"] = self._choices.one_of(strategies)
        if node["config"]["joinStrategy"] != "all":
            self._first_come.add(node["id"])

    def _inputs(self, node: dict[str, Any], sources: list[str]) -> None:
        if sources and self._choices.chance(20):
            node["inputs"] = some_names(self._choices, [*sources, "nowhere"])

    def _behave(self, node: dict[str, Any]) -> None:
        choices = self._choices
        entries: list[dict[str, Any]] = []
        for _ in range(choices.number(1, 3)):
            entry: dict[str, Any] = {"sleep_ms": choices.number(0, 3)}
            if self._failures and choices.chance(35):
                how = choices.one_of(("raise", "raise", "error", "fatal"))
                entry.update({"raise": "boom", "fatal": True} if how == "fatal" else {how: "boom"})
            elif node["id"] not in self._first_come and choices.chance(30):
                entry["echo"] = True
            else:
                entry["output"] = choices.one_of((0, 1, None, "text", [1], {}))
            if choices.chance(25):
                entry["action"] = choices.one_of("xyz")
            entries.append(entry)
        self.behaviours[node["id"]] = entries
        node["config"]["maxRetries"] = choices.one_of((1, 1, 2, 3))


def make_plain_case(choices: Choices, size: int = 9) -> Case:
    """A flow of up to *size* plain functions and their fallbacks."""
    maker = PlainFlowMaker(choices)
    maker.make(choices.number(1, size))
    blueprint = {"id": "plain", "nodes": maker.nodes, "edges": maker.edges, "metadata": {"version": "1"}}
    return Case([blueprint], maker.behaviours, choices.one_of((None, 1, {"a": 2})), {})


@st.composite
def plain_cases(draw: Draw) -> Case:
    """A valid flow of plain functions."""
    case = make_plain_case(DrawnChoices(draw))
    assume(not problems_of(case))
    return case
