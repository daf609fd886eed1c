"""A broker in a container, where a Docker engine answers."""

from __future__ import annotations

__all__ = ["DockerBroker", "NoDocker"]

import shutil
import subprocess
import uuid
from pathlib import Path

from headrace_adapters.devbroker import KAFKA_VERSION, brokers_at
from headrace_adapters.devbroker.ports import HOST, free_ports
from headrace_adapters.devbroker.settings import node_settings
from headrace_adapters.devbroker.waits import beats

IMAGE = f"apache/kafka:{KAFKA_VERSION}"
ANSWER_S_MAX = 20.0
# The image may have to be fetched.
START_S_MAX = 600.0
READY_S_MAX = 120.0
CONTROLLER_PORT = 9093


class NoDocker(Exception):
    """Raised when no Docker engine answers, or it could not start the broker; says why."""


class DockerBroker:
    """One container, ready when it is constructed and removed by :meth:`close`."""

    def __init__(self) -> None:
        _docker("version", "--format", "{{.Server.Version}}", timeout_s=ANSWER_S_MAX)
        (port,) = free_ports(1)
        self.bootstrap = f"{HOST}:{port}"
        self._name = f"headrace-test-{uuid.uuid4().hex[:12]}"
        try:
            _docker(*_run_arguments(self._name, port), timeout_s=START_S_MAX)
            self._wait_ready(port)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove the container, if it is there."""
        _docker("rm", "--force", "--volumes", self._name, timeout_s=ANSWER_S_MAX)

    def _wait_ready(self, port: int) -> None:
        for _ in beats(READY_S_MAX):
            try:
                if brokers_at(HOST, port):
                    return
            except OSError:
                continue  # Not yet; where the container has ended, the next line will not find it.
            finally:
                _docker("container", "inspect", self._name, timeout_s=ANSWER_S_MAX)
        raise NoDocker(f"the container of {IMAGE} was not ready after {READY_S_MAX:.0f} s")


def _run_arguments(name: str, port: int) -> list[str]:
    """As on this machine, but the broker listens on all addresses of its container, of which one port leads there."""
    settings = node_settings(
        1,
        port=port,
        controller_ports={1: CONTROLLER_PORT},
        # The image's own place, which its user may write to.
        folder=Path("/tmp/kraft-combined-logs"),
        overrides={"listeners": f"PLAINTEXT://0.0.0.0:{port},CONTROLLER://{HOST}:{CONTROLLER_PORT}"},
    )
    # The image makes settings of such variables, and a setting's name of a variable's.
    variables = {f"KAFKA_{key.upper().replace('.', '_')}": value for key, value in settings.items()}
    variables["KAFKA_HEAP_OPTS"] = "-Xmx512m"
    given = [f"--env={key}={value}" for key, value in sorted(variables.items())]
    return ["run", "--detach", "--rm", f"--name={name}", f"--publish={HOST}:{port}:{port}", *given, IMAGE]


def _docker(*arguments: str, timeout_s: float) -> None:
    program = shutil.which("docker")
    if program is None:
        raise NoDocker("there is no docker in PATH")
    try:
        ran = subprocess.run(
            [program, *arguments], check=False, capture_output=True, text=True, errors="replace", timeout=timeout_s
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoDocker(f"docker {arguments[0]}: {error}") from error
    if ran.returncode != 0:
        said = [line.strip() for line in ran.stderr.splitlines() if line.strip()]
        raise NoDocker(f"docker {arguments[0]}: {said[-1] if said else f'ended with {ran.returncode}'}")
