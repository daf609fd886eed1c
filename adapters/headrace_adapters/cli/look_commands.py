"""Looking at runs: ``result``, ``status``, ``list``, ``events``."""

from __future__ import annotations

__all__ = ["events", "list_", "result", "status"]

import asyncio
import time
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from headrace.adapter import Client
from headrace.app import App
from headrace.errors import DefinitionError
from headrace_adapters.cli.exit_codes import CliError, ExitCode
from headrace_adapters.cli.options import (
    AppOption,
    DebugOption,
    JsonOption,
    RunArgument,
    UrlOption,
    client_app,
    given_duration_ms,
)
from headrace_adapters.cli.output import (
    STATUS_STYLES,
    Output,
    clock_text,
    compact,
    duration_text,
    one_line,
    state_text,
)
from headrace_adapters.cli.progress import node_table
from headrace_adapters.cli.results import tell_result, wait_for_result
from headrace_adapters.cli.rows import Row, Rows
from headrace_adapters.cli.sentences import sentence_of
from headrace_adapters.settings import Settings, load_settings

STATES = ("running", "awaiting", "paused", "parked", "completed", "failed", "cancelled")
ENDED = ("completed", "failed", "cancelled")


def result(
    run: RunArgument,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="wait until the run has ended")] = False,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="TIME", help="wait no longer than this (includes --wait)")
    ] = None,
    url: UrlOption = None,
    app: AppOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Print the final result of a run; the exit code says how it ended."""
    with Output(as_json, debug) as output:
        timeout_ms = given_duration_ms("--timeout", timeout)
        timeout_s = timeout_ms / 1_000 if timeout_ms is not None else None if wait else 0.0
        settings = load_settings(url=url)
        loaded = client_app(settings, app)
        found = asyncio.run(wait_for_result(loaded, settings, run, timeout_s))
        if found is None:
            raise asyncio.run(_not_ended(loaded, settings, run))
        output.end(tell_result(output, found))


async def _not_ended(app: App, settings: Settings, run_id: str) -> CliError:
    async with app.connect(settings.url, **settings.for_adapter()) as client:
        view = await client.status(run_id)
    if view is None:
        return _unknown(run_id)
    awaited = f", awaiting {', '.join(view['awaiting'])}" if view.get("awaiting") else ""
    return CliError(
        ExitCode.UNFINISHED,
        f"run {run_id} has not ended: it is {view['status']}{awaited} (--wait waits for its end)",
        runId=run_id,
        status=view["status"],
    )


def _unknown(run_id: str) -> CliError:
    return CliError(
        ExitCode.UNKNOWN,
        f"nothing is known of run {run_id!r} here: look for it with 'headrace list', or give another --url (a start that "
        "was accepted while no worker ran is known once a worker has taken it up)",
        runId=run_id,
    )


def status(
    run: RunArgument,
    url: UrlOption = None,
    app: AppOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show a run: the states of its nodes, what it awaits, its errors."""
    with Output(as_json, debug) as output:
        settings = load_settings(url=url)
        view = asyncio.run(_status(client_app(settings, app), settings, run))
        if output.as_json:
            output.data(view)
        else:
            _show_status(output, view)


async def _status(app: App, settings: Settings, run_id: str) -> dict[str, Any]:
    async with app.connect(settings.url, **settings.for_adapter()) as client:
        view = await client.status(run_id)
        if view is None:
            raise _unknown(run_id)
        if view["status"] in ENDED and not view.get("nodes"):
            # Of a run that has ended the state is gone; what became of its nodes is in its history.
            view["nodes"] = await _nodes_of_history(client, run_id)
    return view


async def _nodes_of_history(client: Client, run_id: str) -> list[dict[str, Any]]:
    rows = Rows()
    async for event in client.events(run_id):
        rows.apply(event)
    return [
        row.to_json() | {"tookMs": row.taken_ms(row.until_ms or 0)} if row.since_ms is not None else row.to_json()
        for row in rows.by_id.values()
    ]


