"""Which transactional call of a producer is in progress, as librdkafka keeps it.

A call that took too long goes on in the background, and no other one may be made until the same one was made again and
has got the result.
"""

from __future__ import annotations

__all__ = ["ApiCall"]

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from confluent_kafka import KafkaError, KafkaException

from tests.simulation.broker.client_context import Context, failure
from tests.simulation.kernel import Signal


class ApiCall:
    """One for each producer."""

    __slots__ = ("_context", "_error", "_has_result", "_told", "calling", "left", "name", "resumable")

    def __init__(self, context: Context) -> None:
        self._context = context
        self.name = ""
        self.calling = False
        self.resumable = False
        """Whether the call may be made again where it ends now by an error that passes."""
        self.left = False
        """Whether the call ends now half-way, as if it were still in progress."""
        self._has_result = False
        self._error: KafkaError | None = None
        self._told = Signal()

    @contextmanager
    def made(self, name: str) -> Iterator[None]:
        """While the application makes a call."""
        if self.name and self.name != name:
            raise failure(KafkaError._CONFLICT, f"Conflicting {self.name} API call is already in progress", retriable=True)
        if self.calling:
            raise failure(KafkaError._PREV_IN_PROGRESS, f"Simultaneous {self.name} API calls not allowed", retriable=True)
        self.name, self.calling, self.resumable = name, True, False
        try:
            yield
        except KafkaException as error:
            self.calling = False
            left, self.left = self.left, False
            if not left and not (self.resumable and error.args[0].retriable()):
                self._end()
            raise
        self.calling = False
        self._end()

    def _end(self) -> None:
        self.name = ""
        self._has_result = False
        self._error = None

    def step(self, run: Callable[[], None], until_us: int) -> None:
        """Have *run* done, and wait for its result: an earlier one that nobody waited for counts as well."""
        if not self._has_result:
            run()
        while not self._has_result:
            if not self._context.wait(self._told, until_us):
                raise failure(
                    KafkaError._TIMED_OUT, "Timed out waiting for operation to finish, retry call to resume", retriable=True
                )
        error, self._error, self._has_result = self._error, None, False
        if error is not None:
            raise KafkaException(error)

    def result(self, error: KafkaError | None = None) -> None:
        """What became of the call, where there is one."""
        if self.name and self._error is None:
            self._has_result = True
            self._error = error
            self._told.notify()
