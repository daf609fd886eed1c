"""Making a plan that fails smaller, as long as what is left still fails."""

from __future__ import annotations

__all__ = ["shrink"]

from collections.abc import Callable, Iterator
from typing import TypeVar

PlanT = TypeVar("PlanT")


def shrink(
    plan: PlanT, smaller: Callable[[PlanT], Iterator[PlanT]], fails: Callable[[PlanT], bool], tries: int = 300
) -> PlanT:
    """The smallest plan that was found to fail within so many *tries*; *smaller* gives those to try, large steps first."""
    found = True
    while found:
        found = False
        for candidate in smaller(plan):
            tries -= 1
            if tries < 0:
                return plan
            if fails(candidate):
                plan, found = candidate, True
                break
    return plan
