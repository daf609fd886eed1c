"""The adapters under contract. A new adapter joins by one entry in ``PLACES``, and every test here runs on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from headrace.adapter import Adapter, Client, Worker
from headrace.app import App
from headrace_adapters import embedded, kafka
from headrace_adapters.kafka.connection import admin, open_admin
from headrace_adapters.kafka.settings import kafka_settings
from headrace_adapters.kafka.worker import KafkaWorker
from headrace_adapters.memory import MemoryStore
from headrace_adapters.memory.adapter import MemoryAdapter
from tests.contract.waiting import eventually
from tests.kafka.app_topics import delete_topics


class Place:
    """Where records stay while apps, workers and clients come and go."""

    fixtures: ClassVar[tuple[str, ...]] = ()
    """What it needs beside a folder, by the names of fixtures."""

    marks: ClassVar[tuple[pytest.MarkDecorator, ...]] = ()
    """Of each test on it."""

    files: ClassVar[frozenset[str] | None] = None
    """Where every test costs seconds, the files whose tests run on it unless ``--adapter`` asks for all."""

    has_many_workers: ClassVar[bool] = False
    """Whether several workers share what is here; else one has it, and a second one is refused."""

    fixes_partitions: ClassVar[bool] = False
    """Whether another number of partitions than there are is refused; else those that are there stay."""

    clients_bring_blueprints: ClassVar[bool] = True
    """Whether the blueprints of a client's app are written, and so compared, before there is a worker."""

    wait_for_nobody_s: ClassVar[float] = 5
    """A time for which a client is told to wait for a result while nobody works; where it knows that, it does not."""

    starts_s: ClassVar[float] = 2.5
    """What 3 000 starts, one after the other, take at most while nobody works."""

    def adapter(self, app: App, **settings: Any) -> Adapter:
        """The adapter for an app, on the records of this place."""
        raise NotImplementedError

    @asynccontextmanager
    async def work(self, app: App, *, grace_s: float = 5.0, **settings: Any) -> AsyncIterator[Client]:
        """A worker on this place."""
        worker = self.adapter(app, **settings).worker()
        client = await worker.start()
        await self.settled(worker)
        try:
            yield client
        finally:
            await worker.stop(grace_s)
            await client.close()

    async def settled(self, worker: Worker) -> None:
        """Wait until everybody finds the worker; its own client need not wait for that."""

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

    def close(self) -> None:
        """Let go of everything that the test has left."""


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


class KafkaPlace(Place):
    """The topics of an app of its own, on a broker that others use too."""

    fixtures = ("broker", "app_name")
    marks = (pytest.mark.broker,)
    files = frozenset(("test_client_contract", "test_worker_contract"))
    has_many_workers = True
    fixes_partitions = True
    clients_bring_blueprints = False
    # A worker may come at any moment, so a client waits as long as it is told to.
    wait_for_nobody_s = 0.2
    # Each is acknowledged by a broker before the next one.
    starts_s = 15.0

    def __init__(self, folder: Path, broker: str, app_name: Callable[[str], str]) -> None:
        self._folder = folder
        self._url = f"kafka://{broker}"
        self._name = app_name("contract")
        self._usual = {"partitions": 2, "state": folder / "state", "heartbeat_ms": 200}

    def adapter(self, app: App, **settings: Any) -> Adapter:
        # Whatever a test calls its app: on a broker that is shared its topics need names of their own.
        app.name = self._name
        return kafka.open_adapter(app, self._url, {**self._usual, **settings})

    async def settled(self, worker: Worker) -> None:
        # A group takes a moment to give partitions to its first member, and until then nobody is told of an owner.
        assert isinstance(worker, KafkaWorker)
        await eventually(lambda: len(worker._loop.partitions) == worker._carrier.partitions)

    def close(self) -> None:
        delete_topics(open_admin(admin(kafka_settings(self._name, self._url, {}))), self._name)


PLACES: dict[str, type[Place]] = {"memory": MemoryPlace, "embedded": EmbeddedPlace, "kafka": KafkaPlace}
