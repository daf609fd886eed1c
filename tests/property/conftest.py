"""Random flows fail by the thousand on purpose: what a worker would log of it is not worth its time."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def _quiet_nodes() -> Iterator[None]:
    logger = logging.getLogger("headrace.node")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)
