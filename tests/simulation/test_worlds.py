"""Worlds of fresh seeds, or of those that were asked for; ``README.md`` says how to ask."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .running import KINDS, Kind


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_nothing_is_lost_doubled_or_stuck_in_any_world(kind: Kind, run_worlds: Callable[[Kind], None]) -> None:
    run_worlds(kind)
