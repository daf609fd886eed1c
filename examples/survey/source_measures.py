"""What can be said about the text of one Python file, by the standard library's ``ast``.

*lines*: as ``wc -l`` counts them (and a last line without an end of its own). *functions*: every ``def``, methods and
functions within functions too; *classes* likewise. The length of a function: from the line with ``def`` to its last one,
docstring and comments included, decorators not. *complexity*: an estimate after McCabe, one for a function and one more
for each point where it may go another way (if, for, while, except, case, and, or, a conditional expression, each part of
a comprehension); what stands in a function within counts for that one only. *imports*: modules by their first name.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from typing import Any

Function = ast.FunctionDef | ast.AsyncFunctionDef
BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.match_case)
NO_FUNCTION = {"name": None, "line": 0, "lines": 0}


def measure(text: str, name: str, limit_lines: int) -> dict[str, Any]:
    """The measures of *text*; raises SyntaxError or ValueError, naming *name*, where it is no Python."""
    tree = ast.parse(text, name)
    functions = [_function(qualified, node) for qualified, node in functions_of(tree)]
    return {
        "lines": text.count("\n") + (text != "" and not text.endswith("\n")),
        "functions": len(functions),
        "classes": sum(isinstance(node, ast.ClassDef) for node in ast.walk(tree)),
        "longest": max(functions, key=lambda it: (it["lines"], -it["line"]), default=NO_FUNCTION),
        "complexity": max((it["complexity"] for it in functions), default=0),
        "imports": sorted(set(imports_of(tree))),
        "long": [function for function in functions if function["lines"] > limit_lines],
    }


def totals(measures: list[dict[str, Any]]) -> dict[str, Any]:
    """Sums over files, the longest function of all, and how many files import each module."""
    imported = Counter(module for it in measures for module in it["imports"])
    return {
        "files": len(measures),
        "lines": sum(it["lines"] for it in measures),
        "functions": sum(it["functions"] for it in measures),
        "classes": sum(it["classes"] for it in measures),
        "longest": max((it["longest"]["lines"] for it in measures), default=0),
        "complexity": max((it["complexity"] for it in measures), default=0),
        "imports": dict(sorted(imported.items(), key=lambda pair: (-pair[1], pair[0]))[:10]),
    }


def functions_of(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function]]:
    """Every function below *tree* with its name as Python would qualify it, in the order of the file."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function | ast.ClassDef):
            if isinstance(node, Function):
                yield prefix + node.name, node
            yield from functions_of(node, f"{prefix}{node.name}.")
        else:
            yield from functions_of(node, prefix)


def imports_of(tree: ast.AST) -> Iterator[str]:
    """The first names of all modules that are imported; those of the same package, by dots, are left out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def complexity_of(node: ast.AST) -> int:
    """One more than the points where *node* may go another way."""
    return 1 + sum(_branches(child) for child in ast.iter_child_nodes(node))


def _branches(node: ast.AST) -> int:
    if isinstance(node, Function | ast.ClassDef):
        return 0
    here = 0
    if isinstance(node, BRANCHES):
        here = 1
    elif isinstance(node, ast.BoolOp):
        here = len(node.values) - 1
    elif isinstance(node, ast.comprehension):
        here = 1 + len(node.ifs)
    return here + sum(_branches(child) for child in ast.iter_child_nodes(node))


def _function(qualified: str, node: Function) -> dict[str, Any]:
    last = node.end_lineno or node.lineno
    return {
        "name": qualified,
        "line": node.lineno,
        "lines": last - node.lineno + 1,
        "complexity": complexity_of(node),
    }
