"""Carries the work of all partitions on one key-value store: every commit is one atomic batch of it.

The owner of all partitions is this one process, so a commit covers all of them, and what runs say to each other is
delivered within it. The job log holds only what came while nobody worked (``append_jobs``): a command that reaches a
running worker goes into the state directly, and is acknowledged when that is durable. Node jobs are not written apart:
work that is scheduled is in the state, and its owner is who would read them (docs/decisions/0004).
"""

from __future__ import annotations

__all__ = ["LocalCarrier", "append_jobs", "save_blueprints", "stored_blueprints"]

import time
from collections.abc import Iterable, Sequence
from itertools import count

import orjson

from headrace.batch import Batch
from headrace.blueprint import Blueprint, from_json, to_json
from headrace.commands import Command
from headrace.errors import DefinitionError, RecordRefused, StoreError
from headrace.limits import Limits
from headrace_adapters.base import Carrier, Job
from headrace_adapters.local.layout import (
    BLUEPRINT,
    DEAD_LETTER,
    JOB,
    META_PARTITIONS,
    KeyValueStore,
    Layout,
    number_key,
    numbered,
)
from headrace_adapters.local.reader import LocalReader
from headrace_adapters.local.writer import BatchWriter
from headrace_topics.dead_letters import encode_dead_letter
from headrace_topics.jobs_record import decode_command, encode_command
from headrace_topics.partitioning import partition_of


class LocalCarrier(Carrier):
    """All partitions of an app on *store*. The number of partitions is fixed when the store is first used."""

    def __init__(self, store: KeyValueStore, limits: Limits, partitions: int) -> None:
        self._store = store
        self._limits = limits
        self.partitions = fixed_partitions(store, partitions)
        self._layouts = [Layout(number) for number in range(self.partitions)]
        self._polled = next_number(store, JOB, first=True)
        self._dead_letters = count(next_number(store, DEAD_LETTER))
        self._rejections = count()

    def partition_of(self, run_id: str) -> int:
        """The partition that owns a run, as on Kafka."""
        return partition_of(run_id, self.partitions)

    def reader(self, partition: int) -> LocalReader:
        """The committed state of a partition."""
        return LocalReader(self._store, partition)

    def poll(self, limit: int) -> Sequence[Job]:
        """Jobs that were appended while nobody worked; one that cannot be read is a dead letter."""
        jobs: list[Job] = []
        start = number_key(JOB, self._polled)
        refused: list[tuple[bytes, bytes]] = []
        gone: list[bytes] = []
        for key, record in self._store.scan(JOB, start, limit):
            self._polled = numbered(JOB, key) + 1
            try:
                jobs.append(Job(decode_command(record, value_bytes_max=self._limits.value_bytes_max), key))
            except RecordRefused as error:
                letter = encode_dead_letter(
                    record,
                    None,
                    str(error),
                    source_topic="jobs",
                    partition=0,
                    offset=numbered(JOB, key),
                    at_ms=time.time_ns() // 1_000_000,
                )
                refused.append((number_key(DEAD_LETTER, next(self._dead_letters)), letter))
                gone.append(key)
        if refused:
            self._store.write(refused, gone)
        return jobs

    def commit(self, batches: Sequence[tuple[int, Batch]], taken: Sequence[bytes], now_ms: int) -> None:
        """Write everything in one batch of the store."""
        writer = BatchWriter(self._rejections)
        for number, batch in batches:
            writer.add(self._layouts[number], batch, self._limits.dedup_window_ms)
            for command, reason in batch.dead_letters:
                letter = encode_dead_letter(
                    encode_command(command),
                    command.run_id,
                    reason,
                    source_topic="jobs",
                    partition=number,
                    offset=-1,
                    at_ms=now_ms,
                )
                writer.puts.append((number_key(DEAD_LETTER, next(self._dead_letters)), letter))
        self._store.write(writer.puts, [*writer.deletes, *taken], writer.ranges)

    def close(self) -> None:
        """Close the store."""
        self._store.close()


def fixed_partitions(store: KeyValueStore, wanted: int) -> int:
    """The number of partitions of a store; it never changes under state."""
    known = store.get(META_PARTITIONS)
    if known is None:
        store.write([(META_PARTITIONS, str(wanted).encode())])
        return wanted
    return int(known)


def next_number(store: KeyValueStore, space: bytes, *, first: bool = False, start: int = 0) -> int:
    """The number after the last record of a numbered space, from *start* on; with *first*, that of the first record."""
    number = start
    for key, _ in store.scan(space, number_key(space, start)):
        if first:
            return numbered(space, key)
        number = numbered(space, key) + 1
    return number


def append_jobs(store: KeyValueStore, commands: Iterable[Command], start: int = 0) -> int:
    """Put commands into the job log of a store that no worker holds; they are durable when this returns.

    Gives the number of the next one: whoever appends again hands it over as *start*, and need not look for it.
    """
    number = next_number(store, JOB, start=start)
    puts = [(number_key(JOB, number + offset), encode_command(command)) for offset, command in enumerate(commands)]
    store.write(puts)
    return number + len(puts)


def stored_blueprints(store: KeyValueStore) -> list[Blueprint]:
    """Every version of every blueprint that the store knows, in the order in which they came."""
    blueprints: list[Blueprint] = []
    for key, record in store.scan(BLUEPRINT):
        try:
            blueprints.append(from_json(orjson.loads(record)))
        except (ValueError, DefinitionError) as error:
            raise StoreError(
                f"blueprint {numbered(BLUEPRINT, key)} of the store cannot be read, and runs are pinned to it ({error}); "
                "use the version of Headrace that wrote it, or go on from a backup"
            ) from None
    return blueprints


def save_blueprints(store: KeyValueStore, blueprints: Iterable[Blueprint]) -> None:
    """Keep further versions; runs stay pinned to them when the app goes on to others."""
    numbers = count(next_number(store, BLUEPRINT))
    records = [(number_key(BLUEPRINT, next(numbers)), orjson.dumps(to_json(blueprint))) for blueprint in blueprints]
    if records:
        store.write(records)
