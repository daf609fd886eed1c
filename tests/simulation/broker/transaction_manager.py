"""The transactions of a producer, as librdkafka manages them: states, requests, and what each error means.

    retried     the brokers are not ready, or a connection broke: the same request again, for as long as the call may take
    abortable   the transaction has failed; everything but ``abort_transaction`` gives its error (``txn_requires_abort``)
    fatal       the producer has failed; everything gives that error from then on

A commit or an abort that is not answered in time goes on, and its outcome is told to the call that resumes it.
"""

from __future__ import annotations

__all__ = ["TransactionManager"]

from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from tests.simulation.broker.client_context import FOREVER_US, Context, failure
from tests.simulation.broker.messages import Place
from tests.simulation.broker.refused import Refused
from tests.simulation.broker.sender import Sender
from tests.simulation.broker.transaction_errors import FATAL, NEW_EPOCH, RETRIABLE, normalized, sorted_out
from tests.simulation.broker.transaction_offsets import TransactionOffsets
from tests.simulation.broker.transaction_partitions import TransactionPartitions
from tests.simulation.broker.transaction_standing import Standing
from tests.simulation.broker.transaction_state import TransactionState as S

# How long librdkafka waits before it asks for a producer id again.
PRODUCER_ID_AGAIN_US = 500_000


