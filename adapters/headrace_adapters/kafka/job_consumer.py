"""The member of the consumer group: which partitions are assigned to this worker, and the records of those it works on.

A partition that is assigned is paused until its state is restored; then :meth:`JobConsumer.begin` reads on from the
committed offset. What is told by the group comes through callbacks of ``poll`` and ``consume``, so it happens in the
thread of the loop, between two steps, and nowhere else:

    assigned    the partition is ours, and somebody has to restore it                    ``gained``
    revoked     ours until the callback returns: the open batch is committed in it       ``Owner.hand_over``
    lost        somebody else may have it already: what is open is dropped               ``Owner.drop``

A worker that stood still past its session is a new member when it joins again, under another member id, and librdkafka
goes on as if it still had what it had before: until a rebalance says otherwise it tells nothing, and then of a revocation,
as if nobody else had worked on it meanwhile. The broker would take its commits, since it is a member. So a partition is held
under the member id that it was given to; where that is no longer the worker's, nothing is committed for it, a revocation is
a loss, and what the group leaves with the worker is restored.

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
        # Under which member id the group has given each partition that is assigned.
        self._given_to: dict[int, str] = {}
        # Where reading began, and partitions of which records from before that have come.
        self._begun: dict[int, int] = {}
        self._astray: set[int] = set()
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
            member = client.memberid() or ""
            self._take_back(self._lost(member), member)
            self.assigned.update(numbers)
            self._given_to.update(dict.fromkeys(numbers, member))
            self.gained += numbers
        except BaseException as error:  # noqa: BLE001 (raised from poll)
            self._error = self._error or error

    def _take_back(self, numbers: list[int], member: str) -> None:
        """These are still this worker's, or are so again; others may have had them since it was last known."""
        if numbers:
            _LOGGER.warning(
                "partitions %s were lost without a word, and are this worker's again: they are restored", numbers
            )
            self._owner.drop(numbers)
            self.stop_reading(numbers)
            self._released(numbers)
            self._given_to.update(dict.fromkeys(numbers, member))
            self.gained += numbers

    def _on_revoke(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        self._leave(client, partitions, self._hand_over, "revoked")

    def _hand_over(self, numbers: list[int]) -> None:
        lost = self._lost(self.client.memberid() or "")
        if lost:
            _LOGGER.warning("partitions %s are dropped, because others may have them already", lost)
            self._owner.drop([number for number in numbers if number in lost])
        if kept := [number for number in numbers if number not in lost]:
            self._owner.hand_over(kept)

    def _lost(self, member: str) -> list[int]:
        """The partitions that are assigned as far as librdkafka knows, and were given to another member than *member*."""
        return [number for number in sorted(self.assigned) if self._given_to[number] != member]

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
        for number in numbers:
            self._given_to.pop(number, None)
        self.gained = [number for number in self.gained if number not in numbers]
        self._drop_fetched(numbers)
        self._released(numbers)

    def _drop_fetched(self, numbers: list[int]) -> None:
        """Records of these are not for this worker, or come again; what is wrong with the client stays to be told.

        An error of the client as a whole comes once, and as one of partition 0.
        """
        kept = (message for message in self._fetched if message.error() is not None or message.partition() not in numbers)
        self._fetched = deque(kept)

    # What the loop asks for.

    def consumer_group_metadata(self) -> Any:
        """As the client's, for offsets of the partitions that are assigned.

        Raises :class:`KafkaException` where the group does not know this worker as the one that it gave them to; the
        broker would take the offsets, since it asks whether a committer is a member and not what it owns.
        """
        metadata = self.client.consumer_group_metadata()
        # Looked at afterwards: whatever the member was when the metadata was taken, it is not older than this.
        if lost := self._lost(self.client.memberid() or ""):
            told = f"partitions {lost} were given to a member that this worker no longer is"
            raise KafkaException(KafkaError(KafkaError.UNKNOWN_MEMBER_ID, told, txn_requires_abort=True))
        return metadata

    def begin(self, number: int, offset: int) -> bool:
        """Read the records of a partition from *offset* on; False where librdkafka is not ready for it yet."""
        assert number in self.assigned, f"partition {number} is not assigned"
        if not self._seek(number, offset):
            return False
        self._begun[number] = offset
        self.reading.add(number)
        if not self._full:
            self.client.resume([TopicPartition(self._topic, number)])
        return True

    def _seek(self, number: int, offset: int) -> bool:
        try:
            self.client.seek(TopicPartition(self._topic, number, offset))
        except KafkaException as error:
            if error.args[0].code() != KafkaError._STATE:
                raise store_error(f"reading partition {number} from offset {offset}", error, self._settings) from error
            return False
        self._astray.discard(number)
        return True

    def _find_back(self) -> None:
        """Seek once more where records from before the place of beginning have come.

        librdkafka has been seen to forget a seek that comes within a millisecond after an assignment.
        """
        for number in sorted(self._astray):
            if number not in self.reading:
                self._astray.discard(number)
            elif self._seek(number, self._begun[number]):
                self._drop_fetched([number])

    def stop_reading(self, numbers: Iterable[int]) -> None:
        """Read these no more until :meth:`begin`; they stay assigned."""
        stopped = [number for number in numbers if number in self.reading]
        self.client.pause([TopicPartition(self._topic, number) for number in stopped])
        self.reading.difference_update(stopped)
        self._drop_fetched(stopped)

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
        found = [message for message in messages if self._is_job(message)]
        if self._astray:
            self._find_back()
        return found

    def _is_job(self, message: Any) -> bool:
        error: KafkaError | None = message.error()
        if error is None:
            number: int = message.partition()
            # A partition may have been revoked by the very call that brought its records.
            if number not in self.reading or number in self._astray:
                return False
            if message.offset() < self._begun[number]:
                self._astray.add(number)
                return False
            return True
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
