"""The partitions of a transaction: the coordinator is told of each one before the first record goes there."""

from __future__ import annotations

__all__ = ["TransactionPartitions"]

from typing import Any

from confluent_kafka import KafkaError

from tests.simulation.broker.client_context import Context
from tests.simulation.broker.messages import Place
from tests.simulation.broker.refused import Refused
from tests.simulation.broker.sender import Sender
from tests.simulation.broker.transaction_errors import FATAL, NEW_EPOCH, RETRIABLE, normalized, sorted_out
from tests.simulation.broker.transaction_standing import Standing
from tests.simulation.broker.transaction_state import TransactionState as S

# Partitions are added together after this time, and again after these.
ADD_IN_US = 1_000
ADD_AGAIN_US = 500_000
ADD_AGAIN_SOON_US = 20_000

_OPEN = (S.IN_TRANSACTION, S.BEGIN_COMMIT)


class TransactionPartitions:
    """See the module's text."""

    def __init__(self, context: Context, sender: Sender, standing: Standing, transactional_id: str) -> None:
        self._context = context
        self._line = context.line()
        self._sender = sender
        self._standing = standing
        self._id = transactional_id
        self._pending: dict[Place, None] = {}
        self._adding: list[Place] = []
        self._added: dict[Place, None] = {}
        self._timer = False

    def takes(self, place: Place) -> None:
        """A record is to go to a place."""
        if place not in self._added and place not in self._pending and place not in self._adding:
            self._pending[place] = None
            self._add_later(ADD_IN_US)

    def may_send(self, place: Place) -> bool:
        """Whether records may go to a place."""
        return place in self._added and self._standing.state in _OPEN

    def forget_pending(self) -> None:
        """Nothing goes there any more."""
        self._pending.clear()
        self._adding = []

    def forget(self) -> None:
        """The transaction is over."""
        self.forget_pending()
        self._added.clear()

    def _add_later(self, delay_us: int) -> None:
        if not self._timer:
            self._timer = True
            self._context.later(delay_us, self._add)

    def _add(self) -> None:
        self._timer = False
        if self._standing.state not in _OPEN or not self._pending or self._adding or self._standing.quiet:
            return
        producer_id, epoch = self._standing.ids
        self._adding = places = sorted(self._pending)
        self._pending.clear()
        self._standing.requests += 1
        self._line.request(
            "add partitions",
            (self._id, epoch, places),
            lambda: self._context.server.add_partitions(self._id, producer_id, epoch, places),
            lambda result: self._answered(places, result),
        )

    def _answered(self, places: list[Place], result: Any) -> None:
        if self._adding is not places:
            return
        self._adding = []
        if self._standing.state not in _OPEN:
            return
        if type(result) is not Refused:
            self._added.update(dict.fromkeys(places))
            for place in places:
                self._sender.send(place)
            if self._pending:
                self._add_later(0)
            return
        code = result.code
        self._pending = dict.fromkeys(places) | self._pending
        kind = sorted_out(code)
        if kind == FATAL:
            self._standing.fail_for_ever(normalized(code), "Failed to add partitions to transaction")
        elif kind == RETRIABLE:
            self._add_later(ADD_AGAIN_SOON_US if code == KafkaError.CONCURRENT_TRANSACTIONS else ADD_AGAIN_US)
        else:
            self._standing.fail(code, "Failed to add partition(s) to transaction", new_epoch=code in NEW_EPOCH)
