"""No process is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.errors import StoreError
from headrace_adapters.devbroker.guard import GuardedProcess

PATIENCE_S = 30.0

# Starts a process that would go on for long, says its number, and waits to be killed.
PARENT = """
import os, sys
from pathlib import Path
from headrace_adapters.devbroker.guard import GuardedProcess

def tell(name, number):
    # Both write to one pipe: a line has to be one write.
    os.write(1, f"{name} {number}\\n".encode())

child = GuardedProcess(["sh", "-c", "sleep 600 & wait"], folder=Path(sys.argv[1]), console=Path(sys.argv[1], "console"))
if "fork" in sys.argv and os.fork() == 0:
    os.setsid()
    tell("forked", os.getpid())
    sys.stdin.read()
    os._exit(0)
tell("guarded", child.pid)
sys.stdin.read()
"""


def is_there(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def until(is_so: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and not is_so():
        time.sleep(0.01)
    return is_so()


def guarded(folder: Path, *command: str) -> GuardedProcess:
    return GuardedProcess(command, folder=folder, console=folder / "console")


def test_a_process_says_into_its_console_what_it_says_and_ends_with_its_code(tmp_path: Path) -> None:
    process = guarded(tmp_path, "sh", "-c", "cat; pwd; echo 'to err' >&2; exit 7")

    assert process.wait(PATIENCE_S) == 7
    assert (tmp_path / "console").read_text(encoding="utf-8") == f"{tmp_path}\nto err\n"


def test_arguments_reach_the_program_as_they_are(tmp_path: Path) -> None:
    guarded(tmp_path, "printf", "%s|", "a b", "$HOME", "'", "*").wait(PATIENCE_S)

    assert (tmp_path / "console").read_text(encoding="utf-8") == "a b|$HOME|'|*|"


def test_the_number_is_that_of_the_program(tmp_path: Path) -> None:
    process = guarded(tmp_path, "sh", "-c", "echo $$")
    process.wait(PATIENCE_S)

    assert int((tmp_path / "console").read_text(encoding="utf-8")) == process.pid


def test_a_killed_process_takes_what_it_has_started_with_it(tmp_path: Path) -> None:
    process = guarded(tmp_path, "sh", "-c", "sleep 600 & echo started; wait")
    assert until(lambda: (tmp_path / "console").read_bytes() != b"")

    process.kill()

    assert process.poll() == -signal.SIGKILL
    assert until(lambda: not is_there(process.pid))


def test_a_paused_process_does_nothing_until_it_may_go_on(tmp_path: Path) -> None:
    console = tmp_path / "console"
    process = guarded(tmp_path, "sh", "-c", "while :; do echo; done")
    assert until(lambda: console.exists() and console.stat().st_size > 0)

    process.pause()
    size = console.stat().st_size
    assert process.wait(0.1) is None
    assert console.stat().st_size == size

    process.signal(signal.SIGCONT)
    assert until(lambda: console.stat().st_size > size)
    process.kill()


def test_a_process_that_has_ended_is_not_paused(tmp_path: Path) -> None:
    process = guarded(tmp_path, "sh", "-c", "exit 7")
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    process.pause()

    assert process.poll() == 7


def test_a_wait_ends_with_its_time_or_when_it_is_unwanted(tmp_path: Path) -> None:
    process = guarded(tmp_path, "sleep", "600")
    try:
        assert process.wait(0.05) is None
        with pytest.raises(StoreError, match="told to stop"):
            process.wait(PATIENCE_S, lambda: True)
    finally:
        process.kill()


def test_a_program_that_does_not_exist_is_told_by_the_shell(tmp_path: Path) -> None:
    process = guarded(tmp_path, str(tmp_path / "nothing"))

    assert process.wait(PATIENCE_S) == 127
    assert "nothing" in (tmp_path / "console").read_text(encoding="utf-8")


@pytest.mark.parametrize("how", ["alone", "fork"])
def test_a_process_dies_with_its_parent_however_that_ends(tmp_path: Path, how: str) -> None:
    """A child that was forked meanwhile holds the parent's pipes too, and lives on."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as parent:
        numbers = {}
        for _ in range(2 if how == "fork" else 1):
            name, number = parent.stdout.readline().split()
            numbers[name] = int(number)
        assert is_there(numbers["guarded"])

        parent.kill()
        parent.wait(PATIENCE_S)

        assert until(lambda: not is_there(numbers["guarded"]))
        assert "forked" not in numbers or is_there(numbers["forked"])
