"""A worker on the store of one machine: the loop in a thread of its own, and an executor for the nodes."""

from __future__ import annotations

__all__ = ["LocalWorker", "Settings"]

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from headrace.adapter import Client, Worker
from headrace.app import App
from headrace.errors import DefinitionError, StoreError
from headrace.limits import Limits
from headrace.plans import Plans
from headrace_adapters.base import WorkerLoop
from headrace_adapters.execution import Executor
from headrace_adapters.local.carrier import LocalCarrier, save_blueprints, stored_blueprints
from headrace_adapters.local.client import LocalClient
from headrace_adapters.local.layout import PARTITIONS_MAX, KeyValueStore

# How many rounds of the event loop it takes at most from the news of a commit to the question that follows.
WAKING_ROUNDS = 10

# How long such questions are answered, however many follow.
LAST_ANSWERS_S = 1.0


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


def _after_rounds(here: asyncio.AbstractEventLoop, rounds: int, then: Callable[[], None]) -> None:
    if rounds:
        here.call_soon(_after_rounds, here, rounds - 1, then)
    else:
        then()


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
        self._thread: threading.Thread | None = None
        self._ended: asyncio.Future[None] | None = None
        self._grace_ends: float | None = None
        self._error: BaseException | None = None
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
        self._ended = asyncio.get_running_loop().create_future()
        self._thread = threading.Thread(target=self._work, name="headrace-loop", daemon=True)
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
        return self._ended is not None and not self._ended.done()

    def _work(self) -> None:
        assert self._ended is not None
        here, ended = self._ended.get_loop(), self._ended
        try:
            self._loop.open()
            self._loop.run(lambda: self._grace_ends is None or time.monotonic() < self._grace_ends)
            self._answer_last(here)
        except BaseException as error:  # noqa: BLE001 (``failed`` raises it)
            self._error = error
        finally:
            for close in (lambda: self._executor.close(0.5), self._carrier.close):
                try:
                    close()
                except Exception as error:  # noqa: BLE001 (whatever it is, those who wait for the end are told)
                    self._error = self._error or error
            if not here.is_closed():
                here.call_soon_threadsafe(self._tell_end, ended)

    def _answer_last(self, here: asyncio.AbstractEventLoop) -> None:
        """Whoever was woken by the last commit is about to ask what it brought: answer until nobody asks any more."""
        deadline = time.monotonic() + LAST_ANSWERS_S
        while (left_s := deadline - time.monotonic()) > 0:
            asked = threading.Event()
            try:
                here.call_soon_threadsafe(_after_rounds, here, WAKING_ROUNDS, asked.set)
            except RuntimeError:
                return  # The event loop is closed, and nobody is left in it.
            asked.wait(left_s)
            if not self._loop.answer():
                return

    def _tell_end(self, ended: asyncio.Future[None]) -> None:
        """In the event loop: nobody is to wait for a worker that has stopped, whatever it died of."""
        error = self._error
        if error is not None and not isinstance(error, StoreError):
            error = StoreError(f"the worker died of a defect, please report it: {type(error).__name__}: {error}")
        for client in self._clients:
            client.stop(error)
        if not ended.done():
            ended.set_result(None)

    async def stop(self, grace_s: float = 10.0) -> None:
        """Take nothing new, let what runs finish within *grace_s*, commit, and let go of the store."""
        if self._thread is None:
            return
        self._grace_ends = time.monotonic() + grace_s
        self._loop.stop()
        await self.failed()

    async def failed(self) -> None:
        """Wait until the worker has stopped; raises what it died of."""
        assert self._ended is not None, "the worker was not started"
        await asyncio.shield(self._ended)
        if self._error is not None:
            raise self._error
