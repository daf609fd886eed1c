"""The adapter ``embedded:FOLDER``."""

from __future__ import annotations

__all__ = ["EmbeddedAdapter", "open_adapter"]

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headrace.adapter import Adapter, Client, Worker
from headrace.app import App
from headrace.errors import DefinitionError
from headrace_adapters.link import LinkServer, connect
from headrace_adapters.local.carrier import fixed_partitions
from headrace_adapters.local.client import LocalClient
from headrace_adapters.local.settings import local_settings
from headrace_adapters.local.worker import LocalWorker, Settings, load_plans, now_ms
from headrace_adapters.rocks import RocksStore

# RocksDB has a folder of its own, beside what is said about the worker that holds it.
STORE = "store"


class EmbeddedWorker(LocalWorker):
    """A worker on a folder, which serves clients in other processes over a local socket."""

    def __init__(self, app: App, folder: Path, settings: Settings, *, sync: bool) -> None:
        super().__init__(app, lambda: RocksStore(folder / STORE, sync=sync), settings)
        self._folder = folder
        self._server: LinkServer | None = None

    async def start(self) -> Client:
        """Open the folder, work, and listen."""
        client = await super().start()
        self._server = LinkServer(client, self._folder)
        await self._server.start()
        return client

    async def stop(self, grace_s: float = 10.0) -> None:
        """Stop working, then listening: who waits for an answer gets it."""
        try:
            await super().stop(grace_s)
        finally:
            if self._server is not None:
                server, self._server = self._server, None
                await server.close(1.0)


class EmbeddedAdapter(Adapter):
    """The runs of an app in a folder. One worker holds the folder; clients reach it, or open the folder without one."""

    def __init__(self, app: App, folder: Path, settings: Mapping[str, Any]) -> None:
        self._app = app
        self._folder = folder
        self._sync = bool(settings.get("sync", True))
        self._settings = local_settings(settings)

    def worker(self) -> Worker:
        """A worker on the folder."""
        return EmbeddedWorker(self._app, self._folder, self._settings, sync=self._sync)

    async def client(self) -> Client:
        """Reach the worker that holds the folder, or open the folder where none does."""
        linked = await connect(self._folder)
        if linked is not None:
            return linked
        store = RocksStore(self._folder / STORE, sync=self._sync)
        try:
            partitions = fixed_partitions(store, self._settings.partitions)
            plans = load_plans(self._app, store)
        except BaseException:
            store.close()
            raise
        bytes_max = self._settings.limits.value_bytes_max
        return LocalClient(store, partitions, plans, now_ms, None, store.close, value_bytes_max=bytes_max)


def open_adapter(app: App, url: str, settings: Mapping[str, Any]) -> Adapter:
    """Open ``embedded:FOLDER``."""
    folder = url.partition(":")[2].removeprefix("//")
    if not folder:
        raise DefinitionError("the URL names no folder: write embedded:FOLDER, for example embedded:./data")
    return EmbeddedAdapter(app, Path(folder), settings)
