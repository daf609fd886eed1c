"""What an operator tells a run: ``resume``, ``signal``, ``cancel``, ``pause``, ``unpause``."""

from __future__ import annotations

__all__ = ["cancel", "pause", "resume", "signal", "unpause"]

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from headrace.adapter import Answer
from headrace.app import Handle
from headrace_adapters.cli.exit_codes import ExitCode, code_of_answer
from headrace_adapters.cli.inputs import read_json
from headrace_adapters.cli.options import AppOption, DebugOption, JsonOption, RunArgument, UrlOption, client_app
from headrace_adapters.cli.output import Output
from headrace_adapters.settings import load_settings

ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="why, for the history of the run")]


def resume(
    run: RunArgument,
    node: Annotated[
        str,
        typer.Argument(metavar="NODE", help="the wait, or its path (subflow-node/wait-node)", show_default=False),
    ],
    action: Annotated[str | None, typer.Option("--action", metavar="NAME", help="selects the edges")] = None,
    output_: Annotated[
        str | None, typer.Option("--output", "-o", metavar="JSON", help="the wait's output: JSON, @file or -")
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", metavar="KEY", help="idempotency key: a second one changes nothing")
    ] = None,
    url: UrlOption = None,
    app: AppOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Answer a wait, so that its run goes on."""
    with Output(as_json, debug) as output:
        value = read_json(output_, "--output")
        _tell(output, url, app, run, lambda handle: handle.resume(node, action, value, key))


def signal(
    run: RunArgument,
    event: Annotated[str, typer.Argument(metavar="EVENT", help="what happened", show_default=False)],
    payload: Annotated[
        str | None, typer.Option("--payload", "-p", metavar="JSON", help="what it carries: JSON, @file or -")
    ] = None,
    url: UrlOption = None,
    app: AppOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Tell a run and its children that an event happened; it is kept for the first wait that asks."""
    with Output(as_json, debug) as output:
        value = read_json(payload, "--payload")
        _tell(output, url, app, run, lambda handle: handle.signal(event, value))


def cancel(
    run: RunArgument,
    reason: ReasonOption = "",
    url: UrlOption = None,
    app: AppOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """End a run as cancelled; its context is kept in the result."""
    with Output(as_json, debug) as output:
        _tell(output, url, app, run, lambda handle: handle.cancel(reason))


def pause(
    run: RunArgument,
    reason: ReasonOption = "",
    url: UrlOption = None,
    app: AppOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Start nothing new in a run, until it is unpaused."""
    with Output(as_json, debug) as output:
        _tell(output, url, app, run, lambda handle: handle.pause(reason))


def unpause(
    run: RunArgument,
    url: UrlOption = None,
    app: AppOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Let a paused run go on."""
    with Output(as_json, debug) as output:
        _tell(output, url, app, run, lambda handle: handle.unpause())


def _tell(
    output: Output, url: str | None, target: str | None, run_id: str, verb: Callable[[Handle], Awaitable[Answer]]
) -> None:
    """Send one command and say how it was taken."""
    settings = load_settings(url=url)
    app = client_app(settings, target)

    async def send() -> Answer:
        async with app.connect(settings.url, **settings.for_adapter()):
            return await verb(app.handle(run_id))

    outcome, reason = asyncio.run(send())
    code = code_of_answer(outcome)
    if output.as_json:
        output.data({"runId": run_id, "outcome": outcome, "reason": reason})
    else:
        style = "green" if code == ExitCode.OK else "yellow"
        output.line((outcome, style), f": {reason}" if reason else "")
    output.end(code)
