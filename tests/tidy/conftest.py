"""What the tidy tests look at: the modules of the three source roots, parsed once, and the files of the project."""

from __future__ import annotations

import ast
import os
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]

PACKAGES = {
    "headrace": ROOT / "engine" / "headrace",
    "headrace_topics": ROOT / "topics" / "headrace_topics",
    "headrace_adapters": ROOT / "adapters" / "headrace_adapters",
}

FOLDERS_NEVER_OURS = {".git", ".venv", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache", "__pycache__"}


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """A list that should be empty is a list of what is to be repaired, and is shown as one."""
    if op == "==" and right == [] and isinstance(left, list):
        return [f"{len(left)} to repair", *(str(item) for item in left)]
    return None


class Module(NamedTuple):
    """One module: *name* as it is imported, *package* its first part, *place* its path from the project's root."""

    name: str
    package: str
    path: Path
    place: str
    text: str
    tree: ast.Module

    @property
    def is_public(self) -> bool:
        """No part of its name begins with an underscore (``__main__`` is for the interpreter, not for readers)."""
        return not any(part.startswith("_") for part in self.name.split("."))


def read_module(package: str, path: Path) -> Module:
    parts = [package, *path.relative_to(PACKAGES[package]).with_suffix("").parts]
    if parts[-1] == "__init__":
        parts.pop()
    text = path.read_text(encoding="utf-8")
    place = path.relative_to(ROOT).as_posix()
    return Module(".".join(parts), package, path, place, text, ast.parse(text, filename=place))


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def modules() -> list[Module]:
    """Every module of the three source roots."""
    found = [read_module(package, path) for package, folder in PACKAGES.items() for path in sorted(folder.rglob("*.py"))]
    assert {"headrace", "headrace_topics", "headrace_adapters"} <= {module.name for module in found}
    return found


@pytest.fixture(scope="session")
def project_files() -> list[Path]:
    """What git tracks, or would track if it were added; without git, all that lies in the folder."""
    found = _files_of_git()
    if found is None:
        found = []
        for folder, folders, names in os.walk(ROOT):
            folders[:] = [name for name in folders if name not in FOLDERS_NEVER_OURS]
            found += [Path(folder, name) for name in names]
    files = sorted(path for path in found if path.is_file() and not path.is_symlink())
    assert ROOT / "pyproject.toml" in files
    return files


def _files_of_git() -> list[Path] | None:
    """None where git is absent or the folder is no work tree of its own (an unpacked archive inside another one)."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout

    try:
        if Path(git("rev-parse", "--show-toplevel").strip()).resolve() != ROOT:
            return None
        listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    except (OSError, subprocess.CalledProcessError):
        return None
    return [ROOT / name for name in listed.split("\0") if name]
