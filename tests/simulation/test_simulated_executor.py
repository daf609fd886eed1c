"""The executor of simulated worlds: outcomes come late, in any order, or after they were cancelled, and always the same."""

from __future__ import annotations

import random
from typing import Any

import pytest

from headrace.context import Context
from headrace.execution import NO_ITEM, Execution, Failed, Operation, Succeeded
from headrace.invoke import invoke_sync
from headrace.registry import Registry
from headrace_adapters.base.executing import Executing
from tests.scenarios.scripted import behave

from .case_types import Entry
from .executor import Haste, SimulatedExecutor, entry_of, outcome_of
from .kernel import Kernel, Process

EVEN = Haste(least_us=1_000, most_us=1_000, slow=0, stubborn=0, held=0)


def execution(token: int, uses: str = "work", attempt: int = 1, given: bytes = b"1") -> Execution:
    return Execution(token, "run-0", "flow", uses, NO_ITEM, 0, attempt, uses, b"{}", given, {"n": b"4"}, None, None)


class World:
    """A kernel and an executor in it."""

    def __init__(self, behaviours: dict[str, list[Entry]], haste: Haste = EVEN, seed: int = 0) -> None:
        self.kernel = Kernel(random.Random(seed))
        self.process = Process("worker")
        self.woken = 0
        self.executor = SimulatedExecutor(self.kernel, self.process, random.Random(seed), behaviours, haste, wake=self._wake)

    def _wake(self) -> None:
        self.woken += 1

    def later(self, ms: int) -> list[tuple[int, Any]]:
        """What has ended by then."""
        self.kernel.run(lambda: False, self.kernel.now_us + ms * 1_000)
        return self.executor.drain()


def test_it_is_what_the_loop_of_a_worker_needs() -> None:
    executor: Executing = World({}).executor
    assert executor.in_progress == 0
    assert executor.drain() == []


def test_an_attempt_does_the_same_each_time_that_it_is_begun() -> None:
    behaviours: dict[str, list[Entry]] = {"work": [{"raise": "boom"}, {"output": 2}]}
    world = World(behaviours)
    world.executor.submit([execution(1), execution(2), execution(3, attempt=2), execution(4, attempt=9)])
    assert world.later(2) == [
        (1, Failed("boom")),
        (2, Failed("boom")),
        (3, Succeeded(b"2")),
        (4, Succeeded(b"2")),
    ]


def test_outcomes_come_in_the_order_of_ending_and_wake_the_loop_once() -> None:
    world = World({"slow": [{"sleep_ms": 5, "output": "slow"}], "fast": [{"output": "fast"}]})
    world.executor.submit([execution(1, "slow"), execution(2, "fast"), execution(3, "fast")])
    assert world.executor.in_progress == 3
    assert world.woken == 0
    world.kernel.run(lambda: False, 10_000)
    assert world.woken == 1
    assert world.executor.in_progress == 3, "what nobody has drained is in progress still"
    assert [token for token, _ in world.executor.drain()] == [2, 3, 1]
    assert world.executor.in_progress == 0
    world.executor.submit([execution(4, "fast")])
    assert len(world.later(2)) == 1
    assert world.woken == 2


def test_one_that_hangs_ends_when_it_is_cancelled() -> None:
    world = World({"work": [{"hang": True}]})
    world.executor.submit([execution(1)])
    assert world.later(60_000) == []
    world.executor.cancel([1, 99])
    assert world.later(2) == [(1, Failed("the attempt was cancelled", "CANCELLED"))]
    world.executor.cancel([1])
    assert world.later(2) == []


def test_a_stubborn_one_ends_well_after_it_was_cancelled() -> None:
    world = World({"hangs": [{"hang": True}], "work": [{"sleep_ms": 50, "output": 5}]}, EVEN._replace(stubborn=100))
    world.executor.submit([execution(1, "hangs"), execution(2)])
    world.executor.cancel([1, 2])
    assert world.later(40) == [] or world.woken
    outcomes = dict(world.later(1_000))
    assert outcomes[2] == Succeeded(b"5")
    assert world.executor.in_progress == 0


def test_an_outcome_may_be_held_back_behind_later_ones() -> None:
    world = World({"work": [{"output": 1}]}, EVEN._replace(held=100))
    world.executor.submit([execution(1), execution(2)])
    assert [token for token, _ in world.later(2)] == [2]
    assert world.woken == 2, "it must be drained once more"
    assert [token for token, _ in world.executor.drain()] == [1]


def test_nothing_ends_in_a_process_that_is_dead() -> None:
    world = World({"work": [{"output": 1}]})
    world.executor.submit([execution(1)])
    world.kernel.kill(world.process)
    assert world.later(1_000) == []
    assert world.woken == 0


def test_the_same_seed_takes_the_same_time() -> None:
    haste = Haste(slow=50)
    orders = []
    for _ in range(2):
        world = World({"work": [{"echo": True}]}, haste, seed=7)
        world.executor.submit([execution(token) for token in range(1, 30)])
        orders.append([token for token, _ in world.later(1_000)])
    assert orders[0] == orders[1]
    assert orders[0] != sorted(orders[0])


ENTRIES: list[Entry] = [
    {"output": {"a": 1}, "action": "x"},
    {"echo": True, "incr": {"n": 2}, "set": {"k": [1]}, "append": {"l": 3}, "delete": ["k"]},
    {"read": ["n", "nothing"]},
    {"add": 3},
    {"none": True},
    {"raise": "boom", "incr": {"n": 1}},
    {"raise": "boom", "fatal": True},
    {"error": "no good"},
    {"incr": {"n": 1}, "append": {"n": 1}, "output": 1},
]


@pytest.mark.parametrize("entry", ENTRIES, ids=str)
def test_an_outcome_is_what_the_engine_makes_of_such_a_node(entry: Entry) -> None:
    implementation = Registry().add("work", behave(entry))
    assert outcome_of(entry, execution(1)) == invoke_sync(implementation, Context(execution(1), {}))


def test_writes_of_a_node_are_its_operations() -> None:
    outcome = outcome_of({"incr": {"counted": 1}, "output": None}, execution(1))
    assert outcome == Succeeded(b"null", None, (Operation("increment", "counted", b"1"),))


def test_a_worker_of_a_batch_may_do_something_else_for_each_input() -> None:
    behaviours: dict[str, list[Entry]] = {
        "work": [{"by_input": {"1": {"raise": "boom"}, '"é"': {"output": 2}}, "output": 3}]
    }
    assert entry_of(behaviours, execution(1)) == {"raise": "boom"}
    assert entry_of(behaviours, execution(1, given='"é"'.encode())) == {"output": 2}
    assert entry_of(behaviours, execution(1, given=b"7"))["output"] == 3
