"""Offsets in a transaction: its coordinator is told of the group, and then the group's of the offsets."""

from __future__ import annotations

__all__ = ["TransactionOffsets"]

from typing import Any

from confluent_kafka import KafkaError

from tests.simulation.broker.client_context import Context
from tests.simulation.broker.messages import Place
from tests.simulation.broker.refused import Refused
from tests.simulation.broker.sender import Sender
from tests.simulation.broker.transaction_errors import (
    ABORTABLE,
    FATAL,
    OFFSET_COMMITS,
    RETRIABLE,
    UNANSWERED,
    normalized,
    sorted_out,
)
from tests.simulation.broker.transaction_standing import Standing
from tests.simulation.broker.transaction_state import TransactionState as S

COMMIT_AGAIN_US = 500_000


class TransactionOffsets:
    """See the module's text."""

    def __init__(self, context: Context, sender: Sender, standing: Standing, transactional_id: str) -> None:
        self._context = context
        self._server = context.server
        self._line = context.line()
        self._group_line = context.line()
        self._sender = sender
        self._standing = standing
        self._id = transactional_id

    def begin(self, offsets: dict[Place, tuple[int, str]], member: Any, until_us: int) -> None:
        """Send offsets for *member*; the call in progress is told what became of it, rather late than never."""
        error = self._standing.expect(S.IN_TRANSACTION)
        if error is not None:
            self._standing.call.result(error)
            return
        self._standing.requests += 1
        self._add(offsets, member, until_us, 0)

    def _add(self, offsets: dict[Place, tuple[int, str]], member: Any, until_us: int, tries: int) -> None:
        producer_id, epoch = self._standing.ids

        def answer(result: Any) -> None:
            code = result.code if type(result) is Refused else 0
            expired = self._context.kernel.now_us >= until_us
            if not code and not expired:
                self._commit(offsets, member, until_us)
                return
            code = code or KafkaError._TIMED_OUT
            kind = ABORTABLE if code == KafkaError.PRODUCER_FENCED else sorted_out(code)
            if kind == RETRIABLE and not expired:
                delay_us = self._sender.backoff(tries)
                self._context.later(delay_us, lambda: self._add(offsets, member, until_us, tries + 1))
                return
            # What was not answered may be known to the brokers, and has to be ended there.
            self._standing.requests -= code not in UNANSWERED
            self._failed(kind, code, "Failed to add offsets to transaction")

        self._line.request(
            "add offsets",
            (self._id, epoch, member.group),
            lambda: self._server.add_offsets(self._id, producer_id, epoch, member.group),
            answer,
        )

    def _commit(self, offsets: dict[Place, tuple[int, str]], member: Any, until_us: int) -> None:
        if self._standing.state != S.IN_TRANSACTION:
            self._failed(ABORTABLE, KafkaError._STATE, "Failed to commit offsets to transaction")
            return
        producer_id, epoch = self._standing.ids

        def answer(result: Any) -> None:
            code = result.code if type(result) is Refused else 0
            if not code:
                self._standing.call.result()
                return
            kind = OFFSET_COMMITS.get(code, ABORTABLE)
            if kind == RETRIABLE and self._context.kernel.now_us < until_us:
                self._context.later(COMMIT_AGAIN_US, lambda: self._commit(offsets, member, until_us))
                return
            self._failed(FATAL if kind == FATAL else ABORTABLE, code, "Failed to commit offsets to transaction")

        self._group_line.request(
            "commit offsets in transaction",
            (self._id, epoch, member, offsets),
            lambda: self._server.txn_offset_commit(
                self._id, producer_id, epoch, member.group, member.member_id, member.generation, member.instance_id, offsets
            ),
            answer,
            max(1, until_us - self._context.kernel.now_us),
        )

    def _failed(self, kind: int, code: int, doing: str) -> None:
        code = normalized(code)
        if kind == FATAL:
            self._standing.fail_for_ever(code, doing)
            return
        reason = f"{doing}: {KafkaError(code).str()}"
        if kind == ABORTABLE:
            self._standing.fail(code, reason)
            self._standing.call.result(KafkaError(code, reason, txn_requires_abort=True))
        else:
            self._standing.call.result(KafkaError(code, reason, retriable=True))
