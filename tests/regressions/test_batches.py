"""Batches whose items are more than the worker has slots for."""

from __future__ import annotations

from itertools import count

from headrace.blueprint import from_json
from headrace.commands import Start
from headrace.execution import Execution, Failed, Succeeded
from headrace.limits import Limits
from headrace.partition import Partition
from headrace.plans import Plans
from headrace.ports import Ended
from headrace_adapters.local.layout import Layout
from headrace_adapters.local.reader import LocalReader
from headrace_adapters.local.writer import BatchWriter
from headrace_adapters.memory import MemoryStore

FLOW = {
    "id": "flow",
    "nodes": [
        {"id": "scatter", "uses": "batch-scatter", "params": {"workerUsesKey": "work", "gatherNodeId": "gather"}},
        {"id": "gather", "uses": "batch-gather", "params": {"scatterNodeId": "scatter"}},
    ],
    "edges": [{"source": "scatter", "target": "gather"}],
}


class Driver:
    """A partition on a store in memory, with as many slots as each call says."""

    def __init__(self) -> None:
        plans = Plans({"work"})
        plans.add(from_json(FLOW))
        self.store = MemoryStore()
        self.partition = Partition(0, LocalReader(self.store, 0), plans, Limits(), count(1))

    def begin(self, slots: int) -> list[Execution]:
        self.commit()
        executions = self.partition.begin(slots, 1)
        self.commit()
        return executions

    def commit(self) -> None:
        batch = self.partition.take()
        if batch is not None:
            writer = BatchWriter(count())
            writer.add(Layout(0), batch, 1_000)
            self.store.write(writer.puts, writer.deletes, writer.ranges)
            self.partition.committed()


def test_after_a_failure_no_item_begins_that_waited_for_a_slot() -> None:
    driver = Driver()
    driver.partition.receive(Start("run", "flow", input=b"[0,1,2,3,4]"), 1)
    assert driver.begin(2) == []
    first, second = driver.begin(2)

    driver.partition.finished(first.token, Failed("boom"), 1)

    assert driver.begin(2) == []
    driver.partition.finished(second.token, Succeeded(b"1"), 1)
    assert driver.begin(2) == []
    assert driver.begin(2) == []
    ended = driver.partition.run("run")
    assert isinstance(ended, Ended)
    assert ended.status == "failed"
