"""Runs as the topics tell of them, for those that no worker can be asked about.

The state of a run is put together from its records in the two changelogs, as its next owner would do it.
"""

from __future__ import annotations

__all__ = ["RunRecords"]

import asyncio
import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import orjson

from headrace.apply import rebuild
from headrace.plans import Plans
from headrace.ports import Ended
from headrace.state import RunState
from headrace.view import status_view
from headrace_adapters.base.run_views import run_row
from headrace_adapters.kafka.blueprint_log import BlueprintLog
from headrace_adapters.kafka.topic_layout import TopicLayout
from headrace_adapters.kafka.topic_scans import Scan, TopicScans
from headrace_topics.names import coordination_key, run_prefix, split_key
from headrace_topics.partitioning import partition_of
from headrace_topics.state_records import decode_head, decode_part

_HEAD: Final = ("r",)


class RunRecords:
    """For one event loop. *open_blueprints* makes a reader of the blueprints topic, when the first one is needed."""

    def __init__(self, scans: TopicScans, layout: TopicLayout, open_blueprints: Callable[[Plans], BlueprintLog]) -> None:
        self._scans = scans
        self._layout = layout
        self._open_blueprints = open_blueprints
        self._blueprints: BlueprintLog | None = None
        self._plans = Plans(frozenset())
        self._lock = threading.Lock()
        self._looking_up: dict[int, _LookUp] = {}

    def partition_of(self, run_id: str) -> int:
        """The partition of a run. Raises :class:`RecordRefused` for an id that no run can have."""
        return partition_of(run_id, self._layout.partitions)

    async def result(self, run_id: str, ended_at_ms: int | None = None) -> bytes | None:
        """The record of the run's result; *ended_at_ms* says from when on it is looked for."""
        number = self.partition_of(run_id)
        if ended_at_ms is not None:
            return await self._last_of(Scan(self._layout.results, number, ended_at_ms), run_id.encode())
        # A topic is read once for everybody who asks while it is not being read.
        look_up = self._looking_up.get(number)
        if look_up is None or look_up.is_reading:
            look_up = self._looking_up[number] = _LookUp(self._scans, Scan(self._layout.results, number))
        return await look_up.find(run_id.encode())

    async def row(self, run_id: str) -> dict[str, Any] | None:
        """One line about a run: its flow, its state, when it began and ended."""
        key = coordination_key(run_prefix(run_id), _HEAD)
        record = await self._last_of(Scan(self._layout.coordination, self.partition_of(run_id)), key)
        return None if record is None else run_row(run_id, record)

    async def status(self, run_id: str, now_ms: int) -> dict[str, Any] | None:
        """A run as people look at it; one with ``endedAt`` and little else where it has ended; None where it is unknown."""
        prefix, number = run_prefix(run_id), self.partition_of(run_id)
        parts = await self._all_of(Scan(self._layout.coordination, number), prefix)
        head = parts.pop(coordination_key(prefix, _HEAD), None)
        if head is None:
            return None
        run = decode_head(run_id, head)
        if isinstance(run, Ended):
            return run_row(run_id, head)
        values = await self._all_of(Scan(self._layout.context, number), prefix)
        _complete(run, parts, values)
        plan = await self._scans.run(lambda: self._plan(run.blueprint_id, run.version))
        return status_view(run, plan, now_ms)

    async def rows(
        self, partitions: Sequence[int], states: Collection[str] | None, flow: str | None, limit: int
    ) -> list[dict[str, Any]]:
        """Runs of these partitions."""
        heads: dict[bytes, bytes] = {}

        def take(message: Any) -> None:
            key, value = message.key(), message.value()
            if key is None or not key.endswith(b',"r"]'):
                return
            if value is None:
                heads.pop(key, None)
            else:
                heads[key] = value

        await self._scans.read([Scan(self._layout.coordination, number) for number in partitions], take)
        found: list[dict[str, Any]] = []
        for key, record in heads.items():
            parts = _parts_of(key)
            if len(parts) != 2:
                continue
            row = run_row(parts[0], record)
            if (states is None or row["status"] in states) and (flow is None or row["flow"] == flow):
                found.append(row)
                if len(found) >= limit:
                    break
        return found

    async def _last_of(self, scan: Scan, wanted: bytes) -> bytes | None:
        last: list[bytes | None] = [None]

        def take(message: Any) -> None:
            if message.key() == wanted:
                last[0] = message.value()

        await self._scans.read([scan], take)
        return last[0]

    async def _all_of(self, scan: Scan, prefix: bytes) -> dict[bytes, bytes]:
        records: dict[bytes, bytes] = {}

        def take(message: Any) -> None:
            key, value = message.key(), message.value()
            if key is None or not key.startswith(prefix):
                return
            if value is None:
                records.pop(key, None)
            else:
                records[key] = value

        await self._scans.read([scan], take)
        return records

    def _plan(self, blueprint_id: str, version: str) -> Any:
        with self._lock:
            plan = self._plans.get(blueprint_id, version)
            if plan is None:
                if self._blueprints is None:
                    self._blueprints = self._open_blueprints(self._plans)
                self._blueprints.read_to_end()
                plan = self._plans.get(blueprint_id, version)
            return plan

    async def close(self) -> None:
        """Let go of the reader of blueprints."""
        blueprints, self._blueprints = self._blueprints, None
        if blueprints is not None:
            await asyncio.to_thread(blueprints.close)


class _LookUp:
    """One reading of a partition of results, for all who have asked before it begins."""

    def __init__(self, scans: TopicScans, scan: Scan) -> None:
        self._wanted: set[bytes] = set()
        self._found: dict[bytes, bytes] = {}
        self.is_reading = False
        self._task = asyncio.create_task(self._read(scans, scan))

    async def find(self, key: bytes) -> bytes | None:
        self._wanted.add(key)
        await asyncio.shield(self._task)
        return self._found.get(key)

    async def _read(self, scans: TopicScans, scan: Scan) -> None:
        # Everybody who asks in this round of the event loop is in.
        await asyncio.sleep(0)
        self.is_reading = True
        wanted, found = self._wanted, self._found

        def take(message: Any) -> None:
            key, value = message.key(), message.value()
            if key in wanted:
                if value is None:
                    found.pop(key, None)
                else:
                    found[key] = value

        await scans.read([scan], take)


def _complete(run: RunState, parts: dict[bytes, bytes], values: dict[bytes, bytes]) -> None:
    """Put everything that belongs to a run into it, in the order in which a store would give it."""
    for key in sorted(parts):
        decode_part(run, split_key(key)[1:], parts[key])
    for key in sorted(values):
        run.context[split_key(key)[1]] = values[key]
    rebuild(run)


def _parts_of(key: bytes) -> list[str]:
    try:
        parts: list[str] = orjson.loads(key)
    except ValueError:
        return []
    return parts if isinstance(parts, list) and all(isinstance(part, str) for part in parts) else []
