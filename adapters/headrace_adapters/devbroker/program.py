"""Kafka as something that can be called: a Java, the jars and a heap."""

from __future__ import annotations

__all__ = ["KafkaProgram", "installed_kafka"]

import os
import re
from dataclasses import dataclass
from pathlib import Path

from headrace.errors import DefinitionError
from headrace_adapters.devbroker.jars import Tell, default_folder, kafka_jars
from headrace_adapters.devbroker.java import find_java
from headrace_adapters.devbroker.waits import Unwanted, never

HEAP_MIB_MIN = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaProgram:
    """What starts a node."""

    java: Path
    jars: Path
    heap: str = "512m"
    """The largest heap of a node, as Java takes it: ``512m``, ``1g``. The process needs about 150 MB more."""
    options: tuple[str, ...] = ()
    """What else Java is told when a node is started."""

    def __post_init__(self) -> None:
        found = re.fullmatch(r"([1-9]\d{0,5})([mg])", self.heap, re.IGNORECASE)
        if found is None or int(found[1]) * (1_024 if found[2] in "gG" else 1) < HEAP_MIB_MIN:
            raise DefinitionError(
                f"heap: {self.heap!r} is no size of a heap; give one such as 512m or 1g, of at least {HEAP_MIB_MIN}m"
            )

    def format_command(self, settings: Path, cluster_id: str) -> list[str]:
        """Makes the empty data folder that *settings* name a node's own."""
        # It ends before optimised code would pay.
        quick = ["-XX:TieredStopAtLevel=1", "-Xmx128m"]
        return [*self._java(quick), "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(settings)]

    def broker_command(self, settings: Path, logging: Path) -> list[str]:
        """Runs a node until it is told to stop."""
        options = [f"-Xmx{self.heap}", f"-Dlog4j2.configurationFile={logging}", "-Djava.awt.headless=true"]
        return [*self._java([*options, *self.options]), "kafka.Kafka", str(settings)]

    def _java(self, options: list[str]) -> list[str]:
        return [str(self.java), *options, "-cp", f"{self.jars}{os.sep}*"]


def installed_kafka(
    folder: Path | None = None,
    *,
    heap: str = "512m",
    options: tuple[str, ...] = (),
    tell: Tell | None = None,
    unwanted: Unwanted = never,
) -> KafkaProgram:
    """Kafka with the jars of *folder* (default: the user's cache), which are downloaded where they are not there yet.

    *tell* is called with a sentence before something that takes time; *unwanted* is asked while it does. Raises
    :class:`StoreError` with what to do when Java, Maven or the download is missing.
    """
    java = find_java()
    # A node works in a folder of its own, so its paths must not depend on this one.
    program = KafkaProgram(java=java, jars=(folder or default_folder()).absolute(), heap=heap, options=options)
    kafka_jars(program.jars, tell or (lambda _: None), unwanted)
    return program
