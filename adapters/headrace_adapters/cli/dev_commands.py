"""``dev broker``: a real Kafka broker on this machine, for whoever develops."""

from __future__ import annotations

__all__ = ["dev"]

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from headrace.errors import StoreError
from headrace_adapters.cli.options import DebugOption, JsonOption
from headrace_adapters.cli.output import Output
from headrace_adapters.cli.stopping import Stopping
from headrace_adapters.devbroker import Cluster, check_shape, installed_kafka

GRACE_S = 30.0
LOOK_S = 0.5

dev = typer.Typer(name="dev", no_args_is_help=True)


@dev.callback()
def _dev() -> None:
    """For developing: a real Kafka broker on this machine."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    nodes: int
    port: int
    data: Path
    heap: str


@dev.command()
def broker(
    nodes: Annotated[int, typer.Option("--nodes", metavar="N", help="1, or 3 of which one may fail")] = 1,
    port: Annotated[int, typer.Option("--port", metavar="PORT", help="of the first node; others follow it")] = 9092,
    data: Annotated[
        Path, typer.Option("--data", metavar="DIR", help="topics stay there; the next start finds them again")
    ] = Path(".headrace/broker"),
    heap: Annotated[str, typer.Option("--heap", metavar="SIZE", help="memory for each node's objects")] = "512m",
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Run a real Kafka broker, for this machine only, until stopped (Ctrl-C or SIGTERM).

    Needs Java 17 or newer. Kafka itself is downloaded once, by Maven, into the user's cache.
    """
    with Output(as_json, debug) as output:
        asyncio.run(_serve(output, _Wanted(nodes, port, data, heap)))


async def _serve(output: Output, wanted: _Wanted) -> None:
    with Stopping(output, GRACE_S) as stopping:
        try:
            await _run(output, wanted, stopping.asked)
        except StoreError:
            # What was being waited for ends like this when it is told to stop.
            if not stopping.asked.is_set():
                raise
    if output.as_json:
        output.data({"event": "stopped"})
    else:
        output.line(("stopped", "green"))


async def _run(output: Output, wanted: _Wanted, asked: asyncio.Event) -> None:
    """What takes time is done in threads, so that this one hears the signals; they ask *asked* at every beat."""
    check_shape(wanted.nodes, wanted.port)  # Before anything is downloaded for it.
    program = await asyncio.to_thread(installed_kafka, heap=wanted.heap, tell=output.note, unwanted=asked.is_set)
    cluster = Cluster(wanted.data, program, nodes=wanted.nodes, port=wanted.port, unwanted=asked.is_set)
    try:
        output.note((f"starting Kafka on the data in {wanted.data}", "dim"))
        await asyncio.to_thread(cluster.start)
        url = f"kafka://{cluster.bootstrap}"
        if output.as_json:
            pids = [node.pid for node in cluster.nodes]
            output.data({"event": "ready", "url": url, "data": str(cluster.data), "pids": pids})
        else:
            output.line(("ready", "green"), f": {url}")
            output.note((f"for other commands: export HEADRACE_URL={url}; Ctrl-C stops it, its topics are kept", "dim"))
        await _watch(cluster, asked)
    finally:
        await asyncio.to_thread(cluster.close)


async def _watch(cluster: Cluster, asked: asyncio.Event) -> None:
    """Until it is *asked* to stop; raises :class:`StoreError` when all nodes have ended by themselves."""
    while not asked.is_set():
        if not any(node.is_running for node in cluster.nodes):
            raise StoreError(cluster.nodes[0].end_told())
        try:
            await asyncio.wait_for(asked.wait(), LOOK_S)
        except TimeoutError:
            continue
