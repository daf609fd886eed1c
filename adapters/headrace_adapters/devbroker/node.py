"""One node: a broker and a controller in one process, which can be stopped, killed, paused and started again."""

from __future__ import annotations

__all__ = ["READY_S_MAX", "BrokerNode"]

import signal
from collections.abc import Mapping
from pathlib import Path

from headrace.errors import StoreError
from headrace_adapters.devbroker.guard import GuardedProcess
from headrace_adapters.devbroker.metadata import brokers_at
from headrace_adapters.devbroker.ports import HOST, is_free
from headrace_adapters.devbroker.program import KafkaProgram
from headrace_adapters.devbroker.settings import LOGGING, properties_text
from headrace_adapters.devbroker.waits import Unwanted, beats, never

READY_S_MAX = 120.0
FORMAT_S_MAX = 60.0
STOP_S_MAX = 30.0


class BrokerNode:
    """Node *number* of a cluster; its port and its data stay the same however often it is started.

    Its methods are called by one thread at a time.
    """

    def __init__(
        self,
        number: int,
        *,
        port: int,
        folder: Path,
        program: KafkaProgram,
        cluster_id: str,
        settings: Mapping[str, str],
        unwanted: Unwanted = never,
    ) -> None:
        self.number = number
        self.port = port
        self.folder = folder
        self.console = folder / "console.log"
        """What the node has said, in all its lives."""
        self.is_paused = False
        self._program = program
        self._cluster_id = cluster_id
        self._settings = settings
        self._unwanted = unwanted
        self._process: GuardedProcess | None = None
        self._said_before = 0

    @property
    def bootstrap(self) -> str:
        """The address of this node alone, as clients take it."""
        return f"{HOST}:{self.port}"

    @property
    def is_running(self) -> bool:
        """Whether its process is there, paused or not, ready or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The number of its process, while there is one."""
        return self._process.pid if self._process is not None and self.is_running else None

    def start(self, *, wait: bool = True) -> None:
        """Start it where it does not run, and *wait* until it is ready; raises :class:`StoreError`.

        In a cluster of three, a node becomes ready when another one runs too: start the first with ``wait=False``.
        """
        if not self.is_running:
            self._start()
        if wait:
            self.wait_ready()

    def wait_ready(self, timeout_s: float = READY_S_MAX, among: frozenset[int] = frozenset()) -> None:
        """Wait until it takes requests, and knows it and the nodes *among* to be alive."""
        wanted = among | {self.number}
        for _ in beats(timeout_s, self._unwanted):
            if not self.is_running:
                raise StoreError(self.end_told())
            try:
                if wanted <= brokers_at(HOST, self.port):
                    return
            except OSError:
                continue  # Not yet.
        raise StoreError(
            f"node {self.number} of the broker was not ready after {timeout_s:.0f} s; its console is {self.console}: "
            "look there, or try again when the machine has less to do"
        )

    def stop(self, timeout_s: float = STOP_S_MAX) -> None:
        """SIGTERM: it hands over what it leads and ends; killed where it has not ended after *timeout_s*."""
        if self._process is None:
            return
        self.go_on()
        self._process.signal(signal.SIGTERM)
        if self._process.wait(timeout_s) is None:
            self.kill()

    def kill(self) -> None:
        """SIGKILL: it ends in the middle of whatever it does. What it acknowledged is in the system's cache."""
        if self._process is not None:
            self._process.kill()
        self.is_paused = False

    def pause(self) -> None:
        """SIGSTOP: connections stay open, and nothing is answered, until :meth:`go_on`."""
        if self._process is not None and self.is_running:
            self._process.pause()
            self.is_paused = True

    def go_on(self) -> None:
        """SIGCONT: it goes on where it was paused."""
        if self._process is not None and self.is_paused:
            self._process.signal(signal.SIGCONT)
            self.is_paused = False

    def end_told(self) -> str:
        """Why it ended, as far as it said so, and what to do."""
        code = self._process.poll() if self._process is not None else None
        if code == -signal.SIGKILL:
            return (
                f"node {self.number} of the broker was killed from outside (signal 9), by a person or because the system "
                "had no memory left; start it again, with a smaller heap if that was it"
            )
        how = "was not started" if code is None else f"was ended by signal {-code}" if code < 0 else f"ended with {code}"
        return (
            f"node {self.number} of the broker {how}: {self._last_words() or 'it gave no reason'}; "
            f"all that it said is in {self.console}: repair what it names, and start it again"
        )

    def _start(self) -> None:
        for listener in self._settings["listeners"].split(","):
            port = int(listener.rpartition(":")[2])
            if not is_free(port):
                raise StoreError(f"port {port} of {HOST} is taken; stop what listens there, or give another port")
        self.folder.mkdir(parents=True, exist_ok=True)
        settings, logging = self.folder / "server.properties", self.folder / "log4j2.properties"
        settings.write_text(properties_text(self._settings), encoding="ascii")
        logging.write_text(LOGGING, encoding="ascii")
        self.is_paused = False
        self._said_before = self.console.stat().st_size if self.console.exists() else 0
        # Kafka writes this file last, so a data folder that has it is whole.
        if not Path(self._settings["log.dirs"], "meta.properties").exists():
            self._format(settings)
        command = self._program.broker_command(settings, logging)
        self._process = GuardedProcess(command, folder=self.folder, console=self.console)

    def _format(self, settings: Path) -> None:
        command = self._program.format_command(settings, self._cluster_id)
        process = GuardedProcess(command, folder=self.folder, console=self.console)
        try:
            code = process.wait(FORMAT_S_MAX, self._unwanted)
        finally:
            process.kill()
        if code != 0:
            raise StoreError(
                f"the data folder of node {self.number} could not be made: {self._last_words() or 'no reason was given'}; "
                f"all that was said is in {self.console}: repair what it names, and start it again"
            )

    def _last_words(self) -> str:
        """The last error of its present life, else its last line."""
        if not self.console.exists():
            return ""
        with self.console.open("rb") as console:
            console.seek(self._said_before)
            lines = console.read().decode("utf-8", "replace").splitlines()
        said = [line.strip() for line in lines if line.strip() and not line.startswith(("\tat ", "\t..."))]
        errors = [
            line for line in said if " ERROR " in line or " FATAL " in line or "Exception: " in line or "Error: " in line
        ]
        return (errors or said or [""])[-1].rstrip(".")[:600]
