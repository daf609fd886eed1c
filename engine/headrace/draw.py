"""Pictures of a blueprint as text: Mermaid for web pages and READMEs, DOT for Graphviz.

Both say the same: a shape for each kind of node, its join below its id where that is not ``all``, what an edge asks for
(action, condition) and what it does to the value (transform), and fallbacks as dotted lines. Nodes are numbered in the
order of the blueprint, so ids may hold any characters, and the same blueprint always gives the same text. An edge whose
end is no node of the blueprint, which the validation reports, is left out.
"""

from __future__ import annotations

__all__ = ["to_dot", "to_mermaid"]

from collections.abc import Iterator
from typing import Final, NamedTuple

from headrace.blueprint import AtLeast, Blueprint, EdgeSpec, NodeSpec

_LABEL_CHARS_MAX: Final = 60

# What opens and closes a node in Mermaid; everything that is not built in is a function.
_MERMAID_SHAPES: Final = {
    "wait": ("([", "])"),
    "webhook": ("([", "])"),
    "sleep": ("([", "])"),
    "subflow": ("[[", "]]"),
    "loop-controller": ("{{", "}}"),
    "batch-scatter": ("[/", "\\]"),
    "batch-gather": ("[\\", "/]"),
}
_DOT_SHAPES: Final = {
    "wait": "ellipse",
    "webhook": "ellipse",
    "sleep": "ellipse",
    "subflow": "box3d",
    "loop-controller": "hexagon",
    "batch-scatter": "trapezium",
    "batch-gather": "invtrapezium",
}


class _Arrow(NamedTuple):
    source: int
    target: int
    label: str
    fallback: bool


def to_mermaid(blueprint: Blueprint) -> str:
    """A Mermaid flow chart, from top to bottom."""
    lines = ["flowchart TD"]
    for index, node in enumerate(blueprint.nodes):
        opened, closed = _MERMAID_SHAPES.get(node.uses, ("(", ")"))
        text = "<br/>".join(_mermaid_text(line) for line in _node_lines(node))
        lines.append(f'    n{index}{opened}"{text}"{closed}')
    for arrow in _arrows(blueprint):
        line = "-.->" if arrow.fallback else "-->"
        label = f'|"{_mermaid_text(arrow.label)}"|' if arrow.label else ""
        lines.append(f"    n{arrow.source} {line}{label} n{arrow.target}")
    return "\n".join(lines) + "\n"


def to_dot(blueprint: Blueprint) -> str:
    """A directed graph in the DOT language."""
    lines = [
        f"digraph {_dot_text(blueprint.id)} {{",
        '    node [shape=box, style=rounded, fontname="sans-serif"];',
        '    edge [fontname="sans-serif", fontsize=10];',
    ]
    for index, node in enumerate(blueprint.nodes):
        shape = _DOT_SHAPES.get(node.uses)
        styled = f', shape={shape}, style=""' if shape else ""
        lines.append(f"    n{index} [label={_dot_text(*_node_lines(node))}{styled}];")
    for arrow in _arrows(blueprint):
        said = [f"label={_dot_text(arrow.label)}"] if arrow.label else []
        said += ["style=dashed"] if arrow.fallback else []
        attributes = f" [{', '.join(said)}]" if said else ""
        lines.append(f"    n{arrow.source} -> n{arrow.target}{attributes};")
    return "\n".join([*lines, "}"]) + "\n"


def _node_lines(node: NodeSpec) -> Iterator[str]:
    """The id of a node, and what else one wants to see at a glance."""
    yield node.id
    params = node.params
    if node.uses == "sleep":
        yield f"sleep {params.get('duration', '?')}"
    elif node.uses == "wait":
        yield f"wait for {params['event']}" if params.get("event") else "wait"
    elif node.uses == "subflow":
        yield f"run of {params.get('blueprintId', '?')}"
    elif node.uses == "loop-controller":
        yield f"while {params.get('condition', '?')}"
    elif node.uses == "batch-scatter":
        yield f"for each: {params.get('workerUsesKey', '?')}"
    strategy = node.config.join_strategy
    if isinstance(strategy, AtLeast):
        yield f"join: at least {strategy.n}"
    elif strategy != "all":
        yield f"join: {strategy}"
    if node.config.max_retries != 1:
        yield f"{node.config.max_retries} attempts"


def _arrows(blueprint: Blueprint) -> Iterator[_Arrow]:
    numbers: dict[str, int] = {}
    for index, node in enumerate(blueprint.nodes):
        numbers.setdefault(node.id, index)
    for edge in blueprint.edges:
        if edge.source in numbers and edge.target in numbers:
            yield _Arrow(numbers[edge.source], numbers[edge.target], _edge_label(edge), fallback=False)
    for index, node in enumerate(blueprint.nodes):
        if node.config.fallback in numbers:
            yield _Arrow(index, numbers[node.config.fallback], "fallback", fallback=True)


def _edge_label(edge: EdgeSpec) -> str:
    parts = [edge.action] if edge.action is not None else []
    parts += [f"when {edge.condition}"] if edge.condition is not None else []
    parts += [f"gives {edge.transform}"] if edge.transform is not None else []
    return ", ".join(parts)


def _shown(text: str) -> str:
    return text if len(text) <= _LABEL_CHARS_MAX else text[: _LABEL_CHARS_MAX - 1] + "…"


def _mermaid_text(text: str) -> str:
    """Text within quotes: whatever Mermaid, its Markdown or HTML would read as something else becomes an entity."""
    return "".join(c if c.isalnum() or c in " .,:_-+/…" else f"#{ord(c)};" for c in _shown(text))


def _dot_text(*lines: str) -> str:
    """Lines within quotes; a line break that is in one of them is shown as such."""
    escaped = (
        _shown(line).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\\\n").replace("\r", "\\\\r")
        for line in lines
    )
    return '"' + "\\n".join(escaped) + '"'
