"""How fast a worker with an empty state folder restores, beside a bare read of the same changelogs in the same run.

    python bench/restore.py [--bootstrap HOST:PORT] [--json] [--quick] [--records 400000]

Aim: at least half as fast as a plain consumer that reads the topics to their ends and looks at every key and value.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from changelogs import Filler
from common import Bench
from kafka_places import PARTITIONS, broker, forget_topics, new_app, settings_of, until
from programs import Program

from headrace_adapters.kafka.connection import admin, open_admin
from headrace_adapters.kafka.topic_layout import TopicLayout, ensure

CASES = ("full", "interrupted", "warm")
ROUNDS = 3
TAIL = 0.1


def restored(servers: str, app: str, folder: Path, *, cut_after: float | None = None) -> dict[str, Any]:
    """Start a worker on *folder*, and end it when it works on every partition, or kill it when *cut_after* of it is left."""
    with Program("kafka_worker", app=app, servers=servers, settings={"state": str(folder)}) as worker:
        if cut_after is not None:
            until(Cut(worker, cut_after), "restored in part", look_s=0.001)
            worker.kill()
            return {}
        until(lambda: len(worker.ask("state")["owned"]) == PARTITIONS, "restored", look_s=0.1)
        times = worker.ask("times")
    seconds = max(times["working"].values()) - min(times["assigned"].values())
    return {"records": times["restored"], "seconds": seconds}


class Cut:
    """Whether a worker that restores has only *left* of its work to do."""

    def __init__(self, worker: Program, left: float) -> None:
        self._worker = worker
        self._left = left
        self._most = 0

    def __call__(self) -> bool:
        state = self._worker.ask("state")
        now = sum(state["restoring"].values())
        self._most = max(now, self._most)
        return bool(state["owned"]) or 0 < now < self._left * self._most


def row(case: str, product: dict[str, Any], bare: dict[str, Any], **others: Any) -> dict[str, Any]:
    per_s, bare_per_s = product["records"] / product["seconds"], bare["records"] / bare["seconds"]
    about = {"bench": "restore", "case": case, "guarantee": "exactly_once", "workers": 1, "records": product["records"]}
    figures = {"records_per_s": round(per_s), "seconds": round(product["seconds"], 2), "bare_per_s": round(bare_per_s)}
    return {**about, **figures, "ratio": round(per_s / bare_per_s, 3), **others}


def fastest(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    return min(rounds, key=lambda each: each["seconds"] / max(1, each["records"]))


def measure(bench: Bench, servers: str, layout: TopicLayout, app: str, filler: Filler, folder: Path) -> None:
    topics = [layout.coordination, layout.context]
    with Program("bare_read", servers=servers, topics=topics) as plain:
        # The broker's own caches are as warm for the one as for the other.
        plain.ask("read")
        pairs = []
        for number in range(bench.rounds(ROUNDS)):
            bare = plain.ask("read")
            pairs.append((bare, restored(servers, app, folder / str(number))))
            assert pairs[-1][1]["records"] == bare["records"], "the worker has restored what is there"
        best, bare = fastest([pair[1] for pair in pairs]), fastest([pair[0] for pair in pairs])
        if bench.wants("full"):
            size = round(bare["bytes"] / bare["records"])
            bench.line(row("full", best, bare, record_bytes=size, runs=filler.runs))
        if bench.wants("interrupted"):
            restored(servers, app, folder / "cut", cut_after=0.5)
            bench.line(row("interrupted", restored(servers, app, folder / "cut"), bare))
        if bench.wants("warm"):
            shutil.copytree(folder / "0", folder / "warm")
            before = filler.written
            filler.fill(before + int(before * TAIL))
            bench.line(row("warm", restored(servers, app, folder / "warm"), bare, tail=filler.written - before))


def main() -> None:
    bench = Bench("restore", CASES, bootstrap="", records=400_000)
    with broker(bench.args.bootstrap) as servers, tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        app = new_app("restore")
        settings = settings_of(app, servers)
        layout = ensure(open_admin(admin(settings)), settings)
        filler = Filler(servers, layout)
        filler.fill(int(bench.args.records * bench.scale))
        measure(bench, servers, layout, app, filler, Path(folder))
        forget_topics(servers, app)


if __name__ == "__main__":
    main()
