"""What tests of adapters share: each that asks for a *place* runs on every adapter; ``--adapter NAME`` chooses one."""

from __future__ import annotations

__all__ = ["_quiet_nodes", "app_name", "backend", "broker", "place", "pytest_generate_tests"]

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker.fixtures import app_name, broker
from tests.contract.places import PLACES, Place
from tests.scenarios.backends import BACKENDS, Backend


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    wanted = metafunc.config.getoption("adapter")
    if "place" in metafunc.fixturenames:
        file = metafunc.module.__name__.rpartition(".")[2]
        names = [name for name, kind in PLACES.items() if kind.files is None or file in kind.files]
        if wanted:
            names = [name for name in wanted if name in PLACES or name not in BACKENDS]
        places = [pytest.param(name, marks=PLACES[name].marks) for name in names]
        metafunc.parametrize("place", places, indirect=True)
    if "backend" in metafunc.fixturenames:
        known = [name for name in wanted if name in BACKENDS or name not in PLACES] if wanted else list(BACKENDS)
        metafunc.parametrize("backend", known, indirect=True)


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    kind = PLACES[request.param]
    opened = kind(tmp_path, *(request.getfixturevalue(name) for name in kind.fixtures))
    yield opened
    opened.close()


@pytest.fixture
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    """The records alone, for tests that drive the loop of a worker by hand."""
    opened = BACKENDS[request.param](tmp_path)
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def _quiet_nodes() -> Iterator[None]:
    """Nodes fail here on purpose, with a traceback each."""
    logger = logging.getLogger("headrace.node")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)
