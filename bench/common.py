"""What the benchmarks share: arguments, rows, and a measure of the machine taken in the same run.

A figure of its own says little on a shared machine. Every row carries ``base_per_s``: how many steps a second a fixed
piece of plain Python did on the same core just before (a dict of four keys made, encoded as JSON and decoded again), and
``ratio``: nodes per such step.
"""

from __future__ import annotations

__all__ = ["Bench", "chain", "fan", "quiet_collector"]

import argparse
import gc
import resource
import time
from pathlib import Path
from typing import Any

import orjson


class Bench:
    """One script: its arguments, and its rows as a table or, with ``--json``, one object a line."""

    def __init__(self, name: str, cases: tuple[str, ...], **extra: Any) -> None:
        parser = argparse.ArgumentParser(prog=f"bench/{name}.py")
        parser.add_argument("--json", action="store_true", help="one JSON object a line")
        parser.add_argument("--case", action="append", choices=cases, help="only these cases")
        parser.add_argument("--quick", action="store_true", help="a tenth of the work, for a first look")
        parser.add_argument("--scale", type=float, help="so much of the work; less than a tenth is for tests of the program")
        for option, default in extra.items():
            parser.add_argument(f"--{option}", type=type(default), default=default)
        self.name = name
        self.args = parser.parse_args()
        self.cases = tuple(self.args.case or cases)
        self.scale: float = self.args.scale or (0.1 if self.args.quick else 1.0)
        self._base: float | None = None

    def rounds(self, usual: int) -> int:
        """How often everything is measured."""
        return usual if self.scale >= 0.1 else 1

    def wants(self, case: str) -> bool:
        """Whether the case is to be measured."""
        return case in self.cases

    def base_per_s(self) -> float:
        """Steps a second of plain Python, measured now."""
        record = {"runId": "run-000001", "seq": 7, "type": "nodeCompleted", "output": [1, 2, 3]}
        steps = 50_000
        best = 0.0
        for _ in range(3):
            began = time.perf_counter()
            for _ in range(steps):
                orjson.loads(orjson.dumps(dict(record)))
            best = max(best, steps / (time.perf_counter() - began))
        return best

    def row(self, case: str, nodes_per_s: float, **figures: Any) -> None:
        """Print one row."""
        base = self.base_per_s()
        data: dict[str, Any] = {"bench": self.name, "case": case, "nodes_per_s": round(nodes_per_s)}
        self.line(data | {"base_per_s": round(base), "ratio": round(nodes_per_s / base, 4), **figures})

    def line(self, data: dict[str, Any]) -> None:
        """Print a row as it is: for what is measured against something else than plain Python."""
        if self.args.json:
            print(orjson.dumps(data).decode(), flush=True)
        else:
            print("  ".join(f"{name}={value}" for name, value in data.items()), flush=True)


def chain(length: int) -> dict[str, Any]:
    """A chain of nodes, each of which gives its input on."""
    return {
        "id": f"chain-{length}",
        "nodes": [{"id": f"n{i}", "uses": "step"} for i in range(length)],
        "edges": [{"source": f"n{i}", "target": f"n{i + 1}"} for i in range(length - 1)],
    }


def fan(width: int) -> dict[str, Any]:
    """One node, *width* behind it, and their join: ``width + 2`` nodes."""
    return {
        "id": f"fan-{width}",
        "nodes": [
            {"id": "source", "uses": "step"},
            *({"id": f"w{i}", "uses": "step"} for i in range(width)),
            {"id": "join", "uses": "step"},
        ],
        "edges": [
            *({"source": "source", "target": f"w{i}"} for i in range(width)),
            *({"source": f"w{i}", "target": "join"} for i in range(width)),
        ],
    }


def waiting() -> dict[str, Any]:
    """A node and a wait behind it: a run that stays."""
    return {
        "id": "waiting",
        "nodes": [{"id": "first", "uses": "step"}, {"id": "wait", "uses": "wait", "params": {"event": "go"}}],
        "edges": [{"source": "first", "target": "wait"}],
    }


def rss_mb() -> float:
    """Resident memory of this process now, in MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1e6


def quiet_collector() -> None:
    """What the worker does too: its objects form no cycles, so the collector need not look at them so often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
