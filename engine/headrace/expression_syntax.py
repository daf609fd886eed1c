"""What an expression says, as far as the engine has to know before CEL evaluates it.

:func:`analyse` reads an expression once and gives the names that it uses, the upper bound of what it costs
(``expression_bounds``) and, where it holds ``map`` or ``filter``, the source that is evaluated in its place. CEL itself
checks the syntax, before and after; here whatever is not understood is refused.

The library appends to the list that ``map`` and ``filter`` make by copying all of it for each item: half a minute for
10 000 objects. Its ``all`` copies nothing. So the two are evaluated as an ``all`` whose condition is always true and
which hands each item to a collector; ``xs.map(x, f)`` becomes

    __headrace_take(0, __headrace_start(0), xs.all(x, __headrace_push(0, f)))

The number is that of the macro in the source: a macro never runs inside of itself, so no two lists that are being
made share a number, whatever else fails or is retried by ``||``.
"""

from __future__ import annotations

__all__ = ["Analysis", "analyse"]

from typing import NamedTuple

from headrace.expression_bounds import (
    SCOPE,
    WIDEST,
    Bound,
    Poly,
    add,
    constant,
    pattern_costs,
    scaled,
    sum_over,
    symbol,
    upper,
)
from headrace.expression_collecting import COLLECTOR, Edit, collecting, edited
from headrace.expression_tokens import CLOSING, Cursor, NotUnderstood, Token, literal_text, pattern_text, tokens_of

_PRECEDENCE = {"||": 1, "&&": 2, "*": 5, "/": 5, "%": 5, "+": 4, "-": 4}
_PRECEDENCE |= dict.fromkeys(("<", "<=", ">", ">=", "==", "!=", "in"), 3)
_MACROS = {"all": (2,), "exists": (2,), "exists_one": (2,), "existsOne": (2,), "filter": (2,), "map": (2, 3)}
_SCALAR_FUNCTIONS = frozenset(
    ("contains", "double", "duration", "endsWith", "has", "int", "size", "startsWith", "timestamp", "type", "uint")
)

# Measured costs, in steps of at most 5 ns, each for the worst case of its kind.
_NODE = 3
_LOOK = 2  # for each unit of weight that is compared
_COPY = 7  # for each unit of weight that is copied
_CALL = 60
_TURN = 20  # one turn of a macro: the condition to go on, two variables, the result so far
_PUSH = 60  # one call of the collector
_PUSH_WEIGHT = 240  # for each unit of weight, out of CEL and back
_STATE = 15  # for each state of a regular expression, and unit of weight of the text


class Analysis(NamedTuple):
    """*evaluated* is the source for CEL and *collectors* the number of lists that it collects outside of it.

    *steps* and *built* hold two alternative upper bounds each. *words* are all identifiers, of functions too.
    """

    names: frozenset[str]
    context_keys: frozenset[str] | None
    output_keys: frozenset[str] | None
    words: frozenset[str]
    evaluated: str
    collectors: int
    steps: tuple[Poly, Poly]
    built: tuple[Poly, Poly]


def analyse(source: str) -> Analysis:
    """Read an expression that CEL has accepted; raises :class:`NotUnderstood`, or ``TooComplex`` of its bounds."""
    tokens = tokens_of(source)
    by_weight = _Reader(tokens, by_weight=True)
    by_width = _Reader(tokens, by_weight=False)
    bounds = by_weight.whole(), by_width.whole()
    return Analysis(
        names=frozenset(by_weight.names),
        context_keys=by_weight.keys_of("context"),
        output_keys=by_weight.keys_of("outputs"),
        words=frozenset(token.text for token in tokens if token.kind == "name"),
        evaluated=edited(source, by_weight.edits),
        collectors=by_weight.collectors,
        steps=(bounds[0].steps, bounds[1].steps),
        built=(bounds[0].built, bounds[1].built),
    )


