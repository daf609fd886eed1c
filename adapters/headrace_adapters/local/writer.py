"""One batch as records to put and keys to delete: the parts that changed, events, results, and the indexes."""

from __future__ import annotations

__all__ = ["BatchWriter"]

from collections.abc import Iterator

from headrace.batch import Batch, RunChange
from headrace.execution import NO_ITEM
from headrace.ports import Ended, TimerEntry
from headrace.state import Indexed, RunState
from headrace_adapters.local.layout import EVENTS, RESULT, Layout, timer_key
from headrace_topics.events_record import encode_events, encode_rejection
from headrace_topics.names import context_key, coordination_key, run_prefix
from headrace_topics.results_record import encode_result
from headrace_topics.state_records import encode_marker, encode_node, encode_part, run_parts


class BatchWriter:
    """Gathers the records of one commit. *rejections* counts those of all commits."""

    def __init__(self, rejections: Iterator[int]) -> None:
        self._rejections = rejections
        self.puts: list[tuple[bytes, bytes]] = []
        self.deletes: list[bytes] = []
        self.ranges: list[tuple[bytes, bytes]] = []

    def add(self, layout: Layout, batch: Batch, dedup_window_ms: int) -> None:
        """Add what was decided in one partition."""
        for change in batch.runs.values():
            prefix = run_prefix(change.state.run_id)
            seq = change.first_seq.to_bytes(8, "big")
            record = encode_events(change.state.run_id, change.first_seq, change.events)
            self.puts.append((EVENTS + prefix + seq, record))
            if change.state.ended:
                self._end_run(layout, prefix, change, dedup_window_ms)
            else:
                self._write_run(layout, prefix, change)
        for rejection in batch.rejections:
            # Rejections have no sequence number: they stand behind all events of the run, by time, then in order.
            order = (2**63 + (rejection.at_ms << 20) + next(self._rejections) % 2**20).to_bytes(8, "big")
            self.puts.append((EVENTS + run_prefix(rejection.run_id) + order, encode_rejection(rejection)))
        for ended in batch.expired:
            self._forget_run(layout, ended)
        # A timer may have been set anew for the same moment; deletes go before puts.
        self.deletes += [timer_key(layout.timer, entry) for entry in batch.stale_timers]

    def _write_run(self, layout: Layout, prefix: bytes, change: RunChange) -> None:
        state = change.state
        puts, deletes = self.puts, self.deletes
        coordination, context = layout.coordination, layout.context
        stored = state.indexed is not None
        indexed = state.indexed = state.indexed or Indexed()
        head = False
        head_of_key = coordination + prefix
        nodes, seq, timers = state.nodes, state.seq, indexed.timers
        for part in change.parts:
            kind = part[0]
            if kind == "n" or kind == "m":
                key = coordination_key(head_of_key, part)
                item = NO_ITEM if kind == "n" else int(part[2])
                work = nodes.get(part[1]) if kind == "n" else state.work(part[1], item)
                value = None if work is None else encode_node(work, seq)
                due_ms = None if work is None else work.due_ms
                if due_ms is not None or timers:
                    self._set_timer(layout, state.run_id, indexed, (part[1], item), due_ms)
            elif kind == "x":
                key = context + context_key(prefix, part[1])
                value = state.context.get(part[1])
            elif kind == "r":
                head = True
                continue
            else:
                key = coordination_key(head_of_key, part)
                value = encode_part(state, part)
            if value is not None:
                puts.append((key, value))
            elif stored:
                deletes.append(key)
        if head or not stored:
            record = encode_part(state, ("r",))
            assert record is not None
            puts.append((layout.head + prefix, record))
        self._flag_run(layout, prefix, state, indexed)

    def _flag_run(self, layout: Layout, prefix: bytes, state: RunState, indexed: Indexed) -> None:
        active = state.active > 0
        if active != indexed.active:
            indexed.active = active
            self._flag(layout.active + prefix, active)
        parked = bool(state.parked)
        if parked != indexed.parked:
            indexed.parked = parked
            self._flag(layout.parked + prefix, parked)

    def _set_timer(self, layout: Layout, run_id: str, indexed: Indexed, work: tuple[str, int], due_ms: int | None) -> None:
        before_ms = indexed.timers.get(work)
        if due_ms == before_ms:
            return
        indexed.timers.pop(work, None)
        if before_ms is not None:
            self.deletes.append(timer_key(layout.timer, TimerEntry(before_ms, run_id, *work)))
        if due_ms is not None:
            indexed.timers[work] = due_ms
            self.puts.append((timer_key(layout.timer, TimerEntry(due_ms, run_id, *work)), b""))

    def _flag(self, key: bytes, on: bool) -> None:
        if on:
            self.puts.append((key, b""))
        else:
            self.deletes.append(key)

    def _end_run(self, layout: Layout, prefix: bytes, change: RunChange, dedup_window_ms: int) -> None:
        """The run leaves its result, its history and a dedup marker; everything else goes."""
        state, indexed = change.state, change.state.indexed
        if indexed is not None:
            gone = {part for part in change.parts if part[0] != "x"}
            gone.update(run_parts(state))
            gone.discard(("r",))
            coordination, context = layout.coordination, layout.context
            self.deletes += [coordination + coordination_key(prefix, part) for part in gone]
            keys = {part[1] for part in change.parts if part[0] == "x"}
            self.deletes += [context + context_key(prefix, key) for key in keys.union(state.context)]
            if indexed.active:
                self.deletes.append(layout.active + prefix)
            if indexed.parked:
                self.deletes.append(layout.parked + prefix)
            for work in list(indexed.timers):
                self._set_timer(layout, state.run_id, indexed, work, None)
        ended_at_ms = change.events[-1][0]
        ended = Ended(state.run_id, state.ended, ended_at_ms + dedup_window_ms, state.parent)
        marker = encode_marker(ended, state.blueprint_id, state.version, state.started_at_ms, ended_at_ms)
        self.puts.append((layout.head + prefix, marker))
        self.puts.append((timer_key(layout.timer, TimerEntry(ended.until_ms, state.run_id, "", NO_ITEM)), b""))
        self.puts.append((RESULT + prefix, encode_result(state, ended_at_ms)))

    def _forget_run(self, layout: Layout, ended: Ended) -> None:
        """The dedup marker has served its time; result and history go with it."""
        prefix = run_prefix(ended.run_id)
        self.deletes.append(layout.head + prefix)
        self.deletes.append(RESULT + prefix)
        self.deletes.append(timer_key(layout.timer, TimerEntry(ended.until_ms, ended.run_id, "", NO_ITEM)))
        self.ranges.append((EVENTS + prefix, EVENTS + prefix + b"\xff" * 9))
