"""Random blueprints with random behaviour, as hypothesis strategies.

A flow is put together from units: a function, a wait, a sleep, a subflow, a batch (scatter and gather) or a loop with a
body of its own units. Edges lead from earlier units to later ones only, the first unit of a body hangs on its
controller and the last one leads back, so nearly every flow is valid; it still may fan out and in, skip, fail, recover,
leave a body from its middle, or end a branch anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis import assume
from hypothesis import strategies as st

from headrace.blueprint import from_json
from headrace.validation import validate

Draw = Callable[[st.SearchStrategy[Any]], Any]

EVENTS = ("paid", "sent")
ACTIONS = ("x", "y")
VALUES = (0, 1, 4, "text", None, [1, 2, 3], [], {"a": {"b": [5]}}, True)
CONTEXT = {"n": 0, "items": [1, 2, 3], "k": {"a": 1}}

CONDITIONS = (
    "true",
    "true",
    "false",
    "context.n > 1",
    "result.action == 'x'",
    "result.output != null",
    "input == null",
    "size(outputs) > 2",
)
FAILING_CONDITIONS = ("1 / 0 == 0", "'text'", "result.output > 2", "context.missing == 1", "nowhere")
TRANSFORMS = ("{'v': input}", "[input, 1]", "context.n", "input")
FAILING_TRANSFORMS = ("input.a.b", "context.missing")

# What a flow mostly consists of.
THEMES = {
    "work": ("function",) * 9 + ("wait", "sleep", "batch", "subflow", "loop"),
    "loops": ("function",) * 4 + ("loop",) * 4 + ("wait", "batch", "subflow"),
    "people": ("function",) * 4 + ("wait",) * 3 + ("subflow",) * 3 + ("sleep",),
    "batches": ("function",) * 3 + ("batch",) * 4 + ("loop", "wait"),
}


class Case(NamedTuple):
    """A flow that can be started, with its children and what its nodes do."""

    blueprints: list[dict[str, Any]]
    behaviours: dict[str, list[dict[str, Any]]]
    input: Any
    context: dict[str, Any]

    @property
    def flow_id(self) -> str:
        return str(self.blueprints[0]["id"])


class Unit(NamedTuple):
    """A part of a flow: where edges lead in and out, and further nodes from which edges may lead on."""

    entry: str
    exit: str
    others: tuple[str, ...] = ()


def often(draw: Draw, percent: int) -> bool:
    """Yes in *percent* of all cases."""
    # The simple choice, to which hypothesis shrinks, is "no".
    return bool(draw(st.integers(0, 99)) >= 100 - percent)


class FlowMaker:
    """Draws one blueprint, and adds the behaviours of its nodes to those of the case."""

    def __init__(self, draw: Draw, flow_id: str, behaviours: dict[str, list[dict[str, Any]]], children: list[str]) -> None:
        self._draw = draw
        self._id = flow_id
        self._behaviours = behaviours
        self._children = children
        self._rough = often(draw, 50)
        self._theme = draw(st.sampled_from(tuple(THEMES)))
        self.nodes: list[dict[str, Any]] = []
        self.edges: list[dict[str, Any]] = []
        self._controllers: set[str] = set()

    def blueprint(self, size: int, depth: int) -> dict[str, Any]:
        head = self.subflow() if self._children and often(self._draw, 50) else None
        self.region(size, depth, head=head)
        metadata: dict[str, Any] = {"version": "1"}
        if often(self._draw, 12):
            metadata["runAhead"] = True
        if self._rough and often(self._draw, 25):
            metadata["onFailure"] = "fail-fast"
        return {"id": self._id, "nodes": self.nodes, "edges": self.edges, "metadata": metadata}

    # Graph.

    def region(self, size: int, depth: int, controller: str | None = None, head: Unit | None = None) -> list[Unit]:
        """Units in a row; those of a loop's body hang on its *controller*, and *head* is the first of them."""
        units: list[Unit] = [] if head is None else [head]
        side = [] if head is None else self._add_fallbacks([head.entry])
        for _ in range(size):
            first = len(self.nodes)
            unit = self.unit(depth)
            self._connect(unit, units, side, controller)
            primaries = [node["id"] for node in self.nodes[first:]]
            side += [node for node in unit.others if node not in side]
            side += self._add_fallbacks(primaries)
            units.append(unit)
        return units

    def _connect(self, unit: Unit, units: list[Unit], side: list[str], controller: str | None) -> None:
        sources: list[str] = []
        if units and not (controller is None and often(self._draw, 12)):
            for _ in range(self._draw(st.sampled_from((1, 1, 2, 2, 3)))):
                pool = side if side and often(self._draw, 35) else [earlier.exit for earlier in units[-4:]]
                sources.append(self._draw(st.sampled_from(pool)))
        if sources and units[-1].exit in self._controllers and often(self._draw, 40):
            sources += [units[-1].exit, self._draw(st.sampled_from(units[-1].others))]  # Out of a body, and behind its loop.
        if controller is None and not sources and unit.entry in self._controllers:
            sources.append(self.function().exit)  # A loop cannot be where a flow starts.
        for source in sources:
            self._edge(source, unit.entry)
        if controller is not None and (not sources or often(self._draw, 8)):
            self.edges.append({"source": controller, "target": unit.entry, "action": "continue"})
            sources.append(controller)
        if sources:
            self._join(unit.entry, len(sources))

    def _edge(self, source: str, target: str) -> None:
        draw = self._draw
        edge: dict[str, Any] = {"source": source, "target": target}
        if source in self._controllers:
            if often(draw, 80):
                edge["action"] = "break"
        elif often(draw, 15):
            edge["action"] = draw(st.sampled_from((*ACTIONS, "timeout")))
        self._expressions(edge)
        self.edges.append(edge)

    def _expressions(self, edge: dict[str, Any], percent: int = 18) -> None:
        draw = self._draw
        if often(draw, percent):
            failing = self._rough and often(draw, 15)
            edge["condition"] = draw(st.sampled_from(FAILING_CONDITIONS if failing else CONDITIONS))
        if often(draw, percent):
            failing = self._rough and often(draw, 15)
            edge["transform"] = draw(st.sampled_from(FAILING_TRANSFORMS if failing else TRANSFORMS))

    def _join(self, node_id: str, incoming: int) -> None:
        kind = self._draw(st.sampled_from(("all",) * 6 + ("any",) * 3 + ("least",)))
        if kind == "any":
            self._config(node_id)["joinStrategy"] = "any"
        elif kind == "least":
            self._config(node_id)["joinStrategy"] = {"atLeast": self._draw(st.integers(1, incoming))}

    def _config(self, node_id: str) -> dict[str, Any]:
        node = next(node for node in self.nodes if node["id"] == node_id)
        config: dict[str, Any] = node.setdefault("config", {})
        return config

    def _add_fallbacks(self, primaries: list[str]) -> list[str]:
        """Fallbacks of some of these nodes, in chains; gives the nodes whose own edges may lead on."""
        added: list[str] = []
        for primary in primaries:
            if not often(self._draw, 22 if self._rough else 6) or "fallback" in self._config(primary):
                continue
            at = primary
            for _ in range(self._draw(st.sampled_from((1, 1, 2)))):
                unit = self._fallback_unit()
                self._config(at)["fallback"] = unit.entry
                added.append(unit.exit)
                at = unit.entry
        return added

    def _fallback_unit(self) -> Unit:
        kind = self._draw(st.sampled_from(("function",) * 7 + ("wait", "sleep", "batch")))
        return {"function": self.function, "wait": self.wait, "sleep": self.sleep, "batch": self.batch}[kind]()

    # Units.

    def unit(self, depth: int) -> Unit:
        kinds = [kind for kind in THEMES[self._theme] if (kind != "loop" or depth) and (kind != "subflow" or self._children)]
        kind = self._draw(st.sampled_from(kinds))
        if kind == "loop":
            return self.loop(depth)
        return {
            "function": self.function,
            "wait": self.wait,
            "sleep": self.sleep,
            "batch": self.batch,
            "subflow": self.subflow,
        }[kind]()

    def _node(self, uses: str | None = None, params: dict[str, Any] | None = None) -> dict[str, Any]:
        odd = self._draw(st.sampled_from(("",) * 30 + ("/x", ".0", " é")))
        node: dict[str, Any] = {"id": f"{self._id}{len(self.nodes)}{odd}"}
        node["uses"] = uses or node["id"]
        if params is not None:
            node["params"] = params
        self.nodes.append(node)
        return node

    def _inputs(self, node: dict[str, Any], percent: int = 14) -> None:
        if not often(self._draw, percent):
            return
        names = [earlier["id"] for earlier in self.nodes[:-1]] + ["n", "items", "items.1", "k.a", "nowhere", "_error"]
        name = st.sampled_from(names)
        node["inputs"] = self._draw(st.one_of(name, st.dictionaries(st.sampled_from("pq"), name, min_size=1)))

    def function(self, incr: str | None = None) -> Unit:
        node = self._node()
        self._inputs(node)
        entries, hangs = self._behaviour()
        if incr is not None:
            for entry in entries:
                entry["incr"] = {incr: 1}
        self._behaviours[node["uses"]] = entries
        self._attempts(node, hangs)
        return Unit(node["id"], node["id"])

    def _attempts(self, node: dict[str, Any], hangs: bool) -> None:
        draw = self._draw
        config = self._config(node["id"])
        if often(draw, 35 if self._rough else 8):
            config["maxRetries"] = draw(st.integers(1, 3))
            config["retryDelay"] = draw(st.sampled_from((0, 0, 100, 5_000)))
            if often(draw, 20):
                config["retryJitter"] = 0.5
        if often(draw, 8):
            config["runAhead"] = True
        if hangs or often(draw, 6):
            config["timeout"] = draw(st.sampled_from((50, 1_000, 60_000)))

    def _behaviour(self) -> tuple[list[dict[str, Any]], bool]:
        entries = [self._entry() for _ in range(self._draw(st.sampled_from((1, 1, 2, 3))))]
        return entries, any("hang" in entry for entry in entries)

    def _entry(self) -> dict[str, Any]:
        draw = self._draw
        entry: dict[str, Any] = {}
        if often(draw, 30):
            entry["sleep_ms"] = draw(st.integers(1, 3)) * 10
        for write, percent, value in (("set", 12, True), ("incr", 15, 1), ("append", 8, 7)):
            if often(draw, percent):
                key = {"set": "k", "incr": "n", "append": "items"}[write]
                entry[write] = {key: value}
        if often(draw, 4):
            entry["delete"] = ["k"]
        if often(draw, 35 if self._rough else 1):
            how = draw(st.sampled_from(("raise", "raise", "raise", "hang", "hang", "fatal", "error")))
            entry.update({"raise": "boom", "fatal": True} if how == "fatal" else {how: True if how == "hang" else "boom"})
            return entry
        how = draw(st.sampled_from(("output", "output", "output", "echo", "read", "none")))
        given = {"echo": True, "read": ["n", "k", "_error"], "none": True}
        entry[how] = draw(st.sampled_from(VALUES)) if how == "output" else given[how]
        if often(draw, 18):
            entry["action"] = draw(st.sampled_from((*ACTIONS, "z")))
        return entry

    def wait(self) -> Unit:
        draw = self._draw
        params: dict[str, Any] = {}
        if often(draw, 50):
            params["event"] = draw(st.sampled_from(EVENTS))
        if often(draw, 40):
            params["timeout"] = draw(st.sampled_from((50, 1_000, "1h")))
        node = self._node("wait", params)
        return Unit(node["id"], node["id"])

    def sleep(self) -> Unit:
        node = self._node("sleep", {"duration": self._draw(st.sampled_from((0, 50, "5s", "2h")))})
        self._inputs(node)
        return Unit(node["id"], node["id"])

    def subflow(self) -> Unit:
        draw = self._draw
        params: dict[str, Any] = {"blueprintId": draw(st.sampled_from(self._children))}
        if often(draw, 60):
            params["inputs"] = {"n": "n", "items": "items", "k": draw(st.sampled_from(("k", "k.a", "nowhere")))}
        if often(draw, 40):
            params["outputs"] = {"k": draw(st.sampled_from(("n", f"{params['blueprintId']}0", "nowhere")))}
        node = self._node("subflow", params)
        self._inputs(node)
        self._attempts(node, hangs=False)
        return Unit(node["id"], node["id"])

    def batch(self) -> Unit:
        draw = self._draw
        node = self._node("batch-scatter", {})
        params = node["params"]
        if often(draw, 90):
            node["inputs"] = "items"
        gather = self._node("batch-gather")
        params["gatherNodeId"] = gather["id"]
        params["workerUsesKey"] = f"{node['id']}!worker"
        if often(draw, 50):
            params["chunkSize"] = draw(st.integers(1, 3))
        if often(draw, 40):
            params["onItemError"] = draw(st.sampled_from(("fail", "collect")))
        if often(draw, 30):
            params["outputKey"] = draw(st.sampled_from(("list", "items")))
        entries, hangs = self._behaviour()
        self._behaviours[params["workerUsesKey"]] = entries
        self._attempts(node, hangs)
        self.edges.append({"source": node["id"], "target": gather["id"]})
        return Unit(node["id"], gather["id"], (node["id"],))

    def loop(self, depth: int) -> Unit:
        draw = self._draw
        node = self._node("loop-controller", {})
        controller = node["id"]
        self._controllers.add(controller)
        counter = f"c{len(self.nodes)}"
        below = f"!has(context.{counter}) || context.{counter} < {draw(st.sampled_from((2, 3, 1)))}"
        choices = (below, below, below, "true", "false", "input == null", *(("nowhere > 1",) if self._rough else ()))
        node["params"]["condition"] = draw(st.sampled_from(choices))
        node["params"]["maxIterations"] = draw(st.sampled_from((3, 4, 4, 1)))
        self._inputs(node, 6)
        first = len(self.nodes)
        head = self.function(counter)
        self.edges.append({"source": controller, "target": head.entry, "action": "continue"})
        body = self.region(draw(st.integers(0, 3)), depth - 1, controller, head)
        back: dict[str, Any] = {"source": body[-1].exit, "target": controller}
        if body[-1].exit in self._controllers:
            back["action"] = "break"
        self._expressions(back, percent=4)
        self.edges.append(back)
        if often(draw, 8):
            self.edges.append({**back, "action": "x"})
        return Unit(controller, controller, tuple(node["id"] for node in self.nodes[first:]))


