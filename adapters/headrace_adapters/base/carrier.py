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

__all__ = ["Carrier", "CommitUndone", "Job", "Owner"]

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from headrace.batch import Batch
from headrace.commands import Command
from headrace.ports import RunReader
from headrace_adapters.base.host import Event


class Job(NamedTuple):
    """One command from the job log. *position* is the carrier's own name for it, given back when it is taken.

    *command* is None where a record asks for nothing, and only has to be passed. *partition* is where it stood; carriers
    whose partitions come and go say it, so that no job of a partition which is gone is given back as taken.
    """

    command: Command | None
    position: bytes
    partition: int | None = None


class CommitUndone(Exception):
    """Raised by :meth:`Carrier.commit` when nothing of the batches has happened and the worker can go on.

    Every job that was polled since the last commit will be polled again, in the order in which they were. Where that
    happens within a poll, because partitions are handed over in it, that poll gives none.

    *unwritable* are the runs, by partition and with the reason, of which no record can hold what was decided: the loop has
    them fail, since their commit would be undone again and again.
    """

    def __init__(self, reason: str = "", unwritable: Sequence[tuple[int, str, str]] = ()) -> None:
        super().__init__(reason)
        self.unwritable = unwritable


class Owner(Protocol):
    """What a carrier tells the loop about partitions that come and go; called in the loop's thread only.

    They may come and go only where the carrier does not deliver (:attr:`Carrier.delivers`): what was decided in one
    partition because of another one would else outlive it.
    """

    def take_over(self, number: int) -> None:
        """The partition is this worker's from now on, and its committed state can be read."""
        ...

    def hand_over(self, numbers: Sequence[int]) -> None:
        """Commit what was decided, because these partitions go to another worker as soon as this returns."""
        ...

    def drop(self, numbers: Sequence[int]) -> None:
        """Forget what was decided in these partitions and not committed: they are no longer this worker's."""
        ...


class Carrier(ABC):
    """Carries the work of the partitions that one worker owns. Used from the thread of the worker's loop only."""

    partitions: int

    delivers = True
    """Whether the loop hands commands for other runs over itself, within the same commit. Where partitions may belong to
    different workers, ``commit`` puts what a batch publishes into the job log instead, and what clients ask for comes by
    the job log too."""

    logs_first = False
    """Whether every command comes from a log that has it for good, and nobody waits for an answer before it is committed."""

    gather_s = 0.0
    """How long a commit may wait for outcomes that come one after the other, where a commit costs the same whatever is in
    it. It never waits for executions of which none ends."""

    def bind(self, owner: Owner) -> None:
        """Tell *owner* from now on which partitions it has. Here all of them, at once and for ever."""
        for number in range(self.partitions):
            owner.take_over(number)

    def wait(self, wake: Event, timeout_s: float, executing: int) -> None:  # noqa: ARG002
        """Return when *wake* is set, when there may be jobs to poll, or when the time is over.

        *executing* is how many executions may end meanwhile; each end sets *wake*.
        """
        wake.wait(timeout_s)

    @abstractmethod
    def partition_of(self, run_id: str) -> int:
        """The partition that owns a run: always the same one."""

    @abstractmethod
    def reader(self, partition: int) -> RunReader:
        """The committed state of a partition."""

    @abstractmethod
    def poll(self, limit: int) -> Sequence[Job]:
        """At most *limit* jobs that were not polled before by this worker; empty where there are none. Never blocks.

        Called in every step, with a *limit* of 0 where the worker can take nothing at present.
        """

    @abstractmethod
    def commit(self, batches: Sequence[tuple[int, Batch]], taken: Sequence[bytes], now_ms: int) -> None:
        """Make the batches durable, and the jobs in *taken* done: all of it at once, or nothing.

        When this returns, nothing of it can be lost. Commands that a batch publishes for other runs have been delivered
        to their partition already where the carrier :attr:`delivers`. Raises :class:`CommitUndone` where the worker is to
        go on from its last commit, and :class:`headrace.errors.StoreError` where it cannot: the loop then stops. Nothing
        of the batches has happened in both cases.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of everything that is held."""
