"""What a condition or a transform may look at (SEMANTICS section 5), and no more than that.

Only the names that an expression uses are decoded, so an evaluation costs what it looks at and not what the run has
accumulated.
"""

from __future__ import annotations

__all__ = ["condition_holds", "transformed"]

from collections.abc import Mapping
from typing import Any, NamedTuple

from headrace.expressions import Expression, evaluate_condition, evaluate_value
from headrace.inputs import named_output
from headrace.plan import Plan
from headrace.state import RunState
from headrace.values import Json, decode


class Subject(NamedTuple):
    """The result that is being routed: *writes* are the node's own context writes, not yet recorded."""

    node_id: str
    input: Json
    output: Json
    action: str | None
    writes: Mapping[str, Json | None]


def condition_holds(expression: Expression, state: RunState, plan: Plan, subject: Subject) -> bool:
    """Whether a condition holds; raises :class:`headrace.errors.ExpressionFailed`."""
    scope: dict[str, Any] = {}
    size = 0
    for name in expression.names:
        if name == "result":
            scope["result"] = {"output": decode(subject.output), "action": subject.action}
            size += len(subject.output) + len(subject.action or "")
        elif name == "input":
            scope["input"] = decode(subject.input)
            size += len(subject.input)
        elif name == "context":
            scope["context"], used = _context(expression, state, subject)
            size += used
        elif name == "outputs":
            scope["outputs"], used = _outputs(expression, state, plan, subject)
            size += used
        else:
            value = subject.output if name == subject.node_id else named_output(state, name)
            if value is None:
                value = _context_value(state, subject, name)
            if value is not None:
                scope[name] = decode(value)
                size += len(value)
    return evaluate_condition(expression, scope, size)


def transformed(expression: Expression, state: RunState, subject: Subject) -> Json:
    """What a transform makes of the output; raises :class:`headrace.errors.ExpressionFailed`."""
    scope: dict[str, Any] = {"input": decode(subject.output)}
    size = len(subject.output)
    if "context" in expression.names:
        scope["context"], used = _context(expression, state, subject)
        size += used
    return evaluate_value(expression, scope, size)


def _context_value(state: RunState, subject: Subject, key: str) -> Json | None:
    return subject.writes[key] if key in subject.writes else state.context.get(key)


def _context(expression: Expression, state: RunState, subject: Subject) -> tuple[dict[str, Any], int]:
    keys = expression.context_keys
    # An expression that goes through all keys sees them in an order that a store keeps.
    wanted = sorted(state.context.keys() | subject.writes.keys()) if keys is None else keys
    return _decoded({key: _context_value(state, subject, key) for key in wanted})


def _outputs(expression: Expression, state: RunState, plan: Plan, subject: Subject) -> tuple[dict[str, Any], int]:
    keys = expression.output_keys
    wanted = plan.nodes if keys is None else keys
    return _decoded({key: subject.output if key == subject.node_id else named_output(state, key) for key in wanted})


def _decoded(values: Mapping[str, Json | None]) -> tuple[dict[str, Any], int]:
    present = {key: value for key, value in values.items() if value is not None}
    return {key: decode(value) for key, value in present.items()}, sum(map(len, present.values()))
