"""One batch of a partition as records of the topics, and as what the local store takes over when they are committed.

The batch is written as every adapter on a key-value store writes it (``headrace_adapters.local.writer``), and each place
of that store is a place on the wire: a key under ``C`` and ``X`` is one of the changelogs', a head is the coordination
record ``[run, "r"]``, ``E`` and ``R`` are events and results, which stay out of the store. Indexes are the store's own.
"""

from __future__ import annotations

__all__ = ["BatchRecords"]

from collections.abc import Container, Iterator
from typing import Any

import orjson

from headrace.batch import Batch
from headrace.commands import ChildEnd, Command, RunNode, Start
from headrace.decide import refuse_child
from headrace.values import NULL
from headrace_adapters.kafka.changelog_copy import offset_place
from headrace_adapters.kafka.topic_layout import TopicLayout
from headrace_adapters.kafka.transactions import VALUE_BYTES_MAX, Outgoing
from headrace_adapters.local.layout import Layout
from headrace_adapters.local.writer import BatchWriter
from headrace_topics.jobs_record import encode_command
from headrace_topics.names import OFFSET_KEY
from headrace_topics.partitioning import partition_of
from headrace_topics.state_records import encode_offset

# The first byte of a key in the store.
_HEAD, _COORDINATION, _CONTEXT, _EVENTS, _RESULT = b"HCXER"

# A letter and two bytes of partition stand before the key of a changelog record.
_SKIP = 3
_SEQ_BYTES = 8
_HEAD_PART = b'"r"]'

# Larger records of events are cut, so that one run with much to tell stays far below any limit.
EVENTS_BYTES_MAX = 900_000

# What stands around the events of a record at most; and what a field may have of an event that is too large as a whole.
EVENTS_FRAME_BYTES = 16 * 1024
FIELD_BYTES_MAX = 4 * 1024


class BatchRecords:
    """The records of one batch. *records* go out; *puts* and *deletes* are the store's, once they are committed."""

    def __init__(self, layout: TopicLayout, rejections: Iterator[int], dedup_window_ms: int) -> None:
        self._layout = layout
        self._rejections = rejections
        self._dedup_window_ms = dedup_window_ms
        self.records: list[Outgoing] = []
        self.puts: list[tuple[bytes, bytes]] = []
        self.deletes: list[bytes] = []
        self.jobs: dict[int, list[bytes]] = {}
        """By partition, the node jobs among the records."""
        self.unwritable: dict[str, tuple[int, str, str]] = {}
        """By run, the partition, the run and the reason, where a part of its state is larger than a record can be."""

    def add(self, number: int, batch: Batch, next_job: int) -> None:
        """Add what was decided in partition *number*; *next_job* is the offset behind the last job that was taken."""
        writer = BatchWriter(self._rejections)
        writer.add(Layout(number), batch, self._dedup_window_ms)
        self.move(number, next_job)
        self._add_puts(number, writer)
        self._add_deletes(number, writer, {put for put, _ in writer.puts} if batch.expired else frozenset())
        self._add_jobs(number, batch)

    def move(self, number: int, next_job: int) -> None:
        """Add how far the jobs of a partition were taken.

        The group forgets offsets of which nobody asks for long; those that stand beside the state are kept with it.
        """
        taken = encode_offset(next_job)
        self.records.append(Outgoing(self._layout.coordination, number, OFFSET_KEY, taken))
        self.puts.append((offset_place(number), taken))

    def _add_deletes(self, number: int, writer: BatchWriter, anew: Container[bytes]) -> None:
        layout, records = self._layout, self.records
        for key in writer.deletes:
            space = key[0]
            if space == _COORDINATION:
                records.append(Outgoing(layout.coordination, number, key[_SKIP:], None))
            elif space == _CONTEXT:
                records.append(Outgoing(layout.context, number, key[_SKIP:], None))
            elif space in (_HEAD, _RESULT):
                if key in anew:
                    continue  # A run that was forgotten began anew in the same step.
                if space == _RESULT:
                    records.append(Outgoing(layout.results, number, _run_id(key[1:]), None))
                    continue
                records.append(Outgoing(layout.coordination, number, key[_SKIP:] + _HEAD_PART, None))
            self.deletes.append(key)

    def _add_puts(self, number: int, writer: BatchWriter) -> None:
        layout, records, puts = self._layout, self.records, self.puts
        for put in writer.puts:
            key, value = put
            space = key[0]
            if len(value) > VALUE_BYTES_MAX and space in (_COORDINATION, _CONTEXT, _HEAD):
                self._refuse(number, key[_SKIP:], len(value))
            if space == _COORDINATION:
                records.append(Outgoing(layout.coordination, number, key[_SKIP:], value))
            elif space == _EVENTS:
                run_id = _run_id(key[1:-_SEQ_BYTES])
                if len(value) > EVENTS_BYTES_MAX:
                    records += [Outgoing(layout.events, number, run_id, part) for part in cut_events(value)]
                else:
                    records.append(Outgoing(layout.events, number, run_id, value))
                continue
            elif space == _CONTEXT:
                records.append(Outgoing(layout.context, number, key[_SKIP:], value))
            elif space == _HEAD:
                records.append(Outgoing(layout.coordination, number, key[_SKIP:] + _HEAD_PART, value))
            elif space == _RESULT:
                records.append(Outgoing(layout.results, number, _run_id(key[1:]), fitting_result(value)))
                continue
            puts.append(put)

    def _refuse(self, number: int, key: bytes, size: int) -> None:
        part: list[str] = orjson.loads(key.rstrip(b",]") + b"]")
        reason = (
            f"the record of {part[1:] or 'the head'} of its state would have {size} bytes, at most {VALUE_BYTES_MAX}: "
            "keep large data elsewhere and pass its address"
        )
        self.unwritable[part[0]] = (number, part[0], reason)

    def _add_jobs(self, number: int, batch: Batch) -> None:
        """Work that was scheduled, and what runs tell other runs."""
        layout, records = self._layout, self.records
        jobs = self.jobs.setdefault(number, [])
        for run_id, node_id, item in batch.ready:
            state = batch.runs[run_id].state
            work = state.work(node_id, item)
            if work is None or state.ended:
                continue
            job = encode_command(RunNode(run_id, state.blueprint_id, node_id, item, work.activation, work.attempt))
            jobs.append(job)
            records.append(Outgoing(layout.jobs, number, run_id.encode(), job))
        for published in batch.publish:
            command, job = fitting_job(published)
            home = partition_of(command.run_id, layout.partitions)
            records.append(Outgoing(layout.jobs, home, command.run_id.encode(), job))


