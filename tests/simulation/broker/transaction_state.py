"""The states of a transactional producer."""

from __future__ import annotations

__all__ = ["TransactionState"]

from enum import IntEnum


class TransactionState(IntEnum):
    """As librdkafka has them."""

    INIT = 0
    WAIT_PID = 1
    READY_NOT_ACKED = 2
    READY = 3
    IN_TRANSACTION = 4
    BEGIN_COMMIT = 5
    COMMITTING = 6
    COMMIT_NOT_ACKED = 7
    BEGIN_ABORT = 8
    ABORTING = 9
    ABORT_NOT_ACKED = 10
    ABORTABLE_ERROR = 11
    FATAL_ERROR = 12

    @property
    def label(self) -> str:
        """Its name in messages."""
        return _LABELS[self]


_LABELS = (
    "Init", "WaitPID", "ReadyNotAcked", "Ready", "InTransaction", "BeginCommit", "CommittingTransaction",
    "CommitNotAcked", "BeginAbort", "AbortingTransaction", "AbortedNotAcked", "AbortableError", "FatalError",
)  # fmt: skip
