"""What is installed: the three packages with their types, and the versions that the tests pass with."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

if TYPE_CHECKING:
    from conftest import Module

pytestmark = pytest.mark.tidy

PACKAGES = ["headrace", "headrace_topics", "headrace_adapters"]


@pytest.fixture(scope="session")
def project(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="session")
def pins(root: Path) -> dict[str, tuple[Version, list[str]]]:
    """Of each pinned distribution the version and the hashes."""
    text = (root / "constraints.txt").read_text(encoding="utf-8").replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            name, version = re.match(r"([\w.-]+)==(\S+)", line).groups()
            found[canonicalize_name(name)] = (Version(version), re.findall(r"--hash=sha256:([0-9a-f]{64})\b", line))
    return found


def test_the_wheel_holds_the_three_packages_with_their_types(root: Path, tmp_path: Path, modules: list[Module]) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=root,
        check=True,
        capture_output=True,
        timeout=120,
    )
    (wheel,) = tmp_path.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}

    assert {name.partition("/")[0] for name in held} == set(PACKAGES)
    assert {f"{package}/py.typed" for package in PACKAGES} <= held
    assert {module.place.partition("/")[2] for module in modules} <= held


def test_every_direct_dependency_is_pinned_at_a_version_that_it_admits(
    project: dict[str, Any], pins: dict[str, tuple[Version, list[str]]]
) -> None:
    wrong = []
    for text in [
        *project["dependencies"],
        *project["optional-dependencies"]["dev"],
        *project["optional-dependencies"]["kafka"],
    ]:
        requirement = Requirement(text)
        pin = pins.get(canonicalize_name(requirement.name))
        if pin is None or pin[0] not in requirement.specifier:
            wrong.append(f"{requirement} is pinned as {pin and pin[0]}")

    assert wrong == []


def test_what_the_dependencies_need_is_pinned_too(pins: dict[str, tuple[Version, list[str]]]) -> None:
    """With one name missing, ``pip install --require-hashes`` refuses all."""
    missing = set()
    for name in pins:
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            missing.add(f"{name}, which is pinned, is not installed")
            continue
        for requirement in map(Requirement, needs):
            wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if wanted and canonicalize_name(requirement.name) not in pins:
                missing.add(f"{requirement.name}, which {name} needs")

    assert missing == set()


def test_every_pin_has_hashes_and_no_address(root: Path, pins: dict[str, tuple[Version, list[str]]]) -> None:
    assert [name for name, (_, hashes) in pins.items() if not hashes] == []
    assert "://" not in (root / "constraints.txt").read_text(encoding="utf-8")


def test_the_embedded_default_needs_no_kafka_client(project: dict[str, Any]) -> None:
    needed = {canonicalize_name(Requirement(text).name) for text in project["dependencies"]}

    assert needed & {"aiokafka", "confluent-kafka", "faust-streaming"} == set()


def test_the_programs_and_adapters_that_are_announced_exist(project: dict[str, Any]) -> None:
    announced = dict(project["scripts"])
    for group in project["entry-points"].values():
        announced |= group
    installed = importlib.metadata.distribution("headrace").entry_points

    assert {point.name: point.value for point in installed} == announced
    assert all(callable(point.load()) for point in installed)
