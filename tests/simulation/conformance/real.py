"""Programs on a real broker: clients of confluent-kafka, and time as it passes."""

from __future__ import annotations

__all__ = ["RealWorld", "run_on_real"]

import time
import uuid
from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from headrace_adapters.kafka.clients import ConfluentClients
from headrace_adapters.kafka.passing import passes
from tests.simulation.conformance.answers import WAIT_S
from tests.simulation.conformance.program import Broker, Program


class RealWorld:
    """A broker at *servers*."""

    def __init__(self, servers: str) -> None:
        self.servers = servers
        self.clients = ConfluentClients()
        self._admin = AdminClient({"bootstrap.servers": servers})
        self._producer = Producer({"bootstrap.servers": servers, "linger.ms": 0})

    def now_s(self) -> float:
        return time.monotonic()

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)

    def create_topic(self, topic: str, partitions: int) -> None:
        """Create it, and wait until it has leaders."""
        self._admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(WAIT_S)
        deadline_s = time.monotonic() + WAIT_S
        while not self._has_leaders(topic, partitions):
            assert time.monotonic() < deadline_s, f"{topic} has no leaders"
            time.sleep(0.01)

    def _has_leaders(self, topic: str, partitions: int) -> bool:
        # Asked of the broker each time, because clients remember for a while that there was no such topic.
        known = self._admin.list_topics(topic, WAIT_S).topics[topic].partitions
        if len(known) < partitions or any(partition.leader < 0 for partition in known.values()):
            return False
        try:
            places = {TopicPartition(topic, number): OffsetSpec.latest() for number in range(partitions)}
            return all(asked.result(WAIT_S).offset >= 0 for asked in self._admin.list_offsets(places).values())
        except KafkaException as error:
            if not passes(error.args[0]):
                raise
            return False

    def put(self, topic: str, number: int, values: Sequence[bytes]) -> None:
        failed: list[KafkaError] = []
        for value in values:
            self._producer.produce(
                topic, value, partition=number, on_delivery=lambda error, _: failed.append(error) if error else None
            )
        assert self._producer.flush(WAIT_S) == 0
        assert not failed, failed

    def delete_before(self, topic: str, number: int, offset: int) -> None:
        place = TopicPartition(topic, number, offset)
        for asked in self._admin.delete_records([place]).values():
            asked.result(WAIT_S)


def run_on_real(program: Program, servers: str) -> list[list[Any]]:
    """What the program is told by the broker."""
    broker = Broker(RealWorld(servers), uuid.uuid4().hex[:12])
    try:
        program(broker)
        return list(broker.answers)
    finally:
        broker.close()
