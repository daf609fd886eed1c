"""The bare loop beside which the product is measured: consume, transform, produce, commit, and nothing else.

It reads the same starts, takes a run through as many jobs, and writes as many records of the same sizes to as many topics,
one transaction (or one flush and one commit of offsets) for each greedy batch. It decides nothing, keeps no state but a
counter for a join, and loses everything with its process.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import orjson
from common import quiet_collector
from confluent_kafka import Consumer, Message, TopicPartition
from kafka_places import FLOWS, producer
from programs import arguments, serve

BATCH_MAX = 2_000
COPIES = ("events", "coordination-changelog", "context-changelog")


class Steps:
    """A flow as the loop sees it: how many jobs a run has in each of its layers, one after the other."""

    def __init__(self, flow: str) -> None:
        layers = {"chain-5": (1, 1, 1, 1, 1), "fan-8": (1, 8, 1)}[flow]
        self.layers = layers
        assert sum(layers) == len(FLOWS[flow]["nodes"])
        self.jobs_read = sum(layers) + 1


class BareLoop:
    """One member of a group. *shape*: by topic, the records of a run, and the bytes of a key and of a value."""

    def __init__(self, app: str, servers: str, guarantee: str, flow: str, shape: dict[str, Any], number: int) -> None:
        self._app = app
        self._steps = Steps(flow)
        self._exactly_once = guarantee == "exactly_once"
        options = {"transactional.id": f"{app}.{number}", "retry.backoff.ms": 1, "retry.backoff.max.ms": 5}
        self._producer = producer(servers, **(options if self._exactly_once else {}))
        if self._exactly_once:
            self._producer.init_transactions()
        self._outputs = [
            (f"{app}.{name}", shape[name][0] / self._steps.jobs_read, b"k" * shape[name][1], "v" * (shape[name][2] - 30))
            for name in COPIES
            if name in shape
        ]
        self._owed = [0.0] * len(self._outputs)
        self._pads = {name: "v" * max(0, shape[name][2] - 60) for name in ("jobs", "results")}
        self._joining: dict[str, int] = {}
        self._consumer = Consumer(
            {
                "bootstrap.servers": servers,
                "group.id": app,
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "partition.assignment.strategy": "cooperative-sticky",
                "fetch.wait.max.ms": 5,
                "fetch.queue.backoff.ms": 5,
            }
        )
        self._owned: set[int] = set()
        self._consumer.subscribe([f"{app}.jobs"], on_assign=self._gain, on_revoke=self._lose)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="bare-loop")
        self._thread.start()

    def _gain(self, _: Consumer, of: list[TopicPartition]) -> None:
        self._owned.update(place.partition for place in of)

    def _lose(self, _: Consumer, of: list[TopicPartition]) -> None:
        self._owned.difference_update(place.partition for place in of)

    def _run(self) -> None:
        while not self._stopping:
            first = self._consumer.poll(0.1)
            if first is not None:
                self._take([first, *self._consumer.consume(BATCH_MAX - 1, 0)])
        self._consumer.close()

    def _take(self, messages: list[Message]) -> None:
        if self._exactly_once:
            self._producer.begin_transaction()
        offsets: dict[int, int] = {}
        for message in messages:
            error = message.error()
            if error is not None:
                raise RuntimeError(f"reading jobs: {error.str()}")
            number = message.partition()
            offsets[number] = message.offset() + 1
            self._step(message.key(), orjson.loads(message.value()), number)
        positions = [TopicPartition(f"{self._app}.jobs", number, offset) for number, offset in offsets.items()]
        if self._exactly_once:
            self._producer.send_offsets_to_transaction(positions, self._consumer.consumer_group_metadata())
            self._producer.commit_transaction()
        else:
            self._producer.flush()
            self._consumer.commit(offsets=positions, asynchronous=False)

    def _step(self, key: bytes, job: dict[str, Any], number: int) -> None:
        run_id, layer = job["runId"], job.get("layer", -1)
        produce, owed = self._producer.produce, self._owed
        for at, (topic, each, filling, pad) in enumerate(self._outputs):
            owed[at] += each
            while owed[at] >= 1:
                owed[at] -= 1
                produce(topic, orjson.dumps({"runId": run_id, "pad": pad}), filling, number)
        layers = self._steps.layers
        if layer >= 0 and layers[layer] > 1:
            left = self._joining.get(run_id, layers[layer]) - 1
            if left:
                self._joining[run_id] = left
                return
            self._joining.pop(run_id, None)
        layer += 1
        if layer == len(layers):
            value = orjson.dumps({"runId": run_id, "output": 1, "pad": self._pads["results"]})
            produce(f"{self._app}.results", value, key, number)
            return
        value = orjson.dumps({"type": "node", "runId": run_id, "layer": layer, "pad": self._pads["jobs"]})
        for _ in range(layers[layer]):
            produce(f"{self._app}.jobs", value, key, number)

    def state(self) -> dict[str, Any]:
        """Which partitions the group has given to it."""
        return {"owned": sorted(self._owned)}

    def cpu(self) -> dict[str, float]:
        """CPU seconds of the process so far."""
        return {"process_s": time.process_time()}

    def close(self) -> None:
        self._stopping = True
        self._thread.join()


def main() -> None:
    quiet_collector()
    loop = BareLoop(**arguments())
    try:
        serve({"state": loop.state, "cpu": loop.cpu})
    finally:
        loop.close()


if __name__ == "__main__":
    main()
