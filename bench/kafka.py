"""The adapter for Kafka: workers in processes of their own, beside a bare loop of the same shape in the same run.

    python bench/kafka.py [--bootstrap HOST:PORT] [--json] [--quick] [--case chain-5]
                          [--guarantee exactly_once] [--workers 1] [--in_flight 1000] [--waiting 20000]

Without ``--bootstrap`` it starts a broker of its own. What the rows say is in ``bench/README.md``. Aims: 8 000 nodes/s in
one worker with ``exactly_once``, and 35 ms for a chain of five on an idle worker.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bare_loop import COPIES
from common import Bench
from kafka_places import (
    FLOWS,
    all_owned,
    broker,
    ends,
    forget_topics,
    make_topics,
    new_app,
    places,
    read_to_ends,
    reader,
    until,
)  # fmt: skip
from programs import Program
from take_over import take_over

CASES = ("chain-5", "fan-8", "take-over")
GUARANTEES = ("exactly_once", "at_least_once")
ROUNDS = 3
KEYED = ("jobs", "results", *COPIES)


class Side(NamedTuple):
    """The product or the bare loop: its processes, and the load that presses it."""

    workers: list[Program]
    load: Program

    def process_s(self) -> float:
        """CPU seconds of all its workers so far."""
        return sum(worker.ask("cpu")["process_s"] for worker in self.workers)

    def commits(self) -> int:
        return sum(worker.ask("cpu")["commits"] for worker in self.workers)


class Round(NamedTuple):
    """One drive: runs a second, CPU microseconds a run, and what the load has seen."""

    runs_per_s: float
    cpu_us: float
    seen: dict[str, Any]


def run_round(side: Side, flow: str, runs: int, in_flight: int) -> Round:
    before_s = side.process_s()
    seen = side.load.ask("drive", flow=flow, runs=runs, in_flight=in_flight)
    assert seen["runs"] == runs, f"{seen['runs']} of {runs} runs have a result"
    return Round(runs / seen["seconds"], (side.process_s() - before_s) / runs * 1e6, seen)


@contextmanager
def started(programs: list[Program], load: Program) -> Iterator[Side]:
    """Both sides live as long as the block; it begins when every partition is somebody's."""

    with ExitStack() as stack:
        for program in (*programs, load):
            stack.enter_context(program)
        until(
            lambda: all_owned([worker.ask("state")["owned"] for worker in programs]), "shared among the workers", look_s=0.2
        )
        yield Side(programs, load)


@contextmanager
def product(servers: str, guarantee: str, workers: int) -> Iterator[tuple[str, Side]]:
    app = new_app("product")
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        settings = {"guarantee": guarantee, "state": folder}
        programs = [Program("kafka_worker", app=app, servers=servers, settings=settings) for _ in range(workers)]
        # The worker that comes first makes the topics.
        until(lambda: programs[0].ask("state") is not None, "started")
        with started(programs, Program("kafka_load", app=app, servers=servers)) as side:
            yield app, side
    forget_topics(servers, app)


@contextmanager
def bare(servers: str, guarantee: str, workers: int, flow: str, shape: dict[str, Any]) -> Iterator[tuple[str, Side]]:
    app = new_app("bare")
    make_topics(servers, [f"{app}.{name}" for name in KEYED])
    programs = [
        Program("bare_loop", app=app, servers=servers, guarantee=guarantee, flow=flow, shape=shape, number=number)
        for number in range(workers)
    ]
    with started(programs, Program("kafka_load", app=app, servers=servers)) as side:
        yield app, side
    forget_topics(servers, app)


