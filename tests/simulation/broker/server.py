"""The brokers of a simulated cluster: every request that a client can make, each one answered at one instant.

A request returns its answer or raises :class:`Refused`. It never blocks: where Kafka holds an answer back (join, sync), it
comes later through *reply*. What gets lost on the way, and how long things take, is the clients' network; the brokers'
own delays (markers of transactions, sessions, time-outs) run by *call_in_ms*. What is called back (replies, watches) is
called in the middle of a request, so it must not make a request itself.
"""

from __future__ import annotations

__all__ = ["Server", "ServerOptions"]

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

from confluent_kafka import KafkaError

from tests.simulation.broker.groups import Groups
from tests.simulation.broker.messages import (
    Assignment,
    CallIn,
    Cancel,
    Described,
    Fetched,
    JoinReply,
    JoinRequest,
    Place,
    Subscription,
    SyncReply,
)
from tests.simulation.broker.offsets import CommittedOffsets
from tests.simulation.broker.options import ServerOptions
from tests.simulation.broker.partition_log import PartitionLog
from tests.simulation.broker.refused import Refused
from tests.simulation.broker.transactions import TransactionCoordinator

# What a batch and each of its records need beside keys and values, about.
_BATCH_BYTES = 61
_RECORD_BYTES = 12

_DEFAULTS = ServerOptions()


