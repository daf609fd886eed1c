from __future__ import annotations

from pathlib import Path

import pytest

from headrace.errors import DefinitionError
from headrace_adapters.devbroker.program import KafkaProgram


@pytest.mark.parametrize("heap", ["128m", "512M", "1g", "2G"])
def test_a_heap_is_given_as_java_takes_it(heap: str) -> None:
    program = KafkaProgram(java=Path("java"), jars=Path("jars"), heap=heap)

    assert f"-Xmx{heap}" in program.broker_command(Path("settings"), Path("logging"))


def test_a_node_is_started_with_the_options_that_were_given() -> None:
    program = KafkaProgram(java=Path("java"), jars=Path("jars"), options=("-XX:+UseSerialGC",))

    command = program.broker_command(Path("settings"), Path("logging"))
    assert command.index("-XX:+UseSerialGC") < command.index("-cp")
    assert "-XX:+UseSerialGC" not in program.format_command(Path("settings"), "id")


@pytest.mark.parametrize("heap", ["", "512", "0m", "127m", "-1g", "1t", "512mb", "512m -version", "9999999m"])
def test_a_heap_of_no_use_is_refused(heap: str) -> None:
    with pytest.raises(DefinitionError, match="give one such as 512m or 1g"):
        KafkaProgram(java=Path("java"), jars=Path("jars"), heap=heap)
