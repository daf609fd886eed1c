"""Mistakes that are planted in the product, one by one: each of them is found by a world. ``README.md`` has the table."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

import pytest

from .mutants.catalogue import CATALOGUE
from .mutants.hunt import SEEDS, hunt, sort_of
from .mutants.mutant import Mutant, planted


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "hunted" in metafunc.fixturenames:
        # It takes an hour.
        metafunc.parametrize("hunted", CATALOGUE if metafunc.config.option.mutants else (), ids=str)


def _codes(mutant: Mutant) -> list[Any]:
    functions = [change.function for change in mutant.changes]
    return [function.__code__ for function in functions if isinstance(function, FunctionType)]


@pytest.mark.parametrize("mutant", CATALOGUE, ids=str)
def test_a_mistake_can_be_planted_and_leaves_nothing_behind(mutant: Mutant) -> None:
    before = _codes(mutant)
    with planted(mutant):
        during = _codes(mutant)

    assert len(before) == len(mutant.changes)
    assert all(code is not other for code, other in zip(before, during, strict=True))
    assert _codes(mutant) == before


def test_every_mistake_has_a_name_and_a_sentence_of_its_own() -> None:
    assert len({mutant.name for mutant in CATALOGUE}) == len(CATALOGUE)
    assert len({mutant.what for mutant in CATALOGUE}) == len(CATALOGUE)
    assert all(mutant.what.endswith(".") for mutant in CATALOGUE)


@pytest.mark.slow
def test_a_mistake_is_found_by_one_of_the_first_worlds(
    hunted: Mutant, request: pytest.FixtureRequest, say: Callable[[str], None]
) -> None:
    found = hunt(hunted.name, SEEDS, request.config.option.jobs)
    assert found.failure is not None, f"{hunted}: none of {found.worlds} worlds has found it: {hunted.what}"
    say(f"{hunted}: seed {found.failure.seed}, {found.seconds:.1f} s, {sort_of(found.failure)}")
