"""A world in which the product once failed: the smallest plan that showed it, and the seed that found it."""

from __future__ import annotations

__all__ = ["Regression"]

from typing import NamedTuple

from tests.simulation.plan import Plan


class Regression(NamedTuple):
    """*name* says what went wrong. *seed* is that of the world as seeds were read then."""

    name: str
    seed: int
    plan: Plan