def problems_of(case: Case) -> list[str]:
    """What validation has to say against the blueprints, warnings aside."""
    known = {blueprint["id"] for blueprint in case.blueprints}
    return [
        str(problem)
        for blueprint in case.blueprints
        for problem in validate(from_json(blueprint), implementations=case.behaviours, blueprints=known)
        if not problem.warning
    ]


@st.composite
def cases(draw: Draw, size: int = 9) -> Case:
    """A valid flow with up to *size* units at its top, and up to two flows below it."""
    behaviours: dict[str, list[dict[str, Any]]] = {}
    children: list[str] = []
    blueprints: list[dict[str, Any]] = []
    for child in ("c", "b")[2 - draw(st.sampled_from((0, 1, 2))) :]:
        maker = FlowMaker(draw, child, behaviours, list(children))
        blueprints.insert(0, maker.blueprint(draw(st.integers(1, 5)), draw(st.integers(0, 1))))
        children.append(child)
    maker = FlowMaker(draw, "a", behaviours, children)
    blueprints.insert(0, maker.blueprint(draw(st.integers(1, size)), draw(st.integers(0, 2))))
    context = CONTEXT if draw(st.booleans()) else {**CONTEXT, "n": 2, "items": []}
    case = Case(blueprints, behaviours, draw(st.sampled_from(VALUES)), context)
    assume(not problems_of(case))
    return case
