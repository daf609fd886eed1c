"""``headrace dev broker`` as a program: what it says, what it keeps, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from headrace_adapters.cli.exit_codes import ExitCode
from headrace_adapters.devbroker import BrokerNode, brokers_at
from headrace_adapters.devbroker.ports import HOST, free_ports
from headrace_adapters.devbroker.waits import beats
from tests.broker.session_brokers import QUICK_START
from tests.process.programs import Program

pytestmark = [pytest.mark.broker, pytest.mark.slow]

PATIENCE_S = 60.0


class Commands:
    """The commands of one test, all with the same port and the same folder."""

    def __init__(self, folder: Path) -> None:
        (self.port,) = free_ports(1)
        self.folder = folder
        self._begun: list[Program] = []

    def begin(self, *options: str) -> Program:
        arguments = ("dev", "broker", "--port", str(self.port), "--heap", "256m", *options)
        self._begun.append(Program(self.folder, len(self._begun), arguments))
        return self._begun[-1]

    def ready(self) -> tuple[Program, Any]:
        """A command that has said that it is ready, and what it said."""
        command = self.begin("--json")
        command.until(lambda: command.out.endswith("\n"), "ready")
        return command, json.loads(command.out)

    def is_silent(self) -> bool:
        """Whether nobody listens on the port (any more)."""
        for _ in beats(PATIENCE_S):
            try:
                brokers_at(HOST, self.port)
            except ConnectionRefusedError:
                return True
            except OSError:
                continue  # It is ending just now.
        return False

    def close(self) -> None:
        for program in self._begun:
            if program.process.poll() is None:
                program.kill()


@pytest.fixture
def commands(own_broker: BrokerNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Commands]:
    """The node is not used: where it could be started, a command can start another one."""
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", " ".join(QUICK_START))
    begun = Commands(tmp_path)
    yield begun
    begun.close()


def test_it_says_where_it_is_and_finds_its_topics_again(commands: Commands) -> None:
    first = commands.begin()
    first.ready()
    address = f"{HOST}:{commands.port}"
    admin = AdminClient({"bootstrap.servers": address})
    admin.create_topics([NewTopic("kept", 3, 1)])["kept"].result(PATIENCE_S)
    refused = commands.begin("--json").end(ExitCode.STORE)
    ended = first.stop()

    assert ended.out == f"ready: kafka://{address}\nstopped\n"
    assert f"export HEADRACE_URL=kafka://{address}" in ended.err
    assert f"already (process {first.process.pid})" in json.loads(refused.err)["error"]["message"]
    assert commands.is_silent()

    second, said = commands.ready()
    found = AdminClient({"bootstrap.servers": address}).list_topics(timeout=PATIENCE_S).topics
    assert len(found["kept"].partitions) == 3
    assert said["event"] == "ready"
    assert said["url"] == f"kafka://{address}"
    assert said["data"] == str(commands.folder / ".headrace" / "broker")
    assert [json.loads(line) for line in second.stop().out.splitlines()] == [said, {"event": "stopped"}]


def test_a_killed_command_takes_its_broker_with_it(commands: Commands) -> None:
    command, _ = commands.ready()

    command.kill()

    assert commands.is_silent()


def test_a_broker_that_ends_by_itself_ends_the_command_with_its_reason(commands: Commands) -> None:
    command, said = commands.ready()

    os.kill(said["pids"][0], signal.SIGKILL)
    ended = command.end(ExitCode.STORE)

    assert "killed from outside (signal 9)" in json.loads(ended.err)["error"]["message"]


def test_it_can_be_stopped_before_it_is_ready(commands: Commands) -> None:
    command = commands.begin()
    command.until(lambda: "starting Kafka" in command.err, "starting")

    ended = command.stop()

    assert ended.out == "stopped\n"
    assert commands.is_silent()
