"""Examples as their readers use them: imported, and through the real command line."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.broker.fixtures import app_name, broker

__all__ = ["app_name", "broker", "example", "examples", "project", "shell", "url"]

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
TIMEOUT_S = 60


class Shell:
    """A shell in a folder of its own, in which ``headrace`` is installed and nothing is set."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.script = Path(sysconfig.get_path("scripts"), "headrace")
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
        self.started: list[subprocess.Popen[str]] = []

    def headrace(self, *arguments: object, exit_code: int = 0) -> str:
        """What a command prints; it has to end with *exit_code*."""
        process = self.begin(*arguments)
        out, err = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == exit_code, f"exit code {process.returncode}\n{out}\n{err}"
        return out

    def json(self, *arguments: object, exit_code: int = 0) -> Any:
        """The one JSON value that a command prints with ``--json``."""
        return json.loads(self.headrace(*arguments, "--json", exit_code=exit_code))

    def begin(self, *arguments: object) -> subprocess.Popen[str]:
        """Start a command and do not wait for its end."""
        process = subprocess.Popen(
            [self.script, *map(str, arguments)],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def close(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.communicate(timeout=TIMEOUT_S)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    opened = Shell(tmp_path)
    assert opened.script.exists(), "install the project first: pip install --no-deps --no-build-isolation -e ."
    yield opened
    opened.close()


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Import an example by its name, as a program in its folder would."""

    def load(name: str) -> ModuleType:
        monkeypatch.syspath_prepend(EXAMPLES / name)
        return importlib.import_module(name)

    return load


@pytest.fixture(params=["memory", "embedded"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the work is carried: every example runs on each."""
    return "memory:" if request.param == "memory" else f"embedded:{tmp_path / 'data'}"


@pytest.fixture
def examples() -> Path:
    return EXAMPLES


@pytest.fixture
def project() -> Path:
    return ROOT
