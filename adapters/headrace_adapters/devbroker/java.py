"""Java and Maven of this machine, found or asked for."""

from __future__ import annotations

__all__ = ["find_java", "find_maven", "major_version"]

import os
import re
import shutil
import subprocess
from pathlib import Path

from headrace.errors import StoreError

JAVA_VERSION_MIN = 17
ANSWER_S_MAX = 30.0

HOW_TO_INSTALL = (
    f"install Java {JAVA_VERSION_MIN} or newer and Maven (Debian, Ubuntu: apt install default-jre-headless maven; "
    "macOS: brew install openjdk maven), or set JAVA_HOME to an installed Java"
)


def find_java() -> Path:
    """The ``java`` of JAVA_HOME, else of PATH; raises :class:`StoreError` when there is none that runs Kafka."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which(Path(home, "bin", "java")) if home else None
    found = found or shutil.which("java")
    if found is None:
        raise StoreError(f"a broker needs Java, and there is none in JAVA_HOME or PATH; {HOW_TO_INSTALL}")
    try:
        asked = subprocess.run(  # noqa: S603  (the operator's own Java)
            [found, "-version"], check=False, capture_output=True, text=True, errors="replace", timeout=ANSWER_S_MAX
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StoreError(f"{found} does not run ({error}); {HOW_TO_INSTALL}") from error
    version = major_version(asked.stderr) if asked.returncode == 0 else None
    if version is None:
        # macOS has a program of that name that only says where to get one.
        raise StoreError(f"{found} does not say which Java it is; {HOW_TO_INSTALL}")
    if version < JAVA_VERSION_MIN:
        raise StoreError(f"a broker needs Java {JAVA_VERSION_MIN} or newer, and {found} is Java {version}; {HOW_TO_INSTALL}")
    return Path(found)


def find_maven() -> Path:
    """The ``mvn`` of PATH; raises :class:`StoreError` when there is none."""
    found = shutil.which("mvn")
    if found is None:
        raise StoreError(f"Kafka is downloaded by Maven, and there is no mvn in PATH; {HOW_TO_INSTALL}")
    return Path(found)


def major_version(text: str) -> int | None:
    """Of what ``java -version`` says: 17 of ``openjdk version "17.0.15"``, 8 of ``java version "1.8.0_402"``."""
    found = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(found[1]) if found else None
