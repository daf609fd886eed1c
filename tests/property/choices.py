"""Who decides what a generator leaves open: hypothesis, which makes a failing flow smaller, or a seed, which is fast."""

from __future__ import annotations

__all__ = ["Choices", "Draw", "DrawnChoices", "RandomChoices"]

import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from hypothesis import strategies as st

T = TypeVar("T")

Draw = Callable[[st.SearchStrategy[Any]], Any]


class Choices(Protocol):
    """What a generator asks. The first of several options, the least number and "no" are the simple choices."""

    def chance(self, percent: int) -> bool:
        """Yes in *percent* of all cases."""

    def one_of(self, options: Sequence[T]) -> T:
        """One of these."""

    def number(self, least: int, most: int) -> int:
        """A whole number, both ends included."""

    def some(self, options: Sequence[T], least: int, most: int) -> list[T]:
        """Some of these, each perhaps more than once; at least and at most so many."""


class DrawnChoices:
    """Choices of hypothesis."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw

    def chance(self, percent: int) -> bool:
        # The simple choice, to which hypothesis shrinks, is "no".
        return bool(self._draw(st.integers(0, 99)) >= 100 - percent)

    def one_of(self, options: Sequence[T]) -> T:
        chosen: T = self._draw(st.sampled_from(options))
        return chosen

    def number(self, least: int, most: int) -> int:
        return int(self._draw(st.integers(least, most)))

    def some(self, options: Sequence[T], least: int, most: int) -> list[T]:
        return list(self._draw(st.lists(st.sampled_from(options), min_size=least, max_size=most)))


class RandomChoices:
    """Choices of a generator of random numbers."""

    __slots__ = ("_random",)

    def __init__(self, draw: random.Random) -> None:
        self._random = draw.random

    def chance(self, percent: int) -> bool:
        return self._random() * 100 < percent

    def one_of(self, options: Sequence[T]) -> T:
        return options[int(self._random() * len(options))]

    def number(self, least: int, most: int) -> int:
        return least + int(self._random() * (most - least + 1))

    def some(self, options: Sequence[T], least: int, most: int) -> list[T]:
        return [self.one_of(options) for _ in range(self.number(least, most))]
