"""Reading committed state: runs part by part, and the indexes."""

from __future__ import annotations

__all__ = ["LocalReader"]

from collections.abc import Iterator

import orjson

from headrace.apply import rebuild
from headrace.execution import NO_ITEM
from headrace.ports import Ended, TimerEntry
from headrace.state import Indexed, RunState
from headrace_adapters.local.layout import KeyValueStore, Layout, timer_entry
from headrace_topics.names import run_prefix, split_key
from headrace_topics.state_records import decode_head, decode_part


class LocalReader:
    """The committed state of one partition (``headrace.ports.RunReader``)."""

    def __init__(self, store: KeyValueStore, partition: int) -> None:
        self._store = store
        self._layout = Layout(partition)

    def load(self, run_id: str) -> RunState | Ended | None:
        """A run with everything that belongs to it, its dedup marker, or None."""
        layout, prefix = self._layout, run_prefix(run_id)
        record = self._store.get(layout.head + prefix)
        if record is None:
            return None
        run = decode_head(run_id, record)
        if isinstance(run, Ended):
            return run
        skip = len(layout.coordination)
        for key, value in self._store.scan(layout.coordination + prefix):
            decode_part(run, split_key(key[skip:])[1:], value)
        for key, value in self._store.scan(layout.context + prefix):
            run.context[split_key(key[skip:])[1]] = value
        rebuild(run)
        run.indexed = indexed_of(run)
        return run

    def head(self, run_id: str) -> bytes | None:
        """The record of a run's head or dedup marker."""
        return self._store.get(self._layout.head + run_prefix(run_id))

    def heads(self) -> Iterator[tuple[str, bytes]]:
        """Every run that is known, with the record of its head or dedup marker."""
        for key, value in self._store.scan(self._layout.head):
            yield _run_of(self._layout.head, key), value

    def active_runs(self) -> list[str]:
        """The runs that have work which is scheduled or running."""
        return [_run_of(self._layout.active, key) for key, _ in self._store.scan(self._layout.active)]

    def parked_runs(self) -> list[str]:
        """The runs that are parked."""
        return [_run_of(self._layout.parked, key) for key, _ in self._store.scan(self._layout.parked)]

    def timers(self, after_ms: int, until_ms: int, limit: int) -> list[TimerEntry]:
        """Timers due in ``after_ms < due_ms <= until_ms``, earliest first."""
        prefix = self._layout.timer
        lower = prefix + (after_ms + 1).to_bytes(8, "big")
        upper = prefix + (until_ms + 1).to_bytes(8, "big")
        return [timer_entry(prefix, key) for key, _ in self._store.scan_between(lower, upper, limit)]


def _run_of(prefix: bytes, key: bytes) -> str:
    run_id: str = orjson.loads(key[len(prefix) :].rstrip(b",") + b"]")[0]
    return run_id


def indexed_of(run: RunState) -> Indexed:
    """What the indexes hold of a run whose present state is committed."""
    indexed = Indexed()
    indexed.active = run.active > 0
    indexed.parked = bool(run.parked)
    for node_id, node in run.nodes.items():
        if node.due_ms is not None:
            indexed.timers[(node_id, NO_ITEM)] = node.due_ms
        for index, item in enumerate(node.batch.items if node.batch is not None else ()):
            if item.due_ms is not None:
                indexed.timers[(node_id, index)] = item.due_ms
    return indexed
