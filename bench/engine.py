"""The engine alone: decide and apply, no IO and no node code. Aim: 40 000 nodes/s on one core.

    python bench/engine.py [--json] [--case chain-5] [--quick]

``fan-10000`` also tells what a node costs there against one of ``fan-8`` (``cost_vs_fan_8``, at most 2), and
``waiting-100000`` how fast a chain is beside that many runs that wait (``vs_empty``, at least 0.8).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import count
from typing import Any

from common import Bench, chain, fan, quiet_collector, rss_mb, waiting

from headrace.blueprint import from_json
from headrace.commands import Start
from headrace.execution import Succeeded
from headrace.limits import Limits
from headrace.partition import Partition
from headrace.plans import Plans
from headrace.ports import TimerEntry

CASES = ("chain-5", "fan-8", "fan-10000", "waiting-100000")
NOW_MS = 1_700_000_000_000
DONE = Succeeded(b'"done"')


class NoRecords:
    """A partition of which nothing was ever committed."""

    def load(self, run_id: str) -> None:  # noqa: ARG002
        return None

    def active_runs(self) -> Iterable[str]:
        return ()

    def parked_runs(self) -> Iterable[str]:
        return ()

    def timers(self, after_ms: int, until_ms: int, limit: int) -> list[TimerEntry]:  # noqa: ARG002
        return []


def partition_for(*documents: dict[str, Any]) -> Partition:
    plans = Plans({"step"})
    for document in documents:
        plans.add(from_json(document))
    return Partition(0, NoRecords(), plans, Limits(runs_cached_max=10**9), count(1))


def drive(partition: Partition, blueprint_id: str, runs: int, in_flight: int) -> float:
    """Run that many runs to their end; the seconds that it took."""
    started = ended = 0
    began = time.perf_counter()
    while ended < runs:
        while started < runs and started - ended < in_flight:
            partition.receive(Start(f"{blueprint_id}-{began}-{started}", blueprint_id), NOW_MS)
            started += 1
        batch = partition.take()
        if batch is not None:
            ended += sum(1 for change in batch.runs.values() if change.state.ended)
            partition.committed()
        for execution in partition.begin(100_000, NOW_MS):
            partition.finished(execution.token, DONE, NOW_MS)
    return time.perf_counter() - began


def nodes_per_s(document: dict[str, Any], nodes: int, in_flight: int = 200) -> float:
    """The best of three: what the machine can do when nobody takes it away."""
    count_nodes = len(document["nodes"])
    runs = max(2, nodes // count_nodes)
    best = 0.0
    for _ in range(3):
        partition = partition_for(document)
        best = max(best, runs * count_nodes / drive(partition, document["id"], runs, in_flight))
    return best


def beside_waiting(bench: Bench, waiting_runs: int) -> None:
    nodes = int(60_000 * bench.scale)
    empty = nodes_per_s(chain(5), nodes)
    before_mb = rss_mb()
    partition = partition_for(chain(5), waiting())
    drive_waiting(partition, waiting_runs)
    held_mb = rss_mb() - before_mb
    runs = nodes // 5
    best = max(runs * 5 / drive(partition, "chain-5", runs, 200) for _ in range(3))
    bench.row("waiting-100000", best, vs_empty=round(best / empty, 3), waiting=waiting_runs, held_mb=round(held_mb))


def drive_waiting(partition: Partition, runs: int) -> None:
    for number in range(runs):
        partition.receive(Start(f"waiting-{number}", "waiting"), NOW_MS)
        if number % 1_000 == 999 or number == runs - 1:
            for _ in range(3):
                if partition.take() is not None:
                    partition.committed()
                for execution in partition.begin(100_000, NOW_MS):
                    partition.finished(execution.token, DONE, NOW_MS)


def main() -> None:
    bench = Bench("engine", CASES)
    quiet_collector()
    nodes = int(60_000 * bench.scale)
    fan_8 = 0.0
    if bench.wants("chain-5"):
        bench.row("chain-5", nodes_per_s(chain(5), nodes))
    if bench.wants("fan-8") or bench.wants("fan-10000"):
        fan_8 = nodes_per_s(fan(8), nodes)
        bench.row("fan-8", fan_8)
    if bench.wants("fan-10000"):
        fan_10000 = nodes_per_s(fan(10_000), nodes, in_flight=1)
        bench.row("fan-10000", fan_10000, cost_vs_fan_8=round(fan_8 / fan_10000, 3))
    if bench.wants("waiting-100000"):
        beside_waiting(bench, int(100_000 * bench.scale))


if __name__ == "__main__":
    main()
