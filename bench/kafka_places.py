"""Where the benchmarks on Kafka run: a broker, an app and its settings, and plain clients that share nothing with it."""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from common import chain as chained
from common import fan, waiting
from confluent_kafka import Consumer, IsolationLevel, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from headrace.app import App
from headrace.blueprint import from_json
from headrace.context import Context
from headrace_adapters.devbroker import Cluster, installed_kafka
from headrace_adapters.kafka.settings import KafkaSettings, kafka_settings

PARTITIONS = 8
REQUEST_S = 15.0
FLOWS = {"chain-5": chained(5), "fan-8": fan(8), "waiting": waiting()}


@contextmanager
def broker(bootstrap: str) -> Iterator[str]:
    """The address of the brokers: those that were named, or one of this machine that ends with the block."""
    if bootstrap:
        yield bootstrap
        return
    with (
        tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder,
        Cluster(Path(folder) / "broker", installed_kafka(heap="1g")) as cluster,
    ):
        cluster.start()
        yield cluster.bootstrap


def new_app(case: str) -> str:
    """A name that no other app at these brokers has."""
    return f"bench-{case}-{uuid.uuid4().hex[:8]}"


def step(ctx: Context) -> Any:
    return ctx.input


def make_app(name: str) -> App:
    """The app that every worker of a benchmark serves."""
    app = App(name).register("step", step)
    for document in FLOWS.values():
        app.add(from_json(document))
    return app


def settings_of(app: str, servers: str, **values: Any) -> KafkaSettings:
    """The product's own defaults, but for the number of partitions, which figures depend on."""
    return kafka_settings(app, f"kafka://{servers}", {"partitions": PARTITIONS, **values})


def producer(servers: str, **options: Any) -> Producer:
    """A producer as anybody would set it up."""
    return Producer(
        {
            "bootstrap.servers": servers,
            "enable.idempotence": True,
            "partitioner": "murmur2",
            "compression.type": "lz4",
            "linger.ms": 1,
            "queue.buffering.max.messages": 1_000_000,
            **options,
        }
    )


def reader(servers: str, **options: Any) -> Consumer:
    """A consumer of committed records that is in no group."""
    return Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "bench",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "fetch.queue.backoff.ms": 5,
            **options,
        }
    )


def places(topics: Iterable[str], partitions: int = PARTITIONS) -> list[TopicPartition]:
    """Every partition of these topics, from their beginning."""
    return [TopicPartition(topic, number, 0) for topic in topics for number in range(partitions)]


def ends(servers: str, of: list[TopicPartition]) -> dict[tuple[str, int], int]:
    """Where these partitions end, open transactions included."""
    admin = AdminClient({"bootstrap.servers": servers})
    asked = admin.list_offsets(
        {TopicPartition(place.topic, place.partition): OffsetSpec.latest() for place in of},
        isolation_level=IsolationLevel.READ_UNCOMMITTED,
        request_timeout=REQUEST_S,
    )
    return {(place.topic, place.partition): future.result(REQUEST_S).offset for place, future in asked.items()}


def read_to_ends(consumer: Consumer, of: list[TopicPartition], until: dict[tuple[str, int], int]) -> Iterator[Any]:
    """All committed records from the offsets in *of* to the ends in *until*."""
    left = {(place.topic, place.partition) for place in of if place.offset < until[place.topic, place.partition]}
    consumer.assign([place for place in of if (place.topic, place.partition) in left])
    while left:
        for message in consumer.consume(10_000, 0.1):
            error = message.error()
            if error is None:
                yield message
            elif error.code() == KafkaError._PARTITION_EOF:
                place = (message.topic(), message.partition())
                if message.offset() >= until[place]:
                    left.discard(place)
            else:
                raise RuntimeError(f"reading {message.topic()}: {error.str()}")


def make_topics(servers: str, names: Iterable[str], partitions: int = PARTITIONS) -> None:
    """Topics for a loop that is no app."""
    admin = AdminClient({"bootstrap.servers": servers})
    for future in admin.create_topics([NewTopic(name, partitions, 1) for name in names]).values():
        future.result(REQUEST_S)


def forget_topics(servers: str, app: str) -> None:
    """Delete what a case left at the brokers, which others may use too."""
    admin = AdminClient({"bootstrap.servers": servers})
    names = [name for name in admin.list_topics(timeout=REQUEST_S).topics if name.startswith(f"{app}.")]
    if names:
        for future in admin.delete_topics(names).values():
            future.result(REQUEST_S)


def all_owned(owned: list[list[int]]) -> bool:
    """Whether every partition is somebody's, and everybody has some."""
    return all(owned) and sorted(chain.from_iterable(owned)) == list(range(PARTITIONS))


def until(is_so: Callable[[], bool], what: str, timeout_s: float = 120.0, look_s: float = 0.02) -> None:
    """Wait; a benchmark that hangs says what for."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not {what} after {timeout_s:.0f} s")
        time.sleep(look_s)
