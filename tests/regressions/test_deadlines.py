"""The ends of attempts that have a timeout: kept as long as the attempt goes on."""

from __future__ import annotations

from itertools import count

from headrace.blueprint import from_json
from headrace.commands import Start
from headrace.execution import Succeeded
from headrace.limits import Limits
from headrace.partition import Partition
from headrace.plans import Plans
from headrace_adapters.local.reader import LocalReader
from headrace_adapters.memory import MemoryStore

FLOW = {"id": "flow", "nodes": [{"id": "n", "uses": "n", "config": {"timeout": 86_400_000}}], "edges": []}


def test_attempts_that_have_ended_leave_no_deadline() -> None:
    """With a timeout of a day, a worker would else remember every attempt of a day."""
    plans = Plans({"n"})
    plans.add(from_json(FLOW))
    partition = Partition(0, LocalReader(MemoryStore(), 0), plans, Limits(), count(1))

    for number in range(5_000):
        partition.receive(Start(f"r{number}", "flow"), number)
        partition.take()
        partition.committed()
        for execution in partition.begin(10, number):
            partition.finished(execution.token, Succeeded(b"1"), number)

    assert len(partition._deadlines) < 2_000
