from __future__ import annotations

import json
import threading
import time
from typing import Any

import cel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import ExpressionFailed
from headrace.expression_bounds import measure, pattern_costs, value_of
from headrace.expression_collecting import COLLECTOR
from headrace.expression_syntax import analyse
from headrace.expressions import (
    NESTING_MAX,
    Expression,
    compile_expression,
    evaluate,
    evaluate_condition,
    evaluate_value,
)
from headrace.limits import EXPRESSION_CHARS_MAX

TOO_MUCH = "could cost too much over values of this size: move the work into a node"


def size_of(scope: dict[str, Any]) -> int:
    return len(json.dumps(scope, separators=(",", ":"), ensure_ascii=False).encode())


def value(source: str, **scope: Any) -> Any:
    return json.loads(evaluate_value(compile_expression(source), scope, size_of(scope)))


def holds(source: str, **scope: Any) -> bool:
    return evaluate_condition(compile_expression(source), scope, size_of(scope))


# What an expression needs


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("result.output > 3", {"result"}),
        ("rate == 'x' && context.rate > limit", {"rate", "context", "limit"}),
        ("[1, 2].map(x, x + y).filter(z, a.b.c > z)", {"y", "a"}),
        ("xs.all(x, ys.exists(y, x == y))", {"xs", "ys"}),
        ("xs.all(x, x > 0) && x", {"xs", "x"}),
        ("x.map(x, x)", {"x"}),
        ("has(a.b) ? size(c) : {'k': d, e: f}[g]", {"a", "c", "d", "e", "f", "g"}),
        ("'a.b + c' == \"d\" // e", set()),
        ("true || null == 1.5e3", set()),
    ],
)
def test_names_are_the_variables_that_come_from_outside(source: str, names: set[str]) -> None:
    assert names == compile_expression(source).names


@pytest.mark.parametrize(
    ("source", "keys"),
    [
        ("context.a + context['b'] + context.c.d", {"a", "b", "c"}),
        ("has(context.a)", {"a"}),
        ("context.xs.map(x, context.f * x)", {"xs", "f"}),
        ('context["a b"]', {"a b"}),
        ("1 > 2", set()),
        ("r.context", set()),
        ("[1].all(context, context > 0)", set()),
        ("context", None),
        ("context.size()", None),
        ("size(context) + context.a", None),
        ("context[input]", None),
        ("context['a' + 'b']", None),
        (r"context['\x61']", None),
        ("context.all(k, k == 'a')", None),
        ("[context.a].map(x, context[x])", None),
    ],
)
def test_keys_of_the_context_are_known_where_all_uses_name_one(source: str, keys: set[str] | None) -> None:
    expression = compile_expression(source)

    assert keys == expression.context_keys
    assert compile_expression(source.replace("context", "outputs")).output_keys == keys
    assert expression.output_keys == frozenset()


# Evaluation


def test_conditions_over_a_result() -> None:
    assert holds("result.output.score >= 50 && result.output.score < 80", result={"output": {"score": 79}})
    assert not holds("result.action == 'no'", result={"action": None})
    assert holds("'a' in xs && xs.exists_one(x, x == 'b')", xs=["a", "b"])


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("input * 2 + 1", 15),
        (
            "{'total': input, 'net': 1.5, 'deep': {'z': 1, 'a': [null, true]}}",
            {"total": 7, "net": 1.5, "deep": {"z": 1, "a": [None, True]}},
        ),
        ("[1, 2, 3].map(x, x * 2)", [2, 4, 6]),
        ("[1, 2, 3].map(x, x > 1, x * 10)", [20, 30]),
        ("[1, 2, 3].filter( x , x > 1 ).map(y,y+1)", [3, 4]),
        ("[1, 2].map(x, [3, 4].map(y, x * y))", [[3, 4], [6, 8]]),
        ("[[1, 2], [3]].filter(x, x.filter(y, y > 2).size() > 0)", [[3]]),
        ("[1, 2].map(x, [3].exists(y, y / 0 == 1) || true)", [True, True]),
        ("[2, 1].map(x, ([3].map(y, y / (x - 1)).size() > 0 || x > 0))", [True, True]),
        ("[1].map(x, x) + [2].filter(x, true)", [1, 2]),
        ("{'k': [1].map(x, x), 'l': [2].filter(x, x > 5)}", {"k": [1], "l": []}),
        ("[1].map(x, // a comment )\n x)", [1]),
        ("'a' + \"b\" + r'\\d' + '''c'd'''", "ab\\dc'd"),
        ("[1.0, 2.5].map(x, x)", [1.0, 2.5]),
        ("{'a': 1}.map(k, k)", ["a"]),
        ("-[1].map(x, x)[0]", -1),
    ],
)
def test_transforms_give_json(source: str, expected: Any) -> None:
    assert expected == value(source, input=7)


