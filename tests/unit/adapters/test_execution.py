"""The executor as the engine's thread sees it, with a real loop, real threads and real processes."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.context import Context
from headrace.errors import Cancelled
from headrace.execution import Execution, Failed, Outcome, Succeeded
from headrace.limits import Limits
from headrace.registry import Registry
from headrace_adapters.execution import Executor
from headrace_adapters.execution.outbox import Outbox

# Nothing here takes this long; a test that would hang fails instead.
PATIENCE_S = 20.0


def an_execution(token: int, uses: str, **changes: Any) -> Execution:
    base = Execution(token, "r1", "b", uses, -1, 0, 1, uses, b"{}", b'{"x":1}', {"k": b"5"}, None, None)
    return base._replace(**changes)


class Harness:
    """An executor and the engine's thread beside it."""

    def __init__(self, **settings: Any) -> None:
        self.registry = Registry()
        self.woken = threading.Event()
        self.wakes = 0
        self.executor = Executor(self.registry, wake=self.wake, **settings)

    def wake(self) -> None:
        self.wakes += 1
        self.woken.set()

    def collect(self, count: int, timeout_s: float = PATIENCE_S) -> list[tuple[int, Outcome]]:
        """Drain until *count* outcomes have come."""
        deadline = time.monotonic() + timeout_s
        found: list[tuple[int, Outcome]] = []
        while len(found) < count:
            assert self.woken.wait(max(0.0, deadline - time.monotonic())), f"only {found} came"
            self.woken.clear()
            found += self.executor.drain()
        return found


@pytest.fixture
def make() -> Iterator[Callable[..., Harness]]:
    made: list[Harness] = []

    def build(**settings: Any) -> Harness:
        made.append(Harness(**settings))
        return made[-1]

    yield build
    for harness in made:
        harness.executor.close(PATIENCE_S)


Make = Callable[..., Harness]


async def asynchronous(ctx: Context) -> Any:
    await asyncio.sleep(0)
    return [ctx.input["x"], ctx.get("k"), ctx.dependencies["d"]]


def synchronous(ctx: Context) -> Any:
    return [ctx.input["x"], ctx.get("k"), ctx.dependencies["d"]]


# A process imports the module of its node, and cannot import a test.
CPU_NODES = """
import os

def computing(ctx):
    return [ctx.input["x"], ctx.get("k"), os.getpid()]

def reading_dependencies(ctx):
    return ctx.dependencies["d"]

def dying():
    os._exit(7)

def leaving():
    raise SystemExit("gone")

def endless(ctx):
    ctx.heartbeat("started")
    while True:
        pass
"""


@pytest.fixture
def cpu_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    (tmp_path / "cpu_nodes.py").write_text(CPU_NODES)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("cpu_nodes")
    del sys.modules["cpu_nodes"]


# What holds for every kind.


def test_all_kinds_come_back(make: Make) -> None:
    harness = make(dependencies={"d": 9})
    harness.registry.add("a", asynchronous)
    harness.registry.add("s", synchronous)
    harness.executor.submit([an_execution(1, "a"), an_execution(2, "s"), an_execution(3, "a")])

    assert dict(harness.collect(3)) == dict.fromkeys((1, 2, 3), Succeeded(b"[1,5,9]"))
    assert harness.executor.in_progress == 0
    assert harness.executor.drain() == []


def test_an_unknown_key_fails_at_once_and_says_what_to_do(make: Make) -> None:
    harness = make()
    harness.executor.submit([an_execution(1, "nobody")])

    ((token, outcome),) = harness.collect(1)
    assert token == 1
    assert isinstance(outcome, Failed)
    assert outcome.code == "IMPLEMENTATION_MISSING"
    assert "register it" in outcome.message


def test_the_limit_of_values_holds(make: Make) -> None:
    harness = make(limits=Limits(value_bytes_max=10))
    harness.registry.add("s", lambda: "x" * 20)
    harness.executor.submit([an_execution(1, "s")])

    ((_, outcome),) = harness.collect(1)
    assert isinstance(outcome, Failed)
    assert outcome.code == "VALUE_REFUSED"


def test_wake_comes_once_until_something_is_drained(make: Make) -> None:
    harness = make()
    harness.registry.add("s", lambda: 1)
    for token in range(50):
        harness.executor.submit([an_execution(token, "s")])
    deadline = time.monotonic() + PATIENCE_S
    while harness.executor.in_progress and time.monotonic() < deadline:
        time.sleep(0.001)

    assert harness.wakes == 1
    assert len(harness.executor.drain()) == 50


