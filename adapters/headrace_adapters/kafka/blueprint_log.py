"""The blueprints topic: every version of every flow that runs may be pinned to, for all workers alike.

A worker reads it to its end before it owns anything, and goes on reading it. It writes those of its own app that are not
the newest there, so what was deployed last is what runs without a version begin with, and all workers agree on it.
"""

from __future__ import annotations

__all__ = ["BlueprintLog"]

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import orjson
from confluent_kafka import OFFSET_BEGINNING, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from headrace.blueprint import Blueprint, from_json, to_json
from headrace.errors import DefinitionError, StoreError
from headrace.plans import Plans
from headrace_adapters.base.host import THIS_HOST, Host
from headrace_adapters.kafka.clients import Clients
from headrace_adapters.kafka.connection import admin, connect, plain_producer, reader
from headrace_adapters.kafka.failures import store_error
from headrace_adapters.kafka.passing import passes
from headrace_adapters.kafka.settings import KafkaSettings
from headrace_adapters.kafka.topic_layout import TopicLayout

_LOGGER = logging.getLogger(__name__)

REQUEST_S = 10.0
REQUEST_S_MIN = 0.5
END_S = 60.0
ASK_AGAIN_S = 0.05


class BlueprintLog:
    """Reads the topic into *plans*, and writes the blueprints of an app into it."""

    def __init__(
        self, clients: Clients, settings: KafkaSettings, layout: TopicLayout, plans: Plans, host: Host = THIS_HOST
    ) -> None:
        self._clients = clients
        self._settings = settings
        self._topic = layout.blueprints
        self._plans = plans
        self._host = host
        self._admin = clients.admin(admin(settings))
        connect(self._admin, self._topic)
        self._reader = clients.consumer(reader(settings))
        self._reader.assign([TopicPartition(self._topic, 0, OFFSET_BEGINNING)])
        self._position = 0
        self._newest: dict[str, str] = {}
        self._seen: set[tuple[str, str]] = set()

    def read_to_end(self, give_up: Callable[[], bool] = lambda: False, within_s: float | None = None) -> None:
        """Read everything that is there now. Raises :class:`StoreError` when that does not succeed in time."""
        within_s = END_S if within_s is None else within_s
        deadline_s = self._host.now_s() + within_s
        end = self._ask_end(deadline_s, give_up)
        while self._position < end:
            # One record by poll first: consume may wait its whole time for the rest.
            first = self._reader.poll(0.2)
            if first is not None:
                self._take([first, *self._reader.consume(1_000, 0)])
            if self._host.now_s() > deadline_s or give_up():
                raise StoreError(
                    f"{self._topic} could not be read to its end, {end}, within {within_s:g} s (it is at {self._position}): "
                    "look after the brokers, and start again"
                )

    def _ask_end(self, deadline_s: float, give_up: Callable[[], bool]) -> int:
        """Where the topic ends; asked again while brokers find out who leads it."""
        place = TopicPartition(self._topic, 0)
        while True:
            request_s = min(REQUEST_S, max(REQUEST_S_MIN, deadline_s - self._host.now_s()))
            asked = self._admin.list_offsets(
                {place: OffsetSpec.latest()}, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=request_s
            )
            try:
                end: int = asked[place].result(request_s + 1).offset
                if end < 0:
                    # The client's way of saying that nobody leads the partition at this moment.
                    raise KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
            except (KafkaException, TimeoutError) as error:
                reason = error.args[0] if isinstance(error, KafkaException) else KafkaError(KafkaError._TIMED_OUT)
                if not passes(reason) or self._host.now_s() > deadline_s or give_up():
                    raise store_error(f"asking how far {self._topic} goes", reason, self._settings) from error
                self._host.sleep(ASK_AGAIN_S)
            else:
                return end

    def poll(self) -> bool:
        """Read what has come since; whether there was anything new."""
        return self._take(self._reader.consume(1_000, 0))

    def publish(self, blueprints: Sequence[Blueprint]) -> None:
        """Write those that are not the newest of their flow. Raises :class:`DefinitionError` where a version differs."""
        for blueprint in blueprints:
            self._plans.add(blueprint)
        last = {blueprint.id: blueprint for blueprint in blueprints}
        fresh = [
            blueprint
            for blueprint in blueprints
            if (blueprint.id, blueprint.version) not in self._seen
            or (last[blueprint.id] is blueprint and self._newest.get(blueprint.id) != blueprint.version)
        ]
        if not fresh:
            return
        producer = self._clients.producer(plain_producer(self._settings))
        failed: list[KafkaError] = []

        def note(error: KafkaError | None, _: Any) -> None:
            if error is not None:
                failed.append(error)

        for blueprint in fresh:
            key = f"{blueprint.id}@{blueprint.version}".encode()
            producer.produce(self._topic, orjson.dumps(to_json(blueprint)), key, 0, on_delivery=note)
        try:
            left = producer.flush(END_S)
        except KafkaException as error:
            raise store_error(f"writing to {self._topic}", error, self._settings) from error
        if left:
            raise StoreError(f"{self._topic} took no records within {END_S:g} s: look after the brokers, and start again")
        if failed:
            raise store_error(f"writing to {self._topic}", failed[0], self._settings)
        self.read_to_end()

    def _take(self, messages: Iterable[Any]) -> bool:
        new = False
        for message in messages:
            error = message.error()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    self._position = max(self._position, message.offset())
                else:
                    _LOGGER.warning("reading %s: %s", self._topic, error.str())
                continue
            self._position = message.offset() + 1
            if message.value() is not None:
                new = self._add(message) or new
        return new

    def _add(self, message: Any) -> bool:
        try:
            blueprint = from_json(orjson.loads(message.value()))
            added = self._plans.add(blueprint)
        except (ValueError, DefinitionError) as error:
            # Runs that are pinned to it are parked, with a reason of their own; all others go on.
            _LOGGER.warning("record %d of %s is no blueprint for this worker: %s", message.offset(), self._topic, error)
            return False
        self._newest[blueprint.id] = blueprint.version
        self._seen.add((blueprint.id, blueprint.version))
        return added

    def close(self) -> None:
        """Let go of the reader."""
        self._reader.close()
