"""Names that say what something is: modules by their noun, tests by a sentence about behaviour."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Module

pytestmark = pytest.mark.tidy

SAYS_NOTHING = {"base_utils", "common", "helper", "helpers", "manager", "misc", "stuff", "util", "utils"}

SOURCES_OF_UNIT_TESTS = {"engine": "headrace", "topics": "headrace_topics", "adapters": "headrace_adapters"}


@pytest.fixture(scope="session")
def files_of_tests(root: Path) -> list[Path]:
    return sorted((root / "tests").rglob("test_*.py"))


def test_modules_are_named_by_a_noun(modules: list[Module]) -> None:
    assert [module.place for module in modules if module.path.stem in SAYS_NOTHING] == []


def test_test_files_have_names_of_their_own(files_of_tests: list[Path]) -> None:
    """Reports and ``pytest -k`` name a file without its folder."""
    counts = Counter(path.name for path in files_of_tests)

    assert [name for name, count in counts.items() if count > 1] == []


def test_tests_are_named_by_a_sentence(files_of_tests: list[Path]) -> None:
    short = [
        f"{path.name}:{node.lineno}: {node.name}"
        for path in files_of_tests
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and node.name.count("_") < 3
    ]

    assert short == []


def test_unit_tests_are_named_after_their_source(modules: list[Module], files_of_tests: list[Path], root: Path) -> None:
    """``tests/unit/engine/test_blueprint.py`` is about ``engine/headrace/blueprint.py``.

    A module of a sub-package may be named with it (``test_rocks_store.py``), and one module may have several test
    files, by an ending of their own (``test_decide_joins.py``).
    """
    strangers = []
    for folder, package in SOURCES_OF_UNIT_TESTS.items():
        names = {"_".join(module.name.split(".")[-parts:]) for module in modules for parts in (1, 2)} - {package}
        names |= {package.removeprefix("headrace_")}
        for path in files_of_tests:
            if path.is_relative_to(root / "tests" / "unit" / folder):
                subject = path.stem.removeprefix("test_")
                if not any(subject == name or subject.startswith(f"{name}_") for name in names):
                    strangers.append(path.relative_to(root).as_posix())

    assert strangers == []
