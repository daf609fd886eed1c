"""A worker on Kafka: a slot of this machine, a member of the group, the loop in a thread of its own, and an executor."""

from __future__ import annotations

__all__ = ["KafkaWorker"]

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import ExitStack

from headrace.adapter import Client, Worker
from headrace.app import App
from headrace.errors import StoreDamaged, StoreError
from headrace.plans import Plans
from headrace_adapters.base import LoopThread, WorkerLoop
from headrace_adapters.execution import Executor
from headrace_adapters.http import HttpServer
from headrace_adapters.kafka.blueprint_log import BlueprintLog
from headrace_adapters.kafka.carrier import KafkaCarrier
from headrace_adapters.kafka.client import KafkaClient
from headrace_adapters.kafka.clients import Clients, ConfluentClients
from headrace_adapters.kafka.connection import admin, open_admin
from headrace_adapters.kafka.owner import OwnerService
from headrace_adapters.kafka.owners import client_id
from headrace_adapters.kafka.settings import KafkaSettings
from headrace_adapters.kafka.slot import Slot, take_slot
from headrace_adapters.kafka.topic_layout import TopicLayout, ensure
from headrace_adapters.metrics import WorkerMetrics

_LOGGER = logging.getLogger(__name__)


def now_ms() -> int:
    """The time on this machine's clock, in ms since 1970."""
    return time.time_ns() // 1_000_000


class KafkaWorker(Worker):
    """A member of the group, as long as it works. *clients* and *clock* are other ones in tests."""

    def __init__(
        self,
        app: App,
        settings: KafkaSettings,
        clients: Clients | None = None,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        self._app = app
        self._settings = settings
        self._clients: Clients = clients or ConfluentClients()
        self._clock = clock
        self._thread: LoopThread | None = None
        self.metrics = WorkerMetrics()

    async def start(self) -> Client:
        """Check the topics, take a slot, and join the group; partitions come as the group gives them."""
        with ExitStack() as opened:
            layout = await asyncio.to_thread(self._prepare, opened)
            thread, owner = self._put_together(layout)
            # Whoever is told of this worker by the group may ask it at once.
            self._http.start(owner, self.metrics.text)
            opened.pop_all()
        self._thread = thread
        thread.start()
        return self._client

    def _put_together(self, layout: TopicLayout) -> tuple[LoopThread, OwnerService]:
        """Everything that needs what was prepared; nothing of it runs yet."""
        settings, slot = self._settings, self._slot
        self._executor = Executor(
            self._app.registry,
            dependencies=self._app.dependencies,
            threads_max=settings.threads_max,
            processes_max=settings.processes_max,
            limits=settings.limits,
            wake=lambda: self._loop.wake(),  # noqa: PLW0108 (the loop comes after its executor)
        )
        self._carrier = KafkaCarrier(
            self._clients,
            settings,
            layout,
            slot.store,
            self._blueprints,
            slot_id=slot.id,
            client_id=client_id(self._http.url(settings.http_advertise)),
            clock=self._clock,
            give_up=lambda: self._thread is not None and self._thread.stopping,
            plans_changed=lambda: self._loop.plans_changed(),  # noqa: PLW0108
            watcher=self.metrics,
        )
        self._loop = WorkerLoop(
            self._carrier, self._plans, self._executor, self._clock, settings.limits, slots=settings.slots
        )
        self._loop.on_commit(self.metrics.batch_committed)
        self.metrics.watch(
            executing=lambda: self._executor.in_progress,
            backlog=lambda: sum(partition.backlog for partition in list(self._loop.partitions.values())),
            partitions=lambda: len(self._loop.partitions),
        )
        owner = OwnerService(self._loop, self._carrier, self._plans, self._clock, restoring=lambda: self._carrier.restoring)
        # The group is left first: what has ended by then is committed, and what the executor cuts short has not failed.
        closers = [self._close_carrier, lambda: self._executor.close(0.5), owner.close, self._http.stop]
        self._client = KafkaClient(self._clients, settings, layout, self._clock, is_joining=self._is_joining)
        return LoopThread(self._loop, closers, self._tell_end), owner

    def _is_joining(self) -> bool:
        """Whether it works and has not been given a partition yet."""
        return self._thread is not None and self._thread.works and not self._loop.partitions

    def _prepare(self, opened: ExitStack) -> TopicLayout:
        """Everything that waits for the brokers or the disk before there is a loop; *opened* closes it where that fails."""
        settings = self._settings
        layout = ensure(open_admin(admin(settings)), settings)
        self._slot: Slot = take_slot(settings.state / settings.app, settings.instance)
        opened.callback(self._slot.store.close)
        self._http = self._bind_http()
        opened.callback(self._http.stop)
        self._plans = Plans(self._app.registry)
        self._blueprints = BlueprintLog(self._clients, settings, layout, self._plans)
        opened.callback(self._blueprints.close)
        self._blueprints.read_to_end()
        self._blueprints.publish(self._app.blueprints)
        return layout

    def _bind_http(self) -> HttpServer:
        """With a named instance at the port of the last one: in the classic protocol a group goes on telling its address."""
        settings, slot = self._settings, self._slot
        if settings.instance is None or settings.http_port:
            return HttpServer(settings.http_host, settings.http_port, settings.http_token)
        try:
            server = HttpServer(settings.http_host, slot.port, settings.http_token)
        except StoreError as error:
            _LOGGER.warning("clients may look for this worker where it was before: %s; set 'http_port'", error)
            server = HttpServer(settings.http_host, 0, settings.http_token)
        try:
            slot.keep_port(server.port)
        except OSError as error:
            _LOGGER.warning("the next worker in %s will be at another port: %s", slot.folder, error)
        return server

    def _close_carrier(self) -> None:
        """Leave the group, and remember where the store was what the worker died of."""
        try:
            self._carrier.close()
        finally:
            if isinstance(self._loop.stopped, StoreDamaged):
                self._slot.report_damage()

    def _tell_end(self, error: StoreError | None) -> None:
        self._client.stop(error)

    async def stop(self, grace_s: float = 10.0) -> None:
        """Take nothing new, let what runs finish within *grace_s*, commit, and leave the group."""
        if self._thread is not None:
            await self._thread.stop(grace_s)

    async def failed(self) -> None:
        """Wait until the worker has stopped; raises what it died of."""
        assert self._thread is not None, "the worker was not started"
        await self._thread.failed()
