"""How a transactional producer stands: its state, the error that it has failed of, and what the brokers may know."""

from __future__ import annotations

__all__ = ["Standing"]

from collections.abc import Callable

from confluent_kafka import KafkaError

from tests.simulation.broker.api_call import ApiCall
from tests.simulation.broker.client_context import Context
from tests.simulation.broker.sender import Sender
from tests.simulation.broker.transaction_state import TransactionState as S


class Standing:
    """What the parts of a transactional producer share. *failed* is told of a fatal error."""

    def __init__(self, context: Context, sender: Sender, failed: Callable[[KafkaError], None]) -> None:
        self.call = ApiCall(context)
        self.state = S.INIT
        self.error: KafkaError | None = None
        self.needs_new_epoch = False
        self.requests = 0
        """How many requests of this transaction the brokers may know of."""
        self.quiet = False
        """Whether the application has let go of the producer: nothing goes on in the background."""
        self._sender = sender
        self._failed = failed

    @property
    def ids(self) -> tuple[int, int]:
        """The producer id and its epoch."""
        assert self._sender.ids is not None, "no transaction begins without a producer id"
        return self._sender.ids

    def expect(self, *states: S) -> KafkaError | None:
        """What is wrong where the state is none of these."""
        if self.state in states:
            return None
        if self.state in (S.FATAL_ERROR, S.ABORTABLE_ERROR):
            return self.error
        return KafkaError(KafkaError._STATE, f"Operation not valid in state {self.state.label}")

    def fail(self, code: int, reason: str = "", *, new_epoch: bool = False) -> None:
        """The transaction has failed."""
        if self.state == S.FATAL_ERROR:
            return
        self.needs_new_epoch = self.needs_new_epoch or new_epoch
        if self.error is not None:
            return
        self.error = KafkaError(code, reason or KafkaError(code).str(), txn_requires_abort=True)
        if self.state in (S.IN_TRANSACTION, S.BEGIN_COMMIT, S.COMMITTING):
            self.state = S.ABORTABLE_ERROR
        self._sender.purge(under_way=False)

    def fail_for_ever(self, code: int, doing: str) -> None:
        """The producer has failed."""
        error = KafkaError(code, f"{doing}: {KafkaError(code).str()}", fatal=True)
        self.error = error
        self.state = S.FATAL_ERROR
        self._failed(error)
        self._sender.purge(under_way=False)
        self.call.result(error)
