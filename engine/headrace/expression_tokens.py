"""The words and marks of an expression, and the texts in it, as CEL's grammar cuts them."""

from __future__ import annotations

__all__ = ["CLOSING", "Cursor", "NotUnderstood", "Token", "literal_text", "nesting_of", "pattern_text", "tokens_of"]

import re
from typing import NamedTuple

CLOSING = {"(": ")", "[": "]", "{": "}"}

_STRING = r"'''(?:[^\\]|\\.)*?'''|\"\"\"(?:[^\\]|\\.)*?\"\"\"|'(?:[^'\\\n\r]|\\.)*'|\"(?:[^\"\\\n\r]|\\.)*\""
_RAW = r"'''.*?'''|\"\"\".*?\"\"\"|'[^'\n\r]*'|\"[^\"\n\r]*\""
_TOKEN = re.compile(
    rf"""(?P<space>[\t\n\f\r ]+|//[^\n]*)
    |(?P<text>[bB]?[rR](?:{_RAW})|[bB]?(?:{_STRING}))
    |(?P<number>0x[0-9a-fA-F]+[uU]?|[0-9]*\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+|[0-9]+[uU]?)
    |(?P<name>[_a-zA-Z][_a-zA-Z0-9]*)
    |(?P<mark>==|!=|<=|>=|&&|\|\||[-+*/%<>!?:.,()\[\]{{}}])""",
    re.VERBOSE | re.DOTALL,
)
_PLAIN_TEXT = re.compile(r"""(?P<quote>['"])(?P<text>[^'"\\]*)(?P=quote)""")


class NotUnderstood(Exception):
    """Raised for what CEL may understand and this module does not."""


class Token(NamedTuple):
    """*kind* is ``text`` (a literal), ``number``, ``name``, ``mark`` or ``end``."""

    kind: str
    text: str
    start: int
    end: int


def nesting_of(source: str) -> int:
    """How deep brackets and conditionals nest in a text, which need not be an expression."""
    depth = deepest = 0
    conditionals = 0
    for match in _TOKEN.finditer(source):
        mark = match["mark"]
        depth += mark in CLOSING if mark else 0
        depth -= mark in (")", "]", "}") if mark else 0
        conditionals += mark == "?"
        deepest = max(deepest, depth)
    return deepest + conditionals


def tokens_of(source: str) -> list[Token]:
    """Cut an expression, with a token of kind ``end`` behind it; raises :class:`NotUnderstood`."""
    tokens = []
    at = 0
    while at < len(source):
        match = _TOKEN.match(source, at)
        if match is None:
            raise NotUnderstood(f"character {source[at]!r} at {at + 1}")
        at = match.end()
        kind = match.lastgroup or ""
        if kind != "space":
            tokens.append(Token(kind, match[0], match.start(), at))
    tokens.append(Token("end", "", len(source), len(source)))
    return tokens


def literal_text(token: str) -> str | None:
    """What a literal without any escape stands for; None for any other."""
    plain = _PLAIN_TEXT.fullmatch(token)
    return plain["text"] if plain else None


def pattern_text(token: str) -> str | None:
    """What a literal stands for, where it is raw or escapes nothing but backslashes; None for any other."""
    if token[0] in "rR":
        quotes = 3 if token[1:4] in ('"""', "'''") else 1
        return token[1 + quotes : -quotes]
    if token[0] in "bB" or token[:3] in ('"""', "'''"):
        return None
    content = token[1:-1].replace("\\\\", "\0")
    return None if "\\" in content else content.replace("\0", "\\")


class Cursor:
    """Goes through tokens from left to right."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.at = 0

    @property
    def here(self) -> Token:
        """The token at hand."""
        return self.tokens[self.at]

    def next(self) -> Token:
        """Take the token at hand."""
        token = self.tokens[self.at]
        self.at += 1
        return token

    def accept(self, mark: str) -> bool:
        """Take the token at hand if it is that mark."""
        if self.here.kind == "mark" and self.here.text == mark:
            self.at += 1
            return True
        return False

    def expect(self, mark: str) -> Token:
        """Take that mark; raises :class:`NotUnderstood` where another token is at hand."""
        token = self.next()
        if token.kind != "mark" or token.text != mark:
            raise NotUnderstood(f"{token.text!r} at {token.start + 1}, where {mark!r} was expected")
        return token

    def arguments_ahead(self) -> int:
        """How many arguments the bracket that was just opened holds."""
        depth, commas, at = 0, 0, self.at
        while depth >= 0 and self.tokens[at].kind != "end":
            token = self.tokens[at]
            if token.kind == "mark":
                depth += (token.text in CLOSING) - (token.text in (")", "]", "}"))
                commas += depth == 0 and token.text == ","
            at += 1
        return 0 if at == self.at + 1 else commas + 1