def test_objects_that_a_transform_makes_have_their_keys_in_order() -> None:
    """CEL's maps have an order of chance, and the same blueprint must give the same bytes on every worker."""
    keys = "zyxwvutsrqponmlkjihgfedcba"
    source = "{" + ", ".join(f"'{key}': 1" for key in keys) + "}"

    assert list(value(source)) == sorted(keys)
    assert list(value("[{'x': o}]", o=dict.fromkeys(keys, 1))[0]["x"]) == sorted(keys)


def test_numbers_are_not_converted() -> None:
    assert evaluate_value(compile_expression("n"), {"n": 1.0}, 3) == b"1.0"
    assert value("n", n=2**63 - 1) == 2**63 - 1
    assert value("n", n=2**64 - 1) == 2**64 - 1
    with pytest.raises(ExpressionFailed, match="types that it is not made for"):
        value("n + 1.5", n=1)


def test_an_expression_is_compiled_once() -> None:
    assert compile_expression("input + 41") is compile_expression("input + 41")


def test_an_expression_may_be_evaluated_in_any_thread() -> None:
    expression = compile_expression("[1, 2].map(x, x + n)")
    values: list[bytes] = []
    threads = [threading.Thread(target=lambda: values.append(evaluate_value(expression, {"n": 1}, 1))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert values == [b"[2,3]"] * 3


# Failures


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("input.b", "no such key 'b'"),
        ("input.deep.missing", "no such key 'deep'"),
        ("nowhere + 1", "Undefined variable or function: 'nowhere'"),
        ("1 / zero", "division by zero"),
        ("9223372036854775807 + one", "overflow"),
        ("[1][5]", "index out of bounds: 5"),
        ("one.b", "types that it is not made for"),
        ("one < 'a'", "types that it is not made for"),
        ("int('x')", "invalid"),
        ("[1, 0].map(x, 1 / x)", "division by zero"),
        ("'abc'.map(x, x)", "types that it is not made for"),
        ("'a'.matches('(')", "not a valid regex"),
        ("input[big]", "no such key"),
    ],
)
def test_an_evaluation_that_fails_says_why_in_one_line(source: str, reason: str) -> None:
    scope = {"input": {}, "zero": 0, "one": 1, "big": "x\n" * 10_000}
    with pytest.raises(ExpressionFailed, match=reason) as failed:
        evaluate(compile_expression(source), scope, size_of(scope))

    assert "\n" not in str(failed.value)
    assert len(str(failed.value)) <= 200


@pytest.mark.parametrize(
    ("source", "kind"), [("1", "a number"), ("null", "null"), ("'true'", "a text"), ("{}", "an object")]
)
def test_a_condition_that_is_no_boolean_fails(source: str, kind: str) -> None:
    with pytest.raises(ExpressionFailed, match=f"the condition gives {kind}"):
        holds(source)


@pytest.mark.parametrize(
    "source",
    [
        *("b'x'", "duration('1s')", "timestamp('2020-01-01T00:00:00Z')", "[timestamp('2020-01-01T00:00:00Z')]"),
        *("{'t': [timestamp('2020-01-01T00:00:00Z')]}", "{1: 2}", "[{true: 1}]", "0.0 / 0.0", "[1.0 / 0.0]"),
        "optional.of(1)",
    ],
)
def test_a_value_that_is_no_json_fails(source: str) -> None:
    with pytest.raises(ExpressionFailed, match="the value of the expression is not JSON"):
        value(source)


def test_a_value_that_is_nested_too_deep_fails() -> None:
    deep: Any = 1
    for _ in range(250):
        deep = [deep]
    with pytest.raises(ExpressionFailed, match="nested deeper"):
        value("[deep].map(x, [[[[[x]]]]])", deep=deep)


@pytest.mark.parametrize("scope", [{"a": "\ud800"}, {"a": object()}, {"a": {1, 2}}])
def test_a_scope_that_is_no_json_fails_and_lets_nothing_else_out(scope: dict[str, Any]) -> None:
    with pytest.raises(ExpressionFailed):
        evaluate_condition(compile_expression("a == 1"), scope, 10)


class _Panic(BaseException):
    """As the library's own, which is no Exception."""


def _raising(error: BaseException) -> Expression:
    def execute(_scope: dict[str, Any]) -> Any:
        raise error

    return Expression("true", analyse("true"), execute)


