"""``start``: one run, or as many as a file has lines."""

from __future__ import annotations

__all__ = ["start"]

import asyncio
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Annotated

import typer
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

from headrace.app import App, Handle
from headrace.errors import CommandRefused, DefinitionError, HeadraceError, StoreError, ValueRefused
from headrace_adapters.cli.exit_codes import CliError, ExitCode, code_of_answer
from headrace_adapters.cli.inputs import read_json, read_object
from headrace_adapters.cli.options import AppOption, DebugOption, JsonOption, UrlOption, client_app
from headrace_adapters.cli.output import Output
from headrace_adapters.cli.start_events import BadLine, StartLine, read_line, read_lines
from headrace_adapters.settings import Settings, load_settings

# Starts that are sent and not yet durable.
OUTSTANDING_MAX = 256


def start(
    flow: Annotated[
        str | None, typer.Argument(metavar="FLOW", help="the flow, also of lines that name none", show_default=False)
    ] = None,
    app: AppOption = None,
    input_: Annotated[
        str | None, typer.Option("--input", "-i", metavar="JSON", help="the input: JSON, @file, or - for stdin")
    ] = None,
    context: Annotated[
        str | None, typer.Option("--context", metavar="JSON", help="first context values: an object, @file or -")
    ] = None,
    run_id: Annotated[
        str | None, typer.Option("--run-id", metavar="ID", help="the id of the run; one that exists changes nothing")
    ] = None,
    version: Annotated[
        str | None, typer.Option("--flow-version", metavar="V", help="the version of the flow (default: the newest)")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="FILE", help="start events, one JSON object a line; - for stdin"),
    ] = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Start one run, or with --from as many as there are lines; returns when they are durable."""
    with Output(as_json, debug) as output:
        settings = load_settings(url=url)
        loaded = client_app(settings, app)
        if source is not None:
            if any(option is not None for option in (input_, context, run_id, version)):
                raise DefinitionError("--from takes input, context, run id and version from its lines: leave these out")
            output.end(asyncio.run(_start_many(output, loaded, settings, source, flow)))
            return
        if flow is None:
            raise DefinitionError("say which FLOW to start, or give --from a file of start events")
        line = StartLine(run_id, flow, version, read_json(input_, "--input"), read_object(context, "--context") or {})
        output.end(asyncio.run(_start_one(output, loaded, settings, line)))


async def _start_one(output: Output, app: App, settings: Settings, line: StartLine) -> ExitCode:
    async with app.connect(settings.url, **settings.for_adapter()):
        handle = await _submit(app, line)
    assert handle.answer is not None
    outcome, reason = handle.answer
    if output.as_json:
        output.data({"runId": handle.run_id, "outcome": outcome, "reason": reason})
    else:
        style = "green" if code_of_answer(outcome) == ExitCode.OK else "yellow"
        said = {"applied": "started", "duplicate": "exists already"}.get(outcome, outcome)
        output.line((f"run {handle.run_id} ", "bold"), (said, style), f": {reason}" if reason else "")
    return code_of_answer(outcome)


async def _submit(app: App, line: StartLine) -> Handle:
    return await app.start(line.flow, line.input, run_id=line.run_id, version=line.version, context=line.context)


class _Counts:
    """What became of the lines so far."""

    def __init__(self) -> None:
        self.lines = self.started = self.accepted = self.duplicate = self.refused = self.bad = 0

    def count(self, outcome: str) -> None:
        name = "started" if outcome == "applied" else outcome
        setattr(self, name, getattr(self, name) + 1)

    def __str__(self) -> str:
        accepted = f", {self.accepted} accepted for a worker to come" if self.accepted else ""
        return f"{self.started} started{accepted}, {self.duplicate} duplicate, {self.refused} refused, {self.bad} bad"

    @property
    def code(self) -> ExitCode:
        if self.bad:
            return ExitCode.USAGE
        return ExitCode.REFUSED if self.refused else ExitCode.OK


class _Sender:
    """Sends lines, a bounded number of them at once, and counts what became of them."""

    def __init__(self, output: Output, app: App, flow: str | None) -> None:
        self.counts = _Counts()
        self._output = output
        self._app = app
        self._flow = flow
        self._room = asyncio.Semaphore(OUTSTANDING_MAX)
        self._tasks: set[asyncio.Task[None]] = set()
        self._lost: StoreError | None = None

    async def send(self, number: int, line: bytes) -> None:
        """Send one line as soon as there is room; raises :class:`StoreError` when nothing can be sent any more."""
        self.counts.lines += 1
        try:
            parsed = read_line(line, self._flow)
        except BadLine as error:
            self._tell_bad(number, error, error.field, error.expected)
            return
        await self._room.acquire()
        if self._lost is not None:
            raise self._lost
        task = asyncio.create_task(self._send(number, parsed))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finish(self) -> None:
        """Wait for what is outstanding."""
        if self._tasks:
            await asyncio.wait(set(self._tasks))
        if self._lost is not None:
            raise self._lost

    async def _send(self, number: int, line: StartLine) -> None:
        try:
            handle = await _submit(self._app, line)
            assert handle.answer is not None
            self.counts.count(handle.answer.outcome)
        except StoreError as error:
            self._lost = error
        except CommandRefused as error:
            self.counts.refused += 1
            self._tell(number, ExitCode.REFUSED, str(error))
        except HeadraceError as error:
            self._tell_bad(number, error, "blueprintId" if isinstance(error, DefinitionError) else _field_of(error), "")
        finally:
            self._room.release()

    def _tell_bad(self, number: int, error: HeadraceError, field: str, expected: str) -> None:
        self.counts.bad += 1
        details = {"field": field} if field else {}
        self._tell(number, ExitCode.USAGE, str(error), **details, **({"expected": expected} if expected else {}))

    def _tell(self, number: int, code: ExitCode, message: str, **details: str) -> None:
        if self._output.as_json:
            self._output.error(code, message, line=number, **details)
        else:
            self._output.note((f"line {number}: ", "bold red"), message)


def _field_of(error: HeadraceError) -> str:
    """Which field a refused value came from, by what the message names first."""
    text = str(error) if isinstance(error, ValueRefused) else ""
    starts = {"the input": "input", "context value": "context", "the id of a run": "runId"}
    return next((field for start, field in starts.items() if text.startswith(start)), "")


async def _start_many(output: Output, app: App, settings: Settings, source: str, flow: str | None) -> ExitCode:
    sender = _Sender(output, app, flow)
    counts = sender.counts
    with ExitStack() as stack:
        stream, size = _open(source, stack)
        progress = stack.enter_context(_progress(output))
        bar = progress.add_task(str(counts), total=size)
        try:
            async with app.connect(settings.url, **settings.for_adapter()):
                async for number, line in read_lines(stream):
                    await sender.send(number, line)
                    progress.update(bar, advance=len(line) + 1, description=str(counts))
                await sender.finish()
        except StoreError as error:
            raise CliError(
                ExitCode.STORE, f"{error} (until then: {counts}; sending the same file again is harmless where its "
                "lines have run ids)", **_counted(counts)
            ) from error  # fmt: skip
        finally:
            progress.update(bar, completed=size or progress.tasks[0].completed, description=str(counts))
    if output.as_json:
        output.data(_counted(counts))
    else:
        output.line(f"{counts.lines} lines: {counts}")
    return counts.code


def _counted(counts: _Counts) -> dict[str, int]:
    return {"lines": counts.lines, "started": counts.started, "accepted": counts.accepted,
            "duplicate": counts.duplicate, "refused": counts.refused, "bad": counts.bad}  # fmt: skip


def _open(source: str, stack: ExitStack) -> tuple[IO[bytes], int | None]:
    if source == "-":
        return sys.stdin.buffer, None
    path = Path(source)
    try:
        return stack.enter_context(path.open("rb")), path.stat().st_size or None
    except OSError as error:
        raise DefinitionError(f"--from: {source} cannot be read: {error.strerror or error}") from None


def _progress(output: Output) -> Progress:
    return Progress(
        SpinnerColumn(),
        BarColumn(bar_width=30),
        TaskProgressColumn(),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
        console=output.err,
        transient=True,
        disable=output.as_json or not output.err.is_terminal,
    )
