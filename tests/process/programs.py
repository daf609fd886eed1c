"""Programs of Headrace in processes of their own. Every wait has an end, and nobody outlives the test."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from headrace_adapters.rocks.lock import LOCK_NAME

FLOWS = Path(__file__).with_name("flows.py")

# The machine may be shared and slow: what takes longer than this hangs.
HANG_S = 60.0
POLL_S = 0.01


class Ended(NamedTuple):
    """What a program left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON value that it printed."""
        (line,) = self.out.splitlines()
        return json.loads(line)

    @property
    def lines(self) -> list[Any]:
        """The JSON values that it printed, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]


class Program:
    """One process; its output goes into files, so that no pipe that nobody reads can stop it."""

    def __init__(self, folder: Path, number: int, arguments: tuple[str, ...]) -> None:
        self.arguments = arguments
        self.begun_ns = time.time_ns()
        self._out, self._err = folder / f"{number}.out", folder / f"{number}.err"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "headrace_adapters.cli.main", *arguments],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    @property
    def out(self) -> str:
        """What it has printed so far."""
        return self._out.read_text(encoding="utf-8")

    @property
    def err(self) -> str:
        """What it has said on standard error so far."""
        return self._err.read_text(encoding="utf-8")

    @property
    def is_ready(self) -> bool:
        """Whether a worker has said that it works."""
        return self.out.startswith("ready")

    @property
    def is_stopping(self) -> bool:
        """Whether a worker has said that it was told to stop."""
        return "stopping" in self.err

    def ready(self) -> Program:
        """Wait until a worker has said that it works."""
        self.until(lambda: self.is_ready, "ready")
        return self

    def until(self, is_so: Callable[[], bool], what: str) -> None:
        """Wait until *is_so* while the process lives; else fail with what it said."""
        for _ in patience():
            if is_so():
                return
            if self.process.poll() is not None:
                # It may have done it as the last thing of all.
                assert is_so(), self._story(f"it ended before it was {what}")
                return
        raise AssertionError(self._story(f"it was not {what} after {HANG_S} s"))

    async def until_async(self, is_so: Callable[[], bool], what: str) -> None:
        """As :meth:`until`, while the loop goes on with other things."""
        deadline = time.monotonic() + HANG_S
        while not is_so():
            if self.process.poll() is not None and not is_so():
                raise AssertionError(self._story(f"it ended before it was {what}"))
            if time.monotonic() > deadline:
                raise AssertionError(self._story(f"it was not {what} after {HANG_S} s"))
            await asyncio.sleep(POLL_S)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until the kernel has taken everything away."""
        self.process.kill()
        self.process.wait(HANG_S)

    def end(self, code: int | None = 0) -> Ended:
        """Wait for the end; fails where it hangs, or ends with another *code*."""
        try:
            self.process.wait(HANG_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(self._story(f"it did not end within {HANG_S} s")) from None
        ended = Ended(self.process.returncode, self.out, self.err)
        assert code is None or ended.code == code, self._story(f"exit code {ended.code}, not {code}")
        return ended

    def stop(self) -> Ended:
        """SIGTERM, and the graceful end that has to follow."""
        self.signal(signal.SIGTERM)
        return self.end()

    def _story(self, what: str) -> str:
        return f"{' '.join(self.arguments)}: {what}\n--- stdout\n{self.out[-4_000:]}\n--- stderr\n{self.err[-8_000:]}"


class Programs:
    """The programs of one test, all on one embedded store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "data"
        self.url = f"embedded:{self.store}"
        self.flows = FLOWS
        self._begun: list[Program] = []

    def begin(self, *arguments: object) -> Program:
        """Start ``headrace`` with *arguments* and the store's URL."""
        given = tuple(str(argument) for argument in arguments)
        program = Program(self.folder, len(self._begun), (*given, "--url", self.url))
        self._begun.append(program)
        return program

    def worker(self, *options: object) -> Program:
        """Start a worker; it may not be ready yet."""
        return self.begin("worker", FLOWS, *options)

    def headrace(self, *arguments: object, code: int | None = 0) -> Ended:
        """Run a command with ``--json`` to its end."""
        return self.begin(*arguments, "--json").end(code)

    def is_held_by(self, worker: Program) -> bool:
        """Whether *worker* has taken the folder."""
        try:
            return (self.store / "store" / LOCK_NAME).read_text(encoding="utf-8").strip() == str(worker.process.pid)
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Leave no process behind."""
        for program in self._begun:
            if program.process.poll() is None:
                program.kill()


def patience() -> Iterator[None]:
    """Beats of a wait that ends."""
    deadline = time.monotonic() + HANG_S
    while time.monotonic() < deadline:
        yield
        time.sleep(POLL_S)
