"""Ending the transaction that somebody has left open: whoever takes over its transactional id ends it by that.

It holds up everybody who reads what is committed until it times out, and its owner may be dead.
"""

from __future__ import annotations

__all__ = ["Fencing"]

import logging

from confluent_kafka import KafkaException

from headrace_adapters.base.host import Aside, Host
from headrace_adapters.kafka.clients import Clients
from headrace_adapters.kafka.connection import transactional_producer
from headrace_adapters.kafka.settings import KafkaSettings

_LOGGER = logging.getLogger(__name__)

# One request to the brokers.
REQUEST_S = 5.0


class Fencing:
    """Takes over the transactional ids of others, never *own_id*."""

    def __init__(self, clients: Clients, settings: KafkaSettings, own_id: str, host: Host) -> None:
        self._clients = clients
        self._settings = settings
        self._own_id = own_id
        self._host = host
        self._fenced_s: dict[str, float] = {}

    def may_end(self, transactional_id: str) -> bool:
        """Once is enough: what holds up after that is somebody else's, while this one may live and own other partitions."""
        fenced_s = self._fenced_s.get(transactional_id)
        is_over = fenced_s is None or self._host.now_s() - fenced_s > self._settings.transaction_timeout_ms / 1_000
        return is_over and transactional_id not in ("", self._own_id)

    def end(self, transactional_id: str) -> Aside:
        """Begin to take it over; that takes as long as the brokers need."""
        self._fenced_s[transactional_id] = self._host.now_s()

        def fence() -> None:
            producer = self._clients.producer(transactional_producer(self._settings, transactional_id))
            try:
                producer.init_transactions(REQUEST_S)
            except KafkaException as error:
                _LOGGER.warning("the transaction of %s could not be ended yet: %s", transactional_id, error.args[0].str())
                self._fenced_s.pop(transactional_id, None)

        return self._host.run_aside(fence, "headrace-fencing")
