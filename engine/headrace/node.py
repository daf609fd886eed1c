"""What a node gives back, and the base class of nodes that have a life cycle.

A function node is one callable: the whole of it is tried again when it fails. A class node splits the work, so that
only the part that may fail is repeated::

    prep ──> exec (tried again) ──> post
               │ last attempt failed, not fatally
               └──> fallback ─────> post
    an error at the end, wherever it came from ──> recover

A retry is an execution of its own, after a durable timer and perhaps on another worker. What ``prep`` returned
travels there as JSON, which is why it has to be JSON, and why ``exec`` gets a decoded copy at every attempt, the
first included. What has to stay in one process (a connection, an open file) belongs into ``dependencies`` or into
``exec``. An attempt that a crash or a timeout cut short has given nothing back: ``prep`` runs again then.
"""

# Methods that are there to be overridden do not use their arguments.
# ruff: noqa: ARG002

from __future__ import annotations

__all__ = ["Node", "Result"]

from dataclasses import dataclass
from typing import Any

from headrace.context import Context


@dataclass(frozen=True, slots=True)
class Result:
    """What a node returns when a bare value does not say enough.

    *output* is any JSON value, None included. *action* selects the edges with that action. *error*, a text that is not
    empty, makes the attempt a failure, as raising would.
    """

    output: Any = None
    action: str | None = None
    error: str | None = None


class Node:
    """Base of class nodes: override what is needed, each method plain or ``async``.

    One object is made for each execution, without arguments, so attributes never pass from one attempt to the next.
    The node is synchronous, and runs in a thread, when none of its methods is ``async``.
    """

    def prep(self, ctx: Context) -> Any:
        """Prepare; returns JSON that ``exec`` gets. An error here is not tried again and goes to ``recover``."""
        return None

    def exec(self, ctx: Context, prepared: Any) -> Any:
        """Do the work: the part that is tried again. Returns what ``post`` gets."""
        return None

    def fallback(self, ctx: Context, prepared: Any, error: Exception) -> Any:
        """Give what ``exec`` could not, after its last attempt failed with *error*, unless that was fatal.

        Raises *error* again if not overridden. A timeout ends the last attempt from outside, without a fallback.
        """
        raise error

    def post(self, ctx: Context, prepared: Any, executed: Any) -> Any:
        """Turn what ``exec`` or ``fallback`` returned into the node's value or :class:`Result`."""
        return executed

    def recover(self, ctx: Context, error: BaseException) -> Any:
        """Clean up after *error*, also after one that ``fallback`` mended; what it raises is logged and swallowed."""
        return None
