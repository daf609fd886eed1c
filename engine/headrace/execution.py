"""What passes between the engine and whatever runs node functions: one execution out, one outcome back.

The engine never calls a node's code. It hands out an :class:`Execution`; an executor (``headrace_adapters.execution``)
runs the implementation that is registered under ``uses`` and gives back :class:`Succeeded` or :class:`Failed`.
All values are encoded JSON (``headrace.values``), so neither side can change what the other holds.
"""

from __future__ import annotations

__all__ = ["NOT_TRIED_AGAIN", "NO_ITEM", "Execution", "Failed", "Operation", "Outcome", "Succeeded", "id_segment"]

import re
from collections.abc import Mapping
from typing import NamedTuple

from headrace.values import Json

NO_ITEM = -1
"""The *item* of an execution that is not one of a batch."""


NOT_TRIED_AGAIN = frozenset(("PREP_ERROR", "POST_ERROR"))
"""Codes of failures in what a class node does once: no further attempt is made, but its fallback applies."""


# What stands between the parts of names that are made of ids.
_SEPARATORS = re.compile(r"[%/@#\[]")


def id_segment(node_id: str) -> str:
    """A node id as a part of a longer name, which no other ids give: what separates the parts is escaped in it."""
    return _SEPARATORS.sub(lambda found: f"%{ord(found[0]):02X}", node_id)


class Execution(NamedTuple):
    """One attempt of one node (or of one batch item), to be executed.

    *token* is unique within the worker and names the execution when its outcome comes back. *context* is the run's
    live context, read-only: what other nodes recorded becomes visible in it. *error* is what a fallback finds under
    ``_error``. *timeout_ms* is told for information; the engine ends the attempt itself, by a cancellation.
    *prepared* is what an earlier attempt of the same node gave back in :attr:`Failed.prepared`, so that ``prep`` of a
    class node runs once; None on a first attempt. *attempts_max* tells which attempt is the last one.
    """

    token: int
    run_id: str
    blueprint_id: str
    node_id: str
    item: int
    activation: int
    attempt: int
    uses: str
    params: Json
    input: Json
    context: Mapping[str, Json]
    error: Json | None
    timeout_ms: int | None
    prepared: Json | None = None
    attempts_max: int = 1

    @property
    def idempotency_key(self) -> str:
        """The same for every execution of one attempt, also after a crash; different for every other attempt."""
        item = "" if self.item == NO_ITEM else f"[{self.item}]"
        return f"{self.run_id}/{id_segment(self.node_id)}{item}/{self.activation}/{self.attempt}"


class Operation(NamedTuple):
    """One recorded context write: *kind* is ``set``, ``delete``, ``increment`` or ``append``; *value* is its JSON."""

    kind: str
    key: str
    value: Json | None = None


class Succeeded(NamedTuple):
    """The attempt ended well; *operations* are its context writes, in order."""

    output: Json
    action: str | None = None
    operations: tuple[Operation, ...] = ()


class Failed(NamedTuple):
    """The attempt failed; *fatal* means that neither another attempt nor a fallback helps.

    *code* says of which kind (``NODE_ERROR``, ``FATAL``, ``VALUE_REFUSED``, ``RESULT_ERROR``, ...).
    *prepared* is opaque to the engine, which hands it to the node's next attempt as :attr:`Execution.prepared`.
    """

    message: str
    code: str = "NODE_ERROR"
    fatal: bool = False
    prepared: Json | None = None


Outcome = Succeeded | Failed
