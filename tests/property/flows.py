"""Random blueprints with random behaviour, as hypothesis strategies; the makers take whatever makes choices.

A flow is put together from units: a function, a wait, a sleep, a subflow, a batch (scatter and gather) or a loop with a
body of its own units. Edges lead from earlier units to later ones only, the first unit of a body hangs on its
controller and the last one leads back, so nearly every flow is valid; it still may fan out and in, skip, fail, recover,
leave a body from its middle, or end a branch anywhere.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from hypothesis import assume
from hypothesis import strategies as st

from headrace.blueprint import from_json
from headrace.validation import validate

from .choices import Choices, Draw, DrawnChoices

EVENTS = ("paid", "sent")
ACTIONS = ("x", "y")
VALUES: tuple[Any, ...] = (0, 1, 4, "text", None, [1, 2, 3], [], {"a": {"b": [5]}}, True)
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


class Times(NamedTuple):
    """The times that a flow may name."""

    retry_delays: tuple[int, ...] = (0, 0, 100, 5_000)
    timeouts: tuple[int, ...] = (50, 1_000, 60_000)
    wait_timeouts: tuple[int | str, ...] = (50, 1_000, "1h")
    sleeps: tuple[int | str, ...] = (0, 50, "5s", "2h")


TIMES = Times()


def some_names(choices: Choices, names: list[str]) -> str | dict[str, str]:
    """The ``inputs`` of a node: one name, or some by key."""
    if choices.chance(50):
        return {key: choices.one_of(names) for key in choices.some("pq", 1, 2)}
    return choices.one_of(names)


class FlowMaker:
    """Draws one blueprint, and adds the behaviours of its nodes to those of the case."""

    def __init__(
        self,
        choices: Choices,
        flow_id: str,
        behaviours: dict[str, list[dict[str, Any]]],
        children: list[str],
        times: Times = TIMES,
    ) -> None:
        self._choices = choices
        self._id = flow_id
        self._times = times
        self._behaviours = behaviours
        self._children = children
        self._rough = choices.chance(50)
        self._theme = choices.one_of(tuple(THEMES))
        self.nodes: list[dict[str, Any]] = []
        self.edges: list[dict[str, Any]] = []
        self._controllers: set[str] = set()

    def blueprint(self, size: int, depth: int) -> dict[str, Any]:
        head = self.subflow() if self._children and self._choices.chance(50) else None
        self.region(size, depth, head=head)
        metadata: dict[str, Any] = {"version": "1"}
        if self._choices.chance(12):
            metadata["runAhead"] = True
        if self._rough and self._choices.chance(25):
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
        if units and not (controller is None and self._choices.chance(12)):
            for _ in range(self._choices.one_of((1, 1, 2, 2, 3))):
                pool = side if side and self._choices.chance(35) else [earlier.exit for earlier in units[-4:]]
                sources.append(self._choices.one_of(pool))
        if sources and units[-1].exit in self._controllers and self._choices.chance(40):
            sources += [units[-1].exit, self._choices.one_of(units[-1].others)]  # Out of a body, and behind its loop.
        if controller is None and not sources and unit.entry in self._controllers:
            sources.append(self.function().exit)  # A loop cannot be where a flow starts.
        for source in sources:
            self._edge(source, unit.entry)
        if controller is not None and (not sources or self._choices.chance(8)):
            self.edges.append({"source": controller, "target": unit.entry, "action": "continue"})
            sources.append(controller)
        if sources:
            self._join(unit.entry, len(sources))

    def _edge(self, source: str, target: str) -> None:
        choices = self._choices
        edge: dict[str, Any] = {"source": source, "target": target}
        if source in self._controllers:
            if choices.chance(80):
                edge["action"] = "break"
        elif choices.chance(15):
            edge["action"] = choices.one_of((*ACTIONS, "timeout"))
        self._expressions(edge)
        self.edges.append(edge)

    def _expressions(self, edge: dict[str, Any], percent: int = 18) -> None:
        choices = self._choices
        if choices.chance(percent):
            failing = self._rough and choices.chance(15)
            edge["condition"] = choices.one_of(FAILING_CONDITIONS if failing else CONDITIONS)
        if choices.chance(percent):
            failing = self._rough and choices.chance(15)
            edge["transform"] = choices.one_of(FAILING_TRANSFORMS if failing else TRANSFORMS)

    def _join(self, node_id: str, incoming: int) -> None:
        kind = self._choices.one_of(("all",) * 6 + ("any",) * 3 + ("least",))
        if kind == "any":
            self._config(node_id)["joinStrategy"] = "any"
        elif kind == "least":
            self._config(node_id)["joinStrategy"] = {"atLeast": self._choices.number(1, incoming)}

    def _config(self, node_id: str) -> dict[str, Any]:
        node = next(node for node in self.nodes if node["id"] == node_id)
        config: dict[str, Any] = node.setdefault("config", {})
        return config

    def _add_fallbacks(self, primaries: list[str]) -> list[str]:
        """Fallbacks of some of these nodes, in chains; gives the nodes whose own edges may lead on."""
        added: list[str] = []
        for primary in primaries:
            if not self._choices.chance(22 if self._rough else 6) or "fallback" in self._config(primary):
                continue
            at = primary
            for _ in range(self._choices.one_of((1, 1, 2))):
                unit = self._fallback_unit()
                self._config(at)["fallback"] = unit.entry
                added.append(unit.exit)
                at = unit.entry
        return added

    def _fallback_unit(self) -> Unit:
        kind = self._choices.one_of(("function",) * 7 + ("wait", "sleep", "batch"))
        return {"function": self.function, "wait": self.wait, "sleep": self.sleep, "batch": self.batch}[kind]()

    # Units.

    def unit(self, depth: int) -> Unit:
        kinds = [kind for kind in THEMES[self._theme] if (kind != "loop" or depth) and (kind != "subflow" or self._children)]
        kind = self._choices.one_of(kinds)
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
        odd = self._choices.one_of(("",) * 30 + ("/x", ".0", " é"))
        node: dict[str, Any] = {"id": f"{self._id}{len(self.nodes)}{odd}"}
        node["uses"] = uses or node["id"]
        if params is not None:
            node["params"] = params
        self.nodes.append(node)
        return node

    def _inputs(self, node: dict[str, Any], percent: int = 14) -> None:
        if not self._choices.chance(percent):
            return
        names = [earlier["id"] for earlier in self.nodes[:-1]] + ["n", "items", "items.1", "k.a", "nowhere", "_error"]
        node["inputs"] = some_names(self._choices, names)

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
        choices = self._choices
        config = self._config(node["id"])
        if choices.chance(35 if self._rough else 8):
            config["maxRetries"] = choices.number(1, 3)
            config["retryDelay"] = choices.one_of(self._times.retry_delays)
            if choices.chance(20):
                config["retryJitter"] = 0.5
        if choices.chance(8):
            config["runAhead"] = True
        if hangs or choices.chance(6):
            config["timeout"] = choices.one_of(self._times.timeouts)

    def _behaviour(self) -> tuple[list[dict[str, Any]], bool]:
        entries = [self._entry() for _ in range(self._choices.one_of((1, 1, 2, 3)))]
        return entries, any("hang" in entry for entry in entries)

    def _entry(self) -> dict[str, Any]:
        choices = self._choices
        entry: dict[str, Any] = {}
        if choices.chance(30):
            entry["sleep_ms"] = choices.number(1, 3) * 10
        for write, percent, value in (("set", 12, True), ("incr", 15, 1), ("append", 8, 7)):
            if choices.chance(percent):
                key = {"set": "k", "incr": "n", "append": "items"}[write]
                entry[write] = {key: value}
        if choices.chance(4):
            entry["delete"] = ["k"]
        if choices.chance(35 if self._rough else 1):
            how = choices.one_of(("raise", "raise", "raise", "hang", "hang", "fatal", "error"))
            entry.update({"raise": "boom", "fatal": True} if how == "fatal" else {how: True if how == "hang" else "boom"})
            return entry
        how = choices.one_of(("output", "output", "output", "echo", "read", "none"))
        given = {"echo": True, "read": ["n", "k", "_error"], "none": True}
        entry[how] = choices.one_of(VALUES) if how == "output" else given[how]
        if choices.chance(18):
            entry["action"] = choices.one_of((*ACTIONS, "z"))
        return entry

    def wait(self) -> Unit:
        choices = self._choices
        params: dict[str, Any] = {}
        if choices.chance(50):
            params["event"] = choices.one_of(EVENTS)
        if choices.chance(40):
            params["timeout"] = choices.one_of(self._times.wait_timeouts)
        node = self._node("wait", params)
        return Unit(node["id"], node["id"])

    def sleep(self) -> Unit:
        node = self._node("sleep", {"duration": self._choices.one_of(self._times.sleeps)})
        self._inputs(node)
        return Unit(node["id"], node["id"])

    def subflow(self) -> Unit:
        choices = self._choices
        params: dict[str, Any] = {"blueprintId": choices.one_of(self._children)}
        if choices.chance(60):
            params["inputs"] = {"n": "n", "items": "items", "k": choices.one_of(("k", "k.a", "nowhere"))}
        if choices.chance(40):
            params["outputs"] = {"k": choices.one_of(("n", f"{params['blueprintId']}0", "nowhere"))}
        node = self._node("subflow", params)
        self._inputs(node)
        self._attempts(node, hangs=False)
        return Unit(node["id"], node["id"])

    def batch(self) -> Unit:
        choices = self._choices
        node = self._node("batch-scatter", {})
        params = node["params"]
        if choices.chance(90):
            node["inputs"] = "items"
        gather = self._node("batch-gather")
        params["gatherNodeId"] = gather["id"]
        params["workerUsesKey"] = f"{node['id']}!worker"
        if choices.chance(50):
            params["chunkSize"] = choices.number(1, 3)
        if choices.chance(40):
            params["onItemError"] = choices.one_of(("fail", "collect"))
        if choices.chance(30):
            params["outputKey"] = choices.one_of(("list", "items"))
        entries, hangs = self._behaviour()
        self._behaviours[params["workerUsesKey"]] = entries
        self._attempts(node, hangs)
        self.edges.append({"source": node["id"], "target": gather["id"]})
        return Unit(node["id"], gather["id"], (node["id"],))

    def loop(self, depth: int) -> Unit:
        choices = self._choices
        node = self._node("loop-controller", {})
        controller = node["id"]
        self._controllers.add(controller)
        counter = f"c{len(self.nodes)}"
        below = f"!has(context.{counter}) || context.{counter} < {choices.one_of((2, 3, 1))}"
        conditions = (below, below, below, "true", "false", "input == null", *(("nowhere > 1",) if self._rough else ()))
        node["params"]["condition"] = choices.one_of(conditions)
        node["params"]["maxIterations"] = choices.one_of((3, 4, 4, 1))
        self._inputs(node, 6)
        first = len(self.nodes)
        head = self.function(counter)
        self.edges.append({"source": controller, "target": head.entry, "action": "continue"})
        body = self.region(choices.number(0, 3), depth - 1, controller, head)
        back: dict[str, Any] = {"source": body[-1].exit, "target": controller}
        if body[-1].exit in self._controllers:
            back["action"] = "break"
        self._expressions(back, percent=4)
        self.edges.append(back)
        if choices.chance(8):
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


def make_case(choices: Choices, size: int = 9, depth: int = 2, times: Times = TIMES) -> Case:
    """A flow with up to *size* units at its top and loops *depth* deep, and up to two flows below it; mostly valid."""
    behaviours: dict[str, list[dict[str, Any]]] = {}
    children: list[str] = []
    blueprints: list[dict[str, Any]] = []
    for child in ("c", "b")[2 - choices.one_of((0, 1, 2)) :]:
        maker = FlowMaker(choices, child, behaviours, list(children), times)
        blueprints.insert(0, maker.blueprint(choices.number(1, min(size, 5)), choices.number(0, depth // 2)))
        children.append(child)
    maker = FlowMaker(choices, "a", behaviours, children, times)
    blueprints.insert(0, maker.blueprint(choices.number(1, size), choices.number(0, depth)))
    context = {**CONTEXT, "n": 2, "items": []} if choices.chance(50) else CONTEXT
    return Case(blueprints, behaviours, choices.one_of(VALUES), context)


@st.composite
def cases(draw: Draw, size: int = 9) -> Case:
    """A valid flow with up to *size* units at its top, and up to two flows below it."""
    case = make_case(DrawnChoices(draw), size)
    assume(not problems_of(case))
    return case
