"""How much an expression can cost at most, as a formula over the size of what it looks at.

CEL has no loops of its own, but its macros (``map``, ``filter``, ``all``, ...) nest and chain, and ``+`` doubles: a
text of 60 characters can ask for more than any machine has. So an expression carries an upper bound that is known
before it is evaluated, the same on every worker; whoever exceeds it is refused, and nothing is measured by a clock.

The measure of a value is its *weight*: one for each value in it, and one more for every 16 bytes of text, keys
included. A bound is a polynomial in ``SCOPE`` (the weight of all that is in scope), ``WIDEST`` (the length of the
longest list, or map, in it) and, inside a macro, the weight of the item that the macro is at. When the macro is left
that symbol is summed away by

    sum(weight(item) ** p) <= weight(list) ** p    for p >= 1,    and the number of items for p = 0,

which is why a filter over 10 000 small items costs their total and not its square. The number of items of a list that
came out of the scope has two upper bounds, its own weight and ``WIDEST``; each is better than the other somewhere
(lists in lists; items that are heavy), so the whole calculation is done once with each and the smaller result counts.
"""

from __future__ import annotations

__all__ = [
    "CONSTANT",
    "SCOPE",
    "WIDEST",
    "Bound",
    "Poly",
    "TooComplex",
    "add",
    "constant",
    "measure",
    "multiply",
    "pattern_costs",
    "scaled",
    "sum_over",
    "symbol",
    "upper",
    "value_of",
]

import re
from dataclasses import dataclass
from typing import Any

SCOPE = 0
WIDEST = 1

Monomial = tuple[tuple[int, int], ...]
Poly = dict[Monomial, int]
"""Coefficients by monomial; a monomial is ``((symbol, power), ...)`` in the order of symbols."""

CONSTANT: Monomial = ()

# A formula of more terms than this belongs to no expression that a person wrote.
_MONOMIALS_MAX = 400
_POWER_MAX = 64

# Repeated squaring gives numbers of millions of digits; beyond every limit they need not be told apart.
_SATURATED = 1 << 64


class TooComplex(Exception):
    """Raised when the formula itself grows beyond use; its expression is refused."""


@dataclass(slots=True)
class Bound:
    """Upper bounds of one sub-expression.

    *size*: weight of its value. *count*: items of its value; *inner*: items of any list or map inside of its value.
    *steps*: units of at most 5 ns that its evaluation takes. *built*: weight of all lists, maps and texts it makes.
    *literal* is the text of a string literal, else None.
    """

    size: Poly
    count: Poly
    inner: Poly
    steps: Poly
    built: Poly
    literal: str | None = None


def constant(number: int) -> Poly:
    """The formula of a number."""
    return {CONSTANT: number} if number else {}


def symbol(name: int) -> Poly:
    """The formula of a symbol: ``SCOPE``, ``WIDEST``, or a larger number for the item of a macro."""
    return {((name, 1),): 1}


def add(*polys: Poly) -> Poly:
    """The sum; raises :class:`TooComplex`, as :func:`multiply` and :func:`upper` do."""
    total: Poly = {}
    for poly in polys:
        for monomial, factor in poly.items():
            total[monomial] = total.get(monomial, 0) + factor
    return _checked(total)


def upper(left: Poly, right: Poly) -> Poly:
    """A bound of both: all coefficients and all symbols are >= 0, so the larger coefficient of each term does."""
    return _checked({monomial: max(left.get(monomial, 0), right.get(monomial, 0)) for monomial in left | right})


def multiply(left: Poly, right: Poly) -> Poly:
    """The product."""
    product: Poly = {}
    for one, factor in left.items():
        for other, by in right.items():
            monomial = _times(one, other)
            product[monomial] = product.get(monomial, 0) + factor * by
    return _checked(product)


def scaled(poly: Poly, by: int) -> Poly:
    """A multiple."""
    return {monomial: factor * by for monomial, factor in poly.items()}


def sum_over(poly: Poly, item: int, size: Poly, count: Poly) -> Poly:
    """The sum of *poly* over the items of a list of *size* with at most *count* items; *item* is gone afterwards."""
    total: Poly = {}
    for monomial, factor in poly.items():
        power = dict(monomial).get(item, 0)
        rest = {tuple(part for part in monomial if part[0] != item): factor}
        times = count
        if power:
            times = size
            for _ in range(power - 1):
                times = multiply(times, size)
        total = add(total, multiply(rest, times))
    return total


