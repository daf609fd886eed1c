"""A worker on the store of one machine: the loop in a thread of its own, and an executor for the nodes."""

from __future__ import annotations

__all__ = ["LocalWorker", "Settings"]

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from headrace.adapter import Client, Worker
from headrace.app import App
from headrace.errors import DefinitionError, StoreError
from headrace.limits import Limits
from headrace.plans import Plans
from headrace_adapters.base import LoopThread, WorkerLoop
from headrace_adapters.execution import Executor
from headrace_adapters.local.carrier import LocalCarrier, save_blueprints, stored_blueprints
from headrace_adapters.local.client import LocalClient
from headrace_adapters.local.layout import PARTITIONS_MAX, KeyValueStore


@dataclass(frozen=True, slots=True)
class Settings:
    """How a local worker works. *slots*: executions at once; *threads_max* of them in threads."""

    partitions: int = 4
    slots: int = 1_000
    threads_max: int = 16
    processes_max: int = 0
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        """Raises :class:`DefinitionError` for a number that cannot be."""
        bounds = {
            "partitions": (1, PARTITIONS_MAX),
            "slots": (1, None),
            "threads_max": (1, None),
            "processes_max": (0, None),
        }
        for name, (least, most) in bounds.items():
            value = getattr(self, name)
            if type(value) is not int or value < least or (most is not None and value > most):
                upto = "" if most is None else f" to {most}"
                raise DefinitionError(f"setting {name!r} must be a whole number from {least}{upto}, not {value!r}")


def now_ms() -> int:
    """The time on this machine's clock, in ms since 1970."""
    return time.time_ns() // 1_000_000


def load_plans(app: App, store: KeyValueStore) -> Plans:
    """The blueprints that the store knows and those of the app, which are kept from now on."""
    plans = Plans(app.registry)
    for blueprint in stored_blueprints(store):
        plans.add(blueprint)
    save_blueprints(store, [blueprint for blueprint in app.blueprints if plans.add(blueprint)])
    return plans


class LocalWorker(Worker):
    """*open_store* gives the store, and raises :class:`StoreError` when that cannot be used."""

    def __init__(
        self,
        app: App,
        open_store: Callable[[], KeyValueStore],
        settings: Settings,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        self._app = app
        self._open_store = open_store
        self._settings = settings
        self._clock = clock
        self._thread: LoopThread | None = None
        self._clients: list[LocalClient] = []

    async def start(self) -> Client:
        """Open the store, take up what was in progress, and work."""
        settings = self._settings
        store = self._open_store()
        try:
            plans = load_plans(self._app, store)
            carrier = LocalCarrier(store, settings.limits, settings.partitions)
        except BaseException:
            store.close()
            raise
        self._executor = Executor(
            self._app.registry,
            dependencies=self._app.dependencies,
            threads_max=settings.threads_max,
            processes_max=settings.processes_max,
            limits=settings.limits,
            wake=lambda: self._loop.wake(),  # noqa: PLW0108 (the loop comes after its executor)
        )
        self._loop = WorkerLoop(carrier, plans, self._executor, self._clock, settings.limits, slots=settings.slots)
        self._store, self._plans, self._carrier = store, plans, carrier
        self._clients.clear()
        client = self.another_client()
        self._thread = LoopThread(self._loop, [lambda: self._executor.close(0.5), carrier.close], self._tell_end)
        self._thread.start()
        return client

    def another_client(self) -> LocalClient:
        """A client, for this process, that talks to this worker as long as it works."""
        client = LocalClient(
            self._store,
            self._carrier.partitions,
            self._plans,
            self._clock,
            self._loop,
            lambda: self._forget(client),
            value_bytes_max=self._settings.limits.value_bytes_max,
        )
        self._clients.append(client)
        return client

    def _forget(self, client: LocalClient) -> None:
        if client in self._clients:
            self._clients.remove(client)

    @property
    def works(self) -> bool:
        """Whether it was started and has not stopped."""
        return self._thread is not None and self._thread.works

    def _tell_end(self, error: StoreError | None) -> None:
        for client in self._clients:
            client.stop(error)

    async def stop(self, grace_s: float = 10.0) -> None:
        """Take nothing new, let what runs finish within *grace_s*, commit, and let go of the store."""
        if self._thread is not None:
            await self._thread.stop(grace_s)

    async def failed(self) -> None:
        """Wait until the worker has stopped; raises what it died of."""
        assert self._thread is not None, "the worker was not started"
        await self._thread.failed()