class TransactionManager:
    """See the module's text. *flush* waits until all records are reported; *failed* is told of a fatal error."""

    def __init__(
        self,
        context: Context,
        configuration: dict[str, Any],
        sender: Sender,
        flush: Callable[[int], bool],
        failed: Callable[[KafkaError], None],
    ) -> None:
        self._context = context
        self._server = context.server
        self._line = context.line()
        self._sender = sender
        self._id: str = configuration["transactional.id"]
        self._timeout_ms = int(configuration.get("transaction.timeout.ms", 60_000))
        self._flush = flush
        self.standing = Standing(context, sender, failed)
        self._call = self.standing.call
        self._partitions = TransactionPartitions(context, sender, self.standing, self._id)
        self._offsets = TransactionOffsets(context, sender, self.standing, self._id)
        self._asking_id = False
        self._id_error = 0
        # Whether an abort is over but for a new epoch.
        self._renews = False
        self._failures_before = 0
        sender.may_send = self._partitions.may_send
        sender.on_failure = self._batch_failed
        sender.on_time_out = lambda: self.standing.fail(KafkaError._TIMED_OUT, new_epoch=True)

    def _batch_failed(self, code: int, is_first: bool) -> None:
        if code == KafkaError.INVALID_PRODUCER_EPOCH:
            self.standing.fail_for_ever(KafkaError._FENCED, "ProduceRequest failed")
        elif code == KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER and is_first:
            self.standing.fail_for_ever(code, "ProduceRequest failed due to sequence desynchronization")
        else:
            reason = f"ProduceRequest failed: {KafkaError(code).str()}: current transaction must be aborted"
            self.standing.fail(code, reason, new_epoch=code in NEW_EPOCH)

    # The producer id.

    def init(self, timeout_us: int) -> None:
        """``init_transactions``"""
        until_us = self._context.kernel.now_us + timeout_us
        with self._call.made("init_transactions"):
            self._call.resumable = True
            try:
                self._call.step(self._begin_init, until_us)
            except KafkaException as error:
                code = normalized(self._id_error)
                if error.args[0].code() == KafkaError._TIMED_OUT and code not in (0, KafkaError._TIMED_OUT):
                    reason = f"Failed to initialize Producer ID: {KafkaError(code).str()}"
                    raise failure(code, reason, retriable=True) from None
                raise
            self._call.resumable = False
            error_ = self.standing.expect(S.READY_NOT_ACKED)
            if error_ is not None:
                raise KafkaException(error_)
            self.standing.state = S.READY

    def _begin_init(self) -> None:
        error = self.standing.expect(S.INIT, S.WAIT_PID, S.READY_NOT_ACKED)
        if error is not None:
            self._call.result(error)
        elif self.standing.state != S.READY_NOT_ACKED:
            self.standing.state = S.WAIT_PID
            self._id_error = 0
            self._ask_id()

    def _ask_id(self) -> None:
        if self._asking_id or self.standing.state == S.FATAL_ERROR:
            return
        self._asking_id = True
        current = self._sender.ids
        self._line.request(
            "init producer id",
            (self._id, current),
            lambda: self._server.init_producer_id(self._id, self._timeout_ms, current),
            self._id_answered,
        )

    def _id_answered(self, result: Any) -> None:
        self._asking_id = False
        if self.standing.state == S.FATAL_ERROR:
            return
        if type(result) is not Refused:
            self.standing.needs_new_epoch = self._renews = False
            self._sender.begin_epoch(result)
            if self.standing.state == S.WAIT_PID:
                self.standing.state = S.READY_NOT_ACKED
                self._call.result()
            elif self.standing.state in (S.BEGIN_ABORT, S.ABORTING):
                self.standing.state = S.ABORT_NOT_ACKED
                self._call.result()
            return
        code = normalized(result.code)
        if code in _ID_FATAL:
            self.standing.fail_for_ever(code, "Failed to acquire transactional PID")
            return
        self._id_error = result.code
        # A producer that nobody asks anything of is one that was let go, and with that its requests end.
        self._context.later(PRODUCER_ID_AGAIN_US, lambda: self._call.calling and self._ask_id())

    # Within a transaction.

    def begin(self) -> None:
        """``begin_transaction``"""
        with self._call.made("begin_transaction"):
            error = self.standing.expect(S.READY)
            if error is not None:
                raise KafkaException(error)
            self.standing.state = S.IN_TRANSACTION
            self.standing.error = None
            self._failures_before = self._sender.failures

    def takes(self, place: Place) -> None:
        """A record is to go to a place."""
        self._partitions.takes(place)

    def send_offsets(self, positions: list[TopicPartition], member: Any, timeout_us: int) -> None:
        """``send_offsets_to_transaction``; it may take longer than it is allowed to."""
        until_us = self._context.kernel.now_us + min(timeout_us, self._timeout_ms * 1_000)
        with self._call.made("send_offsets_to_transaction"):
            offsets = {(it.topic, it.partition): (it.offset, it.metadata or "") for it in positions if it.offset >= 0}
            if offsets:
                self._call.step(lambda: self._offsets.begin(offsets, member, until_us), FOREVER_US)

    # The end of a transaction.

    def commit(self, timeout_us: int) -> None:
        """``commit_transaction``"""
        until_us = self._context.kernel.now_us + timeout_us
        with self._call.made("commit_transaction"):
            self._call.step(self._begin_commit, until_us)
            self._call.resumable = True
            self._flush_all(until_us)
            self._call.step(self._commit, until_us)
            self._call.resumable = False
            self._complete(S.COMMIT_NOT_ACKED)

    def _begin_commit(self) -> None:
        error = self.standing.expect(S.IN_TRANSACTION, S.BEGIN_COMMIT, S.COMMITTING, S.COMMIT_NOT_ACKED)
        if error is None and self.standing.state == S.IN_TRANSACTION:
            self.standing.state = S.BEGIN_COMMIT
        self._call.result(error)

    def _flush_all(self, until_us: int) -> None:
        try:
            done = self._flush(until_us)
        except KafkaException:
            # The producer failed while it told of records: the call is left where it is, and nobody ends it.
            self._call.left = True
            raise
        if not done:
            raise failure(
                KafkaError._TIMED_OUT, "Failed to flush all outstanding messages within the API timeout", retriable=True
            )

    def _commit(self) -> None:
        error = self.standing.expect(S.BEGIN_COMMIT, S.COMMITTING, S.COMMIT_NOT_ACKED)
        if error is not None or self.standing.state == S.COMMIT_NOT_ACKED:
            self._call.result(error)
        elif self.standing.state == S.COMMITTING:
            return
        elif failures := self._sender.failures - self._failures_before:
            reason = f"{failures} message(s) failed delivery (see individual delivery reports)"
            self.standing.fail(KafkaError._INCONSISTENT, reason)
            self._call.result(self.standing.error)
        elif not self.standing.requests:
            self._ended(committed=True)
        else:
            self.standing.state = S.COMMITTING
            self._end(committed=True, tries=0)

    def abort(self, timeout_us: int) -> None:
        """``abort_transaction``"""
        until_us = self._context.kernel.now_us + timeout_us
        with self._call.made("abort_transaction"):
            self._call.step(self._begin_abort, until_us)
            self._call.resumable = True
            self._sender.purge(under_way=False)
            self._flush_all(until_us)
            self._call.step(self._abort, until_us)
            self._call.resumable = False
            self._complete(S.ABORT_NOT_ACKED)

    def _begin_abort(self) -> None:
        error = self.standing.expect(S.IN_TRANSACTION, S.BEGIN_ABORT, S.ABORTING, S.ABORTABLE_ERROR, S.ABORT_NOT_ACKED)
        if error is None and self.standing.state in (S.IN_TRANSACTION, S.ABORTABLE_ERROR):
            self.standing.state = S.BEGIN_ABORT
            self._partitions.forget_pending()
        self._call.result(error)

    def _abort(self) -> None:
        error = self.standing.expect(S.BEGIN_ABORT, S.ABORTING, S.ABORT_NOT_ACKED)
        if error is not None or self.standing.state == S.ABORT_NOT_ACKED:
            self._call.result(error)
        elif self._asking_id or self.standing.state == S.ABORTING:
            if self._renews:
                self._ask_id()
        elif not self.standing.requests:
            self._ended(committed=False)
        else:
            self.standing.state = S.ABORTING
            self._end(committed=False, tries=0)

    def _end(self, *, committed: bool, tries: int) -> None:
        if self.standing.quiet and tries:
            return
        producer_id, epoch = self.standing.ids
        self._line.request(
            "commit" if committed else "abort",
            (self._id, epoch),
            lambda: self._server.end_txn(self._id, producer_id, epoch, committed),
            lambda result: self._end_answered(committed, tries, result),
        )

    def _end_answered(self, committed: bool, tries: int, result: Any) -> None:
        code = result.code if type(result) is Refused else 0
        if self.standing.state == S.ABORTABLE_ERROR:
            # It has failed here meanwhile; what was decided there is another matter.
            assert self.standing.error is not None
            fatal = committed and not code
            self._call.result(
                KafkaError(self.standing.error.code(), self.standing.error.str(), fatal=fatal, txn_requires_abort=not fatal)
            )
            return
        if self.standing.state not in (S.COMMITTING, S.ABORTING):
            return
        doing = f"EndTxn {'commit' if committed else 'abort'} failed"
        kind = sorted_out(code)
        if not code:
            self._ended(committed=committed)
        elif kind == FATAL:
            self.standing.fail_for_ever(normalized(code), doing)
        elif kind == RETRIABLE:
            self._context.later(self._sender.backoff(tries), lambda: self._end_again(committed, tries + 1))
        elif code in NEW_EPOCH and not committed:
            self._renews = True
            self._ask_id()
        else:
            if self.standing.state == S.ABORTING:
                self.standing.state = S.BEGIN_ABORT
            self.standing.fail(code, f"{doing}: {KafkaError(code).str()}", new_epoch=code in NEW_EPOCH)
            self._call.result(KafkaError(code, f"{doing}: {KafkaError(code).str()}", txn_requires_abort=True))

    def _end_again(self, committed: bool, tries: int) -> None:
        if self.standing.state == (S.COMMITTING if committed else S.ABORTING):
            self._end(committed=committed, tries=tries)

    def _ended(self, *, committed: bool) -> None:
        if self.standing.needs_new_epoch:
            self._renews = True
            self._ask_id()
            return
        self.standing.state = S.COMMIT_NOT_ACKED if committed else S.ABORT_NOT_ACKED
        self._call.result()

    def _complete(self, state: S) -> None:
        error = self.standing.expect(state)
        if error is not None:
            raise KafkaException(error)
        self._partitions.forget()
        self.standing.needs_new_epoch = False
        self.standing.requests = 0
        self.standing.state = S.READY


_ID_FATAL = (
    KafkaError._FENCED, KafkaError.INVALID_TRANSACTION_TIMEOUT, KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
)  # fmt: skip
