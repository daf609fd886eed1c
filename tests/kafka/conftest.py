"""Fixtures of the tests on a real broker; the brokers themselves are those of ``tests/broker``."""

from __future__ import annotations

import logging
import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace_adapters.cli.main import main
from headrace_adapters.settings import Settings
from tests.broker.fixtures import app_name, broker, cluster, own_broker
from tests.kafka.endings import Typed
from tests.kafka.load import Load
from tests.kafka.workers import Workers
from tests.process.saying import say

__all__ = ["app_name", "broker", "cluster", "own_broker", "say"]

RUNS_VARIABLE = "HEADRACE_FAULTS_RUNS"
TIMES_VARIABLE = "HEADRACE_FAULTS_TIMES"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Faults come at random moments: by hand they are repeated as often as the environment says."""
    if "turn" in metafunc.fixturenames:
        metafunc.parametrize("turn", range(int(os.environ.get(TIMES_VARIABLE, "1"))))


@pytest.fixture(autouse=True)
def _quiet_nodes() -> Iterator[None]:
    """Nodes that fail on purpose would bury what a worker says."""
    logger = logging.getLogger("headrace.node")
    before, logger.level = logger.level, logging.CRITICAL
    yield
    logger.level = before


@pytest.fixture
def runs() -> Callable[[int], int]:
    """How many runs a test of faults starts: its own bounded number, or what the environment says."""
    return lambda usual: int(os.environ.get(RUNS_VARIABLE, str(usual)))


@pytest.fixture
def make_workers(tmp_path: Path) -> Iterator[Callable[..., Workers]]:
    """``make_workers(app, servers, **settings)``; none is left when the test ends."""
    made: list[Workers] = []

    def make(app: str, servers: str, **settings: Any) -> Workers:
        workers = Workers(tmp_path, app, servers, **settings)
        made.append(workers)
        return workers

    yield make
    for workers in made:
        workers.close()


@pytest.fixture
def make_load(seed: int, runs: Callable[[int], int]) -> Iterator[Callable[..., Load]]:
    """``make_load(workers, runs)``; its clients end with the test."""
    made: list[Load] = []

    def make(workers: Workers, number: int, turn: int = 0, **options: Any) -> Load:
        load = Load(workers.servers, workers.app, random.Random(seed + turn), runs(number), **options)
        made.append(load)
        return load

    yield make
    for load in made:
        load.close()


@pytest.fixture
def make_typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[[str, str, str], Typed]:
    """``make_typed("topics", url, app)`` runs commands of that group as somebody types them, in a folder of its own."""

    def make(group: str, url: str, app: str) -> Typed:
        for name in Settings.model_fields:
            monkeypatch.delenv(f"HEADRACE_{name.upper()}", raising=False)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HEADRACE_URL", url)
        monkeypatch.setenv("HEADRACE_APP", app)

        def typed(*arguments: str) -> tuple[int, str, str]:
            monkeypatch.setattr(sys, "argv", ["headrace", group, *arguments])
            with pytest.raises(SystemExit) as caught:
                main()
            return int(caught.value.code or 0), *capsys.readouterr()

        return typed

    return make
