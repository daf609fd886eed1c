"""The other side of a benchmark on Kafka, in a process of its own: it writes starts, and reads results.

It speaks plain records, so a worker of the product and the bare loop are pressed in the same way. A run counts when its
one committed result is read; a result of nobody, or a second one, ends the benchmark.
"""

from __future__ import annotations

import time
from statistics import quantiles
from typing import Any

import orjson
from common import quiet_collector
from confluent_kafka import KafkaError, TopicPartition
from kafka_places import ends, places, producer, reader
from programs import arguments, serve

STILL_S = 60.0
AT_ONCE = 10_000


class Load:
    """Starts runs of *app* and sees them end."""

    def __init__(self, app: str, servers: str) -> None:
        self._jobs = f"{app}.jobs"
        self._producer = producer(servers, **{"linger.ms": 0})
        self._consumer = reader(servers, **{"fetch.wait.max.ms": 5, "enable.partition.eof": False})
        of = places([f"{app}.results"])
        at = ends(servers, of)
        self._consumer.assign([TopicPartition(p.topic, p.partition, at[p.topic, p.partition]) for p in of])
        self._begun: dict[bytes, float] = {}
        self._times: list[float] = []
        self._number = 0

    def _start(self, flow: str) -> None:
        self._number += 1
        run_id = f"run-{self._number:09d}"
        record = orjson.dumps({"type": "start", "runId": run_id, "blueprintId": flow, "input": 1})
        self._begun[run_id.encode()] = time.monotonic()
        self._producer.produce(self._jobs, record, run_id.encode())

    def _see(self, wait_s: float) -> int:
        """Take in results, waiting for one so long; gives how many."""
        self._producer.poll(0)
        first = self._consumer.poll(wait_s)
        if first is None:
            return 0
        messages = [first, *self._consumer.consume(AT_ONCE, 0)]
        now_s = time.monotonic()
        ended = 0
        for message in messages:
            error: KafkaError | None = message.error()
            if error is not None:
                raise RuntimeError(f"reading results: {error.str()}")
            begun_s = self._begun.pop(message.key(), None)
            if begun_s is None:
                raise RuntimeError(f"the run {message.key()!r} has a result, and was not begun or has ended before")
            self._times.append(now_s - begun_s)
            ended += 1
        return ended

    def _end(self, began_s: float) -> dict[str, Any]:
        took_s = time.monotonic() - began_s
        times, self._times = self._times, []
        cuts = quantiles(times, n=100)
        return {"runs": len(times), "seconds": took_s, "p50_ms": cuts[49] * 1_000, "p99_ms": cuts[98] * 1_000}

    def drive(self, flow: str, runs: int, in_flight: int) -> dict[str, Any]:
        """A closed loop: one run ends, the next one starts, so that always as many are in flight."""
        began_s = moved_s = time.monotonic()
        to_start = runs
        for _ in range(min(runs, in_flight)):
            self._start(flow)
            to_start -= 1
        while self._begun:
            ended = self._see(0.1)
            for _ in range(min(ended, to_start)):
                self._start(flow)
                to_start -= 1
            moved_s = self._still(moved_s, ended)
        return self._end(began_s)

    def pace(self, flow: str, runs: int, per_s: float) -> dict[str, Any]:
        """An open loop: so many starts a second, whatever becomes of them."""
        began_s = moved_s = time.monotonic()
        started = 0
        while started < runs or self._begun:
            due = min(runs, int((time.monotonic() - began_s) * per_s) + 1)
            for _ in range(due - started):
                self._start(flow)
            started = max(started, due)
            moved_s = self._still(moved_s, self._see(0.001))
        return self._end(began_s)

    def _still(self, moved_s: float, ended: int) -> float:
        now_s = time.monotonic()
        if ended:
            return now_s
        if now_s - moved_s > STILL_S:
            raise RuntimeError(f"nothing has ended for {STILL_S:.0f} s; {len(self._begun)} runs are left")
        return moved_s


def main() -> None:
    quiet_collector()
    load = Load(**arguments())
    serve({"drive": load.drive, "pace": load.pace})


if __name__ == "__main__":
    main()
