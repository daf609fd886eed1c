"""Sync nodes: a bounded pool of threads that costs next to nothing where nodes are quick.

A pool that hands every item to a waiting thread pays for a change of threads each time, which is more than a small
function takes. Here a batch wakes **one** runner, which takes items off the shared queue one after another. More are
woken only when that is too slow:

* a runner whose item took longer than ``_SLOW_S`` wakes another one, if items wait;
* the monitor, a thread that looks every ``_TICK_S`` while items wait, wakes as many as are busy when nobody took an
  item since its last look: 1, 2, 4, 8, ... so a batch of blocking functions fills the pool within a few ticks.

The queue holds the truth: a runner goes to sleep only after it has seen, under the lock under which batches come in,
that the queue is empty. So no item waits for ever, and the monitor only makes things faster.

A thread cannot be ended from outside. A function that goes on after its attempt was withdrawn is told so by
``ctx.cancelled`` and ``ctx.heartbeat()``. When it has not ended ``abandon_after_s`` later its execution comes back as
cancelled, and its thread is left behind and replaced, up to ``threads_max`` times over.
"""

from __future__ import annotations

__all__ = ["ThreadExecutor"]

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence

from headrace.context import Context
from headrace.invoke import invoke_sync
from headrace.registry import Implementation
from headrace_adapters.execution.outbox import Outbox

_LOGGER = logging.getLogger(__name__)

# Above this, a change of threads costs little beside the item itself.
_SLOW_S = 0.000_5

# How long items may wait behind a runner that is stuck in one.
_TICK_S = 0.001

# A full pool cannot do more: then the monitor looks less often, down to this.
_TICK_S_MAX = 0.02