def _show_status(output: Output, view: dict[str, Any]) -> None:
    now_ms = time.time_ns() // 1_000_000
    output.line(
        (f"run {view['runId']}", "bold"),
        f" of {view['flow']} (version {view['version']})  ",
        (view["status"], STATUS_STYLES.get(view["status"], "")),
        (f"  started {clock_text(view['startedAt'], with_date=True)}", "dim"),
        (f", ended after {duration_text(view['endedAt'] - view['startedAt'])}" if view.get("endedAt") else "", "dim"),
    )
    for name in ("parkedReason", "reason"):
        if view.get(name):
            output.line("  ", (view[name], "yellow"))
    output.table(node_table([_row_of(node) for node in view["nodes"]], now_ms))
    waits = view.get("waits") or [{"node": path} for path in view.get("awaiting", ())]
    for wait in waits:
        event = wait.get("event")
        signal = f" or headrace signal {view['runId']} {event}" if event else ""
        advice = f"  (headrace resume {view['runId']} {wait['node']}{signal})"
        output.line(("awaits ", "magenta"), wait["node"], (advice, "dim"))
    for error in view.get("errors", ()):
        message = one_line(str(error.get("message", "")))
        output.line(("error ", "red"), f"{error.get('nodeId') or 'the run'}: {message} ({error.get('code')})")
    for key, value in view.get("context", {}).items():
        output.line(("context ", "dim"), f"{key} = {compact(value)}")
    if view["status"] == "completed":
        output.line(("output ", "green"), compact(view.get("output"), 400))


def _row_of(node: dict[str, Any]) -> Row:
    items = node.get("items") or {}
    detail = node.get("message") or ""
    if node.get("event"):
        detail = f"for the event {node['event']}"
    elif node.get("child"):
        detail = f"run {node['child']}"
    elif node.get("action") is not None:
        detail = f"action {node['action']}"
    took_ms = node.get("tookMs")
    return Row(
        node["id"],
        node["state"],
        node.get("attempt", 1),
        since_ms=None if took_ms is None else 1,
        until_ms=None if took_ms is None else 1 + took_ms,
        due_ms=node.get("due"),
        detail=detail,
        iteration=node.get("iteration", 0),
        total=items.get("total"),
        done=items.get("done", 0),
        failed=items.get("failed", 0),
    )


def list_(
    state: Annotated[
        list[str] | None,
        typer.Option("--state", "-s", metavar="STATE", help=f"only these (may be repeated): {', '.join(STATES)}"),
    ] = None,
    flow: Annotated[str | None, typer.Option("--flow", "-f", metavar="FLOW", help="only runs of this flow")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, help="at most so many")] = 100,
    url: UrlOption = None,
    app: AppOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """List runs; those that have ended as long as they are remembered."""
    with Output(as_json, debug) as output:
        for name in state or ():
            if name not in STATES:
                raise DefinitionError(f"--state: there is no state {name!r}; there are {', '.join(STATES)}")
        settings = load_settings(url=url)
        loaded = client_app(settings, app)

        async def ask() -> list[dict[str, Any]]:
            async with loaded.connect(settings.url, **settings.for_adapter()) as client:
                found = await client.runs(states=frozenset(state) if state else None, flow=flow, limit=limit)
            return sorted(found, key=lambda row: (row["startedAt"], row["runId"]))

        rows = asyncio.run(ask())
        if output.as_json:
            for row in rows:
                output.data(row)
            return
        _show_runs(output, rows, limit)


def _show_runs(output: Output, rows: list[dict[str, Any]], limit: int) -> None:
    if not rows:
        output.note(("no runs", "dim"))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("run", "flow", "version", "status", "started", "took"):
        table.add_column(name, overflow="fold" if name == "run" else "ellipsis", no_wrap=name != "run")
    now_ms = time.time_ns() // 1_000_000
    for row in rows:
        taken = duration_text(row.get("endedAt", now_ms) - row["startedAt"])
        table.add_row(
            Text(row["runId"]),
            Text(row["flow"]),
            Text(row["version"]),
            state_text(row["status"]),
            Text(clock_text(row["startedAt"], with_date=True)),
            Text(taken, "" if "endedAt" in row else "dim"),
        )
    output.table(table)
    if len(rows) == limit:
        output.note((f"there may be more than these {limit}: --limit shows more", "dim"))


def events(
    run: RunArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on until the run ends")] = False,
    url: UrlOption = None,
    app: AppOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Print the history of a run, one event a line."""
    with Output(as_json, debug) as output:
        settings = load_settings(url=url)
        asyncio.run(_events(output, client_app(settings, app), settings, run, follow=follow))


async def _events(output: Output, app: App, settings: Settings, run_id: str, *, follow: bool) -> None:
    found = False
    async with app.connect(settings.url, **settings.for_adapter()) as client:
        async for event in client.events(run_id, follow=follow):
            found = True
            if output.as_json:
                output.data(event)
                continue
            said = sentence_of(event)
            subject = f"{said.subject}: " if said.subject else ""
            style = STATUS_STYLES.get(said.state, "dim" if said.detail else "")
            seq = "" if event.get("seq") is None else str(event["seq"])
            output.line((f"{seq:>5} {clock_text(event['at'])}  ", "dim"), (subject, "bold"), (said.text, style))
        if not found and await client.status(run_id) is None:
            raise _unknown(run_id)
