"""The member of the consumer group: which partitions are assigned to this worker, and the records of those it works on.

A partition that is assigned is paused until its state is restored; then :meth:`JobConsumer.begin` reads on from the
committed offset. What is told by the group comes through callbacks of ``poll`` and ``consume``, so it happens in the
thread of the loop, between two steps, and nowhere else:

    assigned    the partition is ours, and somebody has to restore it                    ``gained``
    revoked     ours until the callback returns: the open batch is committed in it       ``Owner.hand_over``
    lost        somebody else may have it already: what is open is dropped               ``Owner.drop``

A callback must never raise, since librdkafka would then go on as if nothing were wrong and skip records: what goes wrong
in one is kept and raised from :meth:`JobConsumer.poll`. A pause survives a reassignment in some paths of librdkafka, so
what is paused is decided here, for every assignment anew.
"""

from __future__ import annotations

__all__ = ["JobConsumer"]

import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, TopicPartition

from headrace_adapters.base import Owner
from headrace_adapters.base.host import THIS_HOST, Host
from headrace_adapters.kafka.clients import Clients, Consumer
from headrace_adapters.kafka.connection import group_consumer
from headrace_adapters.kafka.failures import store_error
from headrace_adapters.kafka.passing import passes
from headrace_adapters.kafka.settings import KafkaSettings

_LOGGER = logging.getLogger(__name__)


class JobConsumer:
    """Reads the jobs topic as a member of the group. *released* is told which partitions are no longer assigned."""

    def __init__(
        self,
        clients: Clients,
        settings: KafkaSettings,
        topic: str,
        client_id: str,
        owner: Owner,
        released: Callable[[Iterable[int]], None],
        host: Host = THIS_HOST,
    ) -> None:
        self._settings = settings
        self._topic = topic
        self._owner = owner
        self._released = released
        self._host = host
        self._error: BaseException | None = None
        self._fetched: deque[Any] = deque()
        self._full = False
        self.polled_s = self._host.now_s()
        """When the group was last asked whether anything has changed."""
        self.assigned: set[int] = set()
        """What the group has given to this worker."""
        self.reading: set[int] = set()
        """Of these, the ones whose state is restored, and whose records are read."""
        self.gained: list[int] = []
        """Partitions that were assigned and that nobody has begun to restore yet."""
        self.client: Consumer = clients.consumer(group_consumer(settings, client_id))
        self.client.subscribe([topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)

    # What the group tells.

    def _on_assign(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        try:
            numbers = [partition.partition for partition in partitions]
            _LOGGER.info("partitions assigned: %s", numbers)
            # An offset of our own keeps librdkafka from asking for the committed one, and nothing is read from here yet.
            starts = [TopicPartition(self._topic, number, OFFSET_BEGINNING) for number in numbers]
            client.incremental_assign(starts)
            client.pause(starts)
            self.assigned.update(numbers)
            self.gained += numbers
        except BaseException as error:  # noqa: BLE001 (raised from poll)
            self._error = self._error or error

    def _on_revoke(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        self._leave(client, partitions, self._owner.hand_over, "revoked")

    def _on_lost(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        self._leave(client, partitions, self._owner.drop, "lost")

    def _leave(
        self, client: Consumer, partitions: list[TopicPartition], let_go: Callable[[list[int]], None], what: str
    ) -> None:
        numbers = [partition.partition for partition in partitions]
        _LOGGER.info("partitions %s: %s", what, numbers)
        steps: list[Callable[[], None]] = [
            lambda: let_go(numbers),
            lambda: self._forget(numbers),
            lambda: client.incremental_unassign(partitions),
        ]
        for step in steps:
            try:
                step()
            except BaseException as error:  # noqa: BLE001 (raised from poll)
                self._error = self._error or error

    def _forget(self, numbers: list[int]) -> None:
        self.assigned.difference_update(numbers)
        self.reading.difference_update(numbers)
        self.gained = [number for number in self.gained if number not in numbers]
        self._fetched = deque(message for message in self._fetched if message.partition() not in numbers)
        self._released(numbers)

    # What the loop asks for.

    def begin(self, number: int, offset: int) -> bool:
        """Read the records of a partition from *offset* on; False where librdkafka is not ready for it yet."""
        assert number in self.assigned, f"partition {number} is not assigned"
        partition = TopicPartition(self._topic, number, offset)
        try:
            self.client.seek(partition)
        except KafkaException as error:
            if error.args[0].code() != KafkaError._STATE:
                raise store_error(f"reading partition {number} from offset {offset}", error, self._settings) from error
            return False
        self.reading.add(number)
        if not self._full:
            self.client.resume([partition])
        return True

    def stop_reading(self, numbers: Iterable[int]) -> None:
        """Read these no more until :meth:`begin`; they stay assigned."""
        stopped = [number for number in numbers if number in self.reading]
        self.client.pause([TopicPartition(self._topic, number) for number in stopped])
        self.reading.difference_update(stopped)
        self._fetched = deque(message for message in self._fetched if message.partition() not in stopped)

    def wait(self, timeout_s: float) -> None:
        """Wait until there is a record, or until the time is over."""
        if not self._fetched:
            self.polled_s = self._host.now_s()
            message = self.client.poll(timeout_s)
            if message is not None:
                self._fetched.append(message)

    def poll(self, limit: int) -> list[Any]:
        """At most *limit* records of partitions that are read; with 0, the group is served all the same.

        Raises what went wrong in a callback, and :class:`StoreError` for what does not pass by itself.
        """
        self._set_full(limit == 0)
        self.polled_s = self._host.now_s()
        messages: list[Any] = []
        # One record by poll first: consume may wait its whole time for the rest.
        if limit:
            while self._fetched and len(messages) < limit:
                messages.append(self._fetched.popleft())
            if len(messages) < limit:
                messages += self.client.consume(limit - len(messages), 0)
        else:
            message = self.client.poll(0)
            if message is not None:
                self._fetched.append(message)
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return [message for message in messages if self._is_job(message)]

    def _is_job(self, message: Any) -> bool:
        error: KafkaError | None = message.error()
        if error is None:
            # A partition may have been revoked by the very call that brought its records.
            return message.partition() in self.reading
        if not passes(error):
            raise store_error("reading jobs", error, self._settings)
        _LOGGER.warning("reading jobs: %s", error.str())
        return False

    def _set_full(self, full: bool) -> None:
        if full != self._full:
            self._full = full
            partitions = [TopicPartition(self._topic, number) for number in self.reading]
            if partitions:
                (self.client.pause if full else self.client.resume)(partitions)

    def close(self) -> None:
        """Leave the group: the partitions are handed over first."""
        self.client.close()
        if self._error is not None:
            error, self._error = self._error, None
            raise error
