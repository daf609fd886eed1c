"""Stopping by signal: the first one is graceful, a second one does not wait, and nothing is lost by either."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from typing import Any

import pytest

from headrace_adapters.cli.exit_codes import ExitCode

from .histories import read_histories
from .load import Load, check_everything
from .programs import FLOWS, HANG_S, Program, Programs

pytestmark = pytest.mark.slow

SIGNALS = pytest.mark.parametrize(
    "number",
    [pytest.param(signal.SIGTERM, id="SIGTERM"), pytest.param(signal.SIGINT, id="SIGINT", marks=pytest.mark.thorough)],
)


class Held:
    """A run whose first node goes on until it is freed."""

    def __init__(self, programs: Programs, flow: str) -> None:
        self.flow = flow
        self._programs = programs
        self._folder = programs.folder / "held"
        self._folder.mkdir()

    @property
    def input(self) -> str:
        """What the run is started with."""
        return json.dumps(str(self._folder))

    @property
    def begun(self) -> list[list[str]]:
        """Each execution of the node: process, attempt, idempotency key."""
        file = self._folder / "begun"
        return [line.split(" ", 2) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []

    def start(self, worker: Program) -> None:
        """Start the run, and wait until its node is executing."""
        self._programs.headrace("start", self.flow, "--run-id", "held", "--input", self.input)
        worker.until(lambda: bool(self.begun), "executing the node")

    def free(self) -> None:
        """Let the node end."""
        (self._folder / "free").touch()

    def status(self) -> dict[str, Any]:
        """How the run stands, and its nodes by id."""
        view = self._programs.headrace("status", "held").json
        return {"run": view["status"], **{node["id"]: node["state"] for node in view["nodes"]}}


@pytest.mark.parametrize(
    ("flow", "number"),
    [
        pytest.param("held", signal.SIGTERM, id="held-SIGTERM"),
        pytest.param("held_in_thread", signal.SIGINT, id="held_in_thread-SIGINT"),
        pytest.param("held", signal.SIGINT, id="held-SIGINT", marks=pytest.mark.thorough),
        pytest.param("held_in_thread", signal.SIGTERM, id="held_in_thread-SIGTERM", marks=pytest.mark.thorough),
    ],
)
def test_a_node_that_ends_within_the_grace_is_recorded_and_nothing_begins_after_it(
    programs: Programs, flow: str, number: signal.Signals
) -> None:
    worker, held = programs.worker("--grace", "50").ready(), Held(programs, flow)
    held.start(worker)

    worker.signal(number)
    worker.until(lambda: worker.is_stopping, "stopping")
    assert worker.process.poll() is None
    held.free()
    worker.end()

    status = held.status()
    assert (status["run"], status["hold"]) == ("running", "completed")
    assert status["behind"] not in ("running", "completed")
    next_worker = programs.worker().ready()
    result = programs.headrace("result", "held", "--timeout", HANG_S).json
    assert (result["status"], result["output"], len(held.begun)) == ("completed", "freed", 1)
    next_worker.stop()
    assert read_histories(programs.store)["held"].begun_again == 0


@pytest.mark.parametrize("flow", ["held", pytest.param("held_in_thread", marks=pytest.mark.thorough), "held_in_process"])
def test_a_node_longer_than_the_grace_is_given_back_and_executed_again_by_the_next_worker(
    programs: Programs, flow: str
) -> None:
    worker, held = programs.worker("--grace", "300ms", "--processes-max", "1").ready(), Held(programs, flow)
    held.start(worker)

    told = time.monotonic()
    worker.stop()
    assert time.monotonic() - told < 10, "the grace was 300 ms"
    assert held.status()["hold"] == "running"

    next_worker = programs.worker("--processes-max", "1").ready()
    next_worker.until(lambda: len(held.begun) == 2, "executing the node again")
    held.free()
    result = programs.headrace("result", "held", "--timeout", HANG_S).json
    assert (result["status"], result["output"]) == ("completed", "freed")
    next_worker.stop()
    # The same attempt, under the same key, so that a service outside can tell that it has done it.
    (_, *first), (_, *second) = held.begun
    assert first == second
    assert first[0] == "1"
    assert read_histories(programs.store)["held"].begun_again == 1


@SIGNALS
def test_a_second_signal_does_not_wait_for_the_grace(programs: Programs, number: signal.Signals) -> None:
    worker, held = programs.worker("--grace", "1h").ready(), Held(programs, "held_in_thread")
    held.start(worker)

    worker.signal(number)
    worker.until(lambda: worker.is_stopping, "stopping")
    worker.signal(number)
    worker.end(ExitCode.INTERRUPTED)

    held.free()
    next_worker = programs.worker().ready()
    assert programs.headrace("result", "held", "--timeout", HANG_S).json["status"] == "completed"
    next_worker.stop()
    read_histories(programs.store)


async def stop_under_load(load: Load, worker: Program, *, signals: int, code: int) -> None:
    """Stop *worker* when it has some dozens of runs in progress."""
    await worker.until_async(lambda: worker.is_ready, "ready")
    enough = len(load.ledger.started) + 60
    pressing = asyncio.create_task(load.press())
    await worker.until_async(lambda: len(load.ledger.started) >= enough, f"asked to start {enough} runs")
    worker.signal(signal.SIGTERM)
    if signals == 2:
        await worker.until_async(lambda: worker.is_stopping, "stopping")
        worker.signal(signal.SIGTERM)
    await asyncio.wait_for(pressing, HANG_S)
    worker.end(code)


async def finish(load: Load, programs: Programs, *, others: frozenset[str] = frozenset()) -> int:
    """Let a worker do the rest; gives how many executions were cut short in all."""
    last = programs.worker()
    await last.until_async(lambda: last.is_ready, "ready")
    await load.finish()
    last.stop()
    histories = read_histories(programs.store)
    check_everything(load, histories, others=others)
    return sum(history.begun_again for history in histories.values())


async def test_workers_that_are_stopped_under_load_lose_nothing_and_execute_nothing_twice(
    programs: Programs, seed: int
) -> None:
    load = Load(programs.url, random.Random(seed), 300)

    for _ in range(3):
        await stop_under_load(load, programs.worker("--grace", "50"), signals=1, code=ExitCode.OK)

    assert await finish(load, programs) == 0


async def test_workers_that_are_told_twice_under_load_lose_nothing(programs: Programs, seed: int) -> None:
    load = Load(programs.url, random.Random(seed), 200)
    # Something that is still going on when the second signal comes.
    held = Held(programs, "held")
    worker = programs.worker("--grace", "1h").ready()
    held.start(worker)

    await stop_under_load(load, worker, signals=2, code=ExitCode.INTERRUPTED)
    await stop_under_load(load, programs.worker("--grace", "1h"), signals=2, code=ExitCode.INTERRUPTED)

    held.free()
    await finish(load, programs, others=frozenset({"held"}))


@SIGNALS
def test_a_worker_that_is_stopped_while_it_starts_lets_go_of_the_folder(programs: Programs, number: signal.Signals) -> None:
    for _ in range(2):
        worker = programs.worker()
        worker.until(lambda worker=worker: programs.is_held_by(worker), "holding the folder")
        worker.signal(number)
        worker.end()

    programs.worker().ready().stop()


@SIGNALS
def test_a_run_that_is_stopped_is_kept_and_gone_on_with(programs: Programs, number: signal.Signals) -> None:
    held = Held(programs, "held_in_thread")
    arguments = (FLOWS, held.flow, "--run-id", "held", "--input", held.input)
    run = programs.begin("run", *arguments, "--grace", "300ms")
    run.until(lambda: bool(held.begun), "executing the node")

    run.signal(number)
    stopped = run.end(ExitCode.OK)
    assert "goes on when a worker runs" in stopped.out + stopped.err

    held.free()
    again = programs.headrace("run", *arguments)
    assert (again.json["status"], again.json["output"]) == ("completed", "freed")
    assert len(held.begun) == 2
    read_histories(programs.store)


def test_a_run_that_ends_within_the_grace_is_told_as_ended(programs: Programs) -> None:
    held = Held(programs, "held_alone")
    run = programs.begin("run", FLOWS, held.flow, "--run-id", "held", "--input", held.input, "--grace", "50")
    run.until(lambda: bool(held.begun), "executing the node")

    run.signal(signal.SIGTERM)
    run.until(lambda: run.is_stopping, "stopping")
    held.free()

    assert "completed in" in run.end().out
    read_histories(programs.store)
