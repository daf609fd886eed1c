"""The port between the loop of a worker and a technology: what an adapter owes.

The words of the model keep their places. An adapter owes

* a **job log** keyed by run: commands (``headrace.commands``, the job payloads) come out in the order in which they
  went in for one run, and not again once they are taken into the state (``poll``, and ``taken`` in ``commit``);
* a **context store** and a **coordination store**: the parts of every run's state, read by ``reader`` and written with
  ``commit``, atomically with everything else of a batch. All checks are made by the engine, on state that only the owner
  of a partition writes, so no locks and counters are asked for;
* **timers**: an index over the parts (``RunReader.timers``), so that a worker need not keep them in memory;
* **results**, **events** and **dead letters**: records that the same commit writes.

What the base does for it: all decisions, retries, joins, time-outs, executions and their bounds, batching, replies,
recovery after a crash, and graceful stops. An adapter never looks inside a batch further than ``headrace_topics`` goes.
"""

from __future__ import annotations

__all__ = ["Carrier", "Job"]

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from headrace.batch import Batch
from headrace.commands import Command
from headrace.ports import RunReader


class Job(NamedTuple):
    """One command from the job log. *position* is the carrier's own name for it, given back when it is taken."""

    command: Command
    position: bytes


class Carrier(ABC):
    """Carries the work of the partitions that one worker owns. Used from the thread of the worker's loop only."""

    partitions: int

    @abstractmethod
    def partition_of(self, run_id: str) -> int:
        """The partition that owns a run: always the same one."""

    @abstractmethod
    def reader(self, partition: int) -> RunReader:
        """The committed state of a partition."""

    @abstractmethod
    def poll(self, limit: int) -> Sequence[Job]:
        """At most *limit* jobs that were not polled before by this worker; empty where there are none. Never blocks."""

    @abstractmethod
    def commit(self, batches: Sequence[tuple[int, Batch]], taken: Sequence[bytes], now_ms: int) -> None:
        """Make the batches durable, and the jobs in *taken* done: all of it at once, or nothing.

        When this returns, nothing of it can be lost. Commands that a batch publishes for other runs have been delivered
        to their partition already where this worker owns it. Raises :class:`headrace.errors.StoreError`; the loop then
        stops, and nothing of the batches has happened.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of everything that is held."""
