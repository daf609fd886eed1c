"""Programs that a benchmark runs beside itself, each in a process of its own: one line in, one line out, both JSON.

``Program`` is the side of the benchmark, ``serve`` that of the program. A program ends when its input does, so none
outlives the benchmark.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

FOLDER = Path(__file__).parent
END_S = 30.0


class Program:
    """``python bench/<name>.py <arguments as JSON>``, from the start on; what it logs goes to our standard error."""

    def __init__(self, name: str, **arguments: Any) -> None:
        command = [sys.executable, str(FOLDER / f"{name}.py"), orjson.dumps(arguments).decode()]
        self._name = name
        # The terminal interrupts the benchmark alone, which then ends its programs.
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0)

    def ask(self, do: str, **arguments: Any) -> Any:
        """Have something done, and wait for what came of it."""
        self.tell(do, **arguments)
        return self.answer()

    def tell(self, do: str, **arguments: Any) -> None:
        """Have something done; :meth:`answer` waits for it."""
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write(orjson.dumps({"do": do, **arguments}) + b"\n")
        stdin.flush()

    def answer(self) -> Any:
        stdout = self._process.stdout
        assert stdout is not None
        line = stdout.readline()
        if not line:
            raise RuntimeError(f"{self._name} ended with {self._process.wait()}: see what it said above")
        return orjson.loads(line)

    def kill(self) -> None:
        """End it as a crash does; when this returns, it is gone."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        if self._process.poll() is not None:
            return
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def arguments() -> Any:
    """What the program was started with."""
    return orjson.loads(sys.argv[1])


def serve(answers: Mapping[str, Callable[..., Any]]) -> None:
    """Answer until the input ends."""
    for line in sys.stdin.buffer:
        asked = orjson.loads(line)
        answer = answers[asked.pop("do")](**asked)
        sys.stdout.buffer.write(orjson.dumps(answer, option=orjson.OPT_NON_STR_KEYS) + b"\n")
        sys.stdout.buffer.flush()
