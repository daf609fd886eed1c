"""The adapter ``memory:``."""

from __future__ import annotations

__all__ = ["MemoryAdapter", "open_adapter"]

from collections.abc import AsyncIterator, Mapping
from typing import Any

from headrace.adapter import Adapter, Answer, Client, RunResult, Worker
from headrace.app import App
from headrace.commands import Command
from headrace.errors import StoreLocked
from headrace_adapters.local.carrier import fixed_partitions
from headrace_adapters.local.client import LocalClient
from headrace_adapters.local.settings import local_settings
from headrace_adapters.local.worker import LocalWorker, load_plans, now_ms
from headrace_adapters.memory.store import MemoryStore


class MemoryAdapter(Adapter):
    """The runs live as long as this object, over any number of workers one after the other."""

    def __init__(self, app: App, settings: Mapping[str, Any]) -> None:
        self._app = app
        self._settings = local_settings(settings)
        self.store = MemoryStore()
        self._worker: LocalWorker | None = None

    def worker(self) -> Worker:
        """A worker on the store of this object, where one works at a time."""

        def open_store() -> MemoryStore:
            if self._worker is not None and self._worker.works:
                raise StoreLocked("another worker works on this memory: stop it first, or ask this adapter for a client")
            self._worker = worker
            return self.store

        worker = LocalWorker(self._app, open_store, self._settings)
        return worker

    async def client(self) -> Client:
        """Reach the running worker of this object, or the records as long as none runs."""
        return self.worker_client() or MemoryClient(self)

    def worker_client(self) -> LocalClient | None:
        """A client that talks to the worker that works now; None where there is none."""
        if self._worker is not None and self._worker.works:
            return self._worker.another_client()
        return None

    def records_client(self) -> LocalClient:
        """A client on the records, which nobody may use while a worker works on them."""
        partitions = fixed_partitions(self.store, self._settings.partitions)
        plans = load_plans(self._app, self.store)
        bytes_max = self._settings.limits.value_bytes_max
        return LocalClient(self.store, partitions, plans, now_ms, None, value_bytes_max=bytes_max)


class MemoryClient(Client):
    """A client that was made while no worker worked: it reads and writes the records until one does.

    Each call looks anew, because what is written past a worker is not looked at by it.
    """

    def __init__(self, adapter: MemoryAdapter) -> None:
        self._adapter = adapter
        self._records = adapter.records_client()
        self._through: LocalClient | None = None

    def _reach(self) -> LocalClient:
        if self._through is None or not self._through.works:
            self._through = self._adapter.worker_client()
        return self._through or self._records

    async def submit(self, command: Command) -> Answer:
        """See :meth:`headrace.adapter.Client.submit`."""
        return await self._reach().submit(command)

    async def result(self, run_id: str, timeout_s: float | None = None) -> RunResult | None:
        """See :meth:`headrace.adapter.Client.result`."""
        return await self._reach().result(run_id, timeout_s)

    async def status(self, run_id: str) -> dict[str, Any] | None:
        """See :meth:`headrace.adapter.Client.status`."""
        return await self._reach().status(run_id)

    async def runs(
        self, *, states: frozenset[str] | None = None, flow: str | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        """See :meth:`headrace.adapter.Client.runs`."""
        return await self._reach().runs(states=states, flow=flow, limit=limit)

    def events(self, run_id: str, *, follow: bool = False) -> AsyncIterator[dict[str, Any]]:
        """See :meth:`headrace.adapter.Client.events`."""
        return self._reach().events(run_id, follow=follow)

    async def close(self) -> None:
        """See :meth:`headrace.adapter.Client.close`."""
        for client in (self._through, self._records):
            if client is not None:
                await client.close()


def open_adapter(
    app: App,
    url: str,  # noqa: ARG001 (there is nothing more in it)
    settings: Mapping[str, Any],
) -> Adapter:
    """Open ``memory:``."""
    return MemoryAdapter(app, settings)
