"""Workers that die, hang, come and go under load: no run notices, and nothing is recorded twice."""

from __future__ import annotations

import random

import pytest

from tests.kafka.endings import AppName, MakeLoad, MakeWorkers, Say, after_some, finish, now_ms
from tests.kafka.load import Load
from tests.kafka.workers import WorkerProcess

pytestmark = [pytest.mark.broker, pytest.mark.slow]


ALL = [0, 1, 2, 3]


def test_workers_that_are_killed_at_random_lose_nothing_and_record_nothing_twice(
    broker: str, app_name: AppName, make_workers: MakeWorkers, make_load: MakeLoad, seed: int, say: Say, turn: int
) -> None:
    draw = random.Random(seed + turn)
    workers = make_workers(app_name("killed"), broker)
    for _ in range(2):
        workers.begin().ready()
    load = make_load(workers, 300, turn)

    faults = []
    for _ in range(3):
        load.press(after_some(load, 0.25))
        faults.append(now_ms())
        draw.choice(workers.alive).kill()
        workers.begin()

    finish(workers, load, say, "3 workers killed and replaced", faults)


def stop_past_its_session(load: Load, zombie: WorkerProcess, other: WorkerProcess) -> float:
    """SIGSTOP in the middle of work, SIGCONT when all of it is the other's; gives the moment of the fault."""
    load.press(after_some(load, 0.2))
    fault = now_ms()
    zombie.pause()
    load.press(lambda: other.owned == ALL)
    load.press(after_some(load, 0.1))
    zombie.go_on()
    load.press(after_some(load, 0.1))
    load.press(lambda: bool(zombie.owned) and zombie.owned != ALL and other.owned != ALL)
    return fault


def test_a_worker_that_was_stopped_past_its_session_finds_its_work_with_others_and_spoils_nothing(
    broker: str, app_name: AppName, make_workers: MakeWorkers, make_load: MakeLoad, seed: int, say: Say, turn: int
) -> None:
    workers = make_workers(app_name("zombie"), broker)
    zombie, other = workers.begin().ready(), workers.begin().ready()
    load = make_load(workers, 200, turn)

    faults = [stop_past_its_session(load, *pair) for pair in ((zombie, other), (other, zombie))]

    finish(workers, load, say, "2 workers stopped past their session", faults)


def test_workers_that_join_and_leave_disturb_nobody(
    broker: str, app_name: AppName, make_workers: MakeWorkers, make_load: MakeLoad, seed: int, say: Say, turn: int
) -> None:
    draw = random.Random(seed + turn)
    workers = make_workers(app_name("joined"), broker)
    workers.begin().ready()
    load = make_load(workers, 240, turn)

    for number in range(6):
        load.press(after_some(load, 0.15))
        if number % 3 == 2:
            leaving = draw.choice([worker for worker in workers.alive if worker.is_started])
            leaving.terminate()
            load.press(lambda leaving=leaving: not leaving.is_alive)
            leaving.end()
        else:
            workers.begin()

    finish(workers, load, say, "4 workers joined and 2 left")


@pytest.mark.parametrize("membership", [pytest.param("dynamic", marks=pytest.mark.thorough), "static"])
def test_a_rolling_restart_disturbs_nobody(
    broker: str,
    app_name: AppName,
    make_workers: MakeWorkers,
    make_load: MakeLoad,
    seed: int,
    say: Say,
    turn: int,
    membership: str,
) -> None:
    workers = make_workers(app_name("rolled"), broker, session_timeout_ms=6_000)
    names = ["a", "b"] if membership == "static" else [None, None]
    running = [workers.begin(instance=name) for name in names]
    for worker in running:
        worker.ready()
    load = make_load(workers, 200, turn)

    faults = []
    for number, name in enumerate(names):
        load.press(after_some(load, 0.4))
        faults.append(now_ms())
        running[number].terminate()
        load.press(lambda number=number: not running[number].is_alive)
        running[number].end()
        running[number] = workers.begin(instance=name)
        load.press(lambda number=number: running[number].is_ready)

    found = finish(workers, load, say, f"rolling restart of 2 {membership} members", faults)
    if membership == "static":
        # Nothing moves to another worker, and who leaves in peace finishes what it began.
        assert found.begun_again == 0
