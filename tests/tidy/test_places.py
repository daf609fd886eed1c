"""Nothing in the project knows the machine that it was written on, or where packages come from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.tidy

# Both are written so that this file does not find itself.
MACHINE_PATHS = re.compile(r"(?<![A-Za-z0-9.])/(?:work|root|farm|opt/wheels|tmp/w)/")
REGISTRIES = re.compile(
    r"pypi[.]org|pythonhosted[.]org|npmjs[.](?:org|com)|crates[.]io|repo1?[.]maven|proxy[.]golang|jfrog[.]io"
    r"|--(?:extra-)?index[-]url|--find[-]links",
    re.IGNORECASE,
)
LOCK_FILES = re.compile(r"^(?:uv|poetry|pdm|Pipfile|Cargo|yarn)\.lock$|^pylock.*\.toml$|^(?:package-lock|pnpm-lock)\.")

# An image is a machine of its own, so its paths are not this one's.
FOLDERS_WITH_MACHINES_OF_THEIR_OWN = {"docker"}


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return
    yield from enumerate(text.splitlines(), start=1)


def found_in(files: list[Path], root: Path, pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path.relative_to(root)}:{number}: {line.strip()[:120]}"
        for path in files
        for number, line in lines_of(path)
        if pattern.search(line)
    ]


def test_no_file_names_a_path_of_one_machine(project_files: list[Path], root: Path) -> None:
    files = [path for path in project_files if path.relative_to(root).parts[0] not in FOLDERS_WITH_MACHINES_OF_THEIR_OWN]

    assert found_in(files, root, MACHINE_PATHS) == []


def test_no_file_names_a_registry(project_files: list[Path], root: Path) -> None:
    assert found_in(project_files, root, REGISTRIES) == []


def test_no_lock_file_records_addresses(project_files: list[Path]) -> None:
    assert [path.name for path in project_files if LOCK_FILES.search(path.name)] == []


@pytest.mark.parametrize("folder", ["work", "root", "farm"])
def test_a_path_of_one_machine_is_seen(folder: str) -> None:
    assert MACHINE_PATHS.search(f'open("/{folder}/x")')
    assert MACHINE_PATHS.search(f"cd /{folder}/x")
    assert not MACHINE_PATHS.search(f"https://example.com/{folder}/x")
    assert not MACHINE_PATHS.search(f"a/{folder}s/x")
    assert not MACHINE_PATHS.search(f"</{folder}>")
