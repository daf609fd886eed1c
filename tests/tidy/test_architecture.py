"""The arrows adapters -> topics -> engine, what the core may import, and each technology in one place.

Every import statement counts, those inside functions and under TYPE_CHECKING too: a type that leaks is a dependency.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from conftest import Module

pytestmark = pytest.mark.tidy

MAY_IMPORT_OF_US = {
    "headrace": {"headrace"},
    "headrace_topics": {"headrace", "headrace_topics"},
    "headrace_adapters": {"headrace", "headrace_topics", "headrace_adapters"},
}

# What the core may use of the standard library: no clock, socket, thread, file, logger or random source is in it.
PURE = {
    "__future__",
    "abc",
    "base64",
    "binascii",
    "bisect",
    "collections",
    "copy",
    "dataclasses",
    "decimal",
    "difflib",
    "enum",
    "fractions",
    "functools",
    "graphlib",
    "hashlib",
    "heapq",
    "itertools",
    "json",
    "keyword",
    "math",
    "numbers",
    "operator",
    "re",
    "string",
    "struct",
    "textwrap",
    "types",
    "typing",
    "unicodedata",
    "zlib",
}

# The public API stands between users and the core, so these modules of the engine may use more, each for one reason.
# The core never imports them (``__init__`` re-exports them), so what they use does not reach it.
SHELL = {
    "headrace": set(),  # re-exports the public API
    "headrace.adapter": set(),  # hands many starts to ``bulk``
    "headrace.app": {
        "asyncio",  # handles are awaited
        "importlib",  # adapters are found by entry point
        "contextlib",  # connections are entered and left
        "os",  # HEADRACE_URL
    },
    "headrace.builder": {
        "datetime",  # durations may be given as a timedelta
    },
    "headrace.bulk": {
        "asyncio",  # many starts are under way at once
    },
    "headrace.connection": {
        "os",  # random bytes for the ids of runs
    },
    "headrace.options": {
        "datetime",  # the same
    },
    "headrace.context": {
        "logging",  # ``ctx.log``
    },
    "headrace.invoke": {
        "asyncio",  # calls async nodes
        "inspect",  # tells what a node function gave back
        "logging",  # errors of ``recover`` are logged and swallowed
        "threading",  # an interrupt of the main thread is the operator's
    },
    "headrace.node": set(),  # knows the context
    "headrace.registry": {
        "inspect",  # tells functions from classes, async from plain, and what they take
    },
    "headrace.sync": {
        "asyncio",  # an event loop for programs that have none,
        "threading",  # in a thread of its own
        "concurrent",  # whose answers are waited for
        "contextlib",  # connections are entered and left
    },
}

# What single modules of the core may use besides, as values only (a call that reads the clock is refused below).
LENT = {
    "headrace.expressions": {
        "datetime",  # CEL's timestamps and durations are such values
    },
}

# The only builtins that reach outside without an import.
IMPURE_BUILTINS = {"__import__", "breakpoint", "eval", "exec", "input", "open", "print"}

CLOCK_READERS = {"now", "today", "utcnow"}

# Where a module that is not of the standard library may be imported: names of modules, whose sub-modules are included.
HOMES = {
    "aiokafka": {"headrace_adapters.faust"},
    "cel": {"headrace.expressions"},
    "confluent_kafka": {"headrace_adapters.kafka"},
    "faust": {"headrace_adapters.faust"},
    "httpx": {"headrace_adapters.http"},
    "orjson": {"headrace.values", "headrace_topics", "headrace_adapters"},
    "prometheus_client": {"headrace_adapters.metrics"},
    "pydantic": {"headrace_adapters"},
    "pydantic_settings": {"headrace_adapters"},
    "rich": {"headrace_adapters.cli"},
    "rocksdict": {"headrace_adapters.rocks"},
    "starlette": {"headrace_adapters.http"},
    "typer": {"headrace_adapters.cli"},
    "uvicorn": {"headrace_adapters.http"},
}


class Import(NamedTuple):
    """One import statement: *target* is the module as it is written, *names* what is taken from it."""

    line: int
    target: str
    names: tuple[str, ...]

    @property
    def top(self) -> str:
        return self.target.partition(".")[0]


def imports_of(tree: ast.AST) -> Iterator[Import]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name, ())
        elif isinstance(node, ast.ImportFrom):
            target = "." * node.level + (node.module or "")
            yield Import(node.lineno, target, tuple(alias.name for alias in node.names))


def is_within(name: str, homes: set[str]) -> bool:
    return any(name == home or name.startswith(home + ".") for home in homes)


def is_core(module: Module) -> bool:
    return module.package == "headrace" and module.name not in SHELL


def violations_of_arrows(module: Module) -> Iterator[str]:
    for found in imports_of(module.tree):
        if found.target.startswith("."):
            yield f"{module.place}:{found.line}: a relative import; write the whole name of the module"
        elif found.top in MAY_IMPORT_OF_US and found.top not in MAY_IMPORT_OF_US[module.package]:
            yield f"{module.place}:{found.line}: {module.package} must not know {found.top}"


def violations_of_homes(module: Module) -> Iterator[str]:
    for found in imports_of(module.tree):
        if found.target.startswith(".") or found.top in MAY_IMPORT_OF_US or found.top in sys.stdlib_module_names:
            continue
        homes = HOMES.get(found.top)
        if homes is None:
            yield f"{module.place}:{found.line}: {found.top} has no home yet; decide for one and add it to HOMES"
        elif not is_within(module.name, homes):
            yield f"{module.place}:{found.line}: {found.top} belongs into {', '.join(sorted(homes))} only"


def violations_of_purity(module: Module, engine: set[str]) -> Iterator[str]:
    """*engine* names its modules, so that ``from headrace import routing`` is told from a use of the public API."""
    allowed = PURE | SHELL.get(module.name, set()) | LENT.get(module.name, set())
    for found in imports_of(module.tree):
        if found.top in sys.stdlib_module_names and found.top not in allowed:
            yield (
                f"{module.place}:{found.line}: the engine has no IO, clock, thread, logger or random source, and "
                f"{found.top} is not known to be free of them (PURE, SHELL and LENT in this test)"
            )
        # ``from headrace import app`` names a module of the shell as well as ``import headrace.app`` does.
        reached = {found.target, *(f"{found.target}.{name}" for name in found.names)}
        if is_core(module) and (shell := reached & SHELL.keys() - {"headrace"}):
            yield f"{module.place}:{found.line}: the core must not know {min(shell)}, which may do more than the core"
        if is_core(module) and found.target == "headrace" and not (found.names and reached <= engine):
            yield f"{module.place}:{found.line}: import from the module that owns the name, not from the public API"
    for node in ast.walk(module.tree):
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Name) and called.id in IMPURE_BUILTINS:
            yield f"{module.place}:{called.lineno}: {called.id}() reaches outside of the engine"
        if isinstance(called, ast.Attribute) and called.attr in CLOCK_READERS:
            yield f"{module.place}:{called.lineno}: {called.attr}() reads a clock; time comes in as now_ms"


def test_arrows_point_from_adapters_to_topics_to_engine(modules: list[Module]) -> None:
    assert [line for module in modules for line in violations_of_arrows(module)] == []


def test_the_engine_reaches_for_nothing_outside(modules: list[Module]) -> None:
    engine = {module.name: module for module in modules if module.package == "headrace"}

    assert [line for module in engine.values() for line in violations_of_purity(module, {*engine})] == []


def test_each_technology_is_imported_in_one_place(modules: list[Module]) -> None:
    assert [line for module in modules for line in violations_of_homes(module)] == []


def test_permissions_of_the_engine_are_used(modules: list[Module]) -> None:
    """A renamed module, or an import that went, must not leave its permission behind."""
    tops = {module.name: {found.top for found in imports_of(module.tree)} for module in modules}
    unused = [
        f"{name}: {', '.join(sorted(granted - tops[name]))}" if name in tops else f"{name} does not exist"
        for name, granted in [*SHELL.items(), *LENT.items()]
        if name not in tops or granted - tops[name]
    ]

    assert unused == []


ENGINE = {"headrace", "headrace.app", "headrace.state"}


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        ("headrace.decide", "import headrace_topics.codec", "must not know headrace_topics"),
        ("headrace.decide", "def f():\n    from headrace_adapters import memory", "must not know headrace_adapters"),
        ("headrace_topics.codec", "import headrace_adapters", "must not know headrace_adapters"),
        ("headrace.decide", "from .state import X", "relative import"),
        ("headrace.decide", "import time", "time is not known"),
        ("headrace.decide", "import os.path", "os is not known"),
        ("headrace.decide", "def f():\n    import random", "random is not known"),
        ("headrace.decide", "from headrace.app import App", "must not know headrace.app"),
        ("headrace.decide", "from headrace import App", "not from the public API"),
        ("headrace.decide", "import headrace", "not from the public API"),
        ("headrace.decide", "from headrace import app", "must not know headrace.app"),
        ("headrace.decide", "open('x')", "open() reaches outside"),
        ("headrace.decide", "import datetime", "datetime is not known"),
        ("headrace.expressions", "import datetime\ndatetime.datetime.now()", "now() reads a clock"),
        ("headrace.app", "import socket", "socket is not known"),
        ("headrace.decide", "import orjson", "orjson belongs"),
        ("headrace_adapters.embedded.store", "import rocksdict", "rocksdict belongs"),
        ("headrace_adapters.kafkaesque", "from confluent_kafka import Producer", "confluent_kafka belongs"),
        ("headrace_adapters.http.page", "import requests", "requests has no home"),
    ],
)
def test_a_violation_is_seen(name: str, source: str, expected: str) -> None:
    module = made_up(name, source)

    found = [*violations_of_arrows(module), *violations_of_purity(module, ENGINE), *violations_of_homes(module)]

    assert any(expected in line for line in found), found


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("headrace.decide", "from headrace.state import X\nimport typing"),
        ("headrace.decide", "from headrace import state"),
        ("headrace.values", "import orjson"),
        ("headrace.expressions", "import cel\nimport datetime"),
        ("headrace.app", "import asyncio"),
        ("headrace", "from headrace.app import App"),
        ("headrace_topics.codec", "import orjson\nfrom headrace.values import Json"),
        ("headrace_adapters.rocks.store", "import rocksdict\nfrom headrace_topics import codec"),
    ],
)
def test_what_is_allowed_passes(name: str, source: str) -> None:
    module = made_up(name, source)
    found = [*violations_of_arrows(module), *violations_of_homes(module)]
    if module.package == "headrace":
        found += violations_of_purity(module, ENGINE)

    assert found == []


class MadeUp(NamedTuple):
    """Stands for a module that lies nowhere; these are the fields that the checks read."""

    name: str
    package: str
    place: str
    tree: ast.Module


def made_up(name: str, source: str) -> MadeUp:
    return MadeUp(name, name.partition(".")[0], f"{name}.py", ast.parse(source))