class ThreadExecutor:
    """Runs implementations that are not async in at most *threads_max* threads."""

    def __init__(self, outbox: Outbox, *, threads_max: int = 16, abandon_after_s: float = 5.0) -> None:
        if threads_max < 1:
            raise ValueError(f"threads_max must be at least 1, not {threads_max}")
        self._outbox = outbox
        self._threads_max = threads_max
        self._abandon_after_s = abandon_after_s
        self._queue: deque[tuple[Implementation, Context]] = deque()
        self._taken = 0
        # Guards what is below, and is taken for a batch, a pause or a wake-up, never for an item.
        self._lock = threading.Lock()
        self._runners: list[_Runner] = []
        self._idle: list[_Runner] = []
        self._lost: list[_Runner] = []
        self._withdrawn: deque[tuple[float, Context]] = deque()
        self._closed = False
        self._monitor: threading.Thread | None = None
        self._alert = threading.Event()

    def submit(self, batch: Sequence[tuple[Implementation, Context]]) -> None:
        """Queue all of *batch*; never blocks."""
        with self._lock:
            was_empty = not self._queue
            self._queue.extend(batch)
            # Where items wait already, a runner is on its way to them, and the monitor sees to it that it is enough.
            if was_empty:
                self._wake_one()
        self._watch()

    def cancel(self, withdrawn: Iterable[Context]) -> None:
        """See to it that contexts that have been withdrawn come back, if need be without their code."""
        due = time.monotonic() + self._abandon_after_s
        with self._lock:
            self._withdrawn.extend((due, ctx) for ctx in withdrawn)
        self._watch()

    def close(self, timeout_s: float) -> bool:
        """Drop what waits, let runners end their items; False if some went on for longer than *timeout_s*."""
        with self._lock:
            self._closed = True
            dropped = tuple(self._queue)
            self._queue.clear()
            for runner in self._idle:
                runner.gate.release()
            self._idle.clear()
            threads = [runner.thread for runner in self._runners]
        for _, ctx in dropped:
            self._outbox.give_up(ctx)
        self._outbox.tell()
        self._alert.set()
        if self._monitor is not None:
            threads.append(self._monitor)
        deadline = time.monotonic() + timeout_s
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    # Runners.

    def _wake_one(self) -> bool:
        """Send one more runner to the queue; False if there is none. The lock is held."""
        if self._idle:
            self._idle.pop().gate.release()
            return True
        if len(self._runners) == self._threads_max or self._closed:
            return False
        try:
            self._runners.append(_Runner(self, len(self._runners) + len(self._lost)))
        except RuntimeError:
            # The system gives no more threads. Those that run go on, and the monitor tries again.
            _LOGGER.warning("only %d of %d threads for nodes could be started", len(self._runners), self._threads_max)
            return False
        return True

    def work(self, runner: _Runner) -> None:
        """Take items and run them until the pool is closed or *runner* is left behind."""
        queue, outbox, monotonic = self._queue, self._outbox, time.monotonic
        while not runner.lost:
            try:
                implementation, ctx = queue.popleft()
            except IndexError:
                outbox.tell()
                if not self._pause(runner):
                    return
                continue
            started = monotonic()
            # Only says that items are taken, so a count that two runners overwrite does no harm.
            self._taken += 1
            if ctx.cancelled:
                outbox.give_up(ctx)
                continue
            runner.ctx = ctx
            outbox.finish(ctx, invoke_sync(implementation, ctx))
            runner.ctx = None
            if monotonic() - started > _SLOW_S:
                outbox.tell()
                if queue:
                    with self._lock:
                        self._wake_one()
        with self._lock:
            self._lost.remove(runner)

    def _pause(self, runner: _Runner) -> bool:
        """Sleep until there is something to take; False when the pool is closed."""
        with self._lock:
            if self._closed:
                return False
            if self._queue:
                return True
            self._idle.append(runner)
        runner.gate.acquire()
        return True

    # The monitor.

    def _watch(self) -> None:
        if self._monitor is None:
            self._monitor = threading.Thread(target=self._look_after, name="headrace-monitor", daemon=True)
            self._monitor.start()
        if not self._alert.is_set():
            self._alert.set()

    def _look_after(self) -> None:
        taken, tick_s = -1, _TICK_S
        while not self._closed:
            if self._alert.wait(self._until_due_s()):
                time.sleep(tick_s)
            # A runner leaves outcomes untold while items wait, and may have got stuck in one since.
            self._outbox.tell()
            self._abandon_due()
            stalled, taken = taken == self._taken, self._taken
            if not self._queue:
                self._alert.clear()
                # What came between the look and the clearing would else go unseen.
                if self._queue or self._outbox.untold:
                    self._alert.set()
            full = stalled and bool(self._queue) and not self._wake_more()
            tick_s = min(2 * tick_s, _TICK_S_MAX) if full else _TICK_S

    def _wake_more(self) -> bool:
        with self._lock:
            busy = len(self._runners) - len(self._idle)
            woken = 0
            while woken < max(1, min(busy, len(self._queue))) and self._wake_one():
                woken += 1
            return woken > 0

    def _until_due_s(self) -> float | None:
        with self._lock:
            return max(0.0, self._withdrawn[0][0] - time.monotonic()) if self._withdrawn else None

    def _abandon_due(self) -> None:
        while True:
            with self._lock:
                if not self._withdrawn or self._withdrawn[0][0] > time.monotonic():
                    return
                _, ctx = self._withdrawn.popleft()
            if self._outbox.give_up(ctx):
                self._leave_behind(ctx)
                self._outbox.tell()

    def _leave_behind(self, ctx: Context) -> None:
        """Replace the runner that is still inside *ctx*, if one is (a queued execution has none)."""
        with self._lock:
            runner = next((runner for runner in self._runners if runner.ctx is ctx), None)
            if runner is None:
                return
            replaced = len(self._lost) < self._threads_max
            if replaced:
                # A runner that moves on at this very moment ends after its next item, and is replaced: no harm.
                self._runners.remove(runner)
                self._lost.append(runner)
                runner.lost = True
            lost = len(self._lost)
        _LOGGER.warning(
            "node %r of run %r goes on %g s after it was cancelled; its thread is %s (%d of at most %d are): let long "
            "functions call ctx.heartbeat(), and restart the worker when threads run short",
            ctx.node_id,
            ctx.run_id,
            self._abandon_after_s,
            "left behind" if replaced else "not replaced any more",
            lost,
            self._threads_max,
        )
        with self._lock:
            if replaced and self._queue:
                self._wake_one()


class _Runner:
    """One thread of the pool: *ctx* is what it is inside of, *lost* that nobody waits for it any more."""

    __slots__ = ("ctx", "gate", "lost", "thread")

    def __init__(self, pool: ThreadExecutor, number: int) -> None:
        self.ctx: Context | None = None
        self.lost = False
        self.gate = threading.Lock()
        self.gate.acquire()
        self.thread = threading.Thread(target=pool.work, args=(self,), name=f"headrace-node-{number}", daemon=True)
        self.thread.start()