def test_cancelling_what_is_not_in_progress_does_nothing(make: Make) -> None:
    harness = make()
    harness.executor.cancel([1, 2])

    assert harness.executor.drain() == []
    assert harness.executor.progress(1) is None


def test_a_closed_executor_takes_nothing(make: Make) -> None:
    harness = make()

    assert harness.executor.close(1.0)
    assert harness.executor.close(1.0)
    with pytest.raises(RuntimeError, match="closed"):
        harness.executor.submit([])


def test_closing_cancels_what_runs_and_drops_what_waits(make: Make) -> None:
    harness = make(threads_max=1)
    entered = threading.Semaphore(0)

    def long(ctx: Context) -> None:
        entered.release()
        while True:
            ctx.heartbeat()
            time.sleep(0.001)

    async def hang() -> None:
        entered.release()
        await asyncio.sleep(3600)

    harness.registry.add("s", long)
    harness.registry.add("a", hang)
    harness.executor.submit([an_execution(1, "s"), an_execution(2, "a"), an_execution(3, "s")])
    assert entered.acquire(timeout=PATIENCE_S)
    assert entered.acquire(timeout=PATIENCE_S)

    assert harness.executor.close(PATIENCE_S)
    outcomes = harness.executor.drain()
    assert sorted(token for token, _ in outcomes) == [1, 2, 3]
    assert {outcome.code for _, outcome in outcomes if isinstance(outcome, Failed)} == {"CANCELLED"}


# Async nodes.


def test_async_nodes_of_one_batch_wait_side_by_side(make: Make) -> None:
    harness = make()
    meeting: list[asyncio.Event] = []

    async def meet() -> int:
        if not meeting:
            meeting.append(asyncio.Event())
            await meeting[0].wait()
        else:
            meeting[0].set()
        return 1

    harness.registry.add("a", meet)
    harness.executor.submit([an_execution(1, "a"), an_execution(2, "a")])

    assert [token for token, _ in harness.collect(2)] == [2, 1]


def test_cancelling_an_async_node_cancels_its_task(make: Make) -> None:
    harness = make()
    seen: list[str] = []
    entered = threading.Event()

    async def hang(ctx: Context) -> None:
        entered.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            seen.append(f"cancelled {ctx.cancelled}")
            raise

    harness.registry.add("a", hang)
    harness.executor.submit([an_execution(1, "a")])
    assert entered.wait(PATIENCE_S)
    harness.executor.cancel([1])

    assert harness.collect(1) == [(1, Failed("the attempt was cancelled", "CANCELLED"))]
    assert seen == ["cancelled True"]


async def test_an_async_node_that_is_cancelled_before_it_began_never_runs() -> None:
    ran: list[int] = []

    async def node() -> None:
        ran.append(1)

    woken = asyncio.Event()
    registry = Registry()
    registry.add("a", node)
    executor = Executor(registry, wake=woken.set, loop=asyncio.get_running_loop())
    executor.submit([an_execution(1, "a")])
    executor.cancel([1])
    await woken.wait()

    assert executor.drain() == [(1, Failed("the attempt was cancelled", "CANCELLED"))]
    assert ran == []


async def test_a_given_loop_is_where_async_nodes_run() -> None:
    here = asyncio.get_running_loop()

    async def node() -> bool:
        return asyncio.get_running_loop() is here

    woken = asyncio.Event()
    registry = Registry()
    registry.add("a", node)
    executor = Executor(registry, wake=woken.set, loop=here)
    executor.submit([an_execution(token, "a") for token in range(3)])
    assert executor.in_progress == 3
    await woken.wait()

    assert executor.drain() == [(token, Succeeded(b"true")) for token in range(3)]
    assert executor.close(0.0)


