"""Prints the part of ``constraints.txt`` that an image needs, with its hashes, for ``pip install --require-hashes``.

    python3 pins.py runtime     what a worker needs on Kafka
    python3 pins.py build       what builds the project's wheel

It runs where the image is built, so it needs nothing but Python. What needs what stands in ``constraints.txt`` itself:
behind each pin it says whose it is ("via"). A list that lacks something is refused by pip, because then a package
comes without a hash: nothing that is not pinned gets into an image.
"""

from __future__ import annotations

__all__ = ["main", "read_pins", "wanted"]

import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

ENTRY = re.compile(r"^(?P<name>[A-Za-z0-9][\w.-]*)==.*?(?=^[A-Za-z0-9]|\Z)", re.DOTALL | re.MULTILINE)
OWNER = re.compile(r"^[ \t]+#[ \t]+(?:via[ \t]+)?([\w.-]+)", re.MULTILINE)
NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


class Pin(NamedTuple):
    """One package: its lines without comments, and the packages that need it."""

    text: str
    owners: frozenset[str]


def read_pins(text: str) -> dict[str, Pin]:
    """The pins of ``constraints.txt`` by their packages' names."""
    pins = {}
    for found in ENTRY.finditer(text):
        lines = [line for line in found[0].splitlines() if line.strip() and not line.lstrip().startswith("#")]
        # The last line of hashes is followed by comments only.
        pins[canonical(found["name"])] = Pin("\n".join(lines), frozenset(map(canonical, OWNER.findall(found[0]))))
    return pins


def wanted(pins: Mapping[str, Pin], requirements: Iterable[str]) -> list[str]:
    """The lines for *requirements* and all that they need; raises :class:`LookupError` where one of them has no pin."""
    names = {canonical(NAME.match(requirement)[0]) for requirement in requirements}  # type: ignore[index]
    missing = sorted(names - pins.keys())
    if missing:
        raise LookupError(f"constraints.txt pins no {', '.join(missing)}: renew it, as it says at its top")
    while more := {name for name, pin in pins.items() if pin.owners & names} - names:
        names |= more
    return [pins[name].text for name in sorted(names)]


def canonical(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements_of(project: Mapping[str, Any], purpose: str) -> list[str]:
    """What ``pyproject.toml`` asks for."""
    if purpose == "build":
        return list(project["build-system"]["requires"])
    return [*project["project"]["dependencies"], *project["project"]["optional-dependencies"]["kafka"]]


def main(purpose: str, folder: Path) -> str:
    """The list for *purpose*, of the project in *folder*."""
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    pins = read_pins((folder / "constraints.txt").read_text(encoding="utf-8"))
    return "\n".join(wanted(pins, requirements_of(project, purpose))) + "\n"


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or sys.argv[1] not in ("runtime", "build"):
        sys.exit("usage: pins.py runtime|build [FOLDER OF THE PROJECT]")
    sys.stdout.write(main(sys.argv[1], Path(*sys.argv[2:])))