def value_of(poly: Poly, scope: int, widest: int) -> int:
    """The number that a formula gives, once no symbol but those two is left in it."""
    total = 0
    for monomial, factor in poly.items():
        term = factor
        for name, power in monomial:
            term *= (scope if name == SCOPE else widest) ** power
        total += term
    return total


def measure(value: Any) -> tuple[int, int]:
    """The weight of decoded JSON and the length of its longest list or map."""
    weight = widest = 0
    stack = [value]
    while stack:
        item = stack.pop()
        weight += 1
        if isinstance(item, str):
            weight += (len(item) if item.isascii() else 4 * len(item)) >> 4
        elif isinstance(item, dict):
            widest = max(widest, len(item))
            stack.extend(item)
            stack.extend(item.values())
        elif isinstance(item, list):
            widest = max(widest, len(item))
            stack.extend(item)
    return weight, widest


def _times(left: Monomial, right: Monomial) -> Monomial:
    if not left or not right:
        return left or right
    powers = dict(left)
    for name, power in right:
        powers[name] = powers.get(name, 0) + power
    return tuple(sorted(powers.items()))


def _checked(poly: Poly) -> Poly:
    if len(poly) > _MONOMIALS_MAX or any(power > _POWER_MAX for monomial in poly for _, power in monomial):
        raise TooComplex
    if any(factor > _SATURATED for factor in poly.values()):
        return {monomial: min(factor, _SATURATED) for monomial, factor in poly.items()}
    return poly


# The regular expressions of ``matches`` run in time (text * states), and states multiply by counted repetition.
# The automaton is also made anew at each evaluation. A pattern that is not known beforehand may have as many states
# as the library allows (10 MB of them).
_UNKNOWN_PATTERN = (100_000, 10_000_000)
_COUNTED = re.compile(r"\{\s*(\d*)\s*(?:,\s*(\d*)\s*)?\}")
_NESTED_CLASS = re.compile(r"\[[^\]]*\[")
_CASE_OR_VERBOSE = re.compile(r"\(\?[a-zA-Z]*[ixu]", re.IGNORECASE)


def pattern_costs(pattern: str | None) -> tuple[int, int]:
    """How many states a pattern can be in at once (times the text: its running), and the steps of building it."""
    # Case folding changes the weights, and verbose mode what a repetition belongs to: no guess is made about them.
    # Nor is any about sets in sets, whose end depends on how their brackets pair.
    if pattern is None or _CASE_OR_VERBOSE.search(pattern) or _NESTED_CLASS.search(pattern):
        return _UNKNOWN_PATTERN
    totals = [(1, 2_000)]
    last = (0, 0)
    at = 0
    while at < len(pattern):
        char = pattern[at]
        counted = _COUNTED.match(pattern, at) if char == "{" else None
        if counted:
            times = max([int(part[:9]) for part in counted.groups() if part] or [1]) + 1
            totals[-1] = _plus(totals[-1], (last[0] * times, last[1] * times))
            last = (last[0] * times, last[1] * times)
            at = counted.end()
            continue
        if char == "(":
            totals.append((1, 1))
        elif char == ")" and len(totals) > 1:
            last = totals.pop()
            totals[-1] = _plus(totals[-1], last)
        elif char not in "*+?":
            end, last = _atom(pattern, at)
            totals[-1] = _plus(totals[-1], last)
            at = end - 1
        at += 1
    while len(totals) > 1:
        last = totals.pop()
        totals[-1] = _plus(totals[-1], last)
    return totals[0]


def _atom(pattern: str, at: int) -> tuple[int, tuple[int, int]]:
    """Where one atom ends, and its costs; the character classes of Unicode are large automata."""
    char = pattern[at]
    if char == "\\":
        named = pattern[at + 1 : at + 2] in ("p", "P", "x", "u", "U") and pattern[at + 2 : at + 3] == "{"
        end = pattern.find("}", at) + 1 if named else 0
        return end or at + 2, (8, 25_000)
    if char != "[":
        return at + 1, (8, 640) if char == "." or not char.isascii() else (1, 20)
    build, end = 1_400, at + 1
    # A bracket right behind the opening one (or behind its ^) is an ordinary member.
    end += pattern.startswith("^", end)
    end += pattern.startswith("]", end)
    while end < len(pattern) and pattern[end] != "]":
        escaped = pattern[end] == "\\"
        build += 25_000 if escaped else 80
        end += 2 if escaped else 1
    return end + 1, (8, build)


def _plus(left: tuple[int, int], right: tuple[int, int]) -> tuple[int, int]:
    return left[0] + right[0], left[1] + right[1]
