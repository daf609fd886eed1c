"""Where partitions begin, end, or have records of a time, as the brokers tell who asks for it and waits."""

from __future__ import annotations

__all__ = ["Place", "ask_offsets"]

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from confluent_kafka import OFFSET_INVALID, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from headrace_adapters.kafka.clients import Admin
from headrace_adapters.kafka.failures import request_error
from headrace_adapters.kafka.passing import is_leaderless
from headrace_adapters.kafka.settings import KafkaSettings

Place = tuple[str, int]
"""A topic and a partition."""

REQUEST_S: Final = 10.0

# A broker that does not lead the partition says so at once, and somebody else is elected within moments.
AGAIN_S: Final = 0.05


def ask_offsets(
    admin: Admin | AdminClient,
    settings: KafkaSettings,
    doing: str,
    specs: Mapping[TopicPartition, Any],
    *,
    within_s: float,
    committed: bool = False,
    give_up: Callable[[], bool] = lambda: False,
) -> dict[Place, int]:
    """What *specs* ask for; negative where nothing is as new as a time. With *committed*, the end is the last stable offset.

    A partition that nobody leads is asked again for *within_s*, or until *give_up* says so. Raises :class:`StoreError`:
    *doing* failed.
    """
    level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
    deadline_s = time.monotonic() + within_s
    found: dict[Place, int] = {}
    left = dict(specs)
    while left:
        try:
            asked = admin.list_offsets(left, isolation_level=level, request_timeout=REQUEST_S)
        except KafkaException as error:
            raise request_error(admin, settings, doing, error) from error
        left = {}
        for place, future in asked.items():
            try:
                found[place.topic, place.partition] = _known(future.result(REQUEST_S + 5).offset)
            except (KafkaException, TimeoutError) as error:
                again = isinstance(error, KafkaException) and is_leaderless(error.args[0])
                if not again or time.monotonic() > deadline_s or give_up():
                    raise request_error(admin, settings, doing, error) from error
                left[place] = specs[place]
        if left:
            time.sleep(AGAIN_S)
    return found


def _known(offset: int) -> int:
    if offset == OFFSET_INVALID:
        # The client's way of saying that nobody leads the partition at this moment.
        raise KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
    return offset
