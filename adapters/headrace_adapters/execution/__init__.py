"""Executors: they run the code of nodes and give its outcomes back to the engine's thread."""

from __future__ import annotations

__all__ = ["AsyncExecutor", "Executor", "Outbox", "ProcessExecutor", "ThreadExecutor"]

from headrace_adapters.execution.executor import Executor
from headrace_adapters.execution.loop import AsyncExecutor
from headrace_adapters.execution.outbox import Outbox
from headrace_adapters.execution.processes import ProcessExecutor
from headrace_adapters.execution.threads import ThreadExecutor
