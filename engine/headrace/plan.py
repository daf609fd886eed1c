"""A blueprint, compiled: everything that deciding needs and that does not depend on a run.

Made once for each version of a blueprint and shared by all its runs; nothing here is ever changed by running.
"""

from __future__ import annotations

__all__ = ["Plan", "PlanEdge", "PlanNode", "compile_plan"]

from typing import Any, Final

from headrace.blueprint import AtLeast, Blueprint, NodeSpec
from headrace.durations import parse_duration_ms
from headrace.expressions import Expression, compile_expression
from headrace.inputs import Inputs, compile_inputs
from headrace.limits import LOOP_ITERATIONS_DEFAULT
from headrace.loop_bodies import loop_bodies
from headrace.values import Json, encode, encode_text

FUNCTION: Final = "function"
WAIT: Final = "wait"
SLEEP: Final = "sleep"
SUBFLOW: Final = "subflow"
LOOP: Final = "loop-controller"
SCATTER: Final = "batch-scatter"
GATHER: Final = "batch-gather"
_BUILT_IN: Final = frozenset((WAIT, SLEEP, SUBFLOW, LOOP, SCATTER, GATHER))

ALL: Final = 0
ANY: Final = -1


class PlanEdge:
    """One edge. *leaves* are the loops whose body it leads out of (otherwise than over their controller)."""

    __slots__ = ("action", "back", "condition", "index", "leaves", "source", "target", "transform")

    def __init__(self, index: int, source: str, target: str) -> None:
        self.index = index
        self.source = source
        self.target = target
        self.action: str | None = None
        self.condition: Expression | None = None
        self.transform: Expression | None = None
        self.back = False
        self.leaves: tuple[str, ...] = ()


class PlanNode:
    """One node. *join* is ``ALL``, ``ANY`` or the number of an at-least join; *loops* are innermost first."""

    __slots__ = (
        "back",
        "body",
        "condition",
        "duration_ms",
        "entries",
        "event",
        "fallback",
        "gather",
        "id",
        "inputs",
        "iterations_max",
        "join",
        "key",
        "kind",
        "leaving",
        "loops",
        "max_retries",
        "max_retry_delay_ms",
        "params",
        "params_json",
        "replaces",
        "retry_backoff",
        "retry_delay_ms",
        "retry_jitter",
        "routes",
        "run_ahead",
        "scatter",
        "sources",
        "timeout_ms",
        "uses",
    )

    def __init__(self, spec: NodeSpec) -> None:
        config = spec.config
        self.id = spec.id
        self.uses = spec.uses
        self.kind: str = spec.uses if spec.uses in _BUILT_IN else FUNCTION
        self.params: dict[str, Any] = dict(spec.params)
        self.params_json: Json = encode(self.params, what=f"params of node {spec.id!r}")
        self.inputs: Inputs = None
        self.max_retries = config.max_retries
        self.retry_delay_ms = config.retry_delay_ms
        self.retry_backoff = config.retry_backoff
        self.max_retry_delay_ms = config.max_retry_delay_ms
        self.retry_jitter = config.retry_jitter
        self.timeout_ms = config.timeout_ms
        self.fallback = config.fallback
        self.run_ahead = config.run_ahead
        strategy = config.join_strategy
        self.join = strategy.n if isinstance(strategy, AtLeast) else ANY if strategy == "any" else ALL
        self.key = encode_text(spec.id)
        self.entries: tuple[int, ...] = ()  # incoming edges but those from the end of a loop's body
        self.back: tuple[int, ...] = ()
        self.sources: tuple[str, ...] = ()  # the predecessors over the entries, each once
        self.routes: tuple[PlanEdge, ...] = ()  # own outgoing edges, then those inherited as a fallback
        self.replaces: str | None = None
        self.loops: tuple[str, ...] = ()
        # Of built-in kinds only.
        self.body: frozenset[str] = frozenset()
        self.leaving: tuple[PlanEdge, ...] = ()  # edges out of the body, other than over the controller
        self.condition: Expression | None = None
        self.iterations_max = LOOP_ITERATIONS_DEFAULT
        self.duration_ms = 0
        self.event: str | None = None
        self.gather: str | None = None
        self.scatter: str | None = None


class Plan:
    """One version of a blueprint, ready to run."""

    __slots__ = ("blueprint", "edges", "fail_fast", "id", "nodes", "starts", "terminals", "uses", "version")

    def __init__(self, blueprint: Blueprint) -> None:
        self.blueprint = blueprint
        self.id = blueprint.id
        self.version = blueprint.version
        self.fail_fast = blueprint.on_failure == "fail-fast"
        self.nodes: dict[str, PlanNode] = {spec.id: PlanNode(spec) for spec in blueprint.nodes}
        if blueprint.metadata.get("runAhead") is True:
            for node in self.nodes.values():
                node.run_ahead = True
        self.edges: tuple[PlanEdge, ...] = ()
        self.starts: tuple[str, ...] = ()
        self.terminals: tuple[str, ...] = ()
        self.uses: frozenset[str] = frozenset()


