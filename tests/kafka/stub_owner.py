"""A worker's side of the HTTP endpoints that says what a test has told it to say."""

from __future__ import annotations

__all__ = ["StubOwner"]

import asyncio
from collections.abc import Sequence
from typing import Any

from headrace.adapter import Answer
from headrace_adapters.http import Health, OwnedRuns


class StubOwner:
    """Implements ``headrace_adapters.http.OwnerQuestions``."""

    def __init__(self) -> None:
        self.statuses: dict[str, Any] = {}
        self.rows = OwnedRuns([0], [])
        self.known: dict[str, Answer] = {}
        # Any command is answered so, where that is set.
        self.says: Answer | None = None
        self.asked: list[list[str]] = []
        self.healthy = Health(True, {"partitions": 2})
        self.ready = Health(True)
        self.error: Exception | None = None

    async def status(self, run_id: str) -> dict[str, Any] | None:
        if self.error is not None:
            raise self.error
        return self.statuses.get(run_id)

    async def runs(self, states: frozenset[str] | None, flow: str | None, limit: int) -> OwnedRuns:
        if self.error is not None:
            raise self.error
        rows = [
            row
            for row in self.rows.runs
            if (states is None or row["status"] in states) and (flow is None or row["flow"] == flow)
        ]
        return OwnedRuns(self.rows.partitions, rows[:limit])

    async def answers(self, request_ids: Sequence[str], wait_s: float) -> dict[str, Answer]:
        self.asked.append(list(request_ids))
        deadline = asyncio.get_running_loop().time() + wait_s
        while True:
            if self.says is not None:
                return dict.fromkeys(request_ids, self.says)
            found = {it: self.known[it] for it in request_ids if it in self.known}
            if found or asyncio.get_running_loop().time() >= deadline:
                return found
            await asyncio.sleep(0.005)

    async def health(self) -> Health:
        return self.healthy

    async def readiness(self) -> Health:
        return self.ready
