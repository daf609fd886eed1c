"""Settings of the brokers, with the defaults of Kafka where it has them."""

from __future__ import annotations

__all__ = ["ServerOptions"]

from typing import NamedTuple


class ServerOptions(NamedTuple):
    """Settings of the brokers."""

    leaders: int = 3
    """How many brokers lead the partitions; each one writes the markers of a transaction at an instant of its own."""

    markers_ms: tuple[int, int] = (1, 4)
    """When the markers of a transaction are written after its outcome was decided: in between, drawn for each leader.

    With ``(0, 0)`` at once, so that no transaction is ever seen while it is being completed."""

    slow_leader: int = -1
    """Where there is one, it alone takes so long, and all others are as quick as can be."""

    transaction_scan_ms: int = 10_000
    """How often the coordinator looks for transactions whose time is over."""

    transaction_max_ms: int = 900_000
    message_bytes_max: int = 8 * 1024 * 1024
    """The largest batch, not compressed."""

    metadata_bytes_max: int = 4096
    session_min_ms: int = 1_000
    session_max_ms: int = 1_800_000
    initial_rebalance_ms: int = 0
    """How long a classic group that was empty waits for more members. (Kafka's own default is 3 s.)"""

    first_join_ms: int = 300_000
    """How long a new member of a classic group may wait for an answer to its join before it is forgotten."""

    consumer_session_ms: int = 45_000
    consumer_heartbeat_ms: int = 5_000
    assignment_interval_ms: int = 1_000
    """How long a group of the consumer protocol keeps an assignment before it makes another one."""
