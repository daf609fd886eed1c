"""The options of nodes and edges, as they are written in Python (``headrace.builder``)."""

from __future__ import annotations

__all__ = [
    "AttemptOptions",
    "Duration",
    "EdgeOptions",
    "NodeFunction",
    "NodeOptions",
    "NodeRef",
    "PlaceOptions",
    "check_options",
]

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, TypedDict

from headrace.errors import DefinitionError

NodeFunction = Callable[..., Any]
"""What a node runs: a function, sync or async, of no argument or one (the context), or a class derived from Node."""

NodeRef = str | NodeFunction
"""A node: its id, or what it runs."""

Duration = float | str | timedelta
"""Milliseconds, a text such as ``"2s"`` or ``"PT1H"``, or a timedelta."""


class EdgeOptions(TypedDict, total=False):
    """What can be said of an edge; None says nothing.

    It is taken for results with that *action*, where the condition *when* holds. *transform* is evaluated over
    ``input``, the source's output, and gives what the target receives.
    """

    action: str | None
    when: str | None
    transform: str | None


class PlaceOptions(EdgeOptions, total=False):
    """Where a node stands: what can be said of every node.

    *after*: the node or nodes that it follows, over edges with the :class:`EdgeOptions`. *join*: ``"all"``, ``"any"``,
    or the number of arrivals that are enough. *fallback*: the node that takes over when this one has failed for good.
    *run_ahead*: may start on results that are not durable yet.
    """

    after: NodeRef | Sequence[NodeRef]
    fallback: NodeRef
    join: Literal["all", "any"] | int
    run_ahead: bool


class AttemptOptions(PlaceOptions, total=False):
    """How a node that may fail is tried: *max_retries* counts all attempts, *timeout* is for each."""

    max_retries: int
    retry_delay: Duration
    retry_backoff: float
    max_retry_delay: Duration
    retry_jitter: float
    timeout: Duration


class NodeOptions(AttemptOptions, total=False):
    """What a function works on.

    *inputs*: a name (a node's output, a path into it, a context key) or an object of names, instead of what comes over
    the edges. *params*: what the function finds in ``ctx.params``.
    """

    inputs: NodeRef | Mapping[str, NodeRef]
    params: Mapping[str, Any]


def check_options(what: str, options: Mapping[str, object], allowed: type[EdgeOptions]) -> None:
    """Refuse options that a node or an edge of this kind does not have; raises :class:`DefinitionError`."""
    known = allowed.__annotations__
    for name in options:
        if name not in known:
            raise DefinitionError(f"{what}: there is no option {name!r} here, only {', '.join(known)}")
