"""Errors that pass by themselves: what clients meet while brokers come and go, and groups and topics find their leaders.

librdkafka calls few of them retriable, because it leaves to its callers what it does not try again itself.
"""

from __future__ import annotations

__all__ = ["is_leaderless", "passes"]

from confluent_kafka import KafkaError

# A partition is new, or led by another broker than a moment ago, and not every broker knows.
_LEADERLESS = frozenset(
    (
        # The admin client's way of saying that a partition has no leader.
        KafkaError._NOENT,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
    )
)

_PASSING = _LEADERLESS | frozenset(
    (
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._MAX_POLL_EXCEEDED,
        KafkaError._PARTITION_EOF,
        KafkaError._RESOLVE,
        KafkaError._TIMED_OUT,
        KafkaError._TRANSPORT,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._WAIT_COORD,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.NOT_COORDINATOR,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.UNSTABLE_OFFSET_COMMIT,
    )
)


def passes(error: KafkaError) -> bool:
    """Whether to try again is all that is to be done."""
    return not error.fatal() and (error.retriable() or error.code() in _PASSING)


def is_leaderless(error: KafkaError) -> bool:
    """Whether whoever was asked about a partition does not lead it, so that another one does, or is about to."""
    return not error.fatal() and error.code() in _LEADERLESS
