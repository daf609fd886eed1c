"""What the errors of a transaction's requests mean to librdkafka: one code may mean this to one of them, that to another."""

from __future__ import annotations

__all__ = ["ABORTABLE", "FATAL", "NEW_EPOCH", "OFFSET_COMMITS", "RETRIABLE", "UNANSWERED", "normalized", "sorted_out"]

from collections.abc import Mapping

from confluent_kafka import KafkaError

RETRIABLE, ABORTABLE, FATAL = range(3)

UNANSWERED = (KafkaError._TRANSPORT, KafkaError._TIMED_OUT)
"""The brokers may have done it."""

NEW_EPOCH = (
    KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, KafkaError.UNKNOWN_PRODUCER_ID, KafkaError.INVALID_PRODUCER_ID_MAPPING
)  # fmt: skip
"""After these the producer goes on with a new epoch only."""

_RETRIABLE = frozenset((
    *UNANSWERED, KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.REQUEST_TIMED_OUT,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.CONCURRENT_TRANSACTIONS, KafkaError.UNKNOWN_TOPIC_OR_PART,
))  # fmt: skip
_FATAL = frozenset((
    KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_TXN_STATE,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED,
))  # fmt: skip

OFFSET_COMMITS: Mapping[int, int] = {
    **dict.fromkeys(_RETRIABLE, RETRIABLE),
    **dict.fromkeys(_FATAL - {KafkaError.PRODUCER_FENCED}, FATAL),
    KafkaError.INVALID_PRODUCER_ID_MAPPING: FATAL,
}
"""Of offsets that are committed in a transaction."""


def sorted_out(code: int) -> int:
    """What an error of the coordinator of transactions means."""
    return RETRIABLE if code in _RETRIABLE else FATAL if code in _FATAL else ABORTABLE


def normalized(code: int) -> int:
    """The one code by which the application learns that another producer has its transactional id."""
    return KafkaError._FENCED if code in (KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED) else code
