"""The adapters under contract. A new adapter joins by one entry in ``PLACES``, and every test here runs on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from headrace.adapter import Adapter, Client, Worker
from headrace.app import App
from headrace_adapters import embedded
from headrace_adapters.memory import MemoryStore
from headrace_adapters.memory.adapter import MemoryAdapter


class Place:
    """Where records stay while apps, workers and clients come and go."""

    def adapter(self, app: App, **settings: Any) -> Adapter:
        """The adapter for an app, on the records of this place."""
        raise NotImplementedError

    @asynccontextmanager
    async def work(self, app: App, *, grace_s: float = 5.0, **settings: Any) -> AsyncIterator[Client]:
        """A worker on this place."""
        worker = self.adapter(app, **settings).worker()
        client = await worker.start()
        try:
            yield client
        finally:
            await worker.stop(grace_s)
            await client.close()

    @asynccontextmanager
    async def connect(self, app: App, **settings: Any) -> AsyncIterator[Client]:
        """A client of whoever works here, or of the records."""
        client = await self.adapter(app, **settings).client()
        try:
            yield client
        finally:
            await client.close()

    @asynccontextmanager
    async def worker(self, app: App, **settings: Any) -> AsyncIterator[tuple[Worker, Client]]:
        """A worker that the test stops itself."""
        worker = self.adapter(app, **settings).worker()
        client = await worker.start()
        try:
            yield worker, client
        finally:
            await worker.stop(0)
            await client.close()


class MemoryPlace(Place):
    """One store. Whoever asks while a worker works there gets the adapter that has it, as from one URL."""

    def __init__(self, _: Path) -> None:
        self.store = MemoryStore()
        self._adapters: list[MemoryAdapter] = []

    def adapter(self, app: App, **settings: Any) -> Adapter:
        for known in self._adapters:
            if known.worker_client() is not None:
                return known
        opened = MemoryAdapter(app, settings)
        opened.store = self.store
        self._adapters.append(opened)
        return opened


class EmbeddedPlace(Place):
    """One folder. What a sync is worth is tested with real processes; here it would only cost time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "data"

    def adapter(self, app: App, **settings: Any) -> Adapter:
        return embedded.open_adapter(app, f"embedded:{self.folder}", {"sync": False, **settings})


PLACES: dict[str, Callable[[Path], Place]] = {"memory": MemoryPlace, "embedded": EmbeddedPlace}