class Server:
    """The cluster: topics, transactions and groups. Time, timers and randomness are handed in."""

    __slots__ = ("_clock_ms", "_groups", "_logs", "_offsets", "_options", "_partitions", "_transactions")

    def __init__(
        self,
        clock_ms: Callable[[], int],
        call_in_ms: CallIn,
        draw: random.Random,
        options: ServerOptions = _DEFAULTS,
    ) -> None:
        self._clock_ms = clock_ms
        self._options = options
        self._partitions: dict[str, int] = {}
        self._logs: dict[Place, PartitionLog] = {}
        self._offsets = CommittedOffsets(options.metadata_bytes_max)
        self._transactions = TransactionCoordinator(clock_ms, call_in_ms, draw, options, self._logs, self._offsets)
        self._groups = Groups(
            clock_ms, call_in_ms, draw, options, self._offsets, lambda topic: self._partitions.get(topic, 0)
        )

    def _log(self, place: Place) -> PartitionLog:
        log = self._logs.get(place)
        if log is None:
            raise Refused(KafkaError.UNKNOWN_TOPIC_OR_PART)
        return log

    # Topics and records.

    def create_topic(self, name: str, partitions: int, *, compacted: bool = False) -> None:
        """Raises TOPIC_ALREADY_EXISTS, INVALID_PARTITIONS."""
        if name in self._partitions:
            raise Refused(KafkaError.TOPIC_ALREADY_EXISTS)
        if partitions < 1:
            raise Refused(KafkaError.INVALID_PARTITIONS)
        # Topics begin at different brokers, so partitions of the same number are not all led by the same one.
        first = len(self._partitions)
        self._partitions[name] = partitions
        for number in range(partitions):
            self._logs[name, number] = PartitionLog((first + number) % self._options.leaders, compacted=compacted)
        self._groups.topics_changed()

    def partitions_of(self, topic: str) -> int:
        """How many partitions a topic has. Raises UNKNOWN_TOPIC_OR_PART."""
        found = self._partitions.get(topic)
        if found is None:
            raise Refused(KafkaError.UNKNOWN_TOPIC_OR_PART)
        return found

    def produce(
        self,
        place: Place,
        records: Sequence[tuple[bytes | None, bytes | None]],
        *,
        producer_id: int = -1,
        epoch: int = -1,
        first_sequence: int = -1,
        transactional_id: str | None = None,
    ) -> int:
        """Append one batch; gives the offset of its first record, the old one where the batch was appended before.

        The sequences of a batch are *first_sequence* and those that follow. Raises UNKNOWN_TOPIC_OR_PART,
        MSG_SIZE_TOO_LARGE (the batch, not compressed), INVALID_RECORD (a compacted topic, no key); with a producer id:
        OUT_OF_ORDER_SEQUENCE_NUMBER, INVALID_PRODUCER_EPOCH (fenced); with a transactional id as well: INVALID_TXN_STATE
        (the place was not added), NOT_ENOUGH_REPLICAS (the last transaction is being completed: try again),
        INVALID_PRODUCER_ID_MAPPING. A fenced producer may go on to write where its transaction is still open; all of that
        is aborted.
        """
        log = self._log(place)
        if transactional_id is not None and not log.has_open(producer_id):
            log.expect(producer_id, epoch, first_sequence)
            try:
                self._transactions.verify_place(transactional_id, producer_id, epoch, place)
            except Refused as refused:
                if refused.code != KafkaError.CONCURRENT_TRANSACTIONS:
                    raise
                # What old clients know to be worth another try, and librdkafka is one.
                raise Refused(KafkaError.NOT_ENOUGH_REPLICAS) from None
        size = sum([len(key or b"") + len(value or b"") for key, value in records])
        if size + _BATCH_BYTES + _RECORD_BYTES * len(records) > self._options.message_bytes_max:
            raise Refused(KafkaError.MSG_SIZE_TOO_LARGE)
        if log.compacted and None in [key for key, _ in records]:
            raise Refused(KafkaError.INVALID_RECORD)
        return log.append(records, self._clock_ms(), producer_id, epoch, first_sequence, transactional_id is not None)

    def fetch(self, place: Place, offset: int, read_committed: bool, records_max: int) -> Fetched:
        """Records from *offset* on, at most so many. Raises UNKNOWN_TOPIC_OR_PART, OFFSET_OUT_OF_RANGE."""
        return self._log(place).fetch(offset, read_committed, records_max)

    def watch(self, place: Place, callback: Callable[[], None], read_committed: bool = False) -> Cancel:
        """Calls back whenever a fetch of the place may give more than before."""
        return self._log(place).watch(callback, read_committed)

    def list_offsets(self, place: Place, spec: Literal["earliest", "latest"], read_committed: bool) -> int:
        """The beginning of a log; or its end, which for readers of committed records is the last stable offset."""
        log = self._log(place)
        if spec == "earliest":
            return log.start
        return log.stable_end if read_committed else log.end

    # Transactions.

    def init_producer_id(
        self, transactional_id: str | None, timeout_ms: int, current: tuple[int, int] | None = None
    ) -> tuple[int, int]:
        """A producer id and its epoch. For a transactional id the epoch is a new one, and what is open is aborted.

        A producer that only wants to go on under a new epoch says which it has (*current*). Raises CONCURRENT_TRANSACTIONS
        while a transaction is being completed (also the first time, when one was open: ask again), PRODUCER_FENCED
        (*current* is not current), INVALID_TRANSACTION_TIMEOUT.
        """
        return self._transactions.init_producer_id(transactional_id, timeout_ms, current)

    def add_partitions(self, transactional_id: str, producer_id: int, epoch: int, places: Iterable[Place]) -> None:
        """Places that the transaction writes to; it begins with the first of them.

        Raises UNKNOWN_TOPIC_OR_PART, INVALID_PRODUCER_ID_MAPPING, INVALID_PRODUCER_EPOCH (fenced), and
        CONCURRENT_TRANSACTIONS while the last one is being completed.
        """
        wanted = list(places)
        for place in wanted:
            self._log(place)
        self._transactions.add(transactional_id, producer_id, epoch, wanted)

    def add_offsets(self, transactional_id: str, producer_id: int, epoch: int, group: str) -> None:
        """As :meth:`add_partitions`, for the offsets of a group."""
        self._transactions.add(transactional_id, producer_id, epoch, (), (group,))

    def txn_offset_commit(
        self,
        transactional_id: str,
        producer_id: int,
        epoch: int,
        group: str,
        member_id: str,
        generation: int,
        instance_id: str | None,
        offsets: Mapping[Place, tuple[int, str]],
    ) -> None:
        """Offsets (and metadata) that count when the transaction is committed.

        Raises UNKNOWN_TOPIC_OR_PART, OFFSET_METADATA_TOO_LARGE; INVALID_TXN_STATE (the group was not added),
        INVALID_PRODUCER_EPOCH (fenced), INVALID_PRODUCER_ID_MAPPING, CONCURRENT_TRANSACTIONS; ILLEGAL_GENERATION (with
        KIP-848 too), UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID. Whether a member owns the places is not looked at, nor whether
        the group is between two generations. It is no sign of life of the member.
        """
        for place in offsets:
            self._log(place)
        if not self._offsets.has_open(group, producer_id):
            self._transactions.verify_group(transactional_id, producer_id, epoch, group)
        self._groups.check_commit(group, member_id, generation, instance_id, offsets, transactional=True)
        self._offsets.stage(group, producer_id, epoch, offsets)

    def end_txn(self, transactional_id: str, producer_id: int, epoch: int, committed: bool) -> None:
        """Decide the outcome; it shows when the markers are written, a little later.

        The same outcome again is taken once it is complete. Raises INVALID_PRODUCER_ID_MAPPING, INVALID_PRODUCER_EPOCH
        (fenced), INVALID_TXN_STATE (nothing is open, or the outcome is the other one), CONCURRENT_TRANSACTIONS (this outcome
        is being completed).
        """
        self._transactions.end(transactional_id, producer_id, epoch, committed)

    # Offsets of groups.

    def offset_fetch(
        self,
        group: str,
        places: Iterable[Place],
        require_stable: bool,
        member_id: str | None = None,
        member_epoch: int = -1,
    ) -> dict[Place, tuple[int, str] | Refused]:
        """Committed offsets with their metadata; ``(NO_OFFSET, "")`` for none.

        With *require_stable* the places with offsets in a transaction that has not ended are UNSTABLE_OFFSET_COMMIT. Raises,
        for a member of a group with KIP-848 that says who it is, UNKNOWN_MEMBER_ID, STALE_MEMBER_EPOCH.
        """
        return self._groups.fetch(group, places, require_stable, member_id, member_epoch)

    def offset_commit(
        self,
        group: str,
        member_id: str,
        generation: int,
        instance_id: str | None,
        offsets: Mapping[Place, tuple[int, str]],
    ) -> None:
        """Commit offsets. With generation -1 and no member id: from outside, for a group without members.

        Raises UNKNOWN_TOPIC_OR_PART, OFFSET_METADATA_TOO_LARGE; ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID,
        REBALANCE_IN_PROGRESS (classic: between join and sync), STALE_MEMBER_EPOCH (KIP-848), GROUP_ID_NOT_FOUND. Whether a
        member owns the places is not looked at.
        """
        for place in offsets:
            self._log(place)
        self._groups.commit(group, member_id, generation, instance_id, offsets)

    # Groups of the classic protocol.

    def join_group(
        self,
        group: str,
        member_id: str,
        instance_id: str | None,
        client_id: str,
        session_ms: int,
        rebalance_ms: int,
        subscription: Subscription,
        protocol: str,
        reply: JoinReply,
    ) -> None:
        """Join (member id "" at first), or join again. All answers come by *reply*, which may be called at once.

        They are Joined; or Refused with MEMBER_ID_REQUIRED (join again with its ``member_id``), UNKNOWN_MEMBER_ID,
        FENCED_INSTANCE_ID, INCONSISTENT_GROUP_PROTOCOL, INVALID_SESSION_TIMEOUT, NOT_COORDINATOR.
        """
        request = JoinRequest(instance_id, client_id, session_ms, rebalance_ms, subscription, protocol)
        self._groups.join(group, member_id, request, reply)

    def sync_group(
        self,
        group: str,
        member_id: str,
        generation: int,
        assignments: Assignment | None,
        reply: SyncReply,
        instance_id: str | None = None,
    ) -> None:
        """Ask for one's places; the leader says with *assignments* which are whose. All answers come by *reply*.

        They are the places; or Refused with UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID, ILLEGAL_GENERATION,
        REBALANCE_IN_PROGRESS, NOT_COORDINATOR.
        """
        self._groups.sync(group, member_id, instance_id, generation, assignments, reply)

    def heartbeat(self, group: str, member_id: str, generation: int, instance_id: str | None = None) -> None:
        """Raises REBALANCE_IN_PROGRESS (join again), UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID, ILLEGAL_GENERATION."""
        self._groups.heartbeat(group, member_id, instance_id, generation)

    def leave_group(self, group: str, member_id: str, instance_id: str | None = None) -> None:
        """Raises UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID."""
        self._groups.leave(group, member_id, instance_id)

    # Groups of the consumer protocol (KIP-848).

    def consumer_heartbeat(
        self,
        group: str,
        member_id: str,
        member_epoch: int,
        instance_id: str | None,
        client_id: str,
        topics: Sequence[str] | None,
        owned: Sequence[Place] | None,
        rebalance_ms: int | None = None,
    ) -> tuple[int, int, list[Place] | None]:
        """Gives the member's epoch, the interval of heartbeats, and its places if they changed or it asks in full.

        Epoch 0 joins, -1 leaves, -2 leaves for a while (a static member). *topics*, *owned* and *rebalance_ms* are None
        where they are as before; with *topics* and *owned* it asks in full. What is taken away stays the member's until it
        does not name it in *owned* any more. Raises UNKNOWN_MEMBER_ID and FENCED_MEMBER_EPOCH (join again, with nothing),
        UNRELEASED_INSTANCE_ID, FENCED_INSTANCE_ID, GROUP_ID_NOT_FOUND.
        """
        return self._groups.consumer_heartbeat(
            group, member_id, member_epoch, instance_id, client_id, topics, owned, rebalance_ms
        )

    def describe_group(self, group: str) -> Described:
        """A group that is not there is Dead. While a classic group is not stable nobody's places are told."""
        return self._groups.describe(group)

    # What goes wrong on the brokers' side.

    def truncate_before(self, place: Place, offset: int) -> None:
        """Records before *offset* are gone: by retention, or deleted."""
        self._log(place).truncate_before(offset)

    def compact(self, place: Place, keep_tombstones: bool, before: int | None = None) -> None:
        """Below the last stable offset (and *before*) only the last record of a key stays, and nothing that was aborted."""
        self._log(place).compact(keep_tombstones, before)

    def delete_group_offsets(self, group: str) -> None:
        """A group's offsets expire."""
        self._offsets.forget(group)

    def restart(self) -> None:
        """Coordinators move to other brokers: what is in logs stays, what was only in memory is lost.

        Joins and syncs that wait are answered NOT_COORDINATOR, a classic group is as it was when it was last shared out, ids
        that were given out for a join are forgotten, sessions begin anew. A transaction that is open stays so, and one that
        was decided is completed; its markers may be written twice.
        """
        self._groups.restart()
        self._transactions.restart()

    def hold_markers(self, held: bool) -> None:
        """While *held* no transaction is completed; then all of those are that were decided meanwhile."""
        self._transactions.hold(held)
