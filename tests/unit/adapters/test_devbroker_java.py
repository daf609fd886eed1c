"""Which Java runs the broker, and what is said where there is none. Scripts stand for Java."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.errors import StoreError
from headrace_adapters.devbroker.java import find_java, major_version


def made_java(folder: Path, says: str, code: int = 0) -> Path:
    folder.mkdir(parents=True)
    program = folder / "java"
    program.write_text(f"#!/bin/sh\necho '{says}' >&2\nexit {code}\n", encoding="utf-8")
    program.chmod(0o755)
    return program


@pytest.fixture(autouse=True)
def no_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))


def test_the_java_of_the_path_is_taken(tmp_path: Path) -> None:
    program = made_java(tmp_path / "path", 'openjdk version "17.0.15" 2025-04-15')

    assert find_java() == program


def test_the_java_of_java_home_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_java(tmp_path / "path", 'openjdk version "17"')
    program = made_java(tmp_path / "home" / "bin", 'openjdk version "21"')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))

    assert find_java() == program


def test_a_java_home_without_java_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = made_java(tmp_path / "path", 'openjdk version "17"')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "gone"))

    assert find_java() == program


def test_without_java_it_is_said_how_to_get_it() -> None:
    with pytest.raises(StoreError, match=r"none in JAVA_HOME or PATH; install Java 17 or newer and Maven \(Debian"):
        find_java()


def test_a_java_that_is_too_old_is_named(tmp_path: Path) -> None:
    made_java(tmp_path / "path", 'java version "1.8.0_402"')

    with pytest.raises(StoreError, match=r"path/java is Java 8; install"):
        find_java()


def test_a_program_that_is_no_java_is_seen(tmp_path: Path) -> None:
    made_java(tmp_path / "path", "Unable to locate a Java Runtime.", code=1)

    with pytest.raises(StoreError, match="does not say which Java it is; install"):
        find_java()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('openjdk version "25" 2025-09-16', 25),
        ('java version "1.8.0_402"', 8),
        ('Picked up JAVA_TOOL_OPTIONS: -Dversion=3\nopenjdk version "21-ea"', 21),
        ("Unable to locate a Java Runtime.", None),
    ],
)
def test_the_version_is_read_of_what_java_says(text: str, expected: int | None) -> None:
    assert major_version(text) == expected
