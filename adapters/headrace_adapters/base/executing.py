"""What the loop of a worker needs of whatever runs the code of nodes."""

from __future__ import annotations

__all__ = ["Executing"]

from collections.abc import Iterable, Sequence
from typing import Protocol

from headrace.execution import Execution, Outcome


class Executing(Protocol):
    """What the loop needs of an executor (``headrace_adapters.execution.Executor``)."""

    @property
    def in_progress(self) -> int: ...
    def submit(self, executions: Sequence[Execution]) -> None: ...
    def cancel(self, tokens: Iterable[int]) -> None: ...
    def drain(self) -> list[tuple[int, Outcome]]: ...
