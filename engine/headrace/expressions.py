"""Conditions and transforms: CEL (Common Expression Language), compiled once, bounded before each evaluation.

This is the one module of the engine that knows a CEL library. An expression sees decoded JSON and gives a value or
:class:`ExpressionFailed`; it cannot call out, and it cannot take long: what it may cost at most is known from its text
and from the size of its scope (``expression_bounds``), and an evaluation beyond the limits is refused before it starts,
on every worker alike.

What differs from plain CEL: values that pass through ``map`` and ``filter`` come back as JSON has them (an unsigned
integer as an integer), and a transform's objects have their keys in order of the alphabet, since CEL's maps have none
and one blueprint must give the same bytes everywhere. The order in which a macro goes through the keys of a *map* is
not defined, in CEL neither.

The library recurses on the machine's stack, by about 1 KB for each operator of a chain and each level of a value. Within
the limits of length and nesting that is less than 2 MB, which the threads of Python have everywhere by default (8 MB)
but where a small stack was asked for, or where musl is the C library.
"""

from __future__ import annotations

__all__ = ["NESTING_MAX", "Expression", "compile_expression", "evaluate", "evaluate_condition", "evaluate_value"]

import datetime as dt
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from headrace.errors import ExpressionFailed, ValueRefused
from headrace.expression_bounds import TooComplex, measure, value_of
from headrace.expression_collecting import COLLECTOR
from headrace.expression_syntax import Analysis, analyse
from headrace.expression_tokens import NotUnderstood, nesting_of
from headrace.limits import EXPRESSION_BYTES_MAX, EXPRESSION_CHARS_MAX, EXPRESSION_STEPS_MAX
from headrace.values import Json, encode

if TYPE_CHECKING:
    import cel

# Both parsers recurse; nobody reads a formula with more brackets in brackets than this.
NESTING_MAX = 32

# The bounds count in steps of at most 5 ns, the limit in steps of 200 ns.
_STEPS_MAX = EXPRESSION_STEPS_MAX * 40

# What one unit of weight takes in memory at most: a value of CEL, and its Python counterpart in a collected list.
_BYTES_PER_WEIGHT = 128

_WEIGHT_UNLIMITED = 1 << 48
_REASON_CHARS_MAX = 200
_TOO_MUCH = "the expression could cost too much over values of this size: move the work into a node"


class Expression:
    """One compiled expression; made by :func:`compile_expression`, shared by all who use the same text.

    *names* are the variables that it uses. *context_keys* are the keys that it takes of ``context``, or None where it
    needs the whole map, and *output_keys* those of ``outputs``. What it may cost is checked by weighing its scope,
    unless that has at most *bytes_unchecked* bytes as JSON.
    """

    __slots__ = (
        "_analysis",
        "_execute",
        "bytes_unchecked",
        "context_keys",
        "holds_times",
        "names",
        "output_keys",
        "source",
    )

    def __init__(self, source: str, analysis: Analysis, execute: Callable[[dict[str, Any]], Any]) -> None:
        self.source = source
        self.names = analysis.names
        self.context_keys = analysis.context_keys
        self.output_keys = analysis.output_keys
        self.holds_times = "timestamp" in analysis.words
        self.bytes_unchecked = _bytes_unchecked(analysis, len(source))
        self._analysis = analysis
        self._execute = execute

    def __repr__(self) -> str:
        return f"Expression({self.source!r})"


@lru_cache(maxsize=4_096)
def compile_expression(source: str) -> Expression:
    """Compile the text of an expression; raises :class:`ExpressionFailed`, which says what is wrong with it."""
    if not isinstance(source, str):
        raise ExpressionFailed(f"an expression is text, not {type(source).__name__}")
    if len(source) > EXPRESSION_CHARS_MAX:
        raise ExpressionFailed(
            f"the expression has {len(source)} characters and the limit is {EXPRESSION_CHARS_MAX}: move the work into a node"
        )
    if nesting_of(source) > NESTING_MAX:
        raise ExpressionFailed(f"the expression is nested deeper than {NESTING_MAX}: move the work into a node")
    program = _compiled(source)
    try:
        analysis = analyse(source)
    except NotUnderstood as error:
        raise ExpressionFailed(f"the expression uses what is not supported here: {error}") from None
    except TooComplex:
        raise ExpressionFailed(_TOO_MUCH) from None
    if analysis.collectors:
        try:
            program = _compiled(analysis.evaluated)
        except ExpressionFailed:  # each macro adds brackets, and CEL's own parser takes 96 in one another
            raise ExpressionFailed("the expression has too many map and filter: move the work into a node") from None
    return Expression(source, analysis, program.execute)


def evaluate(expression: Expression, scope: dict[str, Any], scope_bytes: int) -> Any:
    """The value of an expression over *scope*, which is decoded JSON by variable.

    *scope_bytes* is the size of that JSON, keys included. Raises :class:`ExpressionFailed` and nothing else, with the
    reason in one line.
    """
    if scope_bytes > expression.bytes_unchecked:
        _refuse_if_costly(expression._analysis, scope)
    try:
        if expression._analysis.collectors:
            return expression._execute({**scope, **_Collector().functions})
        return expression._execute(scope)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - a panic of the library is no Exception
        raise ExpressionFailed(_reason(error)) from None


