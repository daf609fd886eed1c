"""Where a command writes: for people or for programs, and how its errors end it.

A command does its work within ``with Output(...) as output``. An error that leaves the block is told in one line and
becomes the exit code; a traceback is shown only with ``--debug``.
"""

from __future__ import annotations

__all__ = ["Output"]

import os
import sys
import time
from types import TracebackType
from typing import IO, Any, Self

import orjson
import typer
from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from headrace.errors import BlueprintInvalid
from headrace_adapters.cli.exit_codes import CliError, ExitCode, code_of

# Of a stream that is no terminal nobody knows the width, and programs want whole lines.
WIDTH_WITHOUT_TERMINAL = 1_000

STATUS_STYLES = {
    "completed": "green",
    "failed": "bold red",
    "cancelled": "yellow",
    "poisoned": "red",
    "running": "cyan",
    "awaiting": "magenta",
    "waiting": "magenta",
    "paused": "yellow",
    "parked": "yellow",
    "retrying": "yellow",
    "sleeping": "blue",
    "skipped": "dim",
    "pending": "dim",
}


class Output:
    """The streams of one command."""

    def __init__(self, as_json: bool = False, debug: bool = False) -> None:
        self.as_json = as_json
        self._debug = debug
        self._stdout = sys.stdout
        self.out = _console(sys.stdout)
        self.err = _console(sys.stderr)

    def data(self, value: Any) -> None:
        """For programs: one JSON value on a line of its own."""
        self._stdout.write(orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE).decode())
        self._stdout.flush()

    def error(self, code: ExitCode, message: str, **details: Any) -> None:
        """For programs: an error, as an object on a line of standard error."""
        told = {"code": code.name, "exitCode": int(code), "message": message, **details}
        sys.stderr.write(orjson.dumps({"error": told}, option=orjson.OPT_APPEND_NEWLINE).decode())
        sys.stderr.flush()

    def line(self, *parts: str | tuple[str, str]) -> None:
        """For people: a line of the result. A part is text, or text with its style."""
        self.out.print(Text.assemble(*parts), soft_wrap=True)

    def note(self, *parts: str | tuple[str, str]) -> None:
        """For people: a remark beside the result; programs get none."""
        if not self.as_json:
            self.err.print(Text.assemble(*parts), soft_wrap=True)

    def value(self, value: Any) -> None:
        """For people: a JSON value, indented, with colours on a terminal."""
        text = pretty(value)
        if self.out.is_terminal:
            self.out.print(Syntax(text, "json", background_color="default", word_wrap=True))
        else:
            self.out.print(Text(text), soft_wrap=True)

    def table(self, table: Table) -> None:
        """For people: a table."""
        self.out.print(table)

    def end(self, code: ExitCode) -> None:
        """End the command with *code*, unless that is the usual one."""
        if code != ExitCode.OK:
            raise typer.Exit(int(code))

    def __enter__(self) -> Self:
        if self.as_json:
            # What an app or a node prints must not get between the lines that a program reads.
            sys.stdout = sys.stderr
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        sys.stdout = self._stdout
        if isinstance(error, BrokenPipeError):
            # Whoever read this has seen enough; the interpreter must not try again when it ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(int(ExitCode.OK)) from None
        if isinstance(error, Exception) and not isinstance(error, typer.Exit | typer.Abort) and not _is_usage(error):
            self._tell(error)
            raise typer.Exit(int(code_of(error))) from None

    def _tell(self, error: Exception) -> None:
        code = code_of(error)
        message = str(error)
        if code == ExitCode.DEFECT:
            message = f"unexpected {type(error).__name__}: {error} (--debug shows where; please report it)"
        if self._debug:
            self.err.print_exception()
        if self.as_json:
            details = error.details if isinstance(error, CliError) else {}
            if isinstance(error, BlueprintInvalid):
                details = {"problems": [problem._asdict() for problem in error.problems]}
            self.error(code, message, **details)
        else:
            self.err.print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)


def pretty(value: Any) -> str:
    """A JSON value, indented."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def compact(value: Any, chars_max: int = 80) -> str:
    """A JSON value on one line, cut where it is longer."""
    text = orjson.dumps(value).decode()
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"


def one_line(text: str) -> str:
    """Text of several lines on one."""
    return " / ".join(line.strip() for line in text.splitlines() if line.strip())


def state_text(state: str) -> Text:
    """The state of a run or a node in its colour."""
    return Text(state, STATUS_STYLES.get(state, ""))


def clock_text(at_ms: int | None, *, with_date: bool = False) -> str:
    """A time in this machine's zone."""
    if not at_ms:
        return ""
    return time.strftime("%Y-%m-%d %H:%M:%S" if with_date else "%H:%M:%S", time.localtime(at_ms / 1_000))


def duration_text(duration_ms: float) -> str:
    """A duration as people say it: ``120 ms``, ``1.25 s``, ``3 min 5 s``, ``2 h 10 min``, ``3 d 4 h``."""
    seconds = max(0.0, duration_ms / 1_000)
    if seconds < 1:
        return f"{seconds * 1_000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    whole = int(seconds)
    for unit, name, below, below_name in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit:
            rest = whole % unit // below
            return f"{whole // unit} {name}" + (f" {rest} {below_name}" if rest else "")
    raise AssertionError(whole)


def _is_usage(error: Exception) -> bool:
    """Errors of the parser of options, which tells them itself. It offers no class for them in all of its versions."""
    return hasattr(error, "format_message") and hasattr(error, "show")


def _console(stream: IO[str]) -> Console:
    terminal = Console(file=stream, highlight=False, markup=False, emoji=False)
    if terminal.is_terminal:
        return terminal
    return Console(file=stream, highlight=False, markup=False, emoji=False, width=WIDTH_WITHOUT_TERMINAL)
