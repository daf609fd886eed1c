"""Commands in processes of their own: with a worker they reach it, without one they open the folder."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from headrace import App, Flow
from headrace.errors import StoreError
from headrace_adapters.cli.exit_codes import ExitCode
from headrace_adapters.link.address import ADDRESS_NAME, SOCKET_NAME

from .histories import read_histories
from .programs import HANG_S, Program, Programs, patience

pytestmark = pytest.mark.slow


def status_of(programs: Programs, run_id: str) -> str:
    return str(programs.headrace("status", run_id).json["status"])


def wait_for_status(programs: Programs, run_id: str, status: str) -> None:
    for _ in patience():
        if status_of(programs, run_id) == status:
            return
    raise AssertionError(f"{run_id} is {status_of(programs, run_id)} and not {status}")


def types(lines: list[dict[str, Any]]) -> list[str]:
    return [str(line["type"]) for line in lines]


def test_other_processes_reach_the_worker_over_the_socket(programs: Programs) -> None:
    worker = programs.worker().ready()
    assert json.loads((programs.store / ADDRESS_NAME).read_text(encoding="utf-8"))["pid"] == worker.process.pid

    assert programs.headrace("start", "asked", "--run-id", "r1").json["outcome"] == "applied"
    assert programs.headrace("start", "asked", "--run-id", "r1", code=ExitCode.REFUSED).json["outcome"] == "duplicate"
    wait_for_status(programs, "r1", "awaiting")
    assert [row["runId"] for row in programs.headrace("list", "--state", "awaiting").lines] == ["r1"]
    assert programs.headrace("result", "r1", code=ExitCode.UNFINISHED).out == ""
    # Two that wait in processes of their own, for what a third one does.
    waiting, following = programs.begin("result", "r1", "--wait", "--json"), programs.begin("events", "r1", "-f", "--json")
    following.until(lambda: "runAwaiting" in following.out, "following the run to its wait")
    assert programs.headrace("pause", "r1", "--reason", "lunch").json["outcome"] == "applied"
    assert status_of(programs, "r1") == "paused"
    assert programs.headrace("resume", "r1", "answer", "--output", "[1]", "--key", "k").json["outcome"] == "applied"
    again = programs.headrace("resume", "r1", "answer", "--output", "[2]", "--key", "k", code=ExitCode.REFUSED)
    assert again.json["outcome"] == "ignored"
    assert programs.headrace("unpause", "r1").json["outcome"] == "applied"
    assert waiting.end().json["output"] == [1]
    told = following.end().lines
    assert [event["seq"] for event in told] == list(range(1, len(told) + 1))
    assert types(told)[-1] == "runCompleted"
    assert told == programs.headrace("events", "r1").lines

    assert programs.headrace("start", "asked", "--run-id", "r2").json["outcome"] == "applied"
    assert programs.headrace("signal", "r2", "answered", "--payload", '"yes"').json["outcome"] == "applied"
    assert programs.headrace("result", "r2", "--timeout", HANG_S).json["output"] == "yes"
    assert programs.headrace("start", "asked", "--run-id", "r3").json["outcome"] == "applied"
    assert programs.headrace("cancel", "r3", "--reason", "enough").json["outcome"] == "applied"
    assert programs.headrace("result", "r3", "--wait", code=ExitCode.CANCELLED).json["status"] == "cancelled"
    worker.stop()
    assert set(read_histories(programs.store)) == {"r1", "r2", "r3"}


def test_without_a_worker_commands_open_the_folder_and_the_next_worker_takes_up_what_they_left(
    programs: Programs,
) -> None:
    worker = programs.worker().ready()
    for run_id in ("ended", "waiting"):
        programs.headrace("start", "asked", "--run-id", run_id)
    programs.headrace("signal", "ended", "answered", "--payload", "1")
    live = programs.headrace("result", "ended", "--wait").json
    wait_for_status(programs, "waiting", "awaiting")
    worker.stop()
    assert not (programs.store / ADDRESS_NAME).exists()

    # What is there can be read.
    assert programs.headrace("result", "ended").json == live
    assert programs.headrace("status", "waiting").json["awaiting"] == ["answer"]
    listed = {row["runId"]: row["status"] for row in programs.headrace("list").lines}
    assert listed == {"ended": "completed", "waiting": "awaiting"}
    assert types(programs.headrace("events", "ended").lines)[-1] == "runCompleted"
    # A history does not go on where nobody works, so nobody waits for that.
    assert types(programs.headrace("events", "waiting", "--follow").lines)[-1] == "runAwaiting"
    # What is to happen is kept in order.
    assert programs.headrace("start", "asked", "--run-id", "later").json["outcome"] == "accepted"
    assert programs.headrace("signal", "later", "answered", "--payload", '"early"').json["outcome"] == "accepted"
    assert programs.headrace("resume", "waiting", "answer", "--output", "2").json["outcome"] == "accepted"
    assert programs.headrace("start", "asked", "--run-id", "unwanted").json["outcome"] == "accepted"
    assert programs.headrace("cancel", "unwanted").json["outcome"] == "accepted"
    assert programs.headrace("status", "later", code=ExitCode.UNKNOWN).out == ""
    # Somebody waits already, and must not keep the folder from a worker.
    waiting = programs.begin("result", "later", "--wait", "--json")

    worker = programs.worker().ready()
    assert waiting.end().json["output"] == "early"
    assert programs.headrace("result", "waiting", "--wait").json["output"] == 2
    assert programs.headrace("result", "unwanted", "--wait", code=ExitCode.CANCELLED).json["status"] == "cancelled"
    worker.stop()
    assert set(read_histories(programs.store)) == {"ended", "waiting", "later", "unwanted"}


def refuse(programs: Programs, holder: Program) -> None:
    """No other program may work in the folder, and each says who does."""
    for arguments in (("worker", programs.flows), ("run", programs.flows, "chained")):
        refused = programs.headrace(*arguments, code=ExitCode.STORE)
        error = json.loads(refused.err.splitlines()[-1])["error"]
        assert (refused.out, error["exitCode"]) == ("", ExitCode.STORE)
        assert f"is held by process {holder.process.pid}; reach that worker" in error["message"]


def test_a_second_worker_is_refused_and_the_first_one_goes_on(programs: Programs) -> None:
    worker = programs.worker().ready()

    refuse(programs, worker)

    assert programs.headrace("start", "chained", "--run-id", "r").json["outcome"] == "applied"
    assert programs.headrace("result", "r", "--timeout", HANG_S).json["status"] == "completed"
    worker.stop()


def test_of_workers_that_start_at_once_one_works(programs: Programs) -> None:
    workers = [programs.worker() for _ in range(3)]

    for _ in patience():
        working = [worker for worker in workers if worker.process.poll() is None]
        if len(working) == 1 and working[0].is_ready:
            break
    else:
        raise AssertionError([(worker.out, worker.err) for worker in workers])

    (winner,) = working
    for worker in workers:
        if worker is not winner:
            assert "is held by process" in worker.end(ExitCode.STORE).err
    assert programs.headrace("start", "chained", "--run-id", "r").json["outcome"] == "applied"
    winner.stop()


def test_commands_that_come_at_once_do_not_keep_each_other_or_a_worker_from_the_folder(programs: Programs) -> None:
    def begin(first: int) -> list[Program]:
        return [programs.begin("start", "chained", "--run-id", f"r{first + n}", "--json") for n in range(4)]

    # Nobody works yet; then somebody is about to.
    for start in begin(0):
        assert start.end().json["outcome"] == "accepted"
    starts = begin(4)
    worker = programs.worker()
    starts += begin(8)

    for start in starts:
        assert start.end().json["outcome"] in ("accepted", "applied")
    worker.ready()
    for _ in patience():
        if len(programs.headrace("list", "--state", "completed").lines) == 12:
            break
    worker.stop()
    assert set(read_histories(programs.store)) == {f"r{number}" for number in range(12)}


def is_alive(pid: int) -> bool:
    """Whether it runs; one that has ended and that nobody has asked about yet does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"


