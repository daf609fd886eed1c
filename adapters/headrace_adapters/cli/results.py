"""Telling the end of a run, and waiting for it from outside of its worker."""

from __future__ import annotations

__all__ = ["tell_result", "wait_for_result"]

import asyncio

from headrace.adapter import RunResult
from headrace.app import App
from headrace.errors import StoreError
from headrace_adapters.cli.exit_codes import ExitCode, code_of_status
from headrace_adapters.cli.output import STATUS_STYLES, Output, duration_text, one_line
from headrace_adapters.cli.progress import MARKS
from headrace_adapters.settings import Settings

# How long to wait before a worker that is not there is looked for again.
RECONNECT_S = 0.5


def tell_result(output: Output, result: RunResult) -> ExitCode:
    """Write the result; gives the exit code that says how the run ended."""
    if output.as_json:
        output.data(result.to_json())
    else:
        style = STATUS_STYLES.get(result.status, "")
        output.line(
            (f"{MARKS.get(result.status, '')} ", style),
            (f"run {result.run_id}", "bold"),
            f" of {result.blueprint_id} (version {result.version}) ",
            (result.status, style),
            f" in {duration_text(result.ended_at_ms - result.started_at_ms)}",
        )
        for error in result.errors:
            named = error.get("nodeId") or "the run"
            output.line(
                "  ",
                (str(named), "bold"),
                f": {one_line(str(error.get('message', '')))} ",
                (f"({error.get('code')})", "dim"),
            )
        if result.status == "completed":
            output.value(result.output)
    return code_of_status(result.status)


async def wait_for_result(app: App, settings: Settings, run_id: str, timeout_s: float | None) -> RunResult | None:
    """The result of a run whose worker may come and go meanwhile; None when time is over.

    Between two looks the store is let go of, so that a worker can take it.
    """
    loop = asyncio.get_running_loop()
    deadline = None if timeout_s is None else loop.time() + timeout_s
    reached = False
    while True:
        left_s = None if deadline is None else max(0.0, deadline - loop.time())
        try:
            async with app.connect(settings.url, **settings.for_adapter()) as client:
                reached = True
                result = await client.result(run_id, left_s)
        except StoreError:
            # A store that cannot be used at all is told at once; a worker that went away may come back.
            if not reached:
                raise
            result = None
        if result is not None or (deadline is not None and loop.time() >= deadline):
            return result
        await asyncio.sleep(RECONNECT_S)