def _run_id(prefix: bytes) -> bytes:
    """The run id of keys that begin with *prefix*, as a record's key."""
    run_id: str = orjson.loads(prefix[:-1] + b"]")[0]
    return run_id.encode()


def cut_events(record: bytes) -> Iterator[bytes]:
    """A record of events as several, each with at least one event; where a decision is cut, its parts have its time."""
    data = orjson.loads(record)
    seq = data["seq"]
    decisions: list[dict[str, Any]] = []
    size, count = 0, 0

    def part() -> bytes:
        return orjson.dumps({**data, "seq": seq, "decisions": decisions})

    for decision in data["decisions"]:
        at = {"at": decision["at"], "events": []}
        for event in decision["events"]:
            encoded = _fitting_event(event)
            if count and size + len(encoded) > EVENTS_BYTES_MAX:
                yield part()
                seq += count
                decisions, size, count = [], 0, 0
                at = {"at": decision["at"], "events": []}
            if not at["events"]:
                decisions.append(at)
            at["events"].append(orjson.Fragment(encoded))
            size += len(encoded)
            count += 1
    yield part()


def _fitting_event(event: dict[str, Any]) -> bytes:
    """One event; where no record can hold it, its large fields are left out and named: the state does not depend on it."""
    encoded = orjson.dumps(event)
    if len(encoded) <= VALUE_BYTES_MAX - EVENTS_FRAME_BYTES:
        return encoded
    large = [name for name, value in event.items() if len(orjson.dumps(value)) > FIELD_BYTES_MAX]
    return orjson.dumps({**{name: event[name] for name in event if name not in large}, "omitted": large})


def fitting_result(record: bytes) -> bytes:
    """A result that a record can hold: without its context where that is too much, and then without its output."""
    if len(record) <= VALUE_BYTES_MAX:
        return record
    told = f"the result has {len(record)} bytes, a record at most {VALUE_BYTES_MAX}: keep large data elsewhere"
    data = orjson.loads(record)
    errors = data["errors"]
    for name, empty in (("context", {}), ("output", None)):
        error = {"nodeId": "", "code": "RESULT_TOO_LARGE", "message": f"{told} (the {name} is left out)"}
        errors = [*errors, error]
        data |= {name: empty, "errors": errors}
        record = orjson.dumps(data)
        if len(record) <= VALUE_BYTES_MAX:
            break
    return record


def fitting_job(command: Command) -> tuple[Command, bytes]:
    """What a run tells another one, as a record can hold it: a child that cannot be told its input or output has failed."""
    record = encode_command(command)
    if len(record) > VALUE_BYTES_MAX:
        told = f"its record would have {len(record)} bytes, at most {VALUE_BYTES_MAX}: pass the address of large data"
        if isinstance(command, Start) and command.parent is not None:
            command = refuse_child(command, told)
        elif isinstance(command, ChildEnd):
            command = command._replace(status="failed", output=NULL, values={}, error=told)
        record = encode_command(command)
    return command, record
