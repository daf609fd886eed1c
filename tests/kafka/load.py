"""A producer of no app: it writes plain JSON records, and looks at the topics that others may look at.

Runs of every kind are started, some of them twice; those that wait are answered, by a signal that comes before the wait
opens or after it, or by a resume that is sent twice. What each run must come to follows from its flow and its input.
"""

from __future__ import annotations

__all__ = ["Expected", "Load"]

import itertools
import json
import random
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

# How long nothing at all may happen, faults included, before the runs that are left are said to hang.
STILL_S = 90.0
IN_FLIGHT = 150


def never() -> bool:
    """Nothing but the end of all runs ends it."""
    return False


class Expected(NamedTuple):
    """What a run must come to. *counted* is how many counting nodes complete; *child* where it starts another run."""

    flow: str
    status: str
    output: Any
    counted: int


def _expected(flow: str, given: int) -> Expected:
    output, counted = {
        "chained": lambda: (given + 5, 5),
        "fanned": lambda: ({"count_join": 4 * (given + 2), "count_first": "first"}, 7),
        "conditional": lambda: (given + 2, 2) if given % 2 else (given + 3, 3),
        "retried": lambda: (given + 4, 3),
        "failed": lambda: (None, 1),
        "slept": lambda: (given + 2, 2),
        "asked_early": lambda: (given + 1, 2),
        "asked_late": lambda: (given + 1, 2),
        "resumed": lambda: (given + 1, 2),
        "outer": lambda: (given + 4, 2),
        "looped": lambda: (1_001, 2 + max(0, 999 - given)),
        "batched": lambda: ([given + 1 + number for number in range(6)], 7),
    }[flow]()
    return Expected(flow, "failed" if flow == "failed" else "completed", output, counted)


KINDS = (
    "chained", "fanned", "conditional", "retried", "failed", "slept", "asked_early", "asked_late", "resumed", "outer",
    "looped", "batched",
)  # fmt: skip
_ASKED = ("asked_early", "asked_late", "resumed")


class Load:
    """*runs* of all kinds by turns, of which so many are in flight at once that a worker is busy."""

    def __init__(
        self, servers: str, app: str, draw: random.Random, runs: int, name: str = "run", kinds: tuple[str, ...] = KINDS
    ) -> None:
        self._servers = servers
        self._app = app
        self._draw = draw
        self.expected: dict[str, Expected] = {}
        self._inputs: dict[str, int] = {}
        for number, kind in zip(range(runs), itertools.cycle(kinds), strict=False):
            run_id = f"{name}-{number}"
            given = draw.randrange(990, 999)
            self.expected[run_id] = _expected(kind, given)
            self._inputs[run_id] = given
        self._to_start = deque(self.expected)
        self._allowed = 0
        self.begun: set[str] = set()
        self.ended: dict[str, float] = {}
        """When the result of each run was seen."""
        self._asking: set[str] = set()
        self._failed: list[KafkaError] = []
        self._producer = Producer(
            {
                "bootstrap.servers": servers,
                "enable.idempotence": True,
                "partitioner": "murmur2",
                "linger.ms": 2,
                "message.timeout.ms": int(STILL_S * 1_000),
                "reconnect.backoff.max.ms": 1_000,
            }
        )
        self._consumer: Consumer | None = None

    @property
    def done(self) -> bool:
        """Whether every run has its result."""
        return len(self.ended) == len(self.expected)

    def allow(self, part: float) -> None:
        """Start so large a part of all runs more, and then no others before this is called again."""
        self._allowed = min(len(self.expected), self._allowed + round(len(self.expected) * part))

    def drain(self) -> None:
        """Until all that was allowed has ended."""
        self.press(lambda: len(self.begun) >= self._allowed and len(self.ended) == len(self.begun))

    def press(self, until: Callable[[], bool] = never) -> None:
        """Start what is allowed, answer and look, until *until* says so, or all runs have ended.

        Fails where nothing happens any more though something should.
        """
        consumer = self._consumer = self._consumer or self._reader()
        moved_s = time.monotonic()
        while not (until() or (self.done and until is never)):
            while len(self.begun) < self._allowed and len(self.begun) - len(self.ended) < IN_FLIGHT:
                self._start(self._to_start.popleft())
            self._producer.poll(0)
            assert not self._failed, f"records could not be written: {self._failed}"
            for message in consumer.consume(1_000, 0.02):
                if message.error() is None:
                    self._see(message)
                    moved_s = time.monotonic()
            self._give_late_answers()
            if time.monotonic() - moved_s > STILL_S:
                raise AssertionError(f"nothing has happened for {STILL_S} s; these have not ended: {self._left()}")
        if self.done:
            assert self._producer.flush(STILL_S) == 0

    def finish(self) -> None:
        """Start all that is left, and wait until every run has its result."""
        self._allowed = len(self.expected)
        self.press()

    def close(self) -> None:
        """Let go of the clients."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()

    def _left(self) -> str:
        left = sorted(self.begun - self.ended.keys())
        return f"{len(left)} runs: " + ", ".join(f"{run_id} ({self.expected[run_id].flow})" for run_id in left[:20])

    def _reader(self) -> Consumer:
        consumer = Consumer(
            {
                "bootstrap.servers": self._servers,
                "group.id": f"{self._app}.load",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 20,
                "reconnect.backoff.max.ms": 1_000,
            }
        )
        wanted = (f"{self._app}.events", f"{self._app}.results")
        deadline = time.monotonic() + STILL_S
        while not all(topic in (topics := consumer.list_topics(timeout=20).topics) for topic in wanted):
            assert time.monotonic() < deadline, f"nobody has made the topics of {self._app}"
            time.sleep(0.05)
        consumer.assign([TopicPartition(topic, number, 0) for topic in wanted for number in topics[topic].partitions])
        return consumer

    def send(self, run_id: str, **fields: Any) -> None:
        """Write a record about a run, as anybody may."""

        def note(error: KafkaError | None, _: Any) -> None:
            if error is not None:
                self._failed.append(error)

        record = json.dumps({"runId": run_id, **fields}).encode()
        self._producer.produce(f"{self._app}.jobs", record, run_id.encode(), on_delivery=note)

    def _start(self, run_id: str) -> None:
        kind = self.expected[run_id].flow
        flow = "asked" if kind in _ASKED else kind
        self.begun.add(run_id)
        for _ in range(1 if self._draw.random() < 0.8 else 3):
            self.send(run_id, type="start", blueprintId=flow, input=self._inputs[run_id])
        if kind == "asked_early":
            self.send(run_id, type="signal", event="answered", payload=self._inputs[run_id])

    def _see(self, message: Any) -> None:
        data = json.loads(message.value())
        run_id = data["runId"]
        if message.topic() == f"{self._app}.results":
            if run_id in self.expected:
                self.ended.setdefault(run_id, time.monotonic())
        elif b'"waitOpened"' in message.value() and run_id in self.expected:
            self._asking.add(run_id)

    def _give_late_answers(self) -> None:
        asking, self._asking = self._asking, set()
        for run_id in asking:
            given = self._inputs[run_id]
            if self.expected[run_id].flow == "asked_late":
                self.send(run_id, type="signal", event="answered", payload=given)
            elif self.expected[run_id].flow == "resumed":
                for _ in range(2):
                    self.send(run_id, type="resume", nodeId="answer", output=given, idempotencyKey=f"key of {run_id}")
