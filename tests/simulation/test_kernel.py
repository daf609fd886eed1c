"""The kernel of the simulation: time, turns, signals, and processes that die or freeze."""

from __future__ import annotations

import random

import pytest

from tests.simulation.kernel import Kernel, Killed, Process, Signal

FOREVER_US = 1_000_000_000


@pytest.fixture
def kernel() -> Kernel:
    return Kernel(random.Random(1))


def test_tasks_take_turns_in_the_order_of_their_instants(kernel: Kernel) -> None:
    seen = []

    def walk(name: str, step_us: int) -> None:
        for _ in range(3):
            kernel.pause(step_us)
            seen.append((kernel.now_us, name))

    kernel.spawn(lambda: walk("slow", 30), "slow")
    kernel.spawn(lambda: walk("fast", 20), "fast")
    assert not kernel.run(lambda: False, FOREVER_US)
    assert seen == [(20, "fast"), (30, "slow"), (40, "fast"), (60, "slow"), (60, "fast"), (90, "slow")]


def test_a_wait_ends_by_its_signal_or_by_its_time(kernel: Kernel) -> None:
    signal, answers = Signal(), []

    def listen() -> None:
        answers.append((kernel.wait(signal, 100), kernel.now_us))
        answers.append((kernel.wait(signal, 100), kernel.now_us))
        kernel.pause(500)
        answers.append((True, kernel.now_us))

    task = kernel.spawn(listen, "listener")
    kernel.call_in(40, signal.notify)
    assert kernel.run(lambda: task.done, FOREVER_US)
    assert answers == [(True, 40), (False, 140), (True, 640)]


def test_a_killed_process_does_nothing_more_even_where_it_catches_everything(kernel: Kernel) -> None:
    process, seen = Process("worker"), []

    def work() -> None:
        try:
            kernel.pause(1_000)
        except BaseException as error:  # noqa: BLE001
            seen.append(type(error))
        kernel.pause(1_000)
        seen.append("went on")

    task = kernel.spawn(work, "worker", process)
    kernel.call_in(500, lambda: kernel.kill(process))
    kernel.call_in(600, lambda: seen.append("its callback"), process)
    assert kernel.run(lambda: task.done, FOREVER_US)
    kernel.run(lambda: False, FOREVER_US)
    assert seen == [Killed]
    assert task.error is None


def test_a_process_that_kills_itself_does_not_come_back_from_it(kernel: Kernel) -> None:
    process, seen = Process("worker"), []

    def work() -> None:
        kernel.kill(process)
        seen.append("went on")

    task = kernel.spawn(work, "worker", process)
    other = kernel.spawn(lambda: kernel.pause(100), "thread", process)
    kernel.run(lambda: False, FOREVER_US)
    assert task.done
    assert other.done
    assert not seen


def test_a_frozen_process_goes_on_later_with_all_that_came_due(kernel: Kernel) -> None:
    process, seen = Process("worker"), []

    def work() -> None:
        kernel.pause(100)
        seen.append(("task", kernel.now_us))

    kernel.spawn(work, "worker", process)
    kernel.call_in(150, lambda: seen.append(("callback", kernel.now_us)), process)
    kernel.call_in(50, lambda: kernel.freeze(process))
    kernel.call_in(900, lambda: kernel.thaw(process))
    kernel.run(lambda: False, FOREVER_US)
    assert seen == [("task", 900), ("callback", 900)]


def test_what_a_task_dies_of_is_kept(kernel: Kernel) -> None:
    task = kernel.spawn([].pop, "defect")
    kernel.run(lambda: task.done, FOREVER_US)
    assert isinstance(task.error, IndexError)


def test_closing_ends_tasks_that_wait_for_nothing(kernel: Kernel) -> None:
    task = kernel.spawn(lambda: kernel.wait(Signal(), FOREVER_US * 2), "waiting") and kernel.spawn(
        lambda: kernel.pause(FOREVER_US * 2), "pausing"
    )
    kernel.run(lambda: False, 10)
    kernel.close()
    assert task.done