def test_a_task_that_swallows_its_cancellation_is_given_up(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    harness = make(abandon_after_s=0.02)
    entered = threading.Event()
    let_go: list[Callable[[], object]] = []

    async def stubborn() -> str:
        end = asyncio.Event()
        loop = asyncio.get_running_loop()
        let_go.append(lambda: loop.call_soon_threadsafe(end.set))
        entered.set()
        while not end.is_set():
            try:
                await end.wait()
            except asyncio.CancelledError:
                continue
        return "too late"

    harness.registry.add("a", stubborn)
    harness.executor.submit([an_execution(1, "a")])
    assert entered.wait(PATIENCE_S)
    harness.executor.cancel([1])

    assert harness.collect(1) == [(1, Failed("the attempt was cancelled", "CANCELLED"))]
    assert harness.executor.in_progress == 0
    assert "pass on asyncio.CancelledError" in caplog.text
    let_go[0]()
    assert harness.executor.close(PATIENCE_S)
    assert harness.executor.drain() == []


def test_a_thousand_async_nodes_cross_over_together(make: Make) -> None:
    harness = make()
    harness.registry.add("a", asynchronous)
    harness.executor._dependencies = {"d": 0}
    harness.executor.submit([an_execution(token, "a") for token in range(1000)])

    assert sorted(token for token, _ in harness.collect(1000)) == list(range(1000))
    assert harness.wakes < 100


# Sync nodes.


def test_quick_functions_are_run_by_few_threads(make: Make) -> None:
    harness = make()
    harness.registry.add("s", lambda ctx: threading.get_ident())
    harness.executor.submit([an_execution(token, "s") for token in range(1000)])
    outcomes = harness.collect(1000)

    threads = {outcome.output for _, outcome in outcomes if isinstance(outcome, Succeeded)}
    # One, unless the machine was so busy that the monitor took that for being stuck.
    assert len(threads) <= 3


def test_blocking_functions_fill_the_pool_and_no_more(make: Make) -> None:
    harness = make(threads_max=16)
    lock = threading.Lock()
    inside: list[int] = [0]
    most: list[int] = []
    full = threading.Barrier(16)

    def block() -> None:
        with lock:
            inside[0] += 1
            most.append(inside[0])
        full.wait(PATIENCE_S)
        with lock:
            inside[0] -= 1

    harness.registry.add("s", block)
    harness.executor.submit([an_execution(token, "s") for token in range(64)])
    outcomes = harness.collect(64)

    assert all(isinstance(outcome, Succeeded) for _, outcome in outcomes)
    assert max(most) == 16


def test_a_quick_function_does_not_wait_for_a_blocking_one(make: Make) -> None:
    harness = make(threads_max=2)
    gate = threading.Event()
    harness.registry.add("slow", lambda: gate.wait(PATIENCE_S))
    harness.registry.add("quick", lambda: 1)
    harness.executor.submit([an_execution(1, "slow")] + [an_execution(token, "quick") for token in range(2, 12)])

    assert [token for token, _ in harness.collect(10)] == list(range(2, 12))
    assert harness.executor.in_progress == 1
    gate.set()
    assert harness.collect(1) == [(1, Succeeded(b"true"))]


def test_outcomes_are_told_though_the_next_function_blocks(make: Make) -> None:
    harness = make(threads_max=1)
    gate = threading.Event()
    harness.registry.add("slow", lambda: gate.wait(PATIENCE_S))
    harness.registry.add("quick", lambda: 1)
    harness.executor.submit([an_execution(1, "quick"), an_execution(2, "slow")])

    assert harness.collect(1) == [(1, Succeeded(b"1"))]
    gate.set()
    assert harness.collect(1) == [(2, Succeeded(b"true"))]


def test_a_sync_node_is_told_that_it_is_cancelled(make: Make) -> None:
    harness = make()
    entered = threading.Event()

    def long(ctx: Context) -> None:
        entered.set()
        while True:
            ctx.heartbeat({"half": True})

    harness.registry.add("s", long)
    harness.executor.submit([an_execution(1, "s")])
    assert entered.wait(PATIENCE_S)
    harness.executor.cancel([1])

    ((_, outcome),) = harness.collect(1)
    assert isinstance(outcome, Failed)
    assert outcome.code == "CANCELLED"


def test_progress_is_what_the_last_heartbeat_told(make: Make) -> None:
    harness = make()
    told, go_on = threading.Event(), threading.Event()

    def node(ctx: Context) -> None:
        ctx.heartbeat({"done": 1})
        ctx.heartbeat({"done": 2})
        told.set()
        go_on.wait(PATIENCE_S)

    harness.registry.add("s", node)
    harness.executor.submit([an_execution(1, "s")])
    assert told.wait(PATIENCE_S)

    assert harness.executor.progress(1) == b'{"done":2}'
    go_on.set()
    harness.collect(1)
    assert harness.executor.progress(1) is None


def test_a_queued_sync_node_that_is_cancelled_never_runs(make: Make) -> None:
    harness = make(threads_max=1)
    gate, entered = threading.Event(), threading.Event()
    ran: list[int] = []

    def block() -> None:
        entered.set()
        gate.wait(PATIENCE_S)

    harness.registry.add("slow", block)
    harness.registry.add("s", lambda: ran.append(1))
    harness.executor.submit([an_execution(1, "slow"), an_execution(2, "s")])
    assert entered.wait(PATIENCE_S)
    harness.executor.cancel([2])
    gate.set()

    assert harness.collect(2) == [
        (1, Succeeded(b"null")),
        (2, Failed("the attempt was cancelled", "CANCELLED")),
    ]
    assert ran == []


def test_a_thread_that_never_returns_is_left_behind_and_replaced(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    harness = make(threads_max=1, abandon_after_s=0.02)
    gate, entered = threading.Event(), threading.Semaphore(0)

    def stubborn() -> str:
        entered.release()
        gate.wait(PATIENCE_S)
        return "too late"

    harness.registry.add("stubborn", stubborn)
    harness.registry.add("quick", lambda: 1)
    harness.executor.submit([an_execution(1, "stubborn"), an_execution(2, "quick")])
    assert entered.acquire(timeout=PATIENCE_S)
    harness.executor.cancel([1])

    assert harness.collect(2) == [
        (1, Failed("the attempt was cancelled", "CANCELLED")),
        (2, Succeeded(b"1")),
    ]
    assert "its thread is left behind (1 of at most 1 are)" in caplog.text

    # A second one is past the bound: its execution comes back, but its thread is not replaced.
    harness.executor.submit([an_execution(3, "stubborn"), an_execution(4, "quick")])
    assert entered.acquire(timeout=PATIENCE_S)
    harness.executor.cancel([3])
    assert harness.collect(1) == [(3, Failed("the attempt was cancelled", "CANCELLED"))]
    assert "its thread is not replaced any more" in caplog.text
    assert harness.executor.in_progress == 1

    # What comes out late changes nothing, and the pool goes on with the thread that is free again.
    gate.set()
    assert harness.collect(1) == [(4, Succeeded(b"1"))]
    assert harness.executor.close(PATIENCE_S)
    assert harness.executor.drain() == []


def test_the_pool_goes_on_after_a_pause(make: Make) -> None:
    harness = make()
    harness.registry.add("s", lambda: 1)
    for token in range(20):
        harness.executor.submit([an_execution(token, "s")])
        assert harness.collect(1) == [(token, Succeeded(b"1"))]
        time.sleep(0.002)  # Long enough for the monitor to lie down in between.


# CPU-bound nodes.


def test_without_processes_cpu_bound_nodes_run_in_threads(make: Make, cpu_nodes: Any) -> None:
    harness = make()
    harness.registry.add("p", cpu_nodes.computing, cpu_bound=True)
    harness.executor.submit([an_execution(1, "p")])

    assert harness.collect(1) == [(1, Succeeded(f"[1,5,{os.getpid()}]".encode()))]


def test_a_cpu_bound_node_runs_in_another_process(make: Make, cpu_nodes: Any) -> None:
    harness = make(processes_max=1, dependencies={"d": object()})
    harness.registry.add("p", cpu_nodes.computing, cpu_bound=True)
    harness.registry.add("d", cpu_nodes.reading_dependencies, cpu_bound=True)
    harness.executor.submit([an_execution(1, "p"), an_execution(2, "p"), an_execution(3, "d")])
    first, second, third = (outcome for _, outcome in harness.collect(3))

    assert isinstance(first, Succeeded)
    assert first.output.startswith(b"[1,5,")
    assert first.output != f"[1,5,{os.getpid()}]".encode()
    assert first == second
    assert isinstance(third, Failed)
    assert "dependencies stay in the worker" in third.message


def test_a_process_that_dies_fails_its_execution_and_is_replaced(make: Make, cpu_nodes: Any) -> None:
    harness = make(processes_max=1)
    harness.registry.add("dying", cpu_nodes.dying, cpu_bound=True)
    harness.registry.add("leaving", cpu_nodes.leaving, cpu_bound=True)
    harness.registry.add("p", cpu_nodes.computing, cpu_bound=True)
    harness.executor.submit([an_execution(1, "dying"), an_execution(2, "leaving"), an_execution(3, "p")])
    died, left, well = (outcome for _, outcome in harness.collect(3))

    assert isinstance(died, Failed)
    assert (died.code, "exit code 7" in died.message) == ("PROCESS_DIED", True)
    assert left == Failed("gone")
    assert isinstance(well, Succeeded)


def test_cancelling_a_cpu_bound_node_kills_its_process_and_spares_the_next(make: Make, cpu_nodes: Any) -> None:
    harness = make(processes_max=1)
    harness.registry.add("endless", cpu_nodes.endless, cpu_bound=True)
    harness.registry.add("p", cpu_nodes.computing, cpu_bound=True)
    harness.executor.submit([an_execution(1, "endless"), an_execution(2, "p"), an_execution(3, "p")])
    deadline = time.monotonic() + PATIENCE_S
    while harness.executor.progress(1) != b'"started"':
        assert time.monotonic() < deadline, "the heartbeat did not come over"
        time.sleep(0.005)
    harness.executor.cancel([1, 3])

    outcomes = dict(harness.collect(3))
    killed, queued = outcomes[1], outcomes[3]
    assert isinstance(killed, Failed)
    assert killed.code == "CANCELLED"
    assert isinstance(queued, Failed)
    assert queued.code == "CANCELLED"
    assert isinstance(outcomes[2], Succeeded)


def test_closing_kills_what_computes(make: Make, cpu_nodes: Any) -> None:
    harness = make(processes_max=1)
    harness.registry.add("endless", cpu_nodes.endless, cpu_bound=True)
    harness.executor.submit([an_execution(1, "endless"), an_execution(2, "endless")])

    assert harness.executor.close(PATIENCE_S)
    outcomes = harness.executor.drain()
    assert sorted(token for token, _ in outcomes) == [1, 2]
    assert {outcome.code for _, outcome in outcomes if isinstance(outcome, Failed)} == {"CANCELLED"}


def test_a_node_that_cannot_be_imported_there_says_so(make: Make, cpu_nodes: Any, tmp_path: Path) -> None:
    harness = make(processes_max=1)
    harness.registry.add("p", cpu_nodes.computing, cpu_bound=True)
    (tmp_path / "cpu_nodes.py").unlink()
    harness.executor.submit([an_execution(1, "p")])

    ((_, outcome),) = harness.collect(1)
    assert isinstance(outcome, Failed)
    assert outcome.code == "PROCESS_FAILED"
    assert "No module named 'cpu_nodes'" in outcome.message


def test_a_node_that_cannot_be_sent_there_says_so(make: Make, cpu_nodes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    harness = make(processes_max=1)
    harness.registry.add("p", cpu_nodes.computing, cpu_bound=True)
    monkeypatch.setattr(cpu_nodes, "computing", None)
    harness.executor.submit([an_execution(1, "p")])

    ((_, outcome),) = harness.collect(1)
    assert isinstance(outcome, Failed)
    assert outcome.code == "PROCESS_FAILED"
    assert "cannot be sent to a process" in outcome.message


# The outbox.


def test_what_came_out_once_does_not_come_out_again() -> None:
    outbox = Outbox(lambda: None)
    ctx = Context(an_execution(1, "s"))
    outbox.live[1] = ctx

    assert outbox.finish(ctx, Succeeded(b"1"))
    assert not outbox.give_up(ctx)
    assert outbox.drain() == [(1, Succeeded(b"1"))]


def test_outcomes_that_nobody_was_told_of_are_known() -> None:
    wakes: list[int] = []
    outbox = Outbox(lambda: wakes.append(1))
    ctx = Context(an_execution(1, "s"))
    outbox.live[1] = ctx
    outbox.tell()
    assert wakes == []

    outbox.finish(ctx, Succeeded(b"1"))
    assert outbox.untold
    outbox.tell()
    outbox.tell()
    assert not outbox.untold
    assert wakes == [1]


@pytest.mark.parametrize("settings", [{"threads_max": 0}, {"processes_max": -1}])
def test_bounds_have_to_be_positive(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        Executor(Registry(), **settings)  # type: ignore[arg-type]


def test_cancelled_is_what_a_node_may_raise_itself(make: Make) -> None:
    harness = make()

    def node() -> None:
        raise Cancelled("enough")

    harness.registry.add("s", node)
    harness.executor.submit([an_execution(1, "s")])
    assert harness.collect(1) == [(1, Failed("enough", "CANCELLED"))]
