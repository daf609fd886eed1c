"""Async nodes: a task for each, in an asyncio loop.

The loop is one in a thread of its own, or one that is given, and then nothing here leaves that loop. Crossing over to
the loop is paid once for a batch, and so is the way back: outcomes of one round of the loop are told together.
"""

from __future__ import annotations

__all__ = ["AsyncExecutor"]

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from headrace.context import Context
from headrace.invoke import invoke_async
from headrace.registry import Implementation
from headrace_adapters.execution.outbox import Outbox

_T = TypeVar("_T")

_LOGGER = logging.getLogger(__name__)

# An idle loop that is asked to start takes milliseconds; one that takes this long never will.
_START_S_MAX = 30.0


class AsyncExecutor:
    """Runs async implementations.

    A task that goes on *abandon_after_s* after it was cancelled is given up: its execution comes back as cancelled and
    whatever it gives in the end is dropped.
    """

    def __init__(
        self, outbox: Outbox, *, loop: asyncio.AbstractEventLoop | None = None, abandon_after_s: float = 5.0
    ) -> None:
        self._outbox = outbox
        self._loop = loop
        self._abandon_after_s = abandon_after_s
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._telling = False
        self._thread: threading.Thread | None = None
        self._stop: asyncio.Event | None = None

    def submit(self, batch: Sequence[tuple[Implementation, Context]]) -> None:
        """Start all of *batch*; never blocks, but for the first call, which starts the loop's thread."""
        self._call(self._start, batch)

    def cancel(self, withdrawn: Iterable[Context]) -> None:
        """Cancel the tasks of contexts that have been withdrawn."""
        self._call(self._cancel, tuple(withdrawn))

    def close(self, timeout_s: float) -> bool:
        """Cancel what runs and end the loop's own thread; False if that took longer than *timeout_s*."""
        thread, loop = self._thread, self._loop
        if thread is None or loop is None:
            for task in tuple(self._tasks.values()):
                task.cancel()
            return not self._tasks
        if thread.is_alive() and self._stop is not None:
            loop.call_soon_threadsafe(self._stop.set)
            thread.join(timeout_s)
        return not thread.is_alive()

    def _call(self, function: Callable[[_T], None], argument: _T) -> None:
        loop = self._loop or self._start_thread()
        try:
            inside = asyncio.get_running_loop() is loop
        except RuntimeError:
            inside = False
        if inside:
            function(argument)
        else:
            loop.call_soon_threadsafe(function, argument)

    def _start(self, batch: Sequence[tuple[Implementation, Context]]) -> None:
        create_task = asyncio.get_running_loop().create_task
        tasks = self._tasks
        for implementation, ctx in batch:
            tasks[ctx.execution.token] = create_task(self._run(implementation, ctx))

    async def _run(self, implementation: Implementation, ctx: Context) -> None:
        if ctx.cancelled:
            self._outbox.give_up(ctx)
        else:
            self._outbox.finish(ctx, await invoke_async(implementation, ctx))
        del self._tasks[ctx.execution.token]
        self._tell_soon()

    def _tell_soon(self) -> None:
        if not self._telling:
            self._telling = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._telling = False
        self._outbox.tell()

    def _cancel(self, withdrawn: tuple[Context, ...]) -> None:
        loop = asyncio.get_running_loop()
        for ctx in withdrawn:
            task = self._tasks.get(ctx.execution.token)
            if task is not None:
                # Not at once: a task that is cancelled before its first step never runs, and gives no outcome.
                loop.call_soon(task.cancel)
                loop.call_later(self._abandon_after_s, self._abandon, ctx)

    def _abandon(self, ctx: Context) -> None:
        if self._outbox.give_up(ctx):
            _LOGGER.warning(
                "node %r of run %r goes on %g s after it was cancelled and is left to itself: let it pass on "
                "asyncio.CancelledError",
                ctx.node_id,
                ctx.run_id,
                self._abandon_after_s,
            )
            self._tell_soon()

    def _start_thread(self) -> asyncio.AbstractEventLoop:
        ready = threading.Event()

        async def serve() -> None:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            ready.set()
            await self._stop.wait()
            for task in tuple(self._tasks.values()):
                task.cancel()
            # Every task gives its outcome before the loop ends and would cancel it a second time.
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
            self._outbox.tell()

        self._thread = threading.Thread(target=asyncio.run, args=(serve(),), name="headrace-loop", daemon=True)
        self._thread.start()
        if not ready.wait(_START_S_MAX) or self._loop is None:
            raise RuntimeError("the asyncio loop for nodes did not start: see the log for the thread's error")
        return self._loop
