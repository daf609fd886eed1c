"""Handing commands over: records on the jobs topic, durable when the brokers have acknowledged them.

One producer, and a thread that takes its reports. Many starts go out as fast as the brokers take them, with a bound on
those that are under way.
"""

from __future__ import annotations

__all__ = ["Submissions"]

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException

from headrace.bulk import Starts, checked_bound, each, starts_failed
from headrace.errors import RecordRefused, StoreError
from headrace_adapters.base.run_views import at_the_door
from headrace_adapters.kafka.clients import Clients, Producer
from headrace_adapters.kafka.connection import plain_producer
from headrace_adapters.kafka.failures import store_error
from headrace_adapters.kafka.settings import KafkaSettings
from headrace_topics.partitioning import partition_of

POLL_S: Final = 0.1
ROOM_LOOK_S: Final = 0.01

# A record that the brokers have not taken by then is given up, and whoever waits is told.
DELIVERY_MS: Final = 15_000

# How often many starts let everything else in the event loop have its turn.
STARTS_AT_ONCE: Final = 200

CLOSE_S: Final = 2.0

_Report = Callable[[KafkaError | None, Any], None]


class Submissions:
    """For one event loop. *topic* is that of the jobs."""

    def __init__(self, clients: Clients, settings: KafkaSettings, topic: str, partitions: int, value_bytes_max: int) -> None:
        self._clients = clients
        self._settings = settings
        self._topic = topic
        self._partitions = partitions
        self._value_bytes_max = value_bytes_max
        self._producer: Producer | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    async def send(self, run_id: str, record: bytes) -> None:
        """Put one record on the partition of its run; returns when it is durable. Raises :class:`StoreError`."""
        here = asyncio.get_running_loop()
        delivered: asyncio.Future[None] = here.create_future()

        def report(error: KafkaError | None, _: Any) -> None:
            _call(here, partial(self._delivered, delivered, error))

        await self._produce(run_id, record, report)
        await delivered

    def _delivered(self, delivered: asyncio.Future[None], error: KafkaError | None) -> None:
        if delivered.done():
            return
        if error is None:
            delivered.set_result(None)
        else:
            delivered.set_exception(self._undelivered(error))

    async def send_many(self, starts: Starts, outstanding_max: int) -> int:
        """Put many starts there; gives how many. Raises :class:`StartsFailed`."""
        many = _Many(checked_bound(outstanding_max))
        try:
            async for start in each(starts):
                if many.failures:
                    break
                if many.is_full:
                    await many.room()
                try:
                    record = at_the_door(start, self._value_bytes_max)
                    await self._produce(start.run_id, record, many.report)
                except (RecordRefused, StoreError) as error:
                    many.refuse(start.run_id, str(error))
                    break
                many.sent += 1
                if many.sent % STARTS_AT_ONCE == 0:
                    await asyncio.sleep(0)
        finally:
            await many.all_reported()
        if many.failures:
            reasons = {run_id: self._reason(error) for run_id, error in many.failures.items()}
            raise starts_failed(reasons, many.sent - many.undelivered)
        return many.sent

    def _reason(self, error: KafkaError | str) -> str:
        return error if isinstance(error, str) else str(self._undelivered(error))

    def _undelivered(self, error: KafkaError) -> StoreError:
        return store_error(f"writing to {self._topic}", KafkaException(error), self._settings)

    async def _produce(self, run_id: str, record: bytes, report: _Report) -> None:
        producer = self._open()
        key = run_id.encode()
        number = partition_of(run_id, self._partitions)
        while True:
            try:
                producer.produce(self._topic, record, key, number, on_delivery=report)
                return
            except BufferError:
                # The queue is full of large records, and has room again when the brokers have taken some of them.
                await asyncio.sleep(ROOM_LOOK_S)
            except KafkaException as error:
                raise store_error(f"writing to {self._topic}", error, self._settings) from error

    def _open(self) -> Producer:
        if self._stopping.is_set():
            raise StoreError("this client was closed: ask another one")
        if self._producer is None:
            configuration = plain_producer(self._settings, DELIVERY_MS)
            if "linger.ms" not in self._settings.librdkafka:
                # Somebody waits for each command. What is produced while others are on their way makes batches anyway.
                configuration["linger.ms"] = 0
            self._producer = self._clients.producer(configuration)
            self._thread = threading.Thread(target=self._poll, args=(self._producer,), name="headrace-producer", daemon=True)
            self._thread.start()
        return self._producer

    def _poll(self, producer: Producer) -> None:
        while not self._stopping.is_set():
            producer.poll(POLL_S)
        # What is under way gets a moment; who waits for the rest is told that it is not known to be durable.
        # A producer that has failed for good reports its records as they are purged.
        with suppress(KafkaException):
            producer.flush(CLOSE_S)
        producer.purge()
        with suppress(KafkaException):
            producer.flush(CLOSE_S)

    async def close(self) -> None:
        """Send what is under way, and let go of the producer."""
        self._stopping.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)


class _Many:
    """What is known of many starts. *sent* is written in the event loop, the rest in the producer's thread."""

    def __init__(self, outstanding_max: int) -> None:
        self._here = asyncio.get_running_loop()
        self._outstanding_max = outstanding_max
        self.sent = 0
        self.reported = 0
        self.undelivered = 0
        self.failures: dict[str, KafkaError | str] = {}
        self._wake_below: int | None = None
        self._woken = asyncio.Event()

    @property
    def is_full(self) -> bool:
        return self.sent - self.reported >= self._outstanding_max

    def refuse(self, run_id: str, reason: str) -> None:
        self.failures[run_id] = reason

    def report(self, error: KafkaError | None, message: Any) -> None:
        if error is not None:
            self.undelivered += 1
            self.failures[message.key().decode()] = error
        self.reported += 1
        if self._wake_below is not None and self.sent - self.reported <= self._wake_below:
            self._wake_below = None
            _call(self._here, self._woken.set)

    async def room(self) -> None:
        """Wait until there is room for a good number of them, so that not each one is waited for."""
        await self._until(max(0, self._outstanding_max * 3 // 4 - 1))

    async def all_reported(self) -> None:
        await self._until(0)

    async def _until(self, outstanding: int) -> None:
        while self.sent - self.reported > outstanding:
            self._woken.clear()
            self._wake_below = outstanding
            # The last report may have come just before it was known that somebody waits.
            if self.sent - self.reported <= outstanding:
                break
            await self._woken.wait()
        self._wake_below = None


def _call(here: asyncio.AbstractEventLoop, function: Callable[[], object]) -> None:
    # The event loop may be closed at any moment: then nobody waits in it.
    with suppress(RuntimeError):
        here.call_soon_threadsafe(function)
