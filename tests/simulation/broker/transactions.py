"""The transaction coordinator: producer ids and epochs, what is part of a transaction, and how it ends.

    empty -> ongoing -> prepared -> complete -> ongoing -> ...

The outcome is decided when a transaction is prepared; only afterwards are the markers written, by the leaders of the
partitions, each one at an instant of its own. Until the last of them is written requests for the next transaction are
refused with CONCURRENT_TRANSACTIONS, and readers of committed records see some partitions and not others.

All of it stands in the coordinator's log, so when coordinators move nothing is lost; markers may be written twice.
"""

from __future__ import annotations

__all__ = ["TransactionCoordinator"]

import random
from collections.abc import Callable, Iterable, Mapping

from confluent_kafka import KafkaError

from tests.simulation.broker.messages import CallIn, Cancel, Place
from tests.simulation.broker.offsets import CommittedOffsets
from tests.simulation.broker.options import ServerOptions
from tests.simulation.broker.partition_log import PartitionLog
from tests.simulation.broker.refused import Refused

EPOCH_MAX = 32_766
"""The last epoch that a producer is given; fencing it needs one more."""

_EMPTY, _ONGOING, _PREPARED, _COMPLETE = range(4)


class _Transaction:
    """What the coordinator knows of a transactional id."""

    __slots__ = (
        "begun_ms", "committed", "epoch", "groups", "last_epoch", "places", "producer_id", "state", "timeout_ms", "timers",
        "unmarked",
    )  # fmt: skip

    def __init__(self, producer_id: int) -> None:
        self.producer_id = producer_id
        self.epoch = -1
        self.last_epoch = -1
        """The epoch before, where the producer itself asked for a new one."""
        self.timeout_ms = 0
        self.state = _EMPTY
        self.committed = False
        """The outcome, once it is prepared."""
        self.begun_ms = 0
        self.places: dict[Place, None] = {}
        self.groups: dict[str, None] = {}
        self.unmarked = 0
        """How many leaders have not written their markers yet."""
        self.timers: list[Cancel] = []