def test_a_panic_of_the_library_is_a_failure_of_the_expression() -> None:
    with pytest.raises(ExpressionFailed, match="called `Option::unwrap"):
        evaluate(_raising(_Panic("called `Option::unwrap()` on a `None` value")), {}, 0)


def test_an_interrupt_is_not_a_failure_of_the_expression() -> None:
    with pytest.raises(KeyboardInterrupt):
        evaluate(_raising(KeyboardInterrupt()), {}, 0)


# Refused when they are compiled


@pytest.mark.parametrize(
    "source", ["", " ", "1 +", "result.output ==", "a b", "'", "if", "a.?b", "\0", "é", "x.map(1, 2)", "(("]
)
def test_what_is_no_cel_is_refused(source: str) -> None:
    with pytest.raises(ExpressionFailed, match="is no CEL, at 1:") as failed:
        compile_expression(source)

    assert "\n" not in str(failed.value)


@pytest.mark.parametrize("source", ["Foo{a: 1}", ".a", f"{COLLECTOR}push(0, 1)"])
def test_what_is_not_supported_is_refused(source: str) -> None:
    with pytest.raises(ExpressionFailed, match="not supported here"):
        compile_expression(source)


def test_an_expression_is_text() -> None:
    with pytest.raises(ExpressionFailed, match="an expression is text, not int"):
        compile_expression(5)


