"""What must hold when everything is over: of all topics together, and of what is left on the disks."""

from __future__ import annotations

__all__ = ["check_end"]

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence

import orjson

from tests.kafka.checker import check
from tests.kafka.stores import META, compare
from tests.kafka.topic_log import TopicLog

from .machine import STORE, Machine
from .plan import Plan


class _Values:
    """A store as it lies on a disk."""

    def __init__(self, values: Mapping[bytes, bytes]) -> None:
        self._values = values
        self._keys = sorted(values)

    def get(self, key: bytes) -> bytes | None:
        return self._values.get(key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        for key in self._keys[bisect_left(self._keys, prefix) :]:
            if not key.startswith(prefix):
                return
            yield key, self._values[key]


def check_end(plan: Plan, cluster: str, log: TopicLog, machines: Sequence[Machine]) -> None:
    """Raises AssertionError with all that is wrong."""
    if plan.guarantee == "exactly_once":
        check(log, None, finished=True)
    wrong: list[str] = []
    for machine in machines:
        store = _Values(machine.disk.look(STORE))
        for key, meta in store.scan(META):
            if orjson.loads(meta)["cluster"] != cluster:
                continue  # Somebody has put it there, and its worker has not looked at it yet.
            number = int.from_bytes(key[len(META) :], "big")
            wrong += [f"{machine}, partition {number}: {line}" for line in compare(store, log, number, meta)]
    assert not wrong, f"{len(wrong)} differences between stores and changelogs:\n" + "\n".join(wrong[:25])
