"""Waiting for the ends of runs: one reader of the results topic for all who wait, from the moment when the first one does.

The reader begins at the last stable offsets, and not at the ends: a transaction that is open at that moment may hold the
result that somebody is about to wait for. Whoever waits is known to the reader before it is looked up whether the run has
ended already, so the result is either found there or comes by.
"""

from __future__ import annotations

__all__ = ["ResultsWatch"]

import asyncio
import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from headrace.errors import StoreError
from headrace_adapters.kafka.clients import Clients, Consumer
from headrace_adapters.kafka.connection import reader
from headrace_adapters.kafka.failures import store_error
from headrace_adapters.kafka.passing import passes
from headrace_adapters.kafka.settings import KafkaSettings
from headrace_adapters.kafka.topic_scans import NOW, Scan, TopicScans, next_messages

_LOGGER = logging.getLogger(__name__)

RECORDS_AT_ONCE: Final = 2_000
POLL_S: Final = 0.2

# Whoever starts runs and then asks for their results one by one finds them here, without a look-up for each.
KEPT_MAX: Final = 20_000
KEPT_BYTES_MAX: Final = 32 * 1024 * 1024


class ResultsWatch:
    """For one event loop."""

    def __init__(self, clients: Clients, settings: KafkaSettings, scans: TopicScans, topic: str, partitions: int) -> None:
        self._clients = clients
        self._settings = settings
        self._scans = scans
        self._topic = topic
        self._partitions = partitions
        self._waiting: dict[bytes, set[asyncio.Future[bytes]]] = {}
        self._kept = _Kept()
        self._starting: asyncio.Task[None] | None = None
        self._here: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._failed: StoreError | None = None

    async def start(self) -> None:
        """See to it that from now on no result goes by unseen. Raises :class:`StoreError`."""
        if self._failed is not None:
            raise self._failed
        if self._thread is not None:
            return
        if self._starting is None or self._starting.done():
            self._starting = asyncio.create_task(self._start())
        await asyncio.shield(self._starting)

    async def _start(self) -> None:
        here = self._here = asyncio.get_running_loop()
        scans = [Scan(self._topic, number, NOW) for number in range(self._partitions)]
        consumer = await self._scans.run(lambda: self._open(self._scans.places(scans)))
        self._thread = threading.Thread(target=self._read, args=(consumer, here), name="headrace-results", daemon=True)
        self._thread.start()

    def _open(self, places: Sequence[int]) -> Consumer:
        consumer = self._clients.consumer(reader(self._settings, "earliest"))
        consumer.assign([TopicPartition(self._topic, number, place) for number, place in enumerate(places)])
        return consumer

    def seen(self, run_id: str) -> bytes | None:
        """The record of a result that came by lately."""
        return self._kept.get(run_id.encode())

    @contextmanager
    def waiting_for(self, run_id: str) -> Iterator[asyncio.Future[bytes]]:
        """A future of the record of the run's result, if that comes by within the block."""
        key = run_id.encode()
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        if self._failed is not None:
            raise self._failed
        self._waiting.setdefault(key, set()).add(future)
        try:
            yield future
        finally:
            future.cancel()
            others = self._waiting.get(key)
            if others is not None:
                others.discard(future)
                if not others:
                    del self._waiting[key]

    # In the reader's thread.

    def _read(self, consumer: Consumer, here: asyncio.AbstractEventLoop) -> None:
        try:
            while not self._stopping.is_set():
                self._take(next_messages(consumer, RECORDS_AT_ONCE, POLL_S), here)
        except Exception as error:  # noqa: BLE001 (those who wait get it)
            failed = error if isinstance(error, StoreError) else StoreError(f"results cannot be read: {error}")
            _call(here, lambda: self.fail(failed))
        finally:
            consumer.close()

    def _take(self, messages: list[Any], here: asyncio.AbstractEventLoop) -> None:
        came: list[tuple[bytes, bytes]] = []
        for message in messages:
            error = message.error()
            if error is not None:
                self._look_at(error)
                continue
            key, value = message.key(), message.value()
            if key is None or value is None:
                continue
            # Kept first and looked for then: who begins to wait does it the other way round.
            self._kept.put(key, value)
            if key in self._waiting:
                came.append((key, value))
        if came:
            _call(here, lambda: self._tell(came))

    def _look_at(self, error: KafkaError) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            return
        if not passes(error):
            raise store_error(f"reading {self._topic}", KafkaException(error), self._settings)
        _LOGGER.warning("results cannot be read at present: %s", error.str())

    # In the event loop.

    def _tell(self, came: list[tuple[bytes, bytes]]) -> None:
        for key, value in came:
            for future in self._waiting.get(key, ()):
                if not future.done():
                    future.set_result(value)

    def fail(self, error: StoreError) -> None:
        """Nobody is to wait any longer: there will be no more results here."""
        self._failed = self._failed or error
        for futures in self._waiting.values():
            for future in futures:
                if not future.done():
                    future.set_exception(self._failed)
                    future.exception()  # Whoever waits sees it; nobody has to.

    async def close(self) -> None:
        """End the reader."""
        self._stopping.set()
        if self._starting is not None:
            await asyncio.wait({self._starting})
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)


class _Kept:
    """The last results; written in one thread, read in another."""

    def __init__(self) -> None:
        self._records: OrderedDict[bytes, bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: bytes) -> bytes | None:
        with self._lock:
            return self._records.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        with self._lock:
            self._bytes += len(value) - len(self._records.pop(key, b""))
            self._records[key] = value
            while self._bytes > KEPT_BYTES_MAX or len(self._records) > KEPT_MAX:
                _, dropped = self._records.popitem(last=False)
                self._bytes -= len(dropped)


def _call(here: asyncio.AbstractEventLoop, function: Any) -> None:
    # The event loop may be closed at any moment: then nobody waits in it.
    with suppress(RuntimeError):
        here.call_soon_threadsafe(function)
