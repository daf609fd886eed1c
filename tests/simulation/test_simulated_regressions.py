"""Worlds in which the product once failed do well."""

from __future__ import annotations

import pytest

from .regressions import REGRESSIONS, Regression
from .running import bounded, silent
from .world import run_plan


@pytest.mark.parametrize("regression", REGRESSIONS, ids=lambda regression: regression.name.replace(" ", "_"))
def test_what_a_world_once_found_is_not_found_again(regression: Regression) -> None:
    with silent(), bounded():
        run_plan(regression.plan)
