"""Workers in processes of their own. Every wait has an end, and nobody outlives the test."""

from __future__ import annotations

__all__ = ["HANG_S", "WorkerProcess", "Workers", "beats", "until"]

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.kafka.flows import EXECUTIONS_VARIABLE

ROOT = Path(__file__).parents[2]

# The machine may be shared and slow: what takes longer than this hangs.
HANG_S = 60.0
POLL_S = 0.02


class WorkerProcess:
    """One process; its output goes into files, so that no pipe that nobody reads can stop it."""

    def __init__(self, folder: Path, number: int, app: str, servers: str, settings: Mapping[str, Any]) -> None:
        self.number = number
        self.begun_s = time.monotonic()
        self._out, self._err = folder / f"worker-{number}.out", folder / f"worker-{number}.err"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
        environment[EXECUTIONS_VARIABLE] = str(folder)
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.kafka.worker_program", app, f"kafka://{servers}", json.dumps(settings)],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    @property
    def is_ready(self) -> bool:
        """Whether it has taken over partitions."""
        return "ready\n" in self._out.read_text(encoding="utf-8")

    @property
    def is_started(self) -> bool:
        """Whether it is there to be told to stop; it may have no partition."""
        return "started\n" in self._out.read_text(encoding="utf-8")

    @property
    def owned(self) -> list[int]:
        """The partitions that it said last to be working on."""
        lines = [line for line in self._out.read_text(encoding="utf-8").splitlines() if line.startswith("owns ")]
        return json.loads(lines[-1].removeprefix("owns ")) if lines else []

    @property
    def said(self) -> str:
        """What it has logged."""
        return self._err.read_text(encoding="utf-8", errors="replace")

    @property
    def is_alive(self) -> bool:
        """Whether the process is there."""
        return self.process.poll() is None

    def until(self, is_so: Callable[[], bool], what: str) -> None:
        """Wait until *is_so* while the process lives; else fail with what it said."""
        for _ in beats():
            if is_so():
                return
            assert self.is_alive, self._story(f"it ended before it was {what}")
        raise AssertionError(self._story(f"it was not {what} after {HANG_S} s"))

    def ready(self) -> WorkerProcess:
        """Wait until it has taken over partitions."""
        self.until(lambda: self.is_ready, "ready")
        return self

    def kill(self) -> None:
        """SIGKILL, and wait until the kernel has taken everything away."""
        self.process.kill()
        self.process.wait(HANG_S)

    def pause(self) -> None:
        """SIGSTOP: it keeps its connections and does nothing, until :meth:`go_on`."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT: it goes on where it was stopped, and does not know that it was."""
        self.process.send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        """SIGTERM, once it is there to be told."""
        self.until(lambda: self.is_started, "started")
        self.process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """SIGTERM, and the graceful end that has to follow."""
        self.terminate()
        self.end()

    def end(self, code: int = 0) -> None:
        """Wait for the end; fails where it hangs, or ends with another *code*."""
        try:
            self.process.wait(HANG_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(self._story(f"it did not end within {HANG_S} s")) from None
        assert self.process.returncode == code, self._story(f"exit code {self.process.returncode}, not {code}")

    def _story(self, what: str) -> str:
        return (
            f"worker {self.number}: {what}\n--- stdout\n{self._out.read_text()[-2_000:]}\n--- stderr\n{self.said[-8_000:]}"
        )


class Workers:
    """The workers of one test: one app, one folder for state."""

    def __init__(self, folder: Path, app: str, servers: str, **settings: Any) -> None:
        self.folder = folder
        self.app = app
        self.servers = servers
        self.state = folder / "state"
        self._settings = {
            "state": str(self.state),
            "partitions": 4,
            "session_timeout_ms": 2_000,
            "heartbeat_ms": 200,
            "transaction_timeout_ms": 5_000,
            **settings,
        }
        self.all: list[WorkerProcess] = []

    def begin(self, **settings: Any) -> WorkerProcess:
        """Start a worker; it may not be ready yet."""
        worker = WorkerProcess(self.folder, len(self.all), self.app, self.servers, {**self._settings, **settings})
        self.all.append(worker)
        return worker

    @property
    def alive(self) -> list[WorkerProcess]:
        """Those that run."""
        return [worker for worker in self.all if worker.is_alive]

    def stop(self) -> None:
        """Stop all that run, gracefully."""
        alive = self.alive
        for worker in alive:
            worker.terminate()
        for worker in alive:
            worker.end()

    def executions(self) -> Counter[tuple[str, str]]:
        """How often each node of each run was executed, as the nodes themselves wrote it down."""
        found: Counter[tuple[str, str]] = Counter()
        for path in self.folder.glob("*.executions"):
            for line in path.read_text(encoding="utf-8").splitlines():
                run_id, node_id, _ = line.split("\t")
                found[run_id, node_id] += 1
        return found

    def close(self) -> None:
        """Leave no process behind."""
        for worker in self.alive:
            worker.kill()


def beats(timeout_s: float = HANG_S) -> Iterator[None]:
    """Beats of a wait that ends."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        yield
        time.sleep(POLL_S)


def until(is_so: Callable[[], bool], what: str, timeout_s: float = HANG_S) -> None:
    """Wait until *is_so*, and fail where that takes too long."""
    for _ in beats(timeout_s):
        if is_so():
            return
    raise AssertionError(f"not {what} after {timeout_s} s")
