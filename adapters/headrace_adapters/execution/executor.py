"""Runs executions, each where its implementation belongs: loop, thread or process.

For one thread, the engine's: it submits and drains, and is woken when there is something to drain. What it submits
comes back exactly once, in the order of finishing, whatever the code of the node does; a cancelled execution comes
back too, at the latest some seconds after it was cancelled.
"""

from __future__ import annotations

__all__ = ["Executor"]

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from headrace.context import Context
from headrace.execution import Execution, Failed, Outcome
from headrace.limits import Limits
from headrace.registry import Implementation, Kind, Registry
from headrace.values import Json
from headrace_adapters.execution.loop import AsyncExecutor
from headrace_adapters.execution.outbox import Outbox
from headrace_adapters.execution.processes import ProcessExecutor
from headrace_adapters.execution.threads import ThreadExecutor

_NONE: Mapping[str, Any] = MappingProxyType({})


class Executor:
    """The executor of one worker.

    *threads_max* bounds how many sync nodes run at once. With *processes_max* 0, CPU-bound nodes run in threads as
    sync ones do. *wake* is called, from any thread, when :meth:`drain` has something new, and not again before the
    next drain. Async nodes run in *loop* where one is given, else in a loop with a thread of its own. What goes on
    *abandon_after_s* after it was cancelled is left to itself.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        dependencies: Mapping[str, Any] = _NONE,
        threads_max: int = 16,
        processes_max: int = 0,
        limits: Limits | None = None,
        wake: Callable[[], None] = lambda: None,
        loop: asyncio.AbstractEventLoop | None = None,
        abandon_after_s: float = 5.0,
    ) -> None:
        self._registry = registry
        self._dependencies = dependencies
        self._value_bytes_max = (limits or Limits()).value_bytes_max
        self._outbox = Outbox(wake)
        threads = ThreadExecutor(self._outbox, threads_max=threads_max, abandon_after_s=abandon_after_s)
        self._parts: dict[Kind, AsyncExecutor | ThreadExecutor | ProcessExecutor] = {
            "async": AsyncExecutor(self._outbox, loop=loop, abandon_after_s=abandon_after_s),
            "sync": threads,
            "process": ProcessExecutor(self._outbox, processes_max=processes_max) if processes_max else threads,
        }
        self._closed = False

    @property
    def in_progress(self) -> int:
        """How many executions were submitted and have no outcome yet."""
        return self._outbox.in_progress

    def submit(self, executions: Sequence[Execution]) -> None:
        """Take *executions* over; never blocks. One whose ``uses`` is not registered fails at once."""
        if self._closed:
            raise RuntimeError("this executor is closed: it takes no executions")
        # Sorted by kind first, so that each part is told once for the whole batch.
        groups: dict[Kind, list[tuple[Implementation, Context]]] = {"async": [], "sync": [], "process": []}
        outbox, get, missing = self._outbox, self._registry.get, False
        for execution in executions:
            ctx = Context(execution, self._dependencies, value_bytes_max=self._value_bytes_max)
            outbox.add(ctx)
            implementation = get(execution.uses)
            if implementation is None:
                outbox.finish(ctx, _missing(execution))
                missing = True
            else:
                groups[implementation.kind].append((implementation, ctx))
        for kind, group in groups.items():
            if group:
                self._parts[kind].submit(group)
        if missing:
            outbox.tell()

    def cancel(self, tokens: Iterable[int]) -> None:
        """Say that these are no longer wanted. Each still comes back, with what it made of that; unknown ones do not.

        Async nodes get ``CancelledError``, sync ones find ``ctx.cancelled`` and ``ctx.heartbeat()`` raising, and the
        process of a CPU-bound one is killed.
        """
        groups: dict[Kind, list[Context]] = {"async": [], "sync": [], "process": []}
        for token in tokens:
            ctx = self._outbox.live.get(token)
            implementation = None if ctx is None else self._registry.get(ctx.execution.uses)
            if ctx is not None and implementation is not None:
                ctx.withdraw()
                groups[implementation.kind].append(ctx)
        for kind, group in groups.items():
            if group:
                self._parts[kind].cancel(group)

    def drain(self) -> list[tuple[int, Outcome]]:
        """What has finished since the last call, as (token, outcome), in order of finishing."""
        return self._outbox.drain()

    def progress(self, token: int) -> Json | None:
        """What the execution's last heartbeat told; None if it told nothing or is not in progress."""
        ctx = self._outbox.live.get(token)
        return None if ctx is None else ctx.progress

    def close(self, timeout_s: float) -> bool:
        """Cancel everything and end loop, threads and processes; False if some code went on after *timeout_s*.

        For a graceful stop, submit nothing more and wait until nothing is in progress, then close. Outcomes can be
        drained afterwards.
        """
        self._closed = True
        deadline = time.monotonic() + timeout_s
        for ctx in tuple(self._outbox.live.values()):
            ctx.withdraw()
        parts = (self._parts["process"], self._parts["async"], self._parts["sync"])
        ended = [part.close(max(0.0, deadline - time.monotonic())) for part in parts]
        return all(ended)


def _missing(execution: Execution) -> Failed:
    return Failed(
        f"no implementation is registered under {execution.uses!r}: register it in the app of this worker, or correct "
        f"'uses' of node {execution.node_id!r}",
        "IMPLEMENTATION_MISSING",
    )
