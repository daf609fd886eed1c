"""A consumer that is a member of a group, and does in callbacks what the worker's consumer does."""

from __future__ import annotations

__all__ = ["Member"]

from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, TopicPartition

from headrace_adapters.kafka.clients import Consumer
from tests.simulation.conformance.answers import Answers, flagged, outcome
from tests.simulation.conformance.reader import row_of

POLL_S = 0.01


class Member:
    """Its partitions are paused when they are assigned, until :meth:`begin`. Callbacks are kept until :meth:`tell`."""

    def __init__(self, name: str, consumer: Consumer, topic: str, answers: Answers) -> None:
        self.name = name
        self.consumer = consumer
        self._topic = topic
        self._answers = answers
        self._events: list[list[Any]] = []
        self._rows: dict[str, list[str]] = {}
        self._broken: BaseException | None = None
        self.assigned: set[int] = set()
        self.errors: list[str] = []
        """What ``poll`` has given that is no record."""
        self.lost = False
        """Whether partitions were ever lost."""
        self.closed = False
        self.arriving: Callable[[list[int]], None] = lambda numbers: None
        """Called in the callback by which partitions come, when they have."""
        self.leaving: Callable[[list[int]], None] = lambda numbers: None
        """Called in the callbacks by which partitions go, before they do."""

    def subscribe(self) -> None:
        """Ask for a share of the topic's partitions; the client begins with that at once."""
        self.consumer.subscribe([self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)

    def _on_assign(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        numbers = self._event("assigned", partitions)
        starts = [TopicPartition(self._topic, number, OFFSET_BEGINNING) for number in numbers]
        try:
            client.incremental_assign(starts)
            client.pause(starts)
            self.assigned.update(numbers)
            self.arriving(numbers)
        except BaseException as error:  # noqa: BLE001 (raised from poll)
            self._broken = error

    def _on_revoke(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        self._leave("revoked", client, partitions)

    def _on_lost(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        self.lost = True
        self._leave("lost", client, partitions)

    def _leave(self, what: str, client: Consumer, partitions: list[TopicPartition]) -> None:
        numbers = self._event(what, partitions)
        try:
            self.leaving(numbers)
            client.incremental_unassign(partitions)
            self.assigned.difference_update(numbers)
        except BaseException as error:  # noqa: BLE001 (raised from poll)
            self._broken = error

    def _event(self, what: str, partitions: list[TopicPartition]) -> list[int]:
        numbers = sorted(partition.partition for partition in partitions)
        if numbers:
            # Callbacks about nothing come or do not come by the time that a rebalance takes.
            self._events.append([what, numbers])
        return numbers

    def poll(self, timeout_s: float = POLL_S) -> None:
        """Serve the group, and keep what was read."""
        message = self.consumer.poll(timeout_s)
        if self._broken is not None:
            raise self._broken
        if message is None:
            return
        error = message.error()
        if error is None:
            self._rows.setdefault(str(message.partition()), []).append(row_of(message))
        else:
            self.errors.append(flagged(error))

    def begin(self, number: int, offset: int) -> None:
        """Read a partition from an offset on, as soon as the client is ready for it."""
        place = TopicPartition(self._topic, number, offset)
        while (ended := outcome(lambda: self.consumer.seek(place))) == "_STATE":
            self.poll()
        self._answers.say(f"{self.name} seek", ended)
        self._answers.say(f"{self.name} resume", outcome(lambda: self.consumer.resume([place])))

    @property
    def rows(self) -> int:
        """How many records were read and not told yet."""
        return sum(map(len, self._rows.values()))

    def tell(self) -> None:
        """Say what callbacks there were, what was read and what was wrong, and forget it."""
        self._answers.say(f"{self.name} callbacks", self._events)
        self._events = []
        if self._rows:
            self._answers.say(f"{self.name} read", dict(sorted(self._rows.items())))
            self._rows = {}
        if self.errors:
            self._answers.say(f"{self.name} errors", self.errors)
            self.errors = []

    def metadata(self) -> Any:
        """What the group knows this member by, as of now."""
        return self.consumer.consumer_group_metadata()

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Commit without a transaction."""
        places = [TopicPartition(self._topic, number, offset) for number, offset in offsets.items()]
        ended = outcome(lambda: self.consumer.commit(offsets=places, asynchronous=False))
        self._answers.say(f"{self.name} plain commit", ended)

    def close(self) -> None:
        """Leave the group."""
        if not self.closed:
            self.closed = True
            self._answers.say(f"{self.name} close", outcome(self.consumer.close))
            if self._broken is not None:
                raise self._broken
