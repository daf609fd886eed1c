"""All mistakes, in the order of the table."""

from __future__ import annotations

__all__ = ["CATALOGUE", "named"]

from . import commit, engine, ownership, records, restoring
from .mutant import Mutant

CATALOGUE: tuple[Mutant, ...] = (
    *commit.MUTANTS,
    *ownership.MUTANTS,
    *restoring.MUTANTS,
    *records.MUTANTS,
    *engine.MUTANTS,
)


def named(name: str) -> Mutant:
    """The mistake of this name."""
    return next(mutant for mutant in CATALOGUE if mutant.name == name)
