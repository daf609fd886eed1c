"""Modules and functions stay small enough to be read whole.

What counts is code: blank lines, comments and docstrings are free, so that nobody saves on explanations.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Module

pytestmark = pytest.mark.tidy

MODULE_LINES_MAX = 300
FUNCTION_LINES_MAX = 60

# A ratchet: what is longer and stays so for a reason, with its length today. It may shrink, and never grow.
LONGER_MODULES: dict[str, int] = {}
LONGER_FUNCTIONS: dict[str, int] = {}

NOT_CODE = {
    tokenize.COMMENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
    tokenize.INDENT,
    tokenize.NEWLINE,
    tokenize.NL,
}


def code_lines(text: str) -> set[int]:
    """The numbers of the lines that hold code."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in NOT_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        # A string that stands alone is a docstring, of an attribute too.
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


def functions_of(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in ast.iter_child_nodes(tree):
        named = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        name = f"{prefix}{node.name}" if named else prefix
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield name, node
        yield from functions_of(node, f"{name}." if named else prefix)


def function_sizes(text: str) -> Iterator[tuple[str, int]]:
    lines = code_lines(text)
    for name, node in functions_of(ast.parse(text)):
        yield name, len(lines & {*range(node.lineno, (node.end_lineno or node.lineno) + 1)})


def verdicts(sizes: dict[str, int], lines_max: int, longer: dict[str, int]) -> list[str]:
    """What is too long, and what the ratchet allows although it need not any more."""
    found = [
        f"{name} has {size} lines of code, at most {longer.get(name, lines_max)}: split it by its nouns or its steps"
        for name, size in sizes.items()
        if size > longer.get(name, lines_max)
    ]
    for name, allowed in longer.items():
        size = sizes.get(name, 0)
        if size < allowed:
            found.append(f"{name} has {size} lines now: write that into the ratchet, or take it out")
    return found


def test_modules_are_short(modules: list[Module]) -> None:
    sizes = {module.place: len(code_lines(module.text)) for module in modules}

    assert verdicts(sizes, MODULE_LINES_MAX, LONGER_MODULES) == []


def test_functions_fit_a_screen(modules: list[Module]) -> None:
    sizes = {f"{module.place}:{name}": size for module in modules for name, size in function_sizes(module.text)}

    assert verdicts(sizes, FUNCTION_LINES_MAX, LONGER_FUNCTIONS) == []


SAMPLE = '''"""Docstring
of two lines."""

# A comment.
x = """text
in a value"""

class C:
    """Docstring."""

    def f(self):
        """Docstring."""

        # A comment.
        return (
            1,
        )
'''


def test_only_code_is_counted() -> None:
    assert code_lines(SAMPLE) == {5, 6, 8, 11, 15, 16, 17}
    assert list(function_sizes(SAMPLE)) == [("C.f", 4)]


def test_the_ratchet_goes_one_way() -> None:
    assert verdicts({"a": 10}, 10, {}) == []
    assert "at most 10" in verdicts({"a": 11}, 10, {})[0]
    assert verdicts({"a": 12}, 10, {"a": 12}) == []
    assert "at most 12" in verdicts({"a": 13}, 10, {"a": 12})[0]
    assert "has 11 lines now" in verdicts({"a": 11}, 10, {"a": 12})[0]
    assert "has 0 lines now" in verdicts({}, 10, {"gone": 12})[0]
