"""Kafka's jars are downloaded once, whole, and by one process at a time. A script stands for Maven."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.errors import StoreError
from headrace_adapters.devbroker.jars import KAFKA_VERSION, MARK, POM, default_folder, kafka_jars

# Notes that it was called, and puts what it was asked for where it was told.
DOWNLOADS = f"""
echo called >> "$CALLS"
for given in "$@"; do
    case $given in -DoutputDirectory=*) mkdir "${{given#*=}}"; echo jar > "${{given#*=}}/{MARK}" ;; esac
done
"""

PatchMaven = Callable[[str], Path]


@pytest.fixture
def maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PatchMaven:
    """Make ``mvn`` a script; gives the file in which it notes that it was called."""

    def patched(script: str) -> Path:
        (tmp_path / "bin").mkdir()
        program = tmp_path / "bin" / "mvn"
        program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
        return tmp_path / "calls"

    return patched


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_jars_are_downloaded_the_first_time_only(tmp_path: Path, maven: PatchMaven) -> None:
    calls, told, folder = maven(DOWNLOADS), [], tmp_path / "cache" / "kafka"

    assert kafka_jars(folder, told.append) == folder
    assert kafka_jars(folder, told.append) == folder

    assert (folder / MARK).is_file()
    assert calls.read_text(encoding="utf-8") == "called\n"
    assert [KAFKA_VERSION in line for line in told] == [True]
    assert names_in(folder.parent) == {"kafka", "kafka.lock"}


def test_of_several_processes_one_downloads_and_the_others_wait(tmp_path: Path, maven: PatchMaven) -> None:
    calls, folder = maven("sleep 0.5" + DOWNLOADS), tmp_path / "cache" / "kafka"
    program = (
        "import sys; from pathlib import Path; from headrace_adapters.devbroker.jars import kafka_jars; "
        "kafka_jars(Path(sys.argv[1]), print)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}

    begun = [
        subprocess.Popen([sys.executable, "-c", program, str(folder)], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = [process.communicate(timeout=60)[0] for process in begun]

    assert [process.returncode for process in begun] == [0, 0, 0]
    assert calls.read_text(encoding="utf-8") == "called\n"
    assert sum("downloading Kafka 4" in text for text in said) == 1


def test_a_download_that_fails_leaves_nothing_and_says_what_to_do(tmp_path: Path, maven: PatchMaven) -> None:
    maven("echo '[ERROR] Unknown host repository -> [Help 1]'; echo '[ERROR] Re-run Maven with -e'; exit 1")
    folder = tmp_path / "cache" / "kafka"

    with pytest.raises(StoreError, match=r"Unknown host repository; look whether .* and run the same command again"):
        kafka_jars(folder, print)

    assert names_in(folder.parent) == {"kafka.lock"}


def test_a_download_without_kafka_in_it_is_none(tmp_path: Path, maven: PatchMaven) -> None:
    maven("exit 0")

    with pytest.raises(StoreError, match=f"without {re.escape(MARK)}; run the same command again"):
        kafka_jars(tmp_path / "cache" / "kafka", print)


def test_a_download_that_nobody_wants_any_more_is_ended(tmp_path: Path, maven: PatchMaven) -> None:
    calls = maven('echo called >> "$CALLS"; exec sleep 600')
    folder = tmp_path / "cache" / "kafka"

    with pytest.raises(StoreError, match="told to stop"):
        kafka_jars(folder, print, calls.exists)

    assert names_in(folder.parent) == {"kafka.lock"}


def test_what_a_killed_download_left_behind_is_removed(tmp_path: Path, maven: PatchMaven) -> None:
    maven(DOWNLOADS)
    left = tmp_path / "cache" / "kafka.partial-left" / "jars"
    left.mkdir(parents=True)

    kafka_jars(tmp_path / "cache" / "kafka", print)

    assert names_in(tmp_path / "cache") == {"kafka", "kafka.lock"}


def test_a_folder_with_other_files_is_left_as_it_is(tmp_path: Path, maven: PatchMaven) -> None:
    maven(DOWNLOADS)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()

    with pytest.raises(StoreError, match="holds other files"):
        kafka_jars(tmp_path / "photos", print)

    assert names_in(tmp_path / "photos") == {"cat.jpg"}


def test_without_maven_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(StoreError, match="there is no mvn in PATH; install"):
        kafka_jars(tmp_path / "cache" / "kafka", print)


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StoreError, match=r"cannot be put into .*file/kafka.* XDG_CACHE_HOME"):
        kafka_jars(tmp_path / "file" / "kafka", print)


def test_the_cache_is_where_the_user_keeps_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert default_folder() == tmp_path / ".cache" / "headrace" / f"kafka-{KAFKA_VERSION}"

    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_folder() == tmp_path / ".cache" / "headrace" / f"kafka-{KAFKA_VERSION}"

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    assert default_folder() == tmp_path / "own" / "headrace" / f"kafka-{KAFKA_VERSION}"


def test_the_pom_is_sound_and_names_the_version() -> None:
    versions = {found.text for found in ET.fromstring(POM).iter("{http://maven.apache.org/POM/4.0.0}version")}

    assert KAFKA_VERSION in versions
