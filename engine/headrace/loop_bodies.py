"""Which nodes make up the body of each loop.

The body of a loop-controller is what its ``continue`` edges lead to without passing through it again, less what is also
reached otherwise: over its other edges, or from a start node without passing through it. So the node behind a ``break``
belongs to no body of that loop, but to that of the loop around it, and a body holds the bodies of its inner loops,
their controllers included. A node's fallback runs in its place, so the link to it counts as an edge.

Both halves are taken from the body's side: what the loop reaches is collected first, and whatever an edge enters from
elsewhere is taken out again with all that follows it. That costs what the body costs, not what the blueprint does.
"""

from __future__ import annotations

__all__ = ["Links", "links_of", "loop_bodies", "reached"]

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from headrace.blueprint import Blueprint

LOOP_CONTROLLER = "loop-controller"


class Links(NamedTuple):
    """What follows each node and what precedes it, by edges and fallbacks between nodes that exist."""

    after: dict[str, list[str]]
    before: dict[str, list[str]]


def links_of(blueprint: Blueprint) -> Links:
    """The links of a blueprint, which may have any problems."""
    after: dict[str, list[str]] = {node.id: [] for node in blueprint.nodes}
    before: dict[str, list[str]] = {node.id: [] for node in blueprint.nodes}
    pairs = [(edge.source, edge.target) for edge in blueprint.edges]
    pairs += [(node.id, node.config.fallback) for node in blueprint.nodes if node.config.fallback is not None]
    for source, target in pairs:
        if source in after and target in after:
            after[source].append(target)
            before[target].append(source)
    return Links(after, before)


def reached(after: Mapping[str, Iterable[str]], starts: Iterable[str], barrier: str | None = None) -> set[str]:
    """All nodes that *starts* lead to, themselves included, without entering *barrier*."""
    found = {start for start in starts if start != barrier}
    stack = list(found)
    while stack:
        for node_id in after[stack.pop()]:
            if node_id != barrier and node_id not in found:
                found.add(node_id)
                stack.append(node_id)
    return found


def loop_bodies(blueprint: Blueprint, links: Links | None = None) -> dict[str, frozenset[str]]:
    """The body of each loop-controller, by its id, in the order of the blueprint."""
    after, before = links or links_of(blueprint)
    into_body: dict[str, list[str]] = {node.id: [] for node in blueprint.nodes if node.uses == LOOP_CONTROLLER}
    past_body: dict[str, set[str]] = {controller: set() for controller in into_body}
    for edge in blueprint.edges:
        if edge.source in into_body and edge.target in after:
            if edge.action == "continue":
                into_body[edge.source].append(edge.target)
            else:
                past_body[edge.source].add(edge.target)
    for node in blueprint.nodes:
        if node.id in past_body and node.config.fallback in after:
            past_body[node.id].add(node.config.fallback)
    bodies = {}
    for controller, targets in into_body.items():
        inside = reached(after, targets, controller)
        entered = [
            node_id
            for node_id in inside
            if node_id in past_body[controller]
            or any(source != controller and source not in inside for source in before[node_id])
        ]
        bodies[controller] = frozenset(inside - reached(after, entered, controller))
    return bodies