def compile_plan(blueprint: Blueprint) -> Plan:
    """Compile a blueprint that :func:`headrace.validation.check` has passed.

    Raises :class:`headrace.errors.ExpressionFailed` or ``ValueError`` where it did not pass.
    """
    plan = Plan(blueprint)
    bodies = loop_bodies(blueprint)
    _number_loops(plan, bodies)
    plan.edges = tuple(_edge(plan, bodies, index, spec) for index, spec in enumerate(blueprint.edges))
    _connect(plan)
    for spec in blueprint.nodes:
        plan.nodes[spec.id].inputs = compile_inputs(spec.inputs, plan.nodes)
    for node in plan.nodes.values():
        _prepare_built_in(plan, node)
    plan.terminals = tuple(node.id for node in plan.nodes.values() if not node.routes)
    plan.uses = frozenset(_implementations(plan))
    return plan


def _number_loops(plan: Plan, bodies: dict[str, frozenset[str]]) -> None:
    innermost_first = sorted(bodies, key=lambda controller: len(bodies[controller]))
    for controller in innermost_first:
        plan.nodes[controller].body = bodies[controller]
        for node_id in bodies[controller]:
            node = plan.nodes[node_id]
            node.loops = (*node.loops, controller)


def _edge(plan: Plan, bodies: dict[str, frozenset[str]], index: int, spec: Any) -> PlanEdge:
    edge = PlanEdge(index, spec.source, spec.target)
    edge.action = spec.action
    edge.condition = None if spec.condition is None else compile_expression(spec.condition)
    edge.transform = None if spec.transform is None else compile_expression(spec.transform)
    edge.back = spec.source in bodies.get(spec.target, frozenset())
    edge.leaves = tuple(
        controller
        for controller in plan.nodes[spec.source].loops
        if spec.target != controller and spec.target not in bodies[controller]
    )
    return edge


def _connect(plan: Plan) -> None:
    entries: dict[str, list[int]] = {}
    back: dict[str, list[int]] = {}
    routes: dict[str, list[PlanEdge]] = {}
    for edge in plan.edges:
        (back if edge.back else entries).setdefault(edge.target, []).append(edge.index)
        routes.setdefault(edge.source, []).append(edge)
    for node in plan.nodes.values():
        node.entries = tuple(entries.get(node.id, ()))
        node.back = tuple(back.get(node.id, ()))
        node.sources = tuple(dict.fromkeys(plan.edges[index].source for index in node.entries))
        if node.fallback is not None:
            plan.nodes[node.fallback].replaces = node.id
    for edge in plan.edges:
        if edge.leaves:
            # The outermost loop that an edge leaves decides about it.
            outermost = plan.nodes[edge.leaves[-1]]
            outermost.leaving = (*outermost.leaving, edge)
    for node in plan.nodes.values():
        inherited: list[PlanEdge] = list(routes.get(node.id, ()))
        primary = node.replaces
        while primary is not None:
            own = routes.get(primary, ())
            # A fallback of a loop's controller takes the loop's exits over, not the way into its body.
            inherited += [e for e in own if not (plan.nodes[primary].kind == LOOP and e.action == "continue")]
            primary = plan.nodes[primary].replaces
        node.routes = tuple(inherited)
    plan.starts = tuple(
        node.id for node in plan.nodes.values() if not node.entries and not node.back and node.replaces is None
    )


def _prepare_built_in(plan: Plan, node: PlanNode) -> None:
    params = node.params
    if node.kind == LOOP:
        node.condition = compile_expression(params["condition"])
        node.iterations_max = params.get("maxIterations", LOOP_ITERATIONS_DEFAULT)
    elif node.kind == SLEEP:
        node.duration_ms = parse_duration_ms(params["duration"])
    elif node.kind == WAIT:
        node.event = params.get("event")
        timeout = params.get("timeout")
        node.timeout_ms = None if timeout is None else parse_duration_ms(timeout)
    elif node.kind == SCATTER:
        node.gather = params["gatherNodeId"]
        plan.nodes[params["gatherNodeId"]].scatter = node.id


def _implementations(plan: Plan) -> list[str]:
    keys = [node.uses for node in plan.nodes.values() if node.kind == FUNCTION]
    keys += [node.params["workerUsesKey"] for node in plan.nodes.values() if node.kind == SCATTER]
    return keys
