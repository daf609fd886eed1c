"""What tests of adapters share: each that asks for a *place* runs on every adapter; ``--adapter NAME`` chooses one."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.places import PLACES, Place
from tests.scenarios.backends import BACKENDS, Backend


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for fixture, known in (("place", PLACES), ("backend", BACKENDS)):
        if fixture in metafunc.fixturenames:
            metafunc.parametrize(fixture, metafunc.config.getoption("adapter") or list(known), indirect=True)


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return PLACES[request.param](tmp_path)


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
