from __future__ import annotations

import functools
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from headrace.blueprint import BUILT_IN_USES
from headrace.context import Context
from headrace.errors import DefinitionError
from headrace.node import Node
from headrace.registry import Implementation, Registry


def plain(ctx: Context) -> int:
    return ctx.attempt


async def asynchronous(ctx: Context) -> int:
    return ctx.attempt


class PlainNode(Node):
    pass


class AsyncNode(Node):
    async def recover(self, ctx: Context, error: BaseException) -> None:
        pass


class AsyncCallable:
    async def __call__(self, ctx: Context) -> None:
        pass


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        (plain, "sync"),
        (asynchronous, "async"),
        (functools.partial(asynchronous), "async"),
        (PlainNode, "sync"),
        (AsyncNode, "async"),
        (AsyncCallable(), "async"),
        (len, "sync"),
    ],
)
def test_an_implementation_knows_where_it_runs(target: Callable[..., Any], kind: str) -> None:
    assert Implementation("k", target).kind == kind


def with_one_default(ctx: object = None) -> None:
    pass


def with_many_defaults(one: int, two: int = 2, *, three: int = 3) -> None:
    pass


def with_all(*args: object, **kwargs: object) -> None:
    pass


@pytest.mark.parametrize(
    ("target", "takes_context"),
    [
        (plain, True),
        (lambda: 1, False),
        (lambda i=1: i, False),
        (with_one_default, True),
        (with_many_defaults, True),
        (with_all, True),
        (min, True),  # Written in C, without a signature.
    ],
)
def test_an_implementation_knows_whether_it_takes_the_context(target: Any, takes_context: bool) -> None:
    assert Implementation("k", target).takes_context is takes_context


def with_two(ctx: Context, other: int) -> None:
    pass


def with_keyword(*, ctx: Context) -> None:
    pass


def generator(ctx: Context) -> Any:
    yield 1


class NoNode:
    pass


class NeedsSomething(Node):
    def __init__(self, client: object) -> None:
        pass


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (with_two, r"wants \(ctx, other\): read the others from ctx.params"),
        (with_keyword, "takes no argument or one"),
        (generator, "a function that yields cannot be a node"),
        (NoNode, "derive it from headrace.Node"),
        (NeedsSomething, "wants 'client': pass it through params or dependencies"),
        (PlainNode(), "give the class PlainNode itself"),
        (5, "cannot be called"),
    ],
)
def test_what_cannot_be_a_node_is_refused_with_what_to_do(target: Any, told: str) -> None:
    with pytest.raises(DefinitionError, match=told):
        Registry().add("k", target)


def test_a_cpu_bound_function_runs_in_a_process() -> None:
    registry = Registry()

    assert registry.add("k", plain, cpu_bound=True).kind == "process"
    assert registry.add("n", PlainNode, cpu_bound=True).kind == "process"


def test_a_cpu_bound_function_must_be_plain_and_importable() -> None:
    with pytest.raises(DefinitionError, match="async and cpu_bound"):
        Registry().add("k", asynchronous, cpu_bound=True)
    with pytest.raises(DefinitionError, match="top level of a module"):
        Registry().add("k", lambda: 1, cpu_bound=True)


def test_an_implementation_can_be_sent_to_another_process() -> None:
    sent = pickle.loads(pickle.dumps(Implementation("k", len)))

    assert (sent.key, sent.target, sent.takes_context, sent.kind) == ("k", len, True, "sync")


def test_the_registry_finds_by_key() -> None:
    registry = Registry()
    registry.add("a", plain)
    registry.add("b", asynchronous)

    found = registry.get("a")
    assert found is not None
    assert found.target is plain
    assert registry.get("c") is None
    assert ("a" in registry, "c" in registry) == (True, False)
    assert registry.keys() == ("a", "b")
    assert len(registry) == 2
    assert "sync" in repr(found)


def test_adding_the_same_again_changes_nothing() -> None:
    registry = Registry()

    assert registry.add("a", plain) is registry.add("a", plain)


@pytest.mark.parametrize("change", [{"target": asynchronous}, {"target": plain, "cpu_bound": True}])
def test_a_key_cannot_stand_for_two_things(change: dict[str, Any]) -> None:
    registry = Registry()
    registry.add("a", plain)
    with pytest.raises(DefinitionError, match=r"'a' stands for .*plain .* already.*give one of the two another key"):
        registry.add("a", **change)

    found = registry.get("a")
    assert found is not None
    assert (found.target, found.kind) == (plain, "sync")


def test_merging_takes_all_and_refuses_a_difference() -> None:
    one, two = Registry(), Registry()
    one.add("a", plain)
    two.add("b", asynchronous)
    one.merge(two)
    assert one.keys() == ("a", "b")

    two.add("a", asynchronous)
    with pytest.raises(DefinitionError, match="'a' stands for"):
        one.merge(two)


def test_a_registry_can_be_made_of_a_mapping() -> None:
    registry = Registry.of({"a": plain, "b": asynchronous})

    assert registry.keys() == ("a", "b")
    assert Registry.of(registry) is registry


@pytest.mark.parametrize("key", sorted(BUILT_IN_USES))
def test_keys_of_the_engine_are_refused(key: str) -> None:
    with pytest.raises(DefinitionError, match="the engine's own"):
        Registry().add(key, plain)


def test_a_key_is_a_text_with_something_in_it() -> None:
    with pytest.raises(DefinitionError, match="is empty"):
        Registry().add("", plain)
    with pytest.raises(DefinitionError, match="is a text, not 5"):
        Registry().add(5, plain)  # type: ignore[arg-type]
