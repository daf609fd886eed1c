"""A real Kafka broker on this machine without Docker, for development and for tests."""

from __future__ import annotations

__all__ = [
    "FAST_COMPACTION",
    "KAFKA_VERSION",
    "BrokerNode",
    "Cluster",
    "KafkaProgram",
    "brokers_at",
    "check_shape",
    "installed_kafka",
]

from headrace_adapters.devbroker.cluster import Cluster, check_shape
from headrace_adapters.devbroker.jars import KAFKA_VERSION
from headrace_adapters.devbroker.metadata import brokers_at
from headrace_adapters.devbroker.node import BrokerNode
from headrace_adapters.devbroker.program import KafkaProgram, installed_kafka
from headrace_adapters.devbroker.settings import FAST_COMPACTION
