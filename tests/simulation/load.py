"""Everybody outside: producers that publish start events, and people who answer what runs ask."""

from __future__ import annotations

__all__ = ["Load"]

import random
from collections.abc import Callable

from headrace.commands import Start
from headrace.events import Event
from headrace_topics.jobs_record import encode_command
from headrace_topics.partitioning import partition_of
from tests.kafka.bad_records import BadRecord, bad_records

from .case_types import Case
from .kernel import Kernel
from .orders import Due, OrderBook

# Somebody who cannot reach the brokers tries again.
AGAIN_US = 50_000

# How many of the records that may are partitioned in another way than by murmur2.
ASTRAY = 0.05

_BAD: list[BadRecord] = []


def _bad_record(which: int) -> BadRecord:
    if not _BAD:
        # Those that need megabytes are for other tests.
        _BAD.extend(record for record in bad_records(random.Random(0)) if len(record.value or b"") < 10_000)
    return _BAD[which % len(_BAD)]


class Load:
    """Sends what a case says. *append* writes one record to a partition of the jobs, and says whether it could."""

    def __init__(
        self,
        kernel: Kernel,
        case: Case,
        partitions: int,
        strays: tuple[tuple[int, int], ...],
        append: Callable[[int, bytes | None, bytes | None], bool],
    ) -> None:
        self._kernel = kernel
        self._book = OrderBook(case)
        self._partitions = partitions
        self._append = append
        # Where nothing depends on the order of two records of a run, one may take the way over a wrong partition.
        ordered = {order.run_id for order in case.orders if order.when != "open"}
        self._loose = {start.run_id for start in case.starts} - ordered
        self._started: set[str] = set()
        self.to_send = 0
        """How much is due and not sent yet."""
        self._expect(self._book.begin())
        for at_ms, which in strays:
            self.to_send += 1
            kernel.call_in(at_ms * 1_000, lambda which=which: self._stray(which))  # type: ignore[misc]

    def seen(self, run_id: str, seq: int, event: Event) -> None:
        """An event is durable; somebody may act on it."""
        dues = self._book.seen(run_id, seq, event)
        if dues:
            self._expect(dues)

    def _expect(self, dues: list[Due]) -> None:
        for due in dues:
            self.to_send += 1
            self._kernel.call_in(due.after_ms * 1_000, lambda due=due: self._send(due, due.copies))  # type: ignore[misc]

    def _send(self, due: Due, copies: int) -> None:
        command = due.command
        run_id = command.run_id
        number = partition_of(run_id, self._partitions)
        record = encode_command(command)
        if run_id in self._loose and self._kernel.draw.random() < ASTRAY:
            number = self._kernel.draw.randrange(self._partitions)
        sent = 0
        while sent < copies and self._append(number, run_id.encode(), record):
            sent += 1
        if sent < copies:
            self._kernel.call_in(AGAIN_US, lambda: self._send(due, copies - sent))
            return
        self.to_send -= 1
        if isinstance(command, Start) and run_id not in self._started:
            self._started.add(run_id)
            self._expect(self._book.started(run_id))

    def _stray(self, which: int) -> None:
        record = _bad_record(which)
        if self._append(which % self._partitions, record.key, record.value):
            self.to_send -= 1
        else:
            self._kernel.call_in(AGAIN_US, lambda: self._stray(which))
