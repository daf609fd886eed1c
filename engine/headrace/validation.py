"""What keeps a blueprint from running, whole and at once (SEMANTICS section 1).

Nothing stops at the first problem: an author who has made five mistakes reads of five, each with its code and the node
or edge that it concerns. What only one registry or one set of blueprints can tell (whether an implementation or a
subflow exists) is checked where it is given, because the owner of a run may have others than whoever starts it.
"""

from __future__ import annotations

__all__ = ["check", "validate"]

from collections.abc import Container, Iterator, Mapping
from typing import Any

from headrace.blueprint import BUILT_IN_USES, ON_FAILURE, AtLeast, Blueprint, NodeConfig, NodeSpec
from headrace.durations import parse_duration_ms
from headrace.errors import BlueprintInvalid, ExpressionFailed, Problem
from headrace.expressions import compile_expression
from headrace.loop_bodies import links_of, loop_bodies
from headrace.validation_graph import fallback_problems, loop_problems, unreachable_problems

_UNUSABLE = {
    "maxRetries": ("ATTEMPTS_INVALID", "must be a whole number of attempts, 1 or more"),
    "retryBackoff": ("DURATION_INVALID", "must be a number, 1 or more"),
    "retryJitter": ("DURATION_INVALID", "must be a number from 0 to 1"),
    "joinStrategy": ("JOIN_STRATEGY_INVALID", "must be 'all', 'any' or {'atLeast': n} with a whole number n"),
}


def validate(
    blueprint: Blueprint, *, implementations: Container[str] | None = None, blueprints: Container[str] | None = None
) -> tuple[Problem, ...]:
    """All problems of a blueprint, warnings included.

    *implementations* are the registry keys and *blueprints* the ids of the subflows that are known; with None they are
    taken to exist.
    """
    nodes: dict[str, NodeSpec] = {}
    for node in blueprint.nodes:
        nodes.setdefault(node.id, node)
    links = links_of(blueprint)
    bodies = loop_bodies(blueprint, links)
    problems = [*_blueprint_problems(blueprint), *_id_problems(blueprint)]
    joining = _incoming(blueprint, nodes, bodies)
    for node in blueprint.nodes:
        problems += _config_problems(node, joining.get(node.id, 0))
        problems += _implementation_problems(node, implementations)
        problems += _param_problems(node, nodes, blueprint, implementations, blueprints)
    problems += _edge_problems(blueprint, nodes)
    problems += _gather_problems(blueprint)
    problems += fallback_problems(blueprint, nodes)
    problems += loop_problems(blueprint, nodes, links, bodies)
    problems += unreachable_problems(nodes, links)
    return tuple(problems)


def check(
    blueprint: Blueprint, *, implementations: Container[str] | None = None, blueprints: Container[str] | None = None
) -> None:
    """Raise :class:`BlueprintInvalid` with all problems, if any of them is more than a warning."""
    problems = validate(blueprint, implementations=implementations, blueprints=blueprints)
    if not all(problem.warning for problem in problems):
        raise BlueprintInvalid(blueprint.id, problems)


def _blueprint_problems(blueprint: Blueprint) -> Iterator[Problem]:
    if blueprint.on_failure not in ON_FAILURE:
        named = " or ".join(map(repr, ON_FAILURE))
        message = f"metadata.onFailure is {blueprint.on_failure!r} and must be {named}"
        yield Problem("ON_FAILURE_INVALID", "blueprint", message)


def _id_problems(blueprint: Blueprint) -> Iterator[Problem]:
    seen: set[str] = set()
    reported: set[str] = set()
    for index, node in enumerate(blueprint.nodes):
        if not node.id:
            yield Problem("EMPTY_NODE_ID", f"node {node.id!r}", f"node number {index + 1} has an empty id")
        elif node.id in seen and node.id not in reported:
            reported.add(node.id)
            yield Problem("DUPLICATE_NODE_ID", f"node {node.id!r}", "several nodes have this id")
        seen.add(node.id)


def _incoming(blueprint: Blueprint, nodes: Mapping[str, NodeSpec], bodies: Mapping[str, frozenset[str]]) -> dict[str, int]:
    """The number of edges that a join of each node counts: those from the end of a loop's body join nothing."""
    counts: dict[str, int] = {}
    for edge in blueprint.edges:
        if edge.source in nodes and edge.source not in bodies.get(edge.target, ()):
            counts[edge.target] = counts.get(edge.target, 0) + 1
    return counts