def test_a_worker_that_is_killed_leaves_nothing_that_hinders_the_next(programs: Programs) -> None:
    """Not its lock, not its socket, and not the process of a node that goes on computing."""
    held = programs.folder / "held"
    held.mkdir()
    worker = programs.worker("--processes-max", "1").ready()
    programs.headrace("start", "held_in_process", "--run-id", "r", "--input", json.dumps(str(held)))
    worker.until((held / "begun").exists, "executing the node")
    waiting = programs.begin("result", "r", "--wait", "--json")

    worker.kill()
    assert (programs.store / ADDRESS_NAME).exists(), "it had no time to tidy up"
    (line,) = (held / "begun").read_text(encoding="utf-8").splitlines()
    orphan = int(line.split()[0])
    # Whoever looks now opens the folder, and lets go of it again.
    assert status_of(programs, "r") == "running"
    next_worker = programs.worker("--processes-max", "1").ready()
    next_worker.until(lambda: len((held / "begun").read_text(encoding="utf-8").splitlines()) == 2, "executing it again")
    (held / "free").touch()

    assert waiting.end().json["output"] == "freed"
    next_worker.stop()
    assert read_histories(programs.store)["r"].begun_again == 1
    for _ in patience():
        if not is_alive(orphan):
            return
    raise AssertionError(f"the process of the node, {orphan}, is left")