def shape_of(servers: str, app: str, runs: int) -> dict[str, Any]:
    """By topic, what one run has left in it: records, bytes of a key, and bytes of a value."""
    shape: dict[str, Any] = {}
    consumer = reader(servers)
    for name in KEYED:
        of = places([f"{app}.{name}"])
        count = keys = values = 0
        for message in read_to_ends(consumer, of, ends(servers, of)):
            value = message.value() or b""
            if name != "jobs" or b'"type":"node"' in value:
                count, keys, values = count + 1, keys + len(message.key()), values + len(value)
        if count:
            shape[name] = [count / runs, keys // count, values // count]
    consumer.close()
    return shape


def nodes_done(servers: str, app: str) -> int:
    """How many nodes the topic of events says to be completed: figures are not to be of lost work."""
    consumer = reader(servers)
    of = places([f"{app}.events"])
    done = sum(message.value().count(b'"nodeCompleted"') for message in read_to_ends(consumer, of, ends(servers, of)))
    consumer.close()
    return done


def jobs_written(servers: str, app: str) -> int:
    consumer = reader(servers)
    of = places([f"{app}.jobs"])
    count = sum(1 for _ in read_to_ends(consumer, of, ends(servers, of)))
    consumer.close()
    return count


def latencies(side: Side, other: Side, flow: str, runs: int, half_per_s: float, half_s: float) -> dict[str, Any]:
    """One run after another; and at half of what the worker can do."""
    idle = side.load.ask("drive", flow=flow, runs=runs, in_flight=1)
    bare_idle = other.load.ask("drive", flow=flow, runs=runs, in_flight=1)
    half = side.load.ask("pace", flow=flow, runs=max(runs, int(half_per_s * half_s)), per_s=half_per_s)
    told = {"idle": idle, "bare_idle": bare_idle, "half_load": half}
    return {f"{name}_{cut}": round(seen[cut], 1) for name, seen in told.items() for cut in ("p50_ms", "p99_ms")}


def throughput(bench: Bench, servers: str, flow: str, guarantee: str, workers: int) -> None:
    """One row: rounds of the bare loop and of the product by turns, the best of each."""
    size = len(FLOWS[flow]["nodes"])
    in_flight = bench.args.in_flight
    runs = max(2 * in_flight if bench.scale == 1 else in_flight, int(60_000 * bench.scale) // size)
    warm = 2 * in_flight
    rounds = bench.rounds(ROUNDS)
    with product(servers, guarantee, workers) as (app, side):
        run_round(side, flow, warm, in_flight)
        shape = shape_of(servers, app, warm)
        with bare(servers, guarantee, workers, flow, shape) as (bare_app, bare_side):
            run_round(bare_side, flow, warm, in_flight)
            commits = side.commits()
            pairs = [[run_round(each, flow, runs, in_flight) for each in (bare_side, side)] for _ in range(rounds)]
            commits = side.commits() - commits
            counted, expected = nodes_done(servers, app), (warm + rounds * runs) * size
            assert counted == expected, f"{counted} nodes are completed by the topic of events, and should be {expected}"
            counted = jobs_written(servers, bare_app)
            expected = (warm + rounds * runs) * (size + 1)
            assert counted == expected, f"the bare loop has written {counted} jobs, and should have {expected}"
            best = max(pair[1].runs_per_s for pair in pairs)
            bare_best = max(pair[0].runs_per_s for pair in pairs)
            cpu, bare_cpu = (min(pair[which].cpu_us for pair in pairs) / size for which in (1, 0))
            row = {
                "bench": "kafka", "case": flow, "guarantee": guarantee, "workers": workers, "in_flight": in_flight,
                "nodes_per_s": round(best * size), "runs_per_s": round(best), "bare_per_s": round(bare_best * size),
                "ratio": round(best / bare_best, 3),
                "median_ratio": round(median(pair[1].runs_per_s / pair[0].runs_per_s for pair in pairs), 3),
                "cpu_us": round(cpu, 1), "bare_cpu_us": round(bare_cpu, 1), "cpu_ratio": round(bare_cpu / cpu, 3),
                "nodes_per_commit": round(rounds * runs * size / commits),
                "records_per_node": round(sum(each[0] for each in shape.values()) / size, 2),
                "p50_ms": round(median(pair[1].seen["p50_ms"] for pair in pairs)),
                "p99_ms": round(median(pair[1].seen["p99_ms"] for pair in pairs)),
            }  # fmt: skip
            if flow == "chain-5" and workers == 1:
                row |= latencies(side, bare_side, flow, int(1_000 * bench.scale), best / 2, min(5, 50 * bench.scale))
            bench.line(row)


def main() -> None:
    bench = Bench(
        "kafka", CASES, bootstrap="", in_flight=1_000, waiting=20_000, guarantee="", workers=0, session_timeout_ms=6_000
    )
    guarantees = (bench.args.guarantee,) if bench.args.guarantee else GUARANTEES
    numbers = (bench.args.workers,) if bench.args.workers else (1, 2)
    with broker(bench.args.bootstrap) as servers, tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        for flow in ("chain-5", "fan-8"):
            if bench.wants(flow):
                for guarantee in guarantees:
                    for workers in numbers:
                        throughput(bench, servers, flow, guarantee, workers)
        if bench.wants("take-over"):
            for standby in (0, 1):
                waiting = int(bench.args.waiting * bench.scale)
                bench.line(take_over(servers, Path(folder) / str(standby), standby, waiting, bench.args.session_timeout_ms))


if __name__ == "__main__":
    main()