def _config_problems(node: NodeSpec, incoming: int) -> Iterator[Problem]:
    config, where = node.config, f"node {node.id!r}"
    for name, raw in config.unusable:
        if name in _UNUSABLE:
            code, expected = _UNUSABLE[name]
            yield Problem(code, where, f"config.{name} is {raw!r} and {expected}")
        else:
            yield from _duration_problems(where, f"config.{name}", raw)
    if not _is_count(config.max_retries):
        message = f"config.maxRetries is {config.max_retries!r}; it counts all attempts and must be 1 or more"
        yield Problem("ATTEMPTS_INVALID", where, message)
    for name, value in _durations(config):
        yield from _duration_problems(where, f"config.{name}", value)
    if not config.retry_backoff >= 1:
        message = f"config.retryBackoff is {config.retry_backoff!r} and must be 1 or more"
        yield Problem("DURATION_INVALID", where, message)
    if not 0 <= config.retry_jitter <= 1:
        message = f"config.retryJitter is {config.retry_jitter!r} and must be from 0 to 1"
        yield Problem("DURATION_INVALID", where, message)
    strategy = config.join_strategy
    if isinstance(strategy, AtLeast):
        if not _is_count(strategy.n) or strategy.n > incoming:
            message = f"config.joinStrategy waits for at least {strategy.n!r} of {incoming} incoming edges"
            yield Problem("JOIN_STRATEGY_INVALID", where, message)
    elif strategy not in ("all", "any"):
        message = f"config.joinStrategy is {strategy!r} and {_UNUSABLE['joinStrategy'][1]}"
        yield Problem("JOIN_STRATEGY_INVALID", where, message)


def _durations(config: NodeConfig) -> Iterator[tuple[str, int]]:
    yield "retryDelay", config.retry_delay_ms
    if config.max_retry_delay_ms is not None:
        yield "maxRetryDelay", config.max_retry_delay_ms
    if config.timeout_ms is not None:
        yield "timeout", config.timeout_ms


def _duration_problems(where: str, name: str, value: object) -> Iterator[Problem]:
    try:
        parse_duration_ms(value)
    except ValueError as error:
        yield Problem("DURATION_INVALID", where, f"{name}: {error}")


def _implementation_problems(node: NodeSpec, implementations: Container[str] | None) -> Iterator[Problem]:
    if node.uses in BUILT_IN_USES:
        return
    if not node.uses or (implementations is not None and node.uses not in implementations):
        message = f"nothing is registered under {node.uses!r}: register an implementation, or correct the node's uses"
        yield Problem("IMPLEMENTATION_MISSING", f"node {node.id!r}", message)


def _param_problems(
    node: NodeSpec,
    nodes: Mapping[str, NodeSpec],
    blueprint: Blueprint,
    implementations: Container[str] | None,
    blueprints: Container[str] | None,
) -> Iterator[Problem]:
    """What the built-in nodes ask of their params."""
    where = f"node {node.id!r}"
    if node.uses in ("wait", "sleep"):
        if node.config.timeout_ms is not None or "timeout" in dict(node.config.unusable):
            instead = "params.timeout" if node.uses == "wait" else "params.duration"
            message = f"config.timeout bounds attempts, and a {node.uses} has none: use {instead}"
            yield Problem("DURATION_INVALID", where, message)
    if node.uses == "wait":
        if node.params.get("timeout") is not None:
            yield from _duration_problems(where, "params.timeout", node.params["timeout"])
        yield from _text_problems(where, "event", node.params.get("event"))
    elif node.uses == "sleep":
        yield from _duration_problems(where, "params.duration", node.params.get("duration"))
    elif node.uses == "loop-controller":
        yield from _expression_problems(where, "params.condition", node.params.get("condition"))
        iterations = node.params.get("maxIterations", 1)
        if not _is_count(iterations):
            message = f"params.maxIterations is {iterations!r} and must be a whole number, 1 or more"
            yield Problem("ATTEMPTS_INVALID", where, message)
    elif node.uses == "subflow":
        yield from _subflow_problems(node, where, blueprints)
    elif node.uses == "batch-scatter":
        yield from _scatter_problems(node, where, nodes, blueprint, implementations)


def _text_problems(where: str, name: str, value: object) -> Iterator[Problem]:
    if value is not None and not (isinstance(value, str) and value):
        yield Problem("PARAMS_INVALID", where, f"params.{name} is {value!r} and must be text that is not empty")


