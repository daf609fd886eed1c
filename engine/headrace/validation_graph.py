"""The problems of a blueprint that lie in how its nodes are linked: fallbacks, loops, cycles, what nothing leads to.

Everything here is iterative and linear in nodes and edges (and in the sizes of loop bodies), because a blueprint may be
a chain of ten thousand nodes.
"""

from __future__ import annotations

__all__ = ["fallback_problems", "loop_problems", "unreachable_problems"]

from collections.abc import Iterator, Mapping

from headrace.blueprint import Blueprint, NodeSpec
from headrace.errors import Problem
from headrace.loop_bodies import Links, reached

# A message names this many nodes of a cycle at most; the rest is counted.
_NAMED_MAX = 20


def fallback_problems(blueprint: Blueprint, nodes: Mapping[str, NodeSpec]) -> Iterator[Problem]:
    """Fallbacks that do not exist, are shared, are led to by edges, or come back to where they started."""
    primaries: dict[str, list[str]] = {}
    for node in nodes.values():
        fallback = node.config.fallback
        if fallback is None:
            continue
        if fallback not in nodes:
            message = f"fallback {fallback!r} is no node of this blueprint"
            yield Problem("FALLBACK_UNKNOWN", f"node {node.id!r}", message)
        else:
            primaries.setdefault(fallback, []).append(node.id)
    for fallback, used_by in primaries.items():
        if len(used_by) > 1:
            named = " and ".join(map(repr, used_by[:_NAMED_MAX]))
            message = f"it is the fallback of {named}: give each a fallback of its own"
            yield Problem("FALLBACK_SHARED", f"node {fallback!r}", message)
    entered = {edge.target for edge in blueprint.edges if edge.source in nodes}
    for fallback in primaries:
        if fallback in entered:
            message = "it is a fallback and has incoming edges: it runs in place of its node only, so remove them"
            yield Problem("FALLBACK_HAS_EDGES", f"node {fallback!r}", message)
    for cycle in _fallback_cycles(nodes):
        message = f"the chain of fallbacks {_chain(cycle)} comes back to its start"
        yield Problem("FALLBACK_CYCLE", f"node {cycle[0]!r}", message)


def _fallback_cycles(nodes: Mapping[str, NodeSpec]) -> Iterator[list[str]]:
    seen: set[str] = set()
    for start in nodes:
        chain: dict[str, None] = {}
        at: str | None = start
        while at is not None and at in nodes and at not in seen:
            seen.add(at)
            chain[at] = None
            at = nodes[at].config.fallback
        if at in chain:
            path = list(chain)
            yield path[path.index(at) :]


def loop_problems(
    blueprint: Blueprint, nodes: Mapping[str, NodeSpec], links: Links, bodies: Mapping[str, frozenset[str]]
) -> Iterator[Problem]:
    """Loops without a way in, round or out of nothing, and cycles that no loop-controller rules."""
    into: dict[str, list[str]] = {controller: [] for controller in bodies}
    continues: set[str] = set()
    for edge in blueprint.edges:
        if edge.target in bodies and edge.source in nodes:
            into[edge.target].append(edge.source)
        if edge.source in bodies and edge.action == "continue":
            continues.add(edge.source)
    for controller, body in bodies.items():
        where = f"node {controller!r}"
        back = dict.fromkeys(source for source in into[controller] if source in body)
        if controller not in continues:
            message = "no edge with the action 'continue' leads into the body of the loop"
            yield Problem("LOOP_WITHOUT_CONTINUE", where, message)
        elif not back:
            message = "no edge leads back from the body of the loop: its last node needs one to the controller"
            yield Problem("LOOP_BACK_EDGES", where, message)
        if len(back) > 1:
            named = ", ".join(map(repr, list(back)[:_NAMED_MAX]))
            message = f"edges lead back from several nodes ({named}): let them join in one node before the controller"
            yield Problem("LOOP_BACK_EDGES", where, message)
        if len(back) == len(set(into[controller])):
            message = "no edge leads to the controller but from the body of its own loop"
            yield Problem("LOOP_WITHOUT_ENTRY", where, message)
    for cycle in _cycles(links, bodies):
        if all(nodes[one].config.fallback == other for one, other in zip(cycle, cycle[1:] + cycle[:1], strict=True)):
            continue  # told as FALLBACK_CYCLE
        message = f"nothing ends the cycle {_chain(cycle)}: make it the body of a loop-controller, or take an edge away"
        yield Problem("CYCLE_WITHOUT_LOOP", f"node {cycle[0]!r}", message)


def _cycles(links: Links, bodies: Mapping[str, frozenset[str]]) -> Iterator[list[str]]:
    """One cycle of each knot that is left when the back edges into loop-controllers are taken away."""

    def ahead(node_id: str) -> Iterator[str]:
        return (target for target in links.after[node_id] if node_id not in bodies.get(target, ()))

    done: set[str] = set()
    for start in links.after:
        if start in done:
            continue
        path = {start: ahead(start)}
        while path:
            node_id, targets = path.popitem()
            path[node_id] = targets
            target = next(targets, None)
            if target is None:
                del path[node_id]
                done.add(node_id)
            elif target in path:
                names = list(path)
                yield names[names.index(target) :]
                # One cycle is named for what hangs together; its other cycles are often the same mistake.
                done.update(path)
                path.clear()
            elif target not in done:
                path[target] = ahead(target)


def unreachable_problems(nodes: Mapping[str, NodeSpec], links: Links) -> Iterator[Problem]:
    """Warnings for nodes that no start node leads to; a fallback is led to by the node that it stands in for."""
    starts = [node_id for node_id, sources in links.before.items() if not sources]
    found = reached(links.after, starts)
    for node_id in nodes:
        if node_id not in found:
            message = "no start node leads to it, so it never runs"
            yield Problem("UNREACHABLE_NODE", f"node {node_id!r}", message, warning=True)


def _chain(cycle: list[str]) -> str:
    named = [repr(node_id) for node_id in (cycle if len(cycle) <= _NAMED_MAX else cycle[: _NAMED_MAX - 1])]
    if len(cycle) > _NAMED_MAX:
        named.append(f"({len(cycle) - _NAMED_MAX + 1} more)")
    return " -> ".join([*named, repr(cycle[0])])