class _Reader(Cursor):
    """Reads the tokens from left to right; each method takes one production of CEL's grammar and gives its bound."""

    def __init__(self, tokens: list[Token], *, by_weight: bool) -> None:
        super().__init__(tokens)
        self.names: set[str] = set()
        self.edits: list[Edit] = []
        self.collectors = 0
        self._by_weight = by_weight
        self._locals: list[tuple[str, Bound]] = []
        self._symbols = WIDEST
        self._keys: dict[str, set[str] | None] = {"context": set(), "outputs": set()}

    def keys_of(self, name: str) -> frozenset[str] | None:
        keys = self._keys[name]
        return None if keys is None else frozenset(keys)

    def whole(self) -> Bound:
        bound = self._expression()
        if self.here.kind != "end":
            raise NotUnderstood(f"{self.here.text!r} at {self.here.start + 1}")
        return bound

    def _expression(self) -> Bound:
        chosen = self._operation(1)
        if not self.accept("?"):
            return chosen
        one = self._operation(1)
        self.expect(":")
        other = self._expression()
        return Bound(
            upper(one.size, other.size),
            upper(one.count, other.count),
            upper(one.inner, other.inner),
            add(chosen.steps, one.steps, other.steps, constant(_NODE)),
            add(chosen.built, one.built, other.built),
        )

    def _operation(self, precedence: int) -> Bound:
        left = self._unary()
        while self.here.kind in ("mark", "name") and _PRECEDENCE.get(self.here.text, 0) >= precedence:
            operator = self.next().text
            right = self._operation(_PRECEDENCE[operator] + 1)
            steps = add(left.steps, right.steps, constant(2 * _NODE))
            built = add(left.built, right.built)
            if operator == "+":
                size = add(left.size, right.size)
                count = add(left.count, right.count)
                inner = upper(left.inner, right.inner)
                left = Bound(size, count, inner, add(steps, scaled(size, _COPY)), add(built, size))
            elif operator in ("&&", "||"):
                left = _scalar(steps, built)
            else:
                # The error of an arithmetic operator holds copies of its operands.
                each = _LOOK if _PRECEDENCE[operator] == _PRECEDENCE["=="] else _COPY
                left = _scalar(add(steps, scaled(add(left.size, right.size), each)), built)
        return left

    def _unary(self) -> Bound:
        operators = 0
        while self.accept("!") or self.accept("-"):
            operators += 1
        bound = self._member()
        return _scalar(add(bound.steps, constant(operators * _NODE)), bound.built) if operators else bound

    def _member(self) -> Bound:
        start = self.here.start
        bound = self._primary()
        while True:
            if self.accept("["):
                index = self._expression()
                self.expect("]")
                bound = self._part(bound, add(index.steps, scaled(bound.size, _COPY)), index.built)
            elif self.accept("."):
                name = self.next()
                if name.kind != "name":
                    raise NotUnderstood(f"{name.text!r} at {name.start + 1}, where a field was expected")
                if self.accept("("):
                    macro = self.arguments_ahead() in _MACROS.get(name.text, ())
                    bound = self._macro(bound, name, start) if macro else self._call(name.text, bound)
                else:
                    bound = self._part(bound, scaled(bound.size, _COPY), {})
            else:
                return bound

    def _part(self, whole: Bound, steps: Poly, built: Poly) -> Bound:
        """A field or an item: it may be nearly all of the whole."""
        total = add(whole.steps, steps, constant(_NODE))
        return Bound(whole.size, whole.inner, whole.inner, total, add(whole.built, built))

    def _primary(self) -> Bound:
        token = self.next()
        if token.kind == "name":
            if token.text.startswith(COLLECTOR):
                raise NotUnderstood(f"the name {token.text!r}, which is kept for the engine")
            if self.accept("("):
                return self._call(token.text, None)
            return self._variable(token)
        if token.kind == "text":
            size = constant(1 + len(token.text.encode()) // 16)
            # The escapes of a text only make it shorter.
            steps = add(scaled(size, _COPY), constant(_NODE))
            return Bound(size, {}, {}, steps, size, pattern_text(token.text))
        if token.kind == "number":
            return _scalar(constant(_NODE), {})
        if token.kind == "mark" and token.text == "(":
            bound = self._expression()
            self.expect(")")
            return bound
        if token.kind == "mark" and token.text in ("[", "{"):
            return self._literal(token.text)
        raise NotUnderstood(f"{token.text!r} at {token.start + 1}")

    def _variable(self, token: Token) -> Bound:
        name = token.text
        if name in ("true", "false", "null"):
            return _scalar(constant(_NODE), {})
        for local, bound in reversed(self._locals):
            if local == name:
                return bound
        self.names.add(name)
        if name in self._keys:
            self._note_key(name)
        return Bound(symbol(SCOPE), symbol(WIDEST), symbol(WIDEST), constant(_NODE), {})

    def _note_key(self, name: str) -> None:
        """Keep the key that follows ``context`` or ``outputs``; any other use needs all of them."""
        ahead = self.tokens[self.at : self.at + 3]
        marks = [token.text for token in ahead]
        key: str | None = None
        if len(ahead) == 3 and ahead[0].kind == "mark":
            if marks[0] == "." and ahead[1].kind == "name" and marks[2] != "(":
                key = marks[1]
            elif marks[0] == "[" and ahead[1].kind == "text" and marks[2] == "]":
                key = literal_text(marks[1])
        keys = self._keys[name]
        if key is None or keys is None:
            self._keys[name] = None
        else:
            keys.add(key)

    def _literal(self, opening: str) -> Bound:
        """A list or a map; the keys of a map count as its items too."""
        closing = CLOSING[opening]
        parts = []
        while not self.accept(closing):
            parts.append(self._expression())
            if opening == "{":
                self.expect(":")
                parts.append(self._expression())
            if not self.accept(","):
                self.expect(closing)
                break
        size = add(constant(1), *(part.size for part in parts))
        inner: Poly = {}
        for part in parts:
            inner = upper(inner, upper(part.count, part.inner))
        copied = scaled(size, 2 * _COPY)
        steps = add(constant(_NODE * (1 + len(parts))), copied, *(part.steps for part in parts))
        return Bound(size, constant(len(parts)), inner, steps, add(size, *(part.built for part in parts)))

    def _call(self, name: str, target: Bound | None) -> Bound:
        """A function: none of CEL's own takes longer than its arguments are, but ``matches``."""
        arguments = [] if target is None else [target]
        while not self.accept(")"):
            arguments.append(self._expression())
            if not self.accept(","):
                self.expect(")")
                break
        weight = add(*(argument.size for argument in arguments))
        steps = add(constant(_CALL), scaled(weight, 2 * _COPY), *(argument.steps for argument in arguments))
        built = add(*(argument.built for argument in arguments))
        if name == "matches" and arguments:
            states, building = pattern_costs(arguments[-1].literal)
            return _scalar(add(steps, scaled(weight, _STATE * states), constant(building)), built)
        if name in _SCALAR_FUNCTIONS:
            return _scalar(steps, built)
        # Bytes that are no UTF-8 become text of three bytes each; ``max`` and the like give one of their arguments.
        size = add(scaled(weight, 3), constant(2))
        count = add(*(argument.count for argument in arguments))
        inner = add(*(argument.inner for argument in arguments))
        return Bound(size, add(count, inner), inner, add(steps, scaled(size, _COPY)), add(built, size))

    def _macro(self, target: Bound, name: Token, start: int) -> Bound:
        variable = self.next()
        arguments = 1
        self._symbols += 1
        item = self._symbols
        self._locals.append((variable.text, Bound(symbol(item), target.inner, target.inner, constant(_NODE), {})))
        bodies = []
        marks = [self.expect(",")]
        while True:
            bodies.append(self._expression())
            arguments += 1
            if not self.accept(","):
                break
            marks.append(self.tokens[self.at - 1])
        self._locals.pop()
        end = self.expect(")")
        turn = add(constant(_TURN), scaled(symbol(item), _COPY), *(body.steps for body in bodies))
        built = add(*(body.built for body in bodies))
        collects = name.text in ("map", "filter")
        kept = bodies[-1].size if name.text == "map" else symbol(item)
        if collects:
            turn = add(turn, constant(_PUSH), scaled(kept, _PUSH_WEIGHT))
            built = add(built, kept)
            self.edits += collecting(self.collectors, name, variable.text, start, marks, end)
            self.collectors += 1
        count = target.size if self._by_weight else target.count

        def total(poly: Poly) -> Poly:
            return sum_over(poly, item, target.size, count)

        steps = add(target.steps, constant(_CALL), total(turn))
        built = add(target.built, total(built))
        if not collects:
            return _scalar(steps, built)
        size = add(constant(1), total(kept))
        if name.text == "filter":
            return Bound(size, target.count, target.inner, steps, built)
        return Bound(size, target.count, upper(bodies[-1].count, bodies[-1].inner), steps, built)


def _scalar(steps: Poly, built: Poly) -> Bound:
    """A number, a boolean or null."""
    return Bound(constant(1), {}, {}, steps, built)
