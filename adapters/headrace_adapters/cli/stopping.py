"""Stopping by signal: the first one asks, the second one does not wait.

Nothing is lost by either: what was acknowledged is durable, and what was in progress is begun again by the next worker.
"""

from __future__ import annotations

__all__ = ["Stopping"]

import asyncio
import os
import signal
from types import TracebackType
from typing import Self

from headrace_adapters.cli.exit_codes import ExitCode
from headrace_adapters.cli.output import Output

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopping:
    """Listens for SIGINT and SIGTERM as long as the block lasts."""

    def __init__(self, output: Output, grace_s: float) -> None:
        self._output = output
        self._grace_s = grace_s
        self.asked = asyncio.Event()
        """Set by the first signal."""

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._on_signal)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.remove_signal_handler(number)

    def _on_signal(self) -> None:
        if self.asked.is_set():
            os._exit(int(ExitCode.INTERRUPTED))
        self.asked.set()
        self._output.note(
            (f"stopping: what runs has {self._grace_s:g} s to finish; once more (Ctrl-C) ends it at once", "yellow")
        )
