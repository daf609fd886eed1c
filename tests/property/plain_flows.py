"""Random flows of plain functions, for which ``reference.py`` has an opinion."""

from __future__ import annotations

from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from .flows import Case, Draw, often, problems_of
from .reference import CONDITIONS, TRANSFORMS

FAILING = ("'text'", "1 / 0 == 0", "1 / 0")


class PlainFlowMaker:
    """Draws nodes one after the other, each behind some that came before."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        # Who is first at an any-join matters only where something may fail; then there are no such joins.
        self._failures = often(draw, 60)
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
            if before and not often(self._draw, 10):
                sources = self._draw(st.lists(st.sampled_from(before[-5:]), min_size=1, max_size=4))
            for source in sources:
                self._edge(source, node["id"])
            self._join(node, len(sources))
            self._inputs(node, sources)
            self._behave(node)
            while self._failures and often(self._draw, 25):
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
        draw = self._draw
        edge = {"source": source, "target": target}
        if often(draw, 20):
            edge["action"] = draw(st.sampled_from("xy"))
        for name, texts in (("condition", tuple(CONDITIONS)), ("transform", tuple(TRANSFORMS))):
            if often(draw, 25):
                known = [text for text in texts if self._failures or text not in FAILING]
                if source in self._first_come:
                    known = [text for text in known if text != "input == null"]
                edge[name] = draw(st.sampled_from(known))
        self.edges.append(edge)

    def _join(self, node: dict[str, Any], incoming: int) -> None:
        strategies: list[Any] = ["all", "all"]
        if incoming > 1:
            # A join of at least n fails by itself where it is out of reach.
            strategies.append({"atLeast": self._draw(st.integers(1, incoming))} if self._failures else "any")
        node["config"]["joinStrategy"] = self._draw(st.sampled_from(strategies))
        if node["config"]["joinStrategy"] != "all":
            self._first_come.add(node["id"])

    def _inputs(self, node: dict[str, Any], sources: list[str]) -> None:
        if sources and often(self._draw, 20):
            name = st.sampled_from([*sources, "nowhere"])
            node["inputs"] = self._draw(st.one_of(name, st.dictionaries(st.sampled_from("pq"), name, min_size=1)))

    def _behave(self, node: dict[str, Any]) -> None:
        draw = self._draw
        entries: list[dict[str, Any]] = []
        for _ in range(draw(st.integers(1, 3))):
            entry: dict[str, Any] = {"sleep_ms": draw(st.integers(0, 3))}
            if self._failures and often(draw, 35):
                how = draw(st.sampled_from(("raise", "raise", "error", "fatal")))
                entry.update({"raise": "boom", "fatal": True} if how == "fatal" else {how: "boom"})
            elif node["id"] not in self._first_come and often(draw, 30):
                entry["echo"] = True
            else:
                entry["output"] = draw(st.sampled_from((0, 1, None, "text", [1], {})))
            if often(draw, 25):
                entry["action"] = draw(st.sampled_from("xyz"))
            entries.append(entry)
        self.behaviours[node["id"]] = entries
        node["config"]["maxRetries"] = draw(st.sampled_from((1, 1, 2, 3)))


@st.composite
def plain_cases(draw: Draw) -> Case:
    """A valid flow of up to twelve plain functions."""
    maker = PlainFlowMaker(draw)
    maker.make(draw(st.integers(1, 9)))
    blueprint = {"id": "plain", "nodes": maker.nodes, "edges": maker.edges, "metadata": {"version": "1"}}
    case = Case([blueprint], maker.behaviours, draw(st.sampled_from((None, 1, {"a": 2}))), {})
    assume(not problems_of(case))
    return case
