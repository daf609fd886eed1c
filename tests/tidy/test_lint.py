"""The tools are tests, so that one command says all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.tidy


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["ruff", "check", "."], id="ruff-check"),
        pytest.param(["ruff", "format", "--check", "."], id="ruff-format"),
        pytest.param(["mypy"], id="mypy"),
    ],
)
def test_a_tool_has_nothing_to_say(command: list[str], root: Path) -> None:
    """Repair with ``ruff check --fix .`` and ``ruff format .``; what mypy checks stands in ``pyproject.toml``."""
    ran = subprocess.run(
        [sys.executable, "-m", *command], cwd=root, check=False, capture_output=True, text=True, timeout=600
    )

    assert ran.returncode == 0, f"{' '.join(command)}:\n{ran.stdout}{ran.stderr}"
