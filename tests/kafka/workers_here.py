"""Workers in the process of the test, so that it reaches into them; and what they are tested with."""

from __future__ import annotations

__all__ = ["PARTITIONS", "foreign_transaction", "owned", "reaches", "settings_of", "working"]

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from headrace import App
from headrace_adapters.kafka.clients import Clients
from headrace_adapters.kafka.settings import KafkaSettings, kafka_settings
from headrace_adapters.kafka.worker import KafkaWorker
from tests.kafka.flows import make_app
from tests.kafka.workers import HANG_S, POLL_S

PARTITIONS = [0, 1, 2, 3]


def settings_of(app: str, servers: str, state: Path, **values: Any) -> KafkaSettings:
    """Settings under which a death is noticed soon, and transactions last longer than any test."""
    given = {
        "state": str(state),
        "partitions": len(PARTITIONS),
        "session_timeout_ms": 2_000,
        "heartbeat_ms": 200,
        "transaction_timeout_ms": 60_000,
        **values,
    }
    return kafka_settings(app, f"kafka://{servers}", given)


@asynccontextmanager
async def working(
    app: str,
    servers: str,
    state: Path,
    clients: Clients | None = None,
    make: Callable[[str], App] = make_app,
    **values: Any,
) -> AsyncIterator[KafkaWorker]:
    """A worker that has been started; stopped at the end, where it has not died."""
    worker = KafkaWorker(make(app), settings_of(app, servers, state, **values), clients)
    await worker.start()
    try:
        yield worker
    finally:
        if worker._thread is not None and worker._thread.works:
            await worker.stop()


def owned(worker: KafkaWorker) -> list[int]:
    """The partitions that it works on."""
    return sorted(worker._loop.partitions)


async def reaches(is_so: Callable[[], bool], what: str, timeout_s: float = HANG_S) -> float:
    """Wait until *is_so*; gives how long that took."""
    begun_s = time.monotonic()
    while not is_so():
        assert time.monotonic() - begun_s < timeout_s, f"not {what} after {timeout_s} s"
        await asyncio.sleep(POLL_S)
    return time.monotonic() - begun_s


@contextmanager
def foreign_transaction(
    servers: str, transactional_id: str, records: list[tuple[str, int, bytes, bytes]], timeout_ms: int = 60_000
) -> Iterator[Producer]:
    """A transaction of somebody who has written (topic, partition, key, value), and does nothing more by himself."""
    producer = Producer(
        {
            "bootstrap.servers": servers,
            "transactional.id": transactional_id,
            "transaction.timeout.ms": timeout_ms,
            "metadata.max.age.ms": 2_000,
        }
    )
    producer.init_transactions(HANG_S)
    producer.begin_transaction()
    for topic, partition, key, value in records:
        producer.produce(topic, value, key, partition)
    assert producer.flush(HANG_S) == 0
    yield producer