def test_a_long_text_is_refused() -> None:
    longest = "1" + "+1" * (EXPRESSION_CHARS_MAX // 2 - 1)
    assert value(longest) == EXPRESSION_CHARS_MAX // 2
    with pytest.raises(ExpressionFailed, match=f"has {EXPRESSION_CHARS_MAX + 1} characters"):
        compile_expression(longest + "+1")


@pytest.mark.parametrize(
    ("one", "middle", "other"), [("(", "1", ")"), ("[", "1", "]"), ("size(", "'a'", ")"), ("true ? 1 : ", "1", "")]
)
def test_nesting_is_bounded(one: str, middle: str, other: str) -> None:
    compile_expression(one * NESTING_MAX + middle + other * NESTING_MAX)
    with pytest.raises(ExpressionFailed, match=f"nested deeper than {NESTING_MAX}"):
        compile_expression(one * (NESTING_MAX + 1) + middle + other * (NESTING_MAX + 1))


def test_more_macros_than_cel_takes_in_one_another_are_refused() -> None:
    assert value("[1]" + ".map(x, x)" * 40) == [1]
    with pytest.raises(ExpressionFailed, match="too many map and filter"):
        compile_expression("[1]" + ".map(x, x)" * 150)


# Costs


def items(count: int) -> list[dict[str, Any]]:
    return [{"name": f"item-{i}", "price": i % 100, "pad": "x" * 15} for i in range(count)]


def test_ten_thousand_objects_are_filtered_and_mapped() -> None:
    """In plain CEL this takes half a minute, since the library copies the list that it makes for each item."""
    started = time.perf_counter()
    names = value("items.filter(x, x.price > 10).map(x, x.name)", items=items(10_000))

    assert names == [f"item-{i}" for i in range(10_000) if i % 100 > 10]
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(
    "source",
    [
        "orders.map(o, o.items.filter(i, i.price > 1).map(i, i.name)).size() == 1000",
        "orders.all(o, o.items.exists(i, i.price == 0))",
        "orders.exists(o, o.items.size() > 5) && orders.size() > 3",
        "orders.filter(o, has(o.total) && o.items[0].name.matches('^item-[0-9]{1,9}$')).size() == 0",
    ],
)
def test_ordinary_expressions_over_a_thousand_orders_are_not_refused(source: str) -> None:
    assert holds(source, orders=[{"items": items(10)} for _ in range(1_000)])


def test_a_condition_over_a_large_value_is_not_refused() -> None:
    assert holds("input.text == input.text && size(input.text) > 3 && input.n > 2", input={"text": "x" * 900_000, "n": 3})
    assert holds("(input.text + input.text).size() == 1800000", input={"text": "x" * 900_000})
    assert holds("size(context) == 1000", context={f"key {i}": items(3) for i in range(1_000)})


MANY = list(range(3_000))
BOMBS: list[tuple[str, dict[str, Any]]] = [
    ("[s]" + ".map(x, x + x)" * 30, {"s": "a"}),
    ("[s]" + ".map(x, [x, x])" * 30, {"s": "a"}),
    ("[s]" + ".map(x, {'a': x, 'b': x})" * 30, {"s": "a"}),
    ("['ab']" + ".map(x, x + x)" * 60, {}),
    ("[[1, 2]]" + ".map(x, x.map(y, x)).map(x, x[0] + x[0])" * 20, {}),
    ("[[1, 2]]" + ".map(x, x + x + x + x)" * 20, {}),
    ("[[1, 2]]" + ".map(x, (x + x).filter(y, true))" * 30, {}),
    ("[[1, 2]]" + ".map(x, true ? x + x : x)" * 30, {}),
    ("L.map(x, L.map(y, x * y))", {"L": MANY}),
    ("L.all(x, L.all(y, L.all(z, x + y + z >= 0)))", {"L": MANY[:500]}),
    ("L.map(x, L)", {"L": MANY}),
    ("L.filter(x, L.filter(y, L.filter(z, true) == L) == L) == L", {"L": MANY[:300]}),
    ("L.all(x, T.contains('b') || true)", {"L": MANY, "T": "a" * 500_000}),
    ("L.all(x, L == L)", {"L": list(range(30_000))}),
    ("L.all(x, context[key].size() > x)", {"L": MANY, "context": {"k": MANY * 5}, "key": "k"}),
    ("M.all(k, M.all(l, M.all(m, true)))", {"M": {str(i): i for i in range(1_000)}}),
    ("T.matches('(.*a.{5000}b)')", {"T": "a" * 500_000}),
    (r"T.matches('\\w{100}b')", {"T": "a" * 900_000}),
    ("T.matches(P)", {"T": "a" * 500_000, "P": "(.*a.{5000}b)"}),
    ("T.matches('(.*a' + '.{5000}b)')", {"T": "a" * 500_000}),
    ("L.all(x, !'a'.matches('(?x) (a {1000}) {10}'))", {"L": MANY}),
    (r"L.all(x, !T.matches('\\w{50}'))", {"L": MANY, "T": "abc"}),
    (
        "[1, 2, 3, 4, 5, 6, 7, 8, 9].all(a, L.all(b, L.all(c, true)))".replace("L", "[1, 2, 3, 4, 5, 6, 7, 8, 9]")
        + " && L.map(a, L.map(b, L.map(c, L.map(d, 1)))) != []",
        {"L": MANY[:100]},
    ),
]


@pytest.mark.parametrize(("source", "scope"), BOMBS, ids=[source[:40] for source, _ in BOMBS])
def test_what_would_not_end_quickly_is_refused_before_it_starts(source: str, scope: dict[str, Any]) -> None:
    started = time.perf_counter()
    with pytest.raises(ExpressionFailed, match=TOO_MUCH):
        evaluate(compile_expression(source), scope, size_of(scope))

    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(("source", "scope"), BOMBS, ids=[source[:40] for source, _ in BOMBS])
def test_the_size_that_is_told_does_not_decide_alone(source: str, scope: dict[str, Any]) -> None:
    """The limit below which nothing is weighed is lower than any scope that would be refused."""
    try:
        unchecked = compile_expression(source).bytes_unchecked
    except ExpressionFailed:
        return
    assert unchecked < size_of(scope)


def test_a_small_scope_is_not_weighed() -> None:
    expression = compile_expression("result.output > 3")

    assert expression.bytes_unchecked > 1_000_000
    assert compile_expression("size(context) > 3").bytes_unchecked == -1


def test_weight_counts_values_and_text() -> None:
    assert measure({"a": [1, 2, {}], "bb": "x" * 32}) == (10, 3)
    assert measure("é" * 16) == (5, 0)


@pytest.mark.parametrize(
    ("pattern", "states"),
    [
        *(("a", 1), ("abc", 3), ("a{10}", 10), ("(ab){10}", 20), ("((ab){10}c){10}", 200), ("a{2,50}", 50)),
        *(("a{10,}", 10), ("[a-z]{10}", 10), (r"\w{10}", 10), (r"\{10}", 4), ("(a|b){10}", 20), ("[]{5}]{10}", 10)),
        *(("(?x)a {10}", 10), ("(?i)a{10}", 10), ("[a[bc]{4}]{10}", 10), (r"\p{Greek}{10}", 10), ("a{,50}", 50)),
    ],
)
def test_repetition_multiplies_the_states_of_a_pattern(pattern: str, states: int) -> None:
    at_once, building = pattern_costs(pattern)

    assert at_once >= states
    assert building > at_once


def test_patterns_of_everyday_use_are_cheap() -> None:
    for pattern in (r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{12}$", r"^[^@ ]+@[^@ ]+\.[a-z]{2,9}$", r"\d{4}-\d{2}-\d{2}"):
        source = "xs.all(x, x.matches(" + json.dumps(pattern) + "))"
        evaluate(compile_expression(source), {"xs": ["someone@example.org"] * 20}, 500)


# Random expressions


@st.composite
def expressions(draw: st.DrawFn, kind: str = "list", depth: int = 3, bound: tuple[str, ...] = ()) -> str:
    """An expression of that kind over ``n`` (an int), ``L`` (ints) and ``LL`` (lists of ints), and variables *bound*."""

    def part(wanted: str, *variables: str) -> str:
        return draw(expressions(wanted, depth - 1, (*bound, *variables)))

    ints = [name for name in bound if name[0] == "i"]
    leaves = {
        "int": [*ints, "n", "3", "LL[0][0]"],
        "list": [*[name for name in bound if name[0] == "l"], "L", "[1, 2]", "LL[1]", "[]"],
        "bool": ["true", "n > 1", *[f"{name} != 2" for name in ints]],
    }
    if depth == 0:
        return draw(st.sampled_from(leaves[kind]))
    if draw(st.integers(0, 3)) == 0:
        return draw(st.sampled_from(leaves[kind]))
    i, xs = f"i{depth}", f"l{depth}"
    forms = {
        "int": [
            lambda: f"{part('int')} + {part('int')}",
            lambda: f"{part('int')} / {part('int')}",
            lambda: f"({part('bool')} ? {part('int')} : {part('int')})",
            lambda: f"{part('list')}.size()",
            lambda: f"size({part('list')})",
            lambda: f"{part('list')}[0]",
        ],
        "list": [
            lambda: f"{part('list')}.map({i}, {part('int', i)})",
            lambda: f"{part('list')}.map({i}, {part('bool', i)}, {part('int', i)})",
            lambda: f"{part('list')}.filter({i}, {part('bool', i)})",
            lambda: f"LL.map({xs}, {part('int', xs)})",
            lambda: f"({part('list')} + {part('list')})",
            lambda: f"[{part('int')}, {part('int')}]",
            lambda: f"({part('bool')} ? {part('list')} : {part('list')})",
        ],
        "bool": [
            lambda: f"({part('bool')} || {part('bool')})",
            lambda: f"({part('bool')} && {part('bool')})",
            lambda: f"!{part('bool')}",
            lambda: f"{part('int')} in {part('list')}",
            lambda: f"{part('int')} < {part('int')}",
            lambda: f"{part('list')} == {part('list')}",
            lambda: f"{part('list')}.{draw(st.sampled_from(['all', 'exists', 'exists_one']))}({i}, {part('bool', i)})",
        ],
    }
    return draw(st.sampled_from(forms[kind]))()


SCOPE = {"n": 2, "L": [3, 1, 2, 2], "LL": [[0, 5], [], [7]]}


def outcome(source: str, scope: dict[str, Any]) -> tuple[str, Any]:
    try:
        return "value", cel.compile(source).execute(scope)
    except Exception as error:  # noqa: BLE001 - of whatever kind, the two must agree on it
        return "error", type(error)


@given(expressions())
@settings(max_examples=300, deadline=None)
def test_a_collected_list_is_what_cel_would_have_made(source: str) -> None:
    counted = {"pushes": 0, "weight": 0}
    lists: dict[int, list[Any]] = {}

    def start(number: int) -> bool:
        lists[number] = []
        return True

    def push(number: int, item: Any) -> bool:
        counted["pushes"] += 1
        counted["weight"] += measure(item)[0]
        lists[number].append(item)
        return True

    def take(number: int, _started: bool, _finished: bool) -> list[Any]:
        return lists.pop(number)

    analysis = analyse(source)
    functions = {f"{COLLECTOR}start": start, f"{COLLECTOR}push": push, f"{COLLECTOR}take": take}

    assert outcome(source, SCOPE) == outcome(analysis.evaluated, SCOPE | functions)
    # What was collected is within both alternatives of both bounds.
    scope = measure(SCOPE)
    assert all(60 * counted["pushes"] + 240 * counted["weight"] <= value_of(bound, *scope) for bound in analysis.steps)
    assert all(counted["weight"] <= value_of(bound, *scope) for bound in analysis.built)


@given(expressions())
@settings(max_examples=200, deadline=None)
def test_the_names_are_those_that_cel_finds(source: str) -> None:
    found = set(cel.compile(source).variables())
    names = compile_expression(source).names

    assert names <= found
    assert all(name[0] in "il" and name[1:].isdigit() for name in found - names)


@given(st.text("ax.()[]{}'\"\\+-!?:,&|<=1 \nrbu/mp", max_size=30))
@settings(max_examples=500, deadline=None)
def test_any_text_is_an_expression_or_refused(source: str) -> None:
    try:
        expression = compile_expression(source)
        evaluate(expression, {"a": 1, "x": [1]}, 20)
    except ExpressionFailed:
        pass
