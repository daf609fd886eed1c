"""Settings of a node: small, quick to react, and nothing that a broker in production does not have.

Everything here can be overridden by Kafka's own names.
"""

from __future__ import annotations

__all__ = ["FAST_COMPACTION", "LOGGING", "node_settings", "properties_text"]

from collections.abc import Mapping
from pathlib import Path

from headrace_adapters.devbroker.ports import HOST

FAST_COMPACTION: Mapping[str, str] = {
    # Only segments that are no longer written to are compacted, so they must be short.
    "log.roll.ms": "1000",
    "log.cleaner.backoff.ms": "200",
    "log.cleaner.min.cleanable.ratio": "0.01",
    "log.cleaner.delete.retention.ms": "1000",
}
"""Overrides with which a compacted topic that sets nothing of this itself is compacted within seconds."""

LOGGING = """\
rootLogger.level=WARN
rootLogger.appenderRef.console.ref=console
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d %p %c{1} %m%n
logger.server.name=kafka.server.KafkaRaftServer
logger.server.level=INFO
"""

_COMMON: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    # A topic that nobody has created is a mistake, and should be seen as one.
    "auto.create.topics.enable": "false",
    # Groups form, and the dead are noticed, as soon as their members ask for it.
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.heartbeat.interval.ms": "1000",
    "group.consumer.min.heartbeat.interval.ms": "500",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    # A node that was killed is let in again when its last session is over, so this is most of what a restart takes.
    "broker.session.timeout.ms": "4000",
    "broker.heartbeat.interval.ms": "500",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.num.partitions": "4",
    # By default the cleaner takes 128 MB, which is half of a small heap.
    "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
    # Files and maps of deleted topics are given back soon: tests make many topics.
    "log.segment.delete.delay.ms": "1000",
}


def node_settings(
    number: int,
    *,
    port: int,
    controller_ports: Mapping[int, int],
    folder: Path,
    overrides: Mapping[str, str],
) -> dict[str, str]:
    """All settings of node *number*; *controller_ports* has the port of each node's controller, by number."""
    replicas = min(3, len(controller_ports))
    replicas_in_sync = min(2, len(controller_ports))
    settings = {
        **_COMMON,
        "node.id": str(number),
        "controller.quorum.voters": ",".join(f"{node}@{HOST}:{at}" for node, at in sorted(controller_ports.items())),
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_ports[number]}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "log.dirs": str(folder),
        "default.replication.factor": str(replicas),
    }
    for topic in ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic"):
        settings[f"{topic}.replication.factor"] = str(replicas)
    for topic in ("transaction.state.log", "share.coordinator.state.topic"):
        settings[f"{topic}.min.isr"] = str(replicas_in_sync)
    return settings | dict(overrides)


def properties_text(settings: Mapping[str, str]) -> str:
    """As Java reads it: in files of properties a backslash and what is not ASCII are written as escapes."""
    lines = [f"{name}={value.replace(chr(92), chr(92) * 2)}\n" for name, value in sorted(settings.items())]
    return "".join(char if char.isascii() else _escaped(char) for line in lines for char in line)


def _escaped(char: str) -> str:
    units = char.encode("utf-16-be").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
