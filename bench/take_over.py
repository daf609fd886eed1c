"""How long the partitions of a worker stand still that was killed, with and without a warm copy at the other one."""

from __future__ import annotations

import time
from itertools import count
from pathlib import Path
from typing import Any

import orjson
from changelogs import Filler
from confluent_kafka import TopicPartition
from kafka_places import all_owned, ends, forget_topics, new_app, places, producer, reader, settings_of, until
from programs import Program

from headrace_adapters.kafka.connection import admin, open_admin
from headrace_adapters.kafka.topic_layout import TopicLayout, ensure
from headrace_topics.partitioning import partition_of

RECORDS_OF_A_RUN = 8
DEAD_S = 120.0


def take_over(servers: str, folder: Path, standby: int, waiting: int, session_timeout_ms: int) -> dict[str, Any]:
    """Two workers share *waiting* runs; one is killed, and runs that are then begun in its partitions tell the rest."""
    app = new_app("take-over")
    settings = settings_of(app, servers)
    layout = ensure(open_admin(admin(settings)), settings)
    filler = Filler(servers, layout)
    filler.fill(waiting * RECORDS_OF_A_RUN)

    given = {"standby": standby, "session_timeout_ms": session_timeout_ms}

    def worker(name: str) -> Program:
        return Program("kafka_worker", app=app, servers=servers, settings={**given, "state": str(folder / name)})

    # The other one comes second, so it has never had the partitions that it will take over.
    with worker("killed") as killed:
        until(lambda: all_owned([killed.ask("state")["owned"]]), "working", look_s=0.2)
        with worker("other") as other:
            row = _kill(servers, layout, killed, other, standby)
    forget_topics(servers, app)
    about = {"bench": "kafka", "case": "take-over", "guarantee": "exactly_once", "workers": 2, "standby": standby}
    return {**about, "waiting": filler.runs, "session_timeout_ms": session_timeout_ms, **row}


def _kill(servers: str, layout: TopicLayout, killed: Program, other: Program, standby: int) -> dict[str, Any]:
    until(
        lambda: all_owned([program.ask("state")["owned"] for program in (killed, other)]),
        "shared among the workers",
        look_s=0.2,
    )
    if standby:
        until(lambda: _is_warm(servers, layout, killed, other), "kept warm", look_s=0.5)
    lost = killed.ask("state")["owned"]
    before = other.ask("times")["restored"]
    of = places([layout.events])
    at = ends(servers, of)
    killed.kill()
    killed_s = time.monotonic()
    _begin_runs(servers, layout, lost)
    seen = _first_events(servers, lost, of, at)
    times = other.ask("times")
    assigned_s = max(times["assigned"][str(number)] for number in lost)
    return {
        "first_event_s": round(min(seen.values()) - killed_s, 2),
        "all_working_s": round(max(seen.values()) - killed_s, 2),
        "assigned_s": round(assigned_s - killed_s, 2),
        "restore_s": round(max(times["working"][str(number)] for number in lost) - assigned_s, 2),
        "copied_records": times["restored"] - before,
        "partitions": len(lost),
    }


def _is_warm(servers: str, layout: TopicLayout, killed: Program, other: Program) -> bool:
    lost, warm = killed.ask("state")["owned"], other.ask("state")["warm"]
    topics = (layout.coordination, layout.context)
    at = ends(servers, places(topics))
    return all(warm.get(str(number)) == [at[topic, number] for topic in topics] for number in lost)


def _begin_runs(servers: str, layout: TopicLayout, lost: list[int]) -> None:
    client = producer(servers)
    for number in lost:
        run_id = next(name for n in count() if partition_of(name := f"after-{n}", layout.partitions) == number)
        record = orjson.dumps({"type": "start", "runId": run_id, "blueprintId": "chain-5", "input": 1})
        client.produce(layout.jobs, record, run_id.encode())
    client.flush()


def _first_events(
    servers: str, lost: list[int], of: list[TopicPartition], at: dict[tuple[str, int], int]
) -> dict[int, float]:
    """When the first event of a run that was begun after the kill was seen, by partition."""
    consumer = reader(servers, **{"fetch.wait.max.ms": 5, "enable.partition.eof": False})
    consumer.assign([TopicPartition(place.topic, place.partition, at[place.topic, place.partition]) for place in of])
    seen: dict[int, float] = {}
    deadline = time.monotonic() + DEAD_S
    while len(seen) < len(lost):
        if time.monotonic() > deadline:
            raise RuntimeError(f"partitions {sorted(set(lost) - seen.keys())} stand still after {DEAD_S:.0f} s")
        message = consumer.poll(0.1)
        if message is not None and message.error() is None and message.key().startswith(b"after-"):
            seen.setdefault(message.partition(), time.monotonic())
    consumer.close()
    return seen
