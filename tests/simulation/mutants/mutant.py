"""A mistake, as lines of the product that are other ones while it is planted.

A function is changed in place, by its code: whoever holds it, under whatever name, has the changed one, and so does an
instance that exists already. The files of the product are only read.
"""

from __future__ import annotations

__all__ = ["Change", "Mutant", "planted"]

import __future__

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from textwrap import dedent
from types import CodeType, FunctionType
from typing import Any, NamedTuple


class Change(NamedTuple):
    """In the text of *function*, *after* stands where *before* stood.

    Both are one or more lines, or parts of one line; what follows the first line is indented as that is.
    """

    function: Callable[..., Any]
    before: str
    after: str


class Mutant(NamedTuple):
    """One mistake: its *name*, *what* is wrong in one sentence, and how it is made."""

    name: str
    what: str
    changes: tuple[Change, ...]

    def __str__(self) -> str:
        return self.name


@contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """The product with the mistake in it."""
    made = _codes(mutant)
    before = {function: function.__code__ for function in made}
    try:
        for function, code in made.items():
            function.__code__ = code
        yield
    finally:
        for function, code in before.items():
            function.__code__ = code


@cache
def _codes(mutant: Mutant) -> dict[FunctionType, CodeType]:
    """The functions that are changed, with their new codes."""
    return {function: _compiled(function, text) for function, text in _texts(mutant).items()}


def _texts(mutant: Mutant) -> dict[FunctionType, str]:
    """The functions that are changed, with their new texts."""
    texts: dict[FunctionType, str] = {}
    for change in mutant.changes:
        function = inspect.unwrap(change.function)
        assert isinstance(function, FunctionType), f"{mutant}: {change.function} has no text"
        text = texts.get(function) or dedent(inspect.getsource(function))
        texts[function] = _replaced(text, change, mutant)
    return texts


def _replaced(text: str, change: Change, mutant: Mutant) -> str:
    first = change.before.partition("\n")[0]
    found: dict[str, str] = {}
    for line in text.splitlines():
        if first in line:
            indent = "\n" + line[: len(line) - len(line.lstrip())]
            found[change.before.replace("\n", indent)] = change.after.replace("\n", indent)
    times = sum(text.count(before) for before in found)
    assert times == 1, f"{mutant}: {change.before!r} stands {times} times in {change.function.__qualname__}"
    for before, after in found.items():
        text = text.replace(before, after)
    return text


def _compiled(function: FunctionType, text: str) -> CodeType:
    before = function.__code__
    lines = "\n" * (before.co_firstlineno - 1) + text
    flags = __future__.annotations.compiler_flag
    module = compile(lines, f"{before.co_filename} (mutant)", "exec", flags, dont_inherit=True)
    code = next(it for it in module.co_consts if isinstance(it, CodeType) and it.co_name == before.co_name)
    return code.replace(co_qualname=before.co_qualname)
