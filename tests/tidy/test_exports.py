"""What is public is said once, in ``__all__``, and has a docstring."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from conftest import Module

pytestmark = pytest.mark.tidy


def exports_of(tree: ast.Module) -> list[str] | None:
    """The literal value of ``__all__``, or None where there is no such literal."""
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            try:
                value = ast.literal_eval(node.value)
            except ValueError:
                return None
            return list(value)
    return None


def bound_names(tree: ast.AST) -> Iterator[str]:
    """Names that a module binds at its top level, in branches (``if TYPE_CHECKING``, ``try``) too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        else:
            yield from bound_names(node)


def violations(module: Module) -> Iterator[str]:
    if not ast.get_docstring(module.tree):
        yield f"{module.place}: a public module begins with its theory, in a docstring"
    exports = exports_of(module.tree)
    if exports is None:
        yield f"{module.place}: a public module says what it offers, in a literal __all__"
        return
    if len(exports) != len(set(exports)):
        yield f"{module.place}: __all__ names something twice"
    if unbound := sorted(set(exports) - set(bound_names(module.tree))):
        yield f"{module.place}: __all__ names what the module does not have: {', '.join(unbound)}"
    for node in module.tree.body:
        documented = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        if documented and node.name in exports and not ast.get_docstring(node):
            yield f"{module.place}:{node.lineno}: {node.name} is public and has no docstring"


def test_every_public_module_says_what_it_offers(modules: list[Module]) -> None:
    assert [line for module in modules if module.is_public for line in violations(module)] == []


def test_the_public_api_is_importable_and_unique() -> None:
    headrace = importlib.import_module("headrace")

    assert len(headrace.__all__) == len(set(headrace.__all__))
    assert [name for name in headrace.__all__ if not hasattr(headrace, name)] == []


def test_the_public_api_offers_only_what_a_module_of_the_engine_offers(modules: list[Module]) -> None:
    """``headrace`` re-exports; it defines nothing, and hands out nothing that its owner keeps to itself."""
    offered = {
        name
        for module in modules
        if module.package == "headrace" and module.name != "headrace"
        for name in exports_of(module.tree) or []
    }
    (public,) = (module for module in modules if module.name == "headrace")

    assert set(exports_of(public.tree) or []) - offered - {"__version__"} == set()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('__all__ = ["f"]\ndef f(): "Says what."', "begins with its theory"),
        ('"Theory."\ndef f(): "Says what."', "literal __all__"),
        ('"Theory."\n__all__ = [name for name in dir()]', "literal __all__"),
        ('"Theory."\n__all__ = ["f", "f"]\ndef f(): "Says what."', "twice"),
        ('"Theory."\n__all__ = ["f", "g"]\ndef f(): "Says what."', "does not have: g"),
        ('"Theory."\n__all__ = ["f"]\ndef f(): ...', "f is public and has no docstring"),
    ],
)
def test_what_is_missing_is_said(source: str, expected: str) -> None:
    (line,) = violations(MadeUp("made_up.py", ast.parse(source)))

    assert expected in line


def test_a_module_that_says_what_it_offers_passes() -> None:
    source = '"Theory."\n__all__ = ["X", "Y", "Z", "f"]\nfrom a import X\nY: int = 1\nif X:\n    Z = 2\ndef f(): "Says."'

    assert list(violations(MadeUp("made_up.py", ast.parse(source)))) == []


class MadeUp(NamedTuple):
    """Stands for a module that lies nowhere; these are the fields that the checks read."""

    place: str
    tree: ast.Module
