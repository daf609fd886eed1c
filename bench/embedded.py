"""The embedded adapter: everything that a worker does, on a folder, with every group commit synced.

    python bench/embedded.py [--json] [--case chain-5] [--quick] [--in_flight 200]

Aim: 20 000 nodes/s with 200 runs in flight. ``chain-5`` also tells the latency of a chain on an idle worker, synced and
not; ``fan-10000`` what a node costs there against ``fan-8``; ``waiting-100000`` what that many waiting runs cost in memory
and in speed (``vs_empty``, at least 0.8). Nodes are plain functions that give their input on.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import quantiles
from typing import Any, Self

from common import Bench, chain, fan, quiet_collector, rss_mb, waiting

from headrace.app import App
from headrace.blueprint import from_json
from headrace.commands import Start
from headrace.context import Context
from headrace_adapters.local.settings import local_settings
from headrace_adapters.local.worker import LocalWorker
from headrace_adapters.rocks import RocksStore

CASES = ("chain-5", "fan-8", "fan-10000", "waiting-100000")


def step(ctx: Context) -> Any:
    return ctx.input


async def astep(ctx: Context) -> Any:
    return ctx.input


class Running:
    """A worker on a folder of its own."""

    def __init__(self, *documents: dict[str, Any], sync: bool = True, node: Callable[..., Any] = step) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="headrace-bench-")
        app = App("bench").register("step", node)
        for document in documents:
            app.add(from_json(document))
        folder = Path(self._folder.name) / "data"
        self._worker = LocalWorker(app, lambda: RocksStore(folder, sync=sync), local_settings({"runs_cached_max": 2_000}))
        self.ended = self._left = self._started = 0
        self._flow = ""

    async def __aenter__(self) -> Self:
        self.client = await self._worker.start()
        self.loop = self._worker._loop
        self.loop.on_commit(self._committed)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._worker.stop()
        self._folder.cleanup()

    def _committed(self, batch: Any) -> None:
        """In the loop's thread: one run ends, the next one starts, so that always as many are in flight."""
        ended = sum(1 for change in batch.runs.values() if change.state.ended)
        self.ended += ended
        for _ in range(min(ended, self._left)):
            self._start()

    def _start(self) -> None:
        self._left -= 1
        self._started += 1
        self.loop.submit(Start(f"run-{self._started}", self._flow, input=b"1"))

    async def drive(self, flow: str, runs: int, in_flight: int) -> float:
        """Runs a second."""
        self.ended, self._left, self._flow = 0, runs, flow
        began = time.perf_counter()
        for _ in range(min(runs, in_flight)):
            self._start()
        while self.ended < runs:
            await asyncio.sleep(0.005)
        return runs / (time.perf_counter() - began)

    async def latency_ms(self, flow: str, runs: int) -> tuple[float, float]:
        """p50 and p99 from the start to the result, one run at a time."""
        times: list[float] = []
        for number in range(runs):
            began = time.perf_counter()
            await self.client.submit(Start(f"idle-{flow}-{number}", flow, input=b"1"))
            await self.client.result(f"idle-{flow}-{number}")
            times.append((time.perf_counter() - began) * 1_000)
        cuts = quantiles(times, n=100)
        return round(cuts[49], 2), round(cuts[98], 2)


async def throughput(document: dict[str, Any], nodes: int, in_flight: int, **how: Any) -> tuple[float, float, float]:
    """Nodes a second, runs a second, and nodes in one commit: the best of four, what nobody took away."""
    size = len(document["nodes"])
    runs = max(2, nodes // size)
    best = (0.0, 0.0, 0.0)
    async with Running(document, **how) as running:
        for _ in range(4):
            before = running.loop.commits
            runs_per_s = await running.drive(document["id"], runs, in_flight)
            per_commit = runs * size / (running.loop.commits - before)
            best = max(best, (runs_per_s * size, runs_per_s, per_commit))
    return best


async def chain_5(bench: Bench, nodes: int) -> None:
    for name, how in (("synced", {}), ("not synced", {"sync": False}), ("async nodes", {"node": astep})):
        nodes_per_s, runs_per_s, per_commit = await throughput(chain(5), nodes, bench.args.in_flight, **how)
        async with Running(chain(5), **how) as running:
            p50, p99 = await running.latency_ms("chain-5", int(1_000 * bench.scale))
        figures = {"runs_per_s": round(runs_per_s), "nodes_per_commit": round(per_commit), "idle_p50_ms": p50}
        bench.row("chain-5", nodes_per_s, mode=name, **figures, idle_p99_ms=p99)


async def fans(bench: Bench, nodes: int) -> None:
    fan_8, runs_per_s, per_commit = await throughput(fan(8), nodes, bench.args.in_flight)
    bench.row("fan-8", fan_8, runs_per_s=round(runs_per_s), nodes_per_commit=round(per_commit))
    if bench.wants("fan-10000"):
        fan_10000, _, per_commit = await throughput(fan(10_000), nodes, 1)
        bench.row("fan-10000", fan_10000, cost_vs_fan_8=round(fan_8 / fan_10000, 3), nodes_per_commit=round(per_commit))


async def beside_waiting(bench: Bench, nodes: int) -> None:
    waiting_runs = int(100_000 * bench.scale)
    async with Running(chain(5), waiting()) as running:
        empty = max([await running.drive("chain-5", nodes // 5, bench.args.in_flight) for _ in range(4)])
        before_mb = rss_mb()
        for number in range(waiting_runs):
            running.loop.submit(Start(f"waiting-{number}", "waiting"))
        while len(await running.client.runs(states=frozenset(("awaiting",)), limit=waiting_runs)) < waiting_runs:
            await asyncio.sleep(0.5)
        held_mb = rss_mb() - before_mb
        beside = max([await running.drive("chain-5", nodes // 5, bench.args.in_flight) for _ in range(4)])
    figures = {"vs_empty": round(beside / empty, 3), "waiting": waiting_runs, "held_mb": round(held_mb)}
    bench.row("waiting-100000", beside * 5, **figures)


async def main() -> None:
    bench = Bench("embedded", CASES, in_flight=200)
    quiet_collector()
    nodes = int(50_000 * bench.scale)
    if bench.wants("chain-5"):
        await chain_5(bench, nodes)
    if bench.wants("fan-8") or bench.wants("fan-10000"):
        await fans(bench, nodes)
    if bench.wants("waiting-100000"):
        await beside_waiting(bench, nodes)


if __name__ == "__main__":
    asyncio.run(main())
