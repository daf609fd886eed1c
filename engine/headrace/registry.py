"""Implementations by key: what ``uses`` of a blueprint's node stands for in this process.

A key is a name that is the same in every process and over every restart, because runs outlive both. What stands
behind it may change with a new release; that a key means two things at once is refused.
"""

from __future__ import annotations

__all__ = ["Implementation", "Kind", "Registry"]

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from headrace.blueprint import BUILT_IN_USES
from headrace.errors import DefinitionError
from headrace.node import Node

Kind = Literal["async", "sync", "process"]
"""Where an implementation runs: in an asyncio loop, in a thread, or in a process of its own."""

_LIFE_CYCLE = ("prep", "exec", "fallback", "post", "recover")


class Implementation:
    """One function or class node, looked at once so that running it needs no further looking.

    *target* is the function or the class, *is_class* which of the two, *takes_context* whether the function wants an
    argument, and *source* names it for messages (``module.qualname``).
    """

    __slots__ = ("is_class", "key", "kind", "source", "takes_context", "target")

    def __init__(self, key: str, target: Callable[..., Any], *, cpu_bound: bool = False) -> None:
        """Raises :class:`~headrace.errors.DefinitionError` when *target* cannot be a node."""
        self.key = key
        self.target = target
        self.source = f"{getattr(target, '__module__', '?')}.{getattr(target, '__qualname__', repr(target))}"
        self.is_class = isinstance(target, type)
        self.takes_context = _check_class(key, target) if isinstance(target, type) else _takes_context(key, target)
        self.kind: Kind = "async" if _is_async(target) else "sync"
        if cpu_bound:
            self._check_cpu_bound()
            self.kind = "process"

    def _check_cpu_bound(self) -> None:
        if self.kind == "async":
            raise DefinitionError(f"node {self.key!r} is async and cpu_bound: write it as a plain function")
        name = getattr(self.target, "__qualname__", "<")
        if "<" in name:
            raise DefinitionError(
                f"node {self.key!r} is cpu_bound, so another process has to import it, and {self.source} cannot be "
                "imported: define it at the top level of a module"
            )

    def __repr__(self) -> str:
        return f"<Implementation {self.key!r}: {self.kind} {self.source}>"


class Registry:
    """Implementations by key; keys are added, never replaced."""

    __slots__ = ("_by_key",)

    def __init__(self) -> None:
        self._by_key: dict[str, Implementation] = {}

    @classmethod
    def of(cls, implementations: Mapping[str, Callable[..., Any]] | Registry) -> Registry:
        """A registry of functions and classes by key; one that is a registry already is given back."""
        if isinstance(implementations, Registry):
            return implementations
        registry = cls()
        for key, target in implementations.items():
            registry.add(key, target)
        return registry

    def add(self, key: str, target: Callable[..., Any], *, cpu_bound: bool = False) -> Implementation:
        """Register *target*, a function of no or one argument or a class node, under *key*.

        A *cpu_bound* one, which must be a plain function or class at the top level of a module, runs in a process of
        its own where the worker has any. Adding the same thing again changes nothing. Raises
        :class:`~headrace.errors.DefinitionError` when *target* cannot be a node or *key* means something else.
        """
        if not isinstance(key, str):
            raise DefinitionError(f"the key of an implementation is a text, not {key!r}")
        if not key:
            raise DefinitionError(f"the key of {target!r} is empty: give it a name")
        if key in BUILT_IN_USES:
            raise DefinitionError(f"{key!r} is a node of the engine's own: register {target!r} under another key")
        return self._put(Implementation(key, target, cpu_bound=cpu_bound))

    def merge(self, other: Registry) -> None:
        """Add all that *other* holds. Raises :class:`~headrace.errors.DefinitionError` where a key differs."""
        for implementation in other:
            self._put(implementation)

    def get(self, key: str) -> Implementation | None:
        """What is registered under *key*, or None."""
        return self._by_key.get(key)

    def keys(self) -> tuple[str, ...]:
        """All keys, in the order in which they were added."""
        return tuple(self._by_key)

    def __contains__(self, key: object) -> bool:
        return key in self._by_key

    def __iter__(self) -> Iterator[Implementation]:
        return iter(tuple(self._by_key.values()))

    def __len__(self) -> int:
        return len(self._by_key)

    def _put(self, new: Implementation) -> Implementation:
        old = self._by_key.setdefault(new.key, new)
        if old.target != new.target or old.kind != new.kind:
            raise DefinitionError(
                f"key {new.key!r} stands for {old.source} ({old.kind}) already and cannot stand for {new.source} "
                f"({new.kind}) too: give one of the two another key, with uses=... in a flow or as the first argument "
                "of register"
            )
        return old


def _is_async(target: Callable[..., Any]) -> bool:
    if isinstance(target, type):
        return any(inspect.iscoroutinefunction(getattr(target, name)) for name in _LIFE_CYCLE)
    if inspect.iscoroutinefunction(target):
        return True
    return inspect.iscoroutinefunction(getattr(target, "__call__", None))  # noqa: B004 - the method itself is looked at


def _check_class(key: str, target: type) -> bool:
    """Refuse what cannot be instantiated as a class node; a class node's methods always take the context."""
    if not issubclass(target, Node):
        raise DefinitionError(f"node {key!r}: class {target.__qualname__} is no node: derive it from headrace.Node")
    for parameter in inspect.signature(target).parameters.values():
        if parameter.default is parameter.empty and parameter.kind in _NAMED:
            raise DefinitionError(
                f"node {key!r}: {target.__qualname__} is made without arguments, but wants {parameter.name!r}: "
                "pass it through params or dependencies"
            )
    return True


_NAMED = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.KEYWORD_ONLY,
)


def _takes_context(key: str, target: Callable[..., Any]) -> bool:
    """Whether *target* is to be called with the context; refuses what can be called neither with nor without it."""
    if isinstance(target, Node):
        raise DefinitionError(f"node {key!r}: give the class {type(target).__name__} itself, not an object of it")
    if not callable(target):
        raise DefinitionError(f"node {key!r}: {target!r} cannot be called: give a function or a class node")
    if inspect.isasyncgenfunction(target) or inspect.isgeneratorfunction(target):
        raise DefinitionError(f"node {key!r}: a function that yields cannot be a node: return one value")
    try:
        parameters = inspect.signature(target).parameters.values()
    except ValueError:
        return True  # Written in C without a signature; a call will tell.
    needed = [p for p in parameters if p.default is p.empty and p.kind in _NAMED]
    if len(needed) > 1 or any(p.kind is p.KEYWORD_ONLY for p in needed):
        names = ", ".join(p.name for p in needed)
        raise DefinitionError(
            f"node {key!r}: a node takes no argument or one, the context, but this one wants ({names}): "
            "read the others from ctx.params or ctx.dependencies"
        )
    if needed or any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return True
    # `lambda i=i: i` is how a loop makes functions; only a parameter that is named like one gets the context.
    return any(p.name in {"ctx", "context"} and p.kind is not p.KEYWORD_ONLY for p in parameters)
