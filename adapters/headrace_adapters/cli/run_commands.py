"""``run`` and ``worker``: the commands that work in their own process."""

from __future__ import annotations

__all__ = ["run", "worker"]

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from headrace.adapter import RunResult
from headrace.app import App, Handle
from headrace_adapters.cli.collector import settle_collector
from headrace_adapters.cli.exit_codes import CliError, ExitCode
from headrace_adapters.cli.inputs import read_json, read_object
from headrace_adapters.cli.loading import load_app, load_flow_id
from headrace_adapters.cli.logs import quiet_logs, worker_logs
from headrace_adapters.cli.options import DebugOption, JsonOption, TargetArgument, UrlOption, given_duration_ms
from headrace_adapters.cli.output import Output
from headrace_adapters.cli.progress import follow
from headrace_adapters.cli.results import tell_result
from headrace_adapters.cli.rows import Rows
from headrace_adapters.cli.stopping import Stopping
from headrace_adapters.settings import Settings, load_settings, shown_url

GraceOption = Annotated[
    str | None, typer.Option("--grace", metavar="TIME", help="how long nodes may finish when it is stopped (10s)")
]
SlotsOption = Annotated[int | None, typer.Option("--slots", metavar="N", help="executions at once (1000)")]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads-max", metavar="N", help="executions at once of plain functions (16)")
]
ProcessesOption = Annotated[
    int | None, typer.Option("--processes-max", metavar="N", help="processes for CPU-bound nodes (0: they run in threads)")
]


def run(
    target: TargetArgument,
    flow: Annotated[
        str | None, typer.Argument(metavar="FLOW", help="the flow, where the app has several", show_default=False)
    ] = None,
    input_: Annotated[
        str | None, typer.Option("--input", "-i", metavar="JSON", help="the input: JSON, @file, or - for stdin")
    ] = None,
    context: Annotated[
        str | None, typer.Option("--context", metavar="JSON", help="first context values: an object, @file or -")
    ] = None,
    run_id: Annotated[
        str | None, typer.Option("--run-id", metavar="ID", help="the id of the run; one that exists is gone on with")
    ] = None,
    timeout: Annotated[str | None, typer.Option("--timeout", metavar="TIME", help="stop then; the run is kept")] = None,
    url: UrlOption = None,
    grace: GraceOption = None,
    slots: SlotsOption = None,
    threads_max: ThreadsOption = None,
    processes_max: ProcessesOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Run a flow here and now: work in this process, show the progress of each node, and print the result."""
    with Output(as_json, debug) as output:
        settings = _settings(url, grace, slots, threads_max, processes_max)
        timeout_ms = given_duration_ms("--timeout", timeout)
        quiet_logs(output, debug=debug)
        app = load_app(target)
        flow_id = load_flow_id(app, flow, target)
        start = {
            "flow": flow_id,
            "input": read_json(input_, "--input"),
            "context": read_object(context, "--context"),
            "run_id": run_id,
        }
        result = asyncio.run(_run(output, app, settings, start, None if timeout_ms is None else timeout_ms / 1_000))
        if result is not None:
            output.end(tell_result(output, result))


async def _run(
    output: Output, app: App, settings: Settings, start: dict[str, Any], timeout_s: float | None
) -> RunResult | None:
    """The result; None where this process stopped as it was told and the run is kept."""
    grace_s = settings.grace / 1_000
    with Stopping(output, grace_s) as stopping:
        async with app.work(settings.url, grace_s=grace_s, **settings.for_adapter()):
            handle = await app.start(**start)
            if handle.answer is not None and handle.answer.outcome == "duplicate":
                output.note((f"run {handle.run_id} exists already: going on with it", "yellow"))
            watching = asyncio.create_task(_watch(output, app, handle, start["flow"]))
            asked = asyncio.create_task(stopping.asked.wait())
            try:
                await asyncio.wait({watching, asked}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
                if watching.done():
                    return watching.result()
            finally:
                watching.cancel()
                asked.cancel()
                await asyncio.wait({watching, asked})
    told = stopping.asked.is_set()
    why = "this process was told to stop" if told else f"{timeout_s:g} s are over"
    kept = "it was in memory, and is gone"
    if not settings.url.startswith("memory:"):
        # The worker let what ran finish, and the run may have ended with that.
        async with app.connect(settings.url, **settings.for_adapter()):
            result = await handle.result(0)
        if result is not None:
            return result
        kept = f"it goes on when a worker runs at {shown_url(settings.url)}"
        if told:
            output.note(f"run {handle.run_id} has not ended, because {why}: {kept}")
            if output.as_json:
                output.data({"runId": handle.run_id, "status": "unfinished", "reason": f"{why}: {kept}"})
            return None
    raise CliError(ExitCode.UNFINISHED, f"run {handle.run_id} has not ended, because {why}: {kept}", runId=handle.run_id)


async def _watch(output: Output, app: App, handle: Handle, flow_id: str) -> RunResult:
    if not output.as_json:
        newest = {blueprint.id: blueprint for blueprint in app.blueprints}
        rows = Rows(node.id for node in newest[flow_id].nodes)
        await follow(output, handle.events(follow=True), rows, flow_id, handle.run_id)
    return await handle.result()


def worker(
    target: TargetArgument,
    url: UrlOption = None,
    grace: GraceOption = None,
    slots: SlotsOption = None,
    threads_max: ThreadsOption = None,
    processes_max: ProcessesOption = None,
    standby: Annotated[
        int | None,
        typer.Option("--standby", metavar="N", help="on Kafka: warm copies of each partition beside its owner (0)"),
    ] = None,
    instance: Annotated[
        str | None,
        typer.Option("--instance", metavar="NAME", help="on Kafka: a name that keeps this worker's place in the group"),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option("--state", metavar="DIR", help="on Kafka: where local copies of the state lie (./.headrace)"),
    ] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Work for an app until stopped (Ctrl-C or SIGTERM): take up its runs, and start those that are asked for."""
    with Output(as_json, debug) as output:
        settings = _settings(url, grace, slots, threads_max, processes_max, standby=standby, instance=instance, state=state)
        app = load_app(target)
        settle_collector()
        worker_logs(debug=debug)
        asyncio.run(_work(output, app, settings))


async def _work(output: Output, app: App, settings: Settings) -> None:
    grace_s, place = settings.grace / 1_000, shown_url(settings.url)
    flows = list(dict.fromkeys(blueprint.id for blueprint in app.blueprints))
    with Stopping(output, grace_s) as stopping:
        async with app.work(settings.url, grace_s=grace_s, **settings.for_adapter()):
            if output.as_json:
                output.data({"event": "ready", "app": app.name, "url": place, "flows": flows})
            else:
                output.line(("ready", "green"), f": worker of app {app.name} at {place}, flows: {', '.join(flows)}")
                output.note(("Ctrl-C stops it gracefully", "dim"))
            await stopping.asked.wait()
    if output.as_json:
        output.data({"event": "stopped"})
    else:
        output.line(("stopped", "green"))


def _settings(
    url: str | None,
    grace: str | None,
    slots: int | None,
    threads_max: int | None,
    processes_max: int | None,
    **others: Any,
) -> Settings:
    return load_settings(
        url=url,
        grace=given_duration_ms("--grace", grace),
        slots=slots,
        threads_max=threads_max,
        processes_max=processes_max,
        **others,
    )
