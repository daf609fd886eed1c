"""The adapter ``embedded:FOLDER``."""

from __future__ import annotations

__all__ = ["EmbeddedAdapter", "open_adapter", "url_folder"]

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headrace.adapter import Adapter, Client, Worker
from headrace.app import App
from headrace.errors import DefinitionError, StoreLocked
from headrace_adapters.link import LinkLimits, LinkServer, connect
from headrace_adapters.local.carrier import fixed_partitions
from headrace_adapters.local.client import LocalClient
from headrace_adapters.local.settings import local_settings
from headrace_adapters.local.worker import LocalWorker, Settings, load_plans, now_ms
from headrace_adapters.rocks import RocksStore

# RocksDB has a folder of its own, beside what is said about the worker that holds it.
STORE = "store"

# Commands hold a folder without a worker for moments only, and a worker listens soon after it has taken its folder.
# Who meets one of these waits up to this long before it gives up, and looks as often as that.
HELD_S = 5.0
HELD_LOOK_S = 0.05


class EmbeddedWorker(LocalWorker):
    """A worker on a folder, which serves clients in other processes over a local socket."""

    def __init__(self, app: App, folder: Path, settings: Settings, *, sync: bool) -> None:
        super().__init__(app, lambda: RocksStore(folder / STORE, sync=sync), settings)
        self._folder = folder
        self._server: LinkServer | None = None

    async def start(self) -> Client:
        """Open the folder, work, and listen."""
        client = await self._take_folder()
        server = LinkServer(client, self._folder, limits=_link_limits(self._settings.limits.value_bytes_max))
        try:
            await server.start()
        except BaseException:
            # Nobody is told of this worker, so nobody else will stop it.
            await super().stop(0)
            raise
        self._server = server
        return client

    async def _take_folder(self) -> Client:
        """Open the folder as soon as commands that read it, or append to it, have let go of it."""
        deadline = asyncio.get_running_loop().time() + HELD_S
        while True:
            try:
                return await super().start()
            except StoreLocked:
                if asyncio.get_running_loop().time() > deadline or await _is_worked_on(self._folder):
                    raise
            await asyncio.sleep(HELD_LOOK_S)

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
        store = await self._reach()
        if isinstance(store, Client):
            return store
        try:
            partitions = fixed_partitions(store, self._settings.partitions)
            plans = load_plans(self._app, store)
        except BaseException:
            store.close()
            raise
        bytes_max = self._settings.limits.value_bytes_max
        return LocalClient(store, partitions, plans, now_ms, None, store.close, value_bytes_max=bytes_max)

    async def _reach(self) -> Client | RocksStore:
        """The worker that holds the folder, or the folder itself."""
        deadline = asyncio.get_running_loop().time() + HELD_S
        while True:
            linked = await connect(self._folder)
            if linked is not None:
                return linked
            try:
                return RocksStore(self._folder / STORE, sync=self._sync)
            except StoreLocked:
                # Another command that is done in a moment, or a worker that has the folder and is about to listen.
                if asyncio.get_running_loop().time() > deadline:
                    raise
            await asyncio.sleep(HELD_LOOK_S)


def _link_limits(value_bytes_max: int) -> LinkLimits:
    """What a worker takes from its own process it takes over its socket too; a frame holds several values."""
    frame_bytes_max = max(LinkLimits().frame_bytes_max, 4 * value_bytes_max)
    return LinkLimits(value_bytes_max=value_bytes_max, frame_bytes_max=frame_bytes_max)


async def _is_worked_on(folder: Path) -> bool:
    """Whether a worker answers for the folder."""
    linked = await connect(folder)
    if linked is None:
        return False
    await linked.close()
    return True


def open_adapter(app: App, url: str, settings: Mapping[str, Any]) -> Adapter:
    """Open ``embedded:FOLDER``."""
    return EmbeddedAdapter(app, url_folder(url), settings)


def url_folder(url: str) -> Path:
    """The folder of ``embedded:FOLDER``."""
    folder = url.partition(":")[2].removeprefix("//")
    if not folder:
        raise DefinitionError("the URL names no folder: write embedded:FOLDER, for example embedded:./data")
    return Path(folder)