@pytest.mark.parametrize("times", [3])
def test_a_worker_that_is_killed_as_soon_as_it_holds_the_folder_is_replaced(programs: Programs, times: int) -> None:
    for _ in range(times):
        worker = programs.worker()
        worker.until(lambda worker=worker: programs.is_held_by(worker), "holding the folder")
        worker.signal(signal.SIGKILL)
        worker.end(-signal.SIGKILL)

    worker = programs.worker().ready()
    assert programs.headrace("start", "chained", "--run-id", "r").json["outcome"] == "applied"
    assert programs.headrace("result", "r", "--timeout", HANG_S).json["status"] == "completed"
    worker.stop()


def test_a_starter_that_is_killed_disturbs_nobody_and_what_it_sent_may_be_sent_again(programs: Programs) -> None:
    worker = programs.worker().ready()
    lines = [json.dumps({"type": "start", "runId": f"r{n}", "blueprintId": "chained"}) + "\n" for n in range(50_000)]
    everything, some = programs.folder / "everything.jsonl", programs.folder / "some.jsonl"
    everything.write_text("".join(lines), encoding="utf-8")
    some.write_text("".join(lines[:1_000]), encoding="utf-8")

    starter = programs.begin("start", "--from", everything)
    starter.until(lambda: len(programs.headrace("list", "--limit", 50).lines) == 50, "some way through its file")
    assert starter.process.poll() is None, "it was killed too late"
    starter.kill()

    counts = programs.headrace("start", "--from", some, code=None).json
    assert counts["started"] + counts["duplicate"] == 1_000, counts
    for _ in patience():
        if not programs.headrace("list", "--state", "running").lines:
            break
    worker.stop()
    histories = read_histories(programs.store)
    assert {f"r{number}" for number in range(1_000)} <= set(histories)
    assert {history.state.ended for history in histories.values()} == {"completed"}


async def test_a_worker_that_cannot_listen_lets_go_of_the_folder(programs: Programs) -> None:
    """In this process, since the end of one would let go of everything."""
    app = App("process").add(Flow("flow").node("only", lambda: 1))
    in_the_way = programs.store / SOCKET_NAME
    in_the_way.mkdir(parents=True)
    with pytest.raises(StoreError, match="cannot be made reachable"):
        async with app.work(programs.url):
            raise AssertionError("it works although nobody can reach it")

    in_the_way.rmdir()
    async with app.work(programs.url):
        assert (await (await app.start("flow")).result(HANG_S)).output == 1
