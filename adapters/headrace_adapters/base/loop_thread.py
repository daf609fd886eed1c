"""The thread in which the loop of a worker runs, from its start to its end, whatever it ends of."""

from __future__ import annotations

__all__ = ["LoopThread"]

import asyncio
import threading
import time
from collections.abc import Callable, Sequence

from headrace.errors import StoreError
from headrace_adapters.base.worker_loop import WorkerLoop

# How many rounds of the event loop it takes at most from the news of a commit to the question that follows.
WAKING_ROUNDS = 10

# How long such questions are answered, however many follow.
LAST_ANSWERS_S = 1.0


class LoopThread:
    """Runs *loop* in a thread of its own; made and awaited in an event loop.

    When the loop has ended, each of *closers* is called in that thread, and then *on_end*, in the event loop, with what
    the worker died of as a :class:`StoreError`, or None.
    """

    def __init__(
        self, loop: WorkerLoop, closers: Sequence[Callable[[], object]], on_end: Callable[[StoreError | None], None]
    ) -> None:
        self._loop = loop
        self._closers = closers
        self._on_end = on_end
        self._grace_ends: float | None = None
        self._error: BaseException | None = None
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._thread = threading.Thread(target=self._work, name="headrace-loop", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    @property
    def works(self) -> bool:
        """Whether it has not ended."""
        return not self._ended.done()

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop, and its grace is over. May be asked from any thread."""
        return self._grace_ends is not None and time.monotonic() > self._grace_ends

    async def stop(self, grace_s: float) -> None:
        """Take nothing new, and let what runs finish within *grace_s*; raises what the worker died of."""
        self._grace_ends = time.monotonic() + grace_s
        self._loop.stop()
        await self.failed()

    async def failed(self) -> None:
        """Wait until the thread has ended; raises what the worker died of."""
        await asyncio.shield(self._ended)
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        here = self._ended.get_loop()
        try:
            self._loop.open()
            self._loop.run(lambda: not self.stopping)
            self._answer_last(here)
        except BaseException as error:  # noqa: BLE001 (``failed`` raises it)
            self._error = error
            self._loop.stopped = _as_store_error(error)
        finally:
            for close in self._closers:
                try:
                    close()
                except Exception as error:  # noqa: BLE001 (whatever it is, those who wait for the end are told)
                    self._error = self._error or error
            if not here.is_closed():
                here.call_soon_threadsafe(self._tell_end)

    def _answer_last(self, here: asyncio.AbstractEventLoop) -> None:
        """Whoever was woken by the last commit is about to ask what it brought: answer until nobody asks any more."""
        deadline = time.monotonic() + LAST_ANSWERS_S
        while (left_s := deadline - time.monotonic()) > 0:
            asked = threading.Event()
            try:
                here.call_soon_threadsafe(_after_rounds, here, WAKING_ROUNDS, asked.set)
            except RuntimeError:
                return  # The event loop is closed, and nobody is left in it.
            asked.wait(left_s)
            if not self._loop.answer():
                return

    def _tell_end(self) -> None:
        """In the event loop: nobody is to wait for a worker that has stopped, whatever it died of."""
        self._on_end(None if self._error is None else _as_store_error(self._error))
        if not self._ended.done():
            self._ended.set_result(None)


def _after_rounds(here: asyncio.AbstractEventLoop, rounds: int, then: Callable[[], None]) -> None:
    if rounds:
        here.call_soon(_after_rounds, here, rounds - 1, then)
    else:
        then()


def _as_store_error(error: BaseException) -> StoreError:
    if isinstance(error, StoreError):
        return error
    return StoreError(f"the worker died of a defect, please report it: {type(error).__name__}: {error}")
