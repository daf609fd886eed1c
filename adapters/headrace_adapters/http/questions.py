"""What can be asked of a worker over HTTP. The server knows nothing else of it; a worker's side implements this."""

from __future__ import annotations

__all__ = ["Health", "NotOwned", "OwnedRuns", "OwnerQuestions", "Unanswered"]

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from headrace.adapter import Answer


class NotOwned(Exception):
    """Raised when the run belongs to a partition that this worker does not have (any more): ask another one."""


class Unanswered(Exception):
    """Raised when a worker did not answer: it is gone, busy beyond its time, or not what it is taken for."""


class OwnedRuns(NamedTuple):
    """Runs of the *partitions* that were looked at, which are those that the worker has."""

    partitions: list[int]
    runs: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Health:
    """Whether all is well, and what is behind that. *details* are for everybody, so they name no runs."""

    ok: bool
    details: dict[str, Any] = field(default_factory=dict)


class OwnerQuestions(Protocol):
    """The worker's side. Called in the server's event loop, by as many as ask at once."""

    async def status(self, run_id: str) -> dict[str, Any] | None:
        """The view of a run (``headrace.view``), one with ``endedAt`` and little else where it has ended, or None.

        Raises :class:`NotOwned` and :class:`Unanswered`.
        """
        ...

    async def runs(self, states: frozenset[str] | None, flow: str | None, limit: int) -> OwnedRuns:
        """Runs of the partitions that this worker has. Raises :class:`Unanswered`."""
        ...

    async def answers(self, request_ids: Sequence[str], wait_s: float) -> dict[str, Answer]:
        """The answers that are known to these requests; waits up to *wait_s* for the first one."""
        ...

    async def health(self) -> Health:
        """Whether the worker works."""
        ...

    async def readiness(self) -> Health:
        """Whether everything that it has is restored."""
        ...