def _subflow_problems(node: NodeSpec, where: str, blueprints: Container[str] | None) -> Iterator[Problem]:
    child = node.params.get("blueprintId")
    if not isinstance(child, str) or not child:
        yield Problem("SUBFLOW_UNKNOWN", where, f"params.blueprintId is {child!r} and must name a blueprint")
    elif blueprints is not None and child not in blueprints:
        yield Problem("SUBFLOW_UNKNOWN", where, f"no blueprint {child!r} is known: add it, or correct the id")
    for name in ("inputs", "outputs"):
        mapping = node.params.get(name)
        if mapping is not None:
            if not isinstance(mapping, Mapping) or not all(isinstance(value, str) for value in mapping.values()):
                message = f"params.{name} is {mapping!r} and must be an object of names"
                yield Problem("PARAMS_INVALID", where, message)


def _scatter_problems(
    node: NodeSpec,
    where: str,
    nodes: Mapping[str, NodeSpec],
    blueprint: Blueprint,
    implementations: Container[str] | None,
) -> Iterator[Problem]:
    worker = node.params.get("workerUsesKey")
    if not isinstance(worker, str) or not worker or worker in BUILT_IN_USES:
        message = f"params.workerUsesKey is {worker!r} and must be the key of an implementation"
        yield Problem("BATCH_WORKER_UNKNOWN", where, message)
    elif implementations is not None and worker not in implementations:
        yield Problem("BATCH_WORKER_UNKNOWN", where, f"nothing is registered under {worker!r}, the worker of the batch")
    gather = node.params.get("gatherNodeId")
    if not isinstance(gather, str) or gather not in nodes:
        yield Problem("BATCH_GATHER_UNKNOWN", where, f"params.gatherNodeId is {gather!r} and must name a node")
    elif nodes[gather].uses != "batch-gather":
        message = f"params.gatherNodeId names {gather!r}, whose uses is {nodes[gather].uses!r} and not 'batch-gather'"
        yield Problem("BATCH_GATHER_UNKNOWN", where, message)
    elif not any(edge.source == node.id and edge.target == gather for edge in blueprint.edges):
        yield Problem("BATCH_GATHER_UNKNOWN", where, f"no edge leads from it to its gather node {gather!r}")
    chunk = node.params.get("chunkSize")
    if chunk is not None and not _is_count(chunk):
        message = f"params.chunkSize is {chunk!r} and must be a whole number, 1 or more"
        yield Problem("BATCH_OPTIONS_INVALID", where, message)
    on_error = node.params.get("onItemError")
    if on_error not in (None, "fail", "collect"):
        message = f"params.onItemError is {on_error!r} and must be 'fail' or 'collect'"
        yield Problem("BATCH_OPTIONS_INVALID", where, message)
    yield from _text_problems(where, "outputKey", node.params.get("outputKey"))


def _gather_problems(blueprint: Blueprint) -> Iterator[Problem]:
    """A gather node belongs to exactly one scatter node."""
    scatters: dict[str, list[str]] = {node.id: [] for node in blueprint.nodes if node.uses == "batch-gather"}
    for node in blueprint.nodes:
        gather: Any = node.params.get("gatherNodeId") if node.uses == "batch-scatter" else None
        if isinstance(gather, str) and gather in scatters:
            scatters[gather].append(node.id)
    for gather, owners in scatters.items():
        if len(owners) != 1:
            named = " and ".join(map(repr, owners[:20])) if owners else "no batch-scatter"
            message = f"{named} gathers here, and it must be exactly one batch-scatter (its params.gatherNodeId)"
            yield Problem("BATCH_GATHER_UNKNOWN", f"node {gather!r}", message)


def _edge_problems(blueprint: Blueprint, nodes: Mapping[str, NodeSpec]) -> Iterator[Problem]:
    for edge in blueprint.edges:
        where = f"edge {edge.source!r} -> {edge.target!r}"
        if edge.source not in nodes:
            yield Problem("EDGE_SOURCE_UNKNOWN", where, f"its source {edge.source!r} is no node of this blueprint")
        if edge.target not in nodes:
            yield Problem("EDGE_TARGET_UNKNOWN", where, f"its target {edge.target!r} is no node of this blueprint")
        if edge.condition is not None:
            yield from _expression_problems(where, "condition", edge.condition)
        if edge.transform is not None:
            yield from _expression_problems(where, "transform", edge.transform)


def _expression_problems(where: str, name: str, source: object) -> Iterator[Problem]:
    if not isinstance(source, str):
        yield Problem("EXPRESSION_INVALID", where, f"{name} is {source!r} and must be the text of an expression")
        return
    try:
        compile_expression(source)
    except ExpressionFailed as error:
        yield Problem("EXPRESSION_INVALID", where, f"{name} {source[:200]!r}: {error}")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
