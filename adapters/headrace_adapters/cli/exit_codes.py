"""What the exit code of every command means, for scripts."""

from __future__ import annotations

__all__ = ["CliError", "ExitCode", "code_of", "code_of_answer", "code_of_status"]

from enum import IntEnum
from typing import Any

from headrace.errors import CommandRefused, HeadraceError, RunEndedBadly, StoreError


class ExitCode(IntEnum):
    """Of the codes that fit, the first one in this order is taken."""

    OK = 0
    """Done: the run completed, the command was applied, nothing was found wrong, the process stopped as it was told."""
    FAILED = 1
    """The run ended failed; ``check`` found problems."""
    USAGE = 2
    """What was given cannot be used: an option, an app, a flow, a value, a line of a file."""
    CANCELLED = 3
    """The run ended cancelled."""
    REFUSED = 4
    """Nothing was changed: a duplicate, a resume of what does not wait, a command that was refused."""
    STORE = 5
    """The store cannot be used, or the worker was lost."""
    UNFINISHED = 6
    """The run has not ended and time is over (it is kept), or its process was stopped and it was in memory only."""
    UNKNOWN = 7
    """There is no such run."""
    DEFECT = 70
    """An error that nobody foresaw; ``--debug`` shows where."""
    INTERRUPTED = 130
    """Interrupted at once, by Ctrl-C, or by a second one where the first stops gracefully."""


class CliError(Exception):
    """A command ends here: *message* says why and what to do, *details* is for ``--json``."""

    def __init__(self, code: ExitCode, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.details = details


_STATUSES = {"completed": ExitCode.OK, "failed": ExitCode.FAILED, "cancelled": ExitCode.CANCELLED}
_OUTCOMES = {"applied": ExitCode.OK, "accepted": ExitCode.OK, "unknown": ExitCode.UNKNOWN}


def code_of(error: Exception) -> ExitCode:
    """The exit code for an error that ends a command."""
    if isinstance(error, CliError):
        return error.code
    if isinstance(error, StoreError):
        return ExitCode.STORE
    if isinstance(error, CommandRefused):
        return ExitCode.REFUSED
    if isinstance(error, RunEndedBadly):
        return ExitCode.FAILED
    return ExitCode.USAGE if isinstance(error, HeadraceError) else ExitCode.DEFECT


def code_of_status(status: str) -> ExitCode:
    """The exit code for the final state of a run."""
    return _STATUSES[status]


def code_of_answer(outcome: str) -> ExitCode:
    """The exit code for how a command was taken."""
    return _OUTCOMES.get(outcome, ExitCode.REFUSED)
