"""The collector of a worker's process."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from headrace_adapters.cli.collector import THRESHOLDS, settle_collector


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


def test_what_was_loaded_before_the_work_is_not_looked_through_again() -> None:
    settle_collector()

    assert gc.get_freeze_count() > 1_000
    assert gc.get_threshold() == THRESHOLDS
    assert gc.isenabled(), "what users' nodes leave behind is still collected"
