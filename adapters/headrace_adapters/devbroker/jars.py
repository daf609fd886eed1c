"""Kafka's jars, downloaded by Maven once a machine.

They lie in one folder, which appears by a rename: it has all of them or is not there. Whoever needs it takes a lock
beside it first, so of several processes one downloads and the others wait. What a killed download left is removed by
the next one that holds the lock.
"""

from __future__ import annotations

__all__ = ["KAFKA_VERSION", "default_folder", "kafka_jars"]

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from headrace.errors import StoreError
from headrace_adapters.devbroker.guard import GuardedProcess
from headrace_adapters.devbroker.java import find_maven
from headrace_adapters.devbroker.waits import Unwanted, beats, never

KAFKA_VERSION = "4.3.1"
LOG4J_VERSION = "2.25.1"
# Of the tested series; without a version Maven takes one that depends on Maven's own.
COPIER_VERSION = "3.8.1"
MARK = f"kafka_2.13-{KAFKA_VERSION}.jar"
DOWNLOAD_S_MAX = 900.0

Tell = Callable[[str], None]


def default_folder() -> Path:
    """Where the jars of this user lie: below XDG_CACHE_HOME, else below ``~/.cache``."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # A relative path is to be ignored, as that standard says.
    cache = given if given.is_absolute() else Path.home() / ".cache"
    return cache / "headrace" / f"kafka-{KAFKA_VERSION}"


def kafka_jars(folder: Path, tell: Tell, unwanted: Unwanted = never) -> Path:
    """*folder* with Kafka's jars in it, which are downloaded where they are not there yet.

    *tell* is called with a sentence before something that takes time. Raises :class:`StoreError` with what to do.
    """
    if (folder / MARK).is_file():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _lock(folder.with_name(f"{folder.name}.lock"), tell, unwanted):
            if not (folder / MARK).is_file():
                _download(folder, tell, unwanted)
    except OSError as error:
        raise StoreError(
            f"Kafka's jars cannot be put into {folder} ({error}); make that place writable, "
            "or set XDG_CACHE_HOME to another one"
        ) from error
    return folder


@contextlib.contextmanager
def _lock(path: Path, tell: Tell, unwanted: Unwanted) -> Iterator[None]:
    """The kernel's lock on a file that is never deleted, so that nobody holds one of the same name elsewhere."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        told = False
        for _ in beats(DOWNLOAD_S_MAX, unwanted):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not told:
                    tell("another process is downloading Kafka: waiting for it")
                    told = True
            else:
                yield
                return
        raise StoreError(f"another process has held {path} for {DOWNLOAD_S_MAX:.0f} s; look what it does, or stop it")
    finally:
        os.close(descriptor)


def _download(folder: Path, tell: Tell, unwanted: Unwanted) -> None:
    """Called with the lock held."""
    if folder.exists() and any(folder.iterdir()):
        raise StoreError(f"{folder} holds other files, and not Kafka {KAFKA_VERSION}; remove them, or give another folder")
    maven = find_maven()
    prefix = f"{folder.name}.partial-"
    for left_behind in folder.parent.glob(f"{prefix}*"):
        shutil.rmtree(left_behind)
    tell(f"downloading Kafka {KAFKA_VERSION} with Maven into {folder} (once, about 45 MB)")
    place = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
    try:
        (place / "pom.xml").write_text(POM, encoding="utf-8")
        _run_maven(maven, place, unwanted)
        if not (place / "jars" / MARK).is_file():
            raise StoreError(f"Maven ended without {MARK}; run the same command again, and report it if that does not help")
        (place / "jars").replace(folder)
    finally:
        shutil.rmtree(place)


def _run_maven(maven: Path, place: Path, unwanted: Unwanted) -> None:
    console = place / "console.log"
    goals = ["-q", "-B", "-Dstyle.color=never", "dependency:copy-dependencies", f"-DoutputDirectory={place / 'jars'}"]
    process = GuardedProcess([maven, *goals], folder=place, console=console)
    try:
        code = process.wait(DOWNLOAD_S_MAX, unwanted)
    finally:
        process.kill()
    if code != 0:
        said = _reason(console.read_text(encoding="utf-8", errors="replace"))
        why = f"{DOWNLOAD_S_MAX:.0f} s were not enough" if code is None else said
        raise StoreError(
            f"Maven could not download Kafka {KAFKA_VERSION}: {why}; look whether this machine reaches a Maven repository "
            "(mirrors and proxies stand in ~/.m2/settings.xml), and run the same command again"
        )


def _reason(console: str) -> str:
    """The first error that Maven told, without its advice on how to call Maven."""
    lines = [re.sub(r"^\[\w+\]\s*", "", line).strip() for line in console.splitlines() if line.startswith("[ERROR]")]
    lines = lines or [line.strip() for line in console.splitlines()]
    said = next((line for line in lines if line), "it gave no reason")
    return re.sub(r"\s*->\s*\[Help \d+\]$", "", said).rstrip(".")[:600]


POM = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>headrace</groupId>
  <artifactId>devbroker</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId>
      <artifactId>log4j-slf4j-impl</artifactId>
      <version>{LOG4J_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId>
      <artifactId>log4j-core</artifactId>
      <version>{LOG4J_VERSION}</version>
    </dependency>
  </dependencies>
  <build>
    <pluginManagement>
      <plugins>
        <plugin>
          <groupId>org.apache.maven.plugins</groupId>
          <artifactId>maven-dependency-plugin</artifactId>
          <version>{COPIER_VERSION}</version>
        </plugin>
      </plugins>
    </pluginManagement>
  </build>
</project>
"""
