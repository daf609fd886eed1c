"""Node functions in virtual time: what an attempt comes to is decided by its number, and how long it takes by chance.

An execution may be slow, hang until it is cancelled, raise, or come to its end after it was cancelled, when the loop has
moved on and must take no notice. Outcomes come in the order in which executions end, which is not that of beginning.
"""

from __future__ import annotations

__all__ = ["HASTE", "SLUGGISH", "Haste", "SimulatedExecutor", "entry_of", "outcome_of"]

import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from headrace.context import Context
from headrace.execution import Execution, Failed, Outcome
from headrace.invoke import invoke_sync
from headrace.registry import Implementation
from headrace.values import decode
from tests.scenarios.scripted import behave

from .case_types import Entry
from .kernel import Kernel, Process, Timer


class Haste(NamedTuple):
    """How executions take their time, in microseconds; the rest are percentages.

    *slow*: that take *slow_us* more at most. *stubborn*: cancelled ones that end by themselves all the same, *late_us*
    afterwards at most, and whose outcome comes as if nothing had been. *held*: drains that leave an outcome behind, which
    then comes later than those that came after it.
    """

    least_us: int = 100
    most_us: int = 3_000
    slow: int = 5
    slow_us: int = 200_000
    stubborn: int = 40
    late_us: int = 200_000
    held: int = 10


HASTE = Haste()
SLUGGISH = Haste(slow=40, slow_us=3_000_000, stubborn=90, late_us=3_000_000)


def _act(ctx: Context) -> Any:
    return behave(ctx.dependencies)(ctx)  # type: ignore[arg-type]


# One implementation stands for all; what it does in this attempt is given to it in the place of dependencies.
_IMPLEMENTATION = Implementation("simulated", _act)


def entry_of(behaviours: Mapping[str, Sequence[Entry]], execution: Execution) -> Entry:
    """What this attempt does."""
    entries = behaviours[execution.uses]
    entry = entries[min(execution.attempt, len(entries)) - 1]
    if "by_input" in entry:
        text = json.dumps(decode(execution.input), ensure_ascii=False, separators=(",", ":"))
        chosen: Entry = entry["by_input"].get(text, entry)
        return chosen
    return entry


def outcome_of(entry: Entry, execution: Execution) -> Outcome:
    """What comes of an attempt that does this and ends."""
    if "raise" in entry:
        # Made here, because the engine writes a traceback into the log for each failure that it makes.
        return Failed(entry["raise"], "FATAL", fatal=True) if entry.get("fatal") else Failed(entry["raise"])
    if "error" in entry:
        return Failed(entry["error"], "RESULT_ERROR")
    return invoke_sync(_IMPLEMENTATION, Context(execution, entry))


class _Running:
    """One execution in progress. *timer* is None where it hangs."""

    __slots__ = ("entry", "execution", "timer")

    def __init__(self, execution: Execution, entry: Entry) -> None:
        self.execution = execution
        self.entry = entry
        self.timer: Timer | None = None


class SimulatedExecutor:
    """The executor of one worker (``headrace_adapters.base.executing.Executing``), which dies with *process*.

    *wake* is called when :meth:`drain` has something new, and not again before the next drain. *seen*, where it is given,
    is told of every execution that begins.
    """

    def __init__(
        self,
        kernel: Kernel,
        process: Process | None,
        draw: random.Random,
        behaviours: Mapping[str, Sequence[Entry]],
        haste: Haste = HASTE,
        *,
        wake: Callable[[], None] = lambda: None,
        seen: Callable[[Execution], None] | None = None,
    ) -> None:
        self._kernel = kernel
        self._process = process
        self._random = draw.random
        self._behaviours = behaviours
        self._haste = haste
        self.wake = wake
        self._seen = seen
        self._running: dict[int, _Running] = {}
        self._done: list[tuple[int, Outcome]] = []
        self._told = False

    @property
    def in_progress(self) -> int:
        """Executions whose outcome nobody has drained."""
        return len(self._running) + len(self._done)

    def submit(self, executions: Sequence[Execution]) -> None:
        """Begin executions."""
        for execution in executions:
            assert execution.token not in self._running, f"token {execution.token} is given twice"
            if self._seen is not None:
                self._seen(execution)
            running = _Running(execution, entry_of(self._behaviours, execution))
            self._running[execution.token] = running
            if "hang" not in running.entry:
                self._end_in(running, self._duration_us(running.entry))

    def cancel(self, tokens: Iterable[int]) -> None:
        """These are no longer wanted. Each still comes back, as those of every executor do."""
        for token in tokens:
            running = self._running.get(token)
            if running is None:
                continue
            if self._random() * 100 < self._haste.stubborn:
                if running.timer is None:
                    self._end_in(running, int(self._random() * self._haste.late_us))
            else:
                if running.timer is not None:
                    running.timer.cancel()
                running.entry = _CANCELLED
                self._end_in(running, int(self._random() * self._haste.most_us))

    def drain(self) -> list[tuple[int, Outcome]]:
        """The outcomes of what has ended since the last call."""
        self._told = False
        done, self._done = self._done, []
        if len(done) > 1 and self._random() * 100 < self._haste.held:
            self._done = done[:1]
            del done[0]
            self._tell()
        return done

    def _duration_us(self, entry: Entry) -> int:
        haste = self._haste
        duration = 1_000 * int(entry.get("sleep_ms", 0)) + haste.least_us
        duration += int(self._random() * (haste.most_us - haste.least_us))
        if self._random() * 100 < haste.slow:
            duration += int(self._random() * haste.slow_us)
        return duration

    def _end_in(self, running: _Running, delay_us: int) -> None:
        running.timer = self._kernel.call_in(delay_us, lambda: self._end(running), self._process)

    def _end(self, running: _Running) -> None:
        execution = running.execution
        del self._running[execution.token]
        if running.entry is _CANCELLED:
            outcome: Outcome = Failed("the attempt was cancelled", "CANCELLED")
        elif "hang" in running.entry:
            # It was cancelled and ended all the same.
            outcome = outcome_of({"output": "too late"}, execution)
        else:
            outcome = outcome_of(running.entry, execution)
        self._done.append((execution.token, outcome))
        if not self._told:
            self._tell()

    def _tell(self) -> None:
        self._told = True
        self.wake()


_CANCELLED: Entry = {}
