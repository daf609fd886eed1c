"""The adapter ``memory:``."""

from __future__ import annotations

__all__ = ["MemoryAdapter", "open_adapter"]

from collections.abc import Mapping
from typing import Any

from headrace.adapter import Adapter, Client, Worker
from headrace.app import App
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
        """Reach the running worker of this object, or the records where none runs."""
        if self._worker is not None and self._worker.works:
            return self._worker.another_client()
        partitions = fixed_partitions(self.store, self._settings.partitions)
        plans = load_plans(self._app, self.store)
        bytes_max = self._settings.limits.value_bytes_max
        return LocalClient(self.store, partitions, plans, now_ms, None, value_bytes_max=bytes_max)


def open_adapter(
    app: App,
    url: str,  # noqa: ARG001 (there is nothing more in it)
    settings: Mapping[str, Any],
) -> Adapter:
    """Open ``memory:``."""
    return MemoryAdapter(app, settings)
