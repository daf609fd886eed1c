"""A second opinion: what the rules say about a flow of plain functions, worked out without the engine.

Written from the rules on inputs, routing, joins, failures and fallbacks, for flows where nothing depends on time: nodes
are functions, and the nodes of a blueprint stand in an order in which edges and fallbacks lead forward only. Whether a
node runs then follows from the fates of its incoming edges alone, whatever the order in which these were decided.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# Conditions and transforms by their text: CEL for the engine, Python for this.
CONDITIONS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "true": lambda output, action, given: True,
    "false": lambda output, action, given: False,
    "result.output == 1": lambda output, action, given: output == 1 and output is not True,
    "result.action == 'x'": lambda output, action, given: action == "x",
    "input == null": lambda output, action, given: given is None,
    "'text'": lambda output, action, given: "text",
    "1 / 0 == 0": lambda output, action, given: 1 // 0 == 0,
}
TRANSFORMS: dict[str, Callable[[Any], Any]] = {
    "{'v': input}": lambda output: {"v": output},
    "[input, 1]": lambda output: [output, 1],
    "1 / 0": lambda output: 1 // 0,
}

# The input of a join that need not wait for all depends on who came first.
UNKNOWN = object()


class Reference:
    """What becomes of one run. *fates* are those of edges: ``taken``, ``dead`` or ``failed``."""

    def __init__(self, blueprint: dict[str, Any], behaviours: dict[str, list[dict[str, Any]]], run_input: Any) -> None:
        self._edges: list[dict[str, Any]] = blueprint["edges"]
        self._behaviours = behaviours
        self._run_input = run_input
        self._config = {node["id"]: node.get("config", {}) for node in blueprint["nodes"]}
        self._named = {node["id"]: node["inputs"] for node in blueprint["nodes"] if "inputs" in node}
        self._primary = {config["fallback"]: node for node, config in self._config.items() if "fallback" in config}
        self.fates: dict[int, str] = {}
        self.values: dict[int, Any] = {}
        self.states: dict[str, str] = {}
        self.inputs: dict[str, Any] = {}
        self.outputs: dict[str, Any] = {}
        self.attempts: dict[str, int] = {}
        self.errors: set[str] = set()
        for node in self._config:
            self._decide(node)
        self.status = "failed" if self.errors else "completed"

    @property
    def output(self) -> Any:
        done = {node: self.outputs[node] for node in self._config if node in self.outputs and not self._routes(node)}
        if self.status == "failed" or not done:
            return None
        return next(iter(done.values())) if len(done) == 1 else done

    def _decide(self, node: str) -> None:
        if node in self._primary:
            if self.states[self._primary[node]] == "recovered":
                self._run(node)
            else:
                self._close(node, "skipped", "dead", [i for i, edge in enumerate(self._edges) if edge["source"] == node])
            return
        fates = [self.fates[index] for index in self._incoming(node)]
        arrived, failed = fates.count("taken"), fates.count("failed")
        strategy = self._config[node].get("joinStrategy", "all")
        if len(fates) > 1 and isinstance(strategy, dict):
            if arrived >= strategy["atLeast"]:
                self._run(node)
            elif arrived or failed:
                self._fail(node, fatal=False)
            else:
                self._close(node, "skipped", "dead")
        elif failed:
            assert strategy != "any" or len(fates) == 1, "who was first would matter"
            self._close(node, "poisoned", "failed")
            if len(fates) > 1:
                self.errors.add(node)
        elif arrived or not fates:
            self._run(node)
        else:
            self._close(node, "skipped", "dead")

    def _run(self, node: str) -> None:
        given = self.inputs[node] = self._input(node)
        entries = self._behaviours[node]
        for attempt in range(self._config[node].get("maxRetries", 1)):
            self.attempts[node] = attempt + 1
            entry = entries[min(attempt, len(entries) - 1)]
            if not entry.keys() & {"raise", "error"}:
                self._succeed(node, given if "echo" in entry else entry["output"], entry.get("action"), given)
                return
            if entry.get("fatal"):
                self._fail(node, fatal=True)
                return
        self._fail(node, fatal=False)

    def _succeed(self, node: str, output: Any, action: str | None, given: Any) -> None:
        routes = self._routes(node)
        try:
            listening = [i for i in routes if action and self._edges[i].get("action") == action]
            plain = [i for i in routes if "action" not in self._edges[i]]
            taken = self._holding(listening, output, action, given) or self._holding(plain, output, action, given)
            values = {i: self._over(i, output) for i in taken}
        except (ArithmeticError, TypeError):
            self._fail(node, fatal=False)
            return
        self.states[node] = "completed"
        self.outputs[node] = output
        self.values.update(values)
        for index in routes:
            self.fates[index] = "taken" if index in taken else "dead"

    def _holding(self, edges: list[int], output: Any, action: str | None, given: Any) -> list[int]:
        holding = []
        for index in edges:
            holds = CONDITIONS[self._edges[index].get("condition", "true")](output, action, given)
            if not isinstance(holds, bool):
                raise TypeError("a condition is true or false")
            if holds:
                holding.append(index)
        return holding

    def _over(self, index: int, output: Any) -> Any:
        transform = self._edges[index].get("transform")
        return output if transform is None else TRANSFORMS[transform](output)

    def _fail(self, node: str, *, fatal: bool) -> None:
        if "fallback" in self._config[node] and not fatal:
            self.states[node] = "recovered"
            return
        self.errors.add(node)
        primary = self._primary.get(node)
        while primary is not None:
            self.errors.add(primary)
            primary = self._primary.get(primary)
        self._close(node, "failed", "failed")

    def _close(self, node: str, state: str, fate: str, routes: list[int] | None = None) -> None:
        self.states[node] = state
        for index in self._routes(node) if routes is None else routes:
            self.fates[index] = fate

    def _incoming(self, node: str) -> list[int]:
        return [index for index, edge in enumerate(self._edges) if edge["target"] == node]

    def _routes(self, node: str) -> list[int]:
        """The edges of a node, and those of the nodes that it stands in for."""
        stands_for = {node}
        while node in self._primary:
            node = self._primary[node]
            stands_for.add(node)
        return [index for index, edge in enumerate(self._edges) if edge["source"] in stands_for]

    def _input(self, node: str) -> Any:
        named = self._named.get(node)
        while node in self._primary:
            node = self._primary[node]
            if named is None and node in self.inputs:
                return self.inputs[node]
            named = named or self._named.get(node)
        arrived: dict[str, Any] = {}
        for index in self._incoming(node):
            if self.fates[index] == "taken":
                arrived.setdefault(self._edges[index]["source"], self.values[index])
        strategy = self._config[node].get("joinStrategy", "all")
        least = strategy["atLeast"] if isinstance(strategy, dict) else 1
        fates = [self.fates[index] for index in self._incoming(node)]
        if strategy != "all" and len(fates) > 1 and fates.count("taken") >= least:
            return UNKNOWN
        if isinstance(named, str):
            return self._named_value(named, arrived)
        if named is not None:
            return {key: self._named_value(name, arrived) for key, name in named.items()}
        sources = {self._edges[index]["source"] for index in self._incoming(node)}
        if not sources:
            return self._run_input
        return next(iter(arrived.values()), None) if len(sources) == 1 else arrived

    def _named_value(self, name: str, arrived: dict[str, Any]) -> Any:
        if name in arrived:
            return arrived[name]
        while self.states.get(name) == "recovered":
            name = self._config[name]["fallback"]
        return self.outputs.get(name)