class TransactionCoordinator:
    """All transactions; *logs* are those of all partitions."""

    __slots__ = (
        "_call_in_ms", "_clock_ms", "_draw", "_held", "_holds", "_known", "_logs", "_next_producer_id", "_offsets",
        "_options", "_scan",
    )  # fmt: skip

    def __init__(
        self,
        clock_ms: Callable[[], int],
        call_in_ms: CallIn,
        draw: random.Random,
        options: ServerOptions,
        logs: Mapping[Place, PartitionLog],
        offsets: CommittedOffsets,
    ) -> None:
        self._clock_ms = clock_ms
        self._call_in_ms = call_in_ms
        self._draw = draw
        self._options = options
        self._logs = logs
        self._offsets = offsets
        self._known: dict[str, _Transaction] = {}
        self._next_producer_id = 0
        self._scan: Cancel | None = None
        self._holds = False
        self._held: list[Callable[[], None]] = []

    # Producer ids.

    def init_producer_id(
        self, transactional_id: str | None, timeout_ms: int, current: tuple[int, int] | None
    ) -> tuple[int, int]:
        """A producer id with its epoch; what is open under the transactional id is aborted first."""
        if transactional_id is None:
            return self._new_producer_id(), 0
        if not 0 < timeout_ms <= self._options.transaction_max_ms:
            raise Refused(KafkaError.INVALID_TRANSACTION_TIMEOUT)
        known = self._known.get(transactional_id)
        if known is None:
            known = self._known[transactional_id] = _Transaction(self._new_producer_id())
        if current is not None and known.epoch >= 0 and current[0] != known.producer_id:
            raise Refused(KafkaError.PRODUCER_FENCED)
        if known.state == _PREPARED:
            raise Refused(KafkaError.CONCURRENT_TRANSACTIONS)
        if known.state == _ONGOING:
            self._abort_fenced(known)
            raise Refused(KafkaError.CONCURRENT_TRANSACTIONS)
        self._bump(known, current)
        known.timeout_ms = timeout_ms
        known.state = _EMPTY
        return known.producer_id, known.epoch

    def _new_producer_id(self) -> int:
        self._next_producer_id += 1
        return self._next_producer_id - 1

    def _bump(self, known: _Transaction, current: tuple[int, int] | None) -> None:
        if current is None or known.epoch < 0:
            known.last_epoch = -1
        elif current[1] == known.epoch:
            known.last_epoch = known.epoch
        elif current[1] == known.last_epoch:
            return  # It asks again, because it did not get the answer.
        else:
            raise Refused(KafkaError.PRODUCER_FENCED)
        if known.epoch >= EPOCH_MAX:
            known.producer_id = self._new_producer_id()
            known.epoch = 0
        else:
            known.epoch += 1

    # What is part of a transaction.

    def add(
        self, transactional_id: str, producer_id: int, epoch: int, places: Iterable[Place], groups: Iterable[str] = ()
    ) -> None:
        """These partitions, or the offsets of these groups, are part of the transaction; the first of them begins it."""
        known = self._of(transactional_id, producer_id, epoch)
        if known.state == _PREPARED:
            raise Refused(KafkaError.CONCURRENT_TRANSACTIONS)
        if known.state != _ONGOING:
            known.state = _ONGOING
            known.begun_ms = self._clock_ms()
            if self._scan is None:
                self._scan_later()
        for place in places:
            known.places[place] = None
        for group in groups:
            known.groups[group] = None

    def verify_place(self, transactional_id: str, producer_id: int, epoch: int, place: Place) -> None:
        """What a leader asks before it appends the first records of a transaction. Raises INVALID_TXN_STATE and others."""
        if place not in self._verified(transactional_id, producer_id, epoch).places:
            raise Refused(KafkaError.INVALID_TXN_STATE)

    def verify_group(self, transactional_id: str, producer_id: int, epoch: int, group: str) -> None:
        """As :meth:`verify_place`, before the first offsets of a group."""
        if group not in self._verified(transactional_id, producer_id, epoch).groups:
            raise Refused(KafkaError.INVALID_TXN_STATE)

    def _verified(self, transactional_id: str, producer_id: int, epoch: int) -> _Transaction:
        known = self._of(transactional_id, producer_id, epoch)
        if known.state == _PREPARED:
            raise Refused(KafkaError.CONCURRENT_TRANSACTIONS)
        return known

    def _of(self, transactional_id: str, producer_id: int, epoch: int) -> _Transaction:
        known = self._known.get(transactional_id)
        if known is None or known.producer_id != producer_id:
            raise Refused(KafkaError.INVALID_PRODUCER_ID_MAPPING)
        if known.epoch != epoch:
            # Newer versions of these requests say PRODUCER_FENCED; librdkafka sends older ones.
            raise Refused(KafkaError.INVALID_PRODUCER_EPOCH)
        return known

    # How it ends.

    def end(self, transactional_id: str, producer_id: int, epoch: int, committed: bool) -> None:
        """Decide the outcome, and write the markers later."""
        known = self._of(transactional_id, producer_id, epoch)
        if known.state == _ONGOING:
            self._prepare(known, committed)
        elif known.state == _EMPTY or known.committed != committed:
            raise Refused(KafkaError.INVALID_TXN_STATE)
        elif known.state == _PREPARED:
            raise Refused(KafkaError.CONCURRENT_TRANSACTIONS)

    def _abort_fenced(self, known: _Transaction) -> None:
        """Abort what is open under an epoch that nobody is given, so its producer is fenced everywhere."""
        known.epoch += 1
        known.last_epoch = -1
        self._prepare(known, committed=False)

    def _prepare(self, known: _Transaction, committed: bool) -> None:
        known.state = _PREPARED
        known.committed = committed
        self._mark_later(known)

    def _mark_later(self, known: _Transaction) -> None:
        leaders: dict[int, tuple[list[Place], list[str]]] = {}
        for place in known.places:
            leaders.setdefault(self._logs[place].leader, ([], []))[0].append(place)
        for group in known.groups:
            # Groups have their coordinators spread over the brokers as well, by something that is the same in every run.
            leaders.setdefault(len(group) % self._options.leaders, ([], []))[1].append(group)
        known.unmarked = len(leaders)
        known.timers.clear()
        low, high = self._options.markers_ms
        for leader, (places, groups) in leaders.items():
            write = _Marking(self, known, places, groups)
            if self._options.slow_leader not in (-1, leader):
                known.timers.append(self._call_in_ms(0, write))
            elif high:
                known.timers.append(self._call_in_ms(low + int(self._draw.random() * (high - low + 1)), write))
            else:
                write()

    def write_markers(self, marking: _Marking) -> None:
        """One leader writes its markers; the last one completes the transaction."""
        if self._holds:
            self._held.append(marking)
            return
        known = marking.known
        for place in marking.places:
            self._logs[place].mark(known.producer_id, known.epoch, known.committed)
        for group in marking.groups:
            self._offsets.mark(group, known.producer_id, known.epoch, known.committed)
        known.unmarked -= 1
        if not known.unmarked:
            known.state = _COMPLETE
            known.places.clear()
            known.groups.clear()
            known.timers.clear()

    def hold(self, holds: bool) -> None:
        """While markers are held, none is written; then all of those are whose time has come."""
        self._holds = holds
        if not holds:
            held, self._held = self._held, []
            for write in held:
                write()

    def _scan_later(self) -> None:
        every_ms = self._options.transaction_scan_ms
        self._scan = self._call_in_ms(every_ms - self._clock_ms() % every_ms, self._abort_late)

    def _abort_late(self) -> None:
        """Abort the transactions whose time is over."""
        self._scan = None
        now_ms = self._clock_ms()
        for known in self._known.values():
            if known.state == _ONGOING and known.begun_ms + known.timeout_ms < now_ms:
                self._abort_fenced(known)
        if any(known.state == _ONGOING for known in self._known.values()):
            self._scan_later()

    def restart(self) -> None:
        """Another broker takes over: what was decided is marked, everywhere, by that one."""
        self._held.clear()
        for known in self._known.values():
            if known.state == _PREPARED:
                for timer in known.timers:
                    timer.cancel()
                self._mark_later(known)


class _Marking:
    """What one leader has to write when a transaction ends."""

    __slots__ = ("_coordinator", "groups", "known", "places")

    def __init__(
        self, coordinator: TransactionCoordinator, known: _Transaction, places: list[Place], groups: list[str]
    ) -> None:
        self._coordinator = coordinator
        self.known = known
        self.places = places
        self.groups = groups

    def __call__(self) -> None:
        self._coordinator.write_markers(self)