def evaluate_condition(expression: Expression, scope: dict[str, Any], scope_bytes: int) -> bool:
    """The truth of a condition; raises :class:`ExpressionFailed`, also where the value is no boolean."""
    value = evaluate(expression, scope, scope_bytes)
    if value is True or value is False:
        return bool(value)
    raise ExpressionFailed(f"the condition gives {_kind(value)}, and a condition must give true or false")


def evaluate_value(expression: Expression, scope: dict[str, Any], scope_bytes: int) -> Json:
    """The value of a transform, encoded; raises :class:`ExpressionFailed`, also where the value is no JSON."""
    value = evaluate(expression, scope, scope_bytes)
    try:
        if isinstance(value, dict | list) or expression.holds_times:
            value = _as_json(value)
        return encode(value, what="the value of the expression")
    except (ValueRefused, RecursionError) as error:
        raise ExpressionFailed(_one_line(str(error))) from None


class _Collector:
    """The lists that the macros of one evaluation make, by the number of the macro (``expression_syntax``)."""

    __slots__ = ("_lists",)

    def __init__(self) -> None:
        self._lists: dict[int, list[Any]] = {}

    @property
    def functions(self) -> dict[str, Callable[..., Any]]:
        return {
            f"{COLLECTOR}start": self._start,
            f"{COLLECTOR}push": self._push,
            f"{COLLECTOR}take": self._take,
        }

    def _start(self, number: int) -> bool:
        self._lists[number] = []
        return True

    def _push(self, number: int, value: Any) -> bool:
        self._lists[number].append(value)
        return True

    def _take(self, number: int, _started: bool, _finished: bool) -> list[Any]:
        return self._lists.pop(number)


def _compiled(source: str) -> cel.Program:
    # To import it takes a quarter of the time in which a command starts, and most of them compile nothing.
    import cel

    try:
        return cel.compile(source)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - a panic of the library is no Exception
        text = str(error)
        found = text.find("<input>:")
        detail = text[found + len("<input>:") :] if found >= 0 else text
        raise ExpressionFailed(f"the expression is no CEL, at {_one_line(detail)}") from None


def _bytes_unchecked(analysis: Analysis, source_chars: int) -> int:
    """The largest scope that needs no weighing, in bytes of JSON; -1 if there is none.

    JSON has two bytes or more for each value, with what separates it. The names of variables and the keys of
    ``context`` and ``outputs`` that the source names are no longer than the source; keys that it does not name may be
    of any length, and then the scope is always weighed (unless its size does not matter at all).
    """
    if _affordable(analysis, _WEIGHT_UNLIMITED, _WEIGHT_UNLIMITED):
        return _WEIGHT_UNLIMITED
    if analysis.context_keys is None or analysis.output_keys is None:
        return -1
    low, high = -1, _WEIGHT_UNLIMITED
    while high - low > 1:
        middle = (low + high) // 2
        if _affordable(analysis, middle, middle):
            low = middle
        else:
            high = middle
    return max(-1, 2 * (low - source_chars - 8))


def _affordable(analysis: Analysis, weight: int, widest: int) -> bool:
    """Both are monotone in the weight, and each of two upper bounds is enough."""
    steps = min(value_of(poly, weight, widest) for poly in analysis.steps)
    built = min(value_of(poly, weight, widest) for poly in analysis.built)
    return steps <= _STEPS_MAX and built * _BYTES_PER_WEIGHT <= EXPRESSION_BYTES_MAX


def _refuse_if_costly(analysis: Analysis, scope: dict[str, Any]) -> None:
    if not _affordable(analysis, *measure(scope)):
        raise ExpressionFailed(_TOO_MUCH)


def _as_json(value: Any) -> Any:
    """A value with the keys of its objects in order; what is no JSON is refused where the encoder would take it."""
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ValueRefused("the value of the expression is not JSON: the keys of an object must be text")
        return {key: _as_json(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_as_json(item) for item in value]
    if isinstance(value, dt.datetime):
        raise ValueRefused("the value of the expression is not JSON: it holds a timestamp; make it text by string()")
    return value


def _reason(error: BaseException) -> str:
    """What went wrong, in one line."""
    if isinstance(error, KeyError) and error.args:
        return _one_line(f"no such key {error.args[0]!r}")
    text = str(error)
    if isinstance(error, TypeError) and text.startswith("No such overload"):
        return "an operator or a function was given values of types that it is not made for (CEL converts none)"
    return _one_line(text) or type(error).__name__


def _one_line(text: str) -> str:
    line = text.strip().partition("\n")[0].strip()
    return line if len(line) <= _REASON_CHARS_MAX else line[: _REASON_CHARS_MAX - 3] + "..."


def _kind(value: Any) -> str:
    names = {type(None): "null", str: "a text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), f"a {type(value).__name__}")
