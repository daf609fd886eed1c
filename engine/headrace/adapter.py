"""What an adapter is to its users: a place where the work of an app is carried.

An adapter is chosen by a URL (``memory:``, ``embedded:./data``, ``kafka://host:9092``) and found by the entry point group
``headrace.adapters``, so others can be installed; the engine imports none. It gives two things: a :class:`Worker`, which
owns partitions and runs nodes in this process, and a :class:`Client`, which reaches the runs from anywhere.

What an adapter owes and what its base does for it is told in ``headrace_adapters.base``.
"""

from __future__ import annotations

__all__ = ["Adapter", "Answer", "Client", "RunResult", "Worker"]

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from headrace.bulk import Starts, submit_each
from headrace.commands import Command
from headrace.errors import RunEndedBadly


class Answer(NamedTuple):
    """How a command was taken, once that is durable.

    *outcome* is ``applied``, ``ignored`` (it does not fit the run's state), ``duplicate`` (the run exists or has ended),
    ``unknown`` (there is no such run), ``accepted`` (durable, and nobody works at present) or ``refused``.
    """

    outcome: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RunResult:
    """The one final result of a run. *status* is ``completed``, ``failed`` or ``cancelled``; times in ms since 1970."""

    run_id: str
    blueprint_id: str
    version: str
    status: str
    output: Any
    context: dict[str, Any] = field(default_factory=dict)
    errors: list[dict[str, Any]] = field(default_factory=list)
    started_at_ms: int = 0
    ended_at_ms: int = 0

    def unwrap(self) -> Any:
        """The output; raises :class:`headrace.errors.RunEndedBadly` where the run ended failed or cancelled."""
        if self.status == "completed":
            return self.output
        named = [f"{error.get('nodeId', '?')}: {error.get('message', '')}" for error in self.errors]
        told = "; ".join(named[:3]) + ("; ..." if len(named) > 3 else "")
        raise RunEndedBadly(f"run {self.run_id!r} ended {self.status}{told and ': ' + told}", self)

    def to_json(self) -> dict[str, Any]:
        """The result as it stands in ``<app>.results``."""
        return {
            "runId": self.run_id,
            "blueprintId": self.blueprint_id,
            "version": self.version,
            "status": self.status,
            "output": self.output,
            "context": self.context,
            "errors": self.errors,
            "startedAt": self.started_at_ms,
            "endedAt": self.ended_at_ms,
        }


class Client(ABC):
    """Reaches the runs of an app. Safe to use from one event loop; several clients may be open at once."""

    @abstractmethod
    async def submit(self, command: Command) -> Answer:
        """Hand a command over; returns when what it did is durable.

        Raises :class:`headrace.errors.StoreError` when the adapter can take nothing at present.
        """

    async def start_many(self, starts: Starts, *, outstanding_max: int = 10_000) -> int:
        """Hand over many starts; gives how many, once all of them are durable.

        *starts* is read no faster than they are taken: at most *outstanding_max* are under way at any time, so it may
        be a generator without end. One whose run is known already counts, and changes nothing. Where a start was
        refused or is not known to be durable, no further ones are read, those under way are waited for, and
        :class:`headrace.errors.StartsFailed` names the runs. What *starts* itself raises comes out as it is, when those
        under way have ended.
        """
        return await submit_each(self.submit, starts, outstanding_max)

    @abstractmethod
    async def result(self, run_id: str, timeout_s: float | None = None) -> RunResult | None:
        """The final result. Waits up to *timeout_s* (None: as long as it takes; 0: not at all); None when time is over."""

    @abstractmethod
    async def status(self, run_id: str) -> dict[str, Any] | None:
        """A run as people look at it (see ``headrace.view``); None where nothing is known of it."""

    @abstractmethod
    async def runs(
        self, *, states: frozenset[str] | None = None, flow: str | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        """Runs that are known, ended ones within their dedup window too, each with ``runId, flow, version, status,
        startedAt`` and, where it has ended, ``endedAt``."""

    @abstractmethod
    def events(self, run_id: str, *, follow: bool = False) -> AsyncIterator[dict[str, Any]]:
        """The history of a run in sequence, each event as ``{"seq", "at", "type", ...}``; *follow* until it ends."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of the connection."""


class Worker(ABC):
    """Owns partitions and executes nodes in this process, from :meth:`start` until :meth:`stop`."""

    @abstractmethod
    async def start(self) -> Client:
        """Begin to work; gives a client that talks to this worker directly.

        Raises :class:`headrace.errors.StoreError` when the store cannot be used, with what to do.
        """

    @abstractmethod
    async def stop(self, grace_s: float = 10.0) -> None:
        """Take nothing new, let what runs finish within *grace_s* (the rest is begun again by the next owner), commit."""

    @abstractmethod
    async def failed(self) -> None:
        """Wait until the worker has stopped; raises what it died of, if it did not stop by itself."""


class Adapter(ABC):
    """One app's work under one URL."""

    @abstractmethod
    def worker(self) -> Worker:
        """A worker for this process."""

    @abstractmethod
    async def client(self) -> Client:
        """Reach the running worker, or the records themselves where none runs."""
