"""How a node's work ends with a result: routed, or failed where an edge cannot be evaluated."""

from __future__ import annotations

__all__ = ["settle_result"]

from headrace.errors import ExpressionFailed
from headrace.execution import Operation
from headrace.failures import fail_for_good
from headrace.plan import PlanNode
from headrace.routing import complete
from headrace.state import NodeState
from headrace.turn import Turn
from headrace.values import Json


def settle_result(
    turn: Turn,
    node: PlanNode,
    work: NodeState,
    output: Json,
    action: str | None,
    operations: tuple[Operation, ...] = (),
) -> None:
    """Record and route a result; where an edge's expression fails, the node has failed and is not tried again."""
    error = complete(turn, node, work, output, action, operations)
    if error is not None:
        code = "EXPRESSION_FAILED" if isinstance(error, ExpressionFailed) else "VALUE_REFUSED"
        fail_for_good(turn, node, work, code, str(error))
