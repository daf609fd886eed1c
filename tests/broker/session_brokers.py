"""The brokers of one pytest session: started when they are first asked for, and ended with the session.

They are kept with pytest's configuration, because a session-scoped fixture that several conftests import is set up
once for each of them.
"""

from __future__ import annotations

__all__ = ["NoBroker", "SessionBrokers", "UnreachableBroker"]

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from headrace.errors import StoreError
from headrace_adapters.devbroker import BrokerNode, Cluster, brokers_at, installed_kafka
from tests.broker.docker_broker import DockerBroker, NoDocker

ADDRESS_VARIABLE = "HEADRACE_TEST_KAFKA"
REACH_S_MAX = 10.0
# Three nodes and the shared one live side by side.
HEAPS = {"shared": "768m", "own": "512m", "three": "384m"}

# In the new protocol these are the brokers' settings, and the dead are to be noticed as soon as in the classic one.
SOON = {"group.consumer.session.timeout.ms": "2000", "group.consumer.heartbeat.interval.ms": "500"}

# Brokers of tests do little and are often started: what a Java needs to be fast in the long run takes longer than a test.
QUICK_START = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")


class NoBroker(Exception):
    """Raised when this machine has nothing that could run a broker; says what was tried."""


class UnreachableBroker(Exception):
    """Raised when somebody named a broker that does not answer: no reason to skip anything."""


class SessionBrokers:
    """What runs for this session; also a plugin, for the hooks below."""

    _KEY = pytest.StashKey["SessionBrokers"]()

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._clusters: dict[str, Cluster] = {}
        self._docker: DockerBroker | None = None
        self._address: str | None = None
        # What went wrong once is told again at once, instead of being waited for again.
        self._failures: dict[str, Exception] = {}
        self._tried: list[str] = []
        self._skips: dict[str, None] = {}

    @classmethod
    def of(cls, config: pytest.Config) -> SessionBrokers:
        """Those of the session that *config* belongs to."""
        if cls._KEY not in config.stash:
            brokers = config.stash[cls._KEY] = cls()
            config.pluginmanager.register(brokers, "headrace-brokers")
            config.add_cleanup(brokers.close)
        return config.stash[cls._KEY]

    def shared(self) -> str:
        """The address of the broker that all tests share: from the environment, else of Docker, else of this machine."""
        if self._address is None:
            self._address = self._named() or self._in_docker() or self._started("shared", nodes=1).bootstrap
        return self._address

    def own(self) -> BrokerNode:
        """The node that tests may kill."""
        return self._started("own", nodes=1).nodes[0]

    def three(self) -> Cluster:
        """The nodes of which tests may kill one."""
        return self._started("three", nodes=3)

    def skipped(self, reason: str) -> None:
        """Keep *reason* for the end of the session."""
        self._skips[reason] = None

    def close(self) -> None:
        """End everything that was started here. Its data is thrown away, so nothing needs to be written before."""
        for cluster in self._clusters.values():
            cluster.close(gracefully=False)
        if self._docker is not None:
            self._docker.close()
        if self._folder is not None:
            shutil.rmtree(self._folder)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_teardown(self, nextitem: pytest.Item | None) -> None:
        """The next test finds every node running, whatever this one has done to it."""
        if nextitem is not None:
            for cluster in self._clusters.values():
                if any(node.is_paused or not node.is_running for node in cluster.nodes):
                    cluster.start()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """What was not tested must not look as if it had been."""
        if self._skips:
            terminalreporter.section("NO BROKER: tests that need one were skipped", sep="!", yellow=True, bold=True)
            for reason in self._skips:
                terminalreporter.write_line(reason)

    def _named(self) -> str | None:
        address = os.environ.get(ADDRESS_VARIABLE)
        if not address:
            return None
        host, _, port = address.split(",")[0].rpartition(":")
        try:
            brokers_at(host, int(port), REACH_S_MAX)
        except (OSError, ValueError) as error:
            raise UnreachableBroker(
                f"{ADDRESS_VARIABLE}={address}: no broker answers there ({error}); start it, or unset the variable"
            ) from error
        return address

    def _in_docker(self) -> str | None:
        if not self._tried:
            try:
                self._docker = DockerBroker()
            except NoDocker as error:
                self._tried.append(str(error))
        return self._docker.bootstrap if self._docker is not None else None

    def _started(self, name: str, nodes: int) -> Cluster:
        if name in self._failures:
            raise self._failures[name]
        if name not in self._clusters:
            try:
                self._clusters[name] = self._start(name, nodes)
            except (NoBroker, StoreError) as error:
                self._failures[name] = error
                raise
        return self._clusters[name]

    def _start(self, name: str, nodes: int) -> Cluster:
        try:
            program = installed_kafka(heap=HEAPS[name], options=QUICK_START)
        except StoreError as error:
            # What goes before Java counts for the shared broker only.
            tried = [f"{ADDRESS_VARIABLE} is not set", *self._tried] if name == "shared" else []
            raise NoBroker(f"no broker for tests: {'; '.join([*tried, str(error)])}") from error
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="headrace-brokers-"))
        cluster = Cluster(self._folder / name, program, nodes=nodes, settings=SOON)
        try:
            cluster.start()
        except BaseException:
            cluster.close(gracefully=False)
            raise
        return cluster
