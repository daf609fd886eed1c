"""Writes the macros that make lists as ones that do not (``expression_syntax`` says why)."""

from __future__ import annotations

__all__ = ["COLLECTOR", "Edit", "collecting", "edited"]

from collections.abc import Sequence
from typing import NamedTuple

from headrace.expression_tokens import Token

COLLECTOR = "__headrace_"
"""What the names of the collector's functions begin with; no expression may use such a name."""


class Edit(NamedTuple):
    """Text in place of what stands from *start* to *end*; *opens* says that it belongs to what follows it."""

    start: int
    end: int
    text: str
    opens: bool = False


def edited(source: str, edits: Sequence[Edit]) -> str:
    """Apply the edits. Inner macros recorded theirs first: what opens goes before theirs, what closes behind."""
    order = sorted(range(len(edits)), key=lambda n: (edits[n].start, -n if edits[n].opens else n))
    parts: list[str] = []
    at = 0
    for edit in (edits[n] for n in order):
        parts += (source[at : edit.start], edit.text)
        at = edit.end
    return "".join((*parts, source[at:]))


def collecting(number: int, name: Token, variable: str, start: int, commas: Sequence[Token], end: Token) -> list[Edit]:
    """The edits for one ``map`` or ``filter``.

    *start* is where what it goes through begins, *commas* those between its arguments, *end* its closing bracket.
    """
    body = commas[0].end
    push = f"{COLLECTOR}push({number}, "
    edits = [Edit(name.start, name.end, "all")]
    if name.text == "map" and len(commas) == 1:
        edits += (Edit(body, body, push, opens=True), Edit(end.start, end.start, ")"))
    elif name.text == "map":
        edits += (
            Edit(body, body, "(", opens=True),
            Edit(commas[1].start, commas[1].end, f") ? {push}"),
            Edit(end.start, end.start, ") : true"),
        )
    else:
        edits += (
            Edit(body, body, "(", opens=True),
            Edit(end.start, end.start, f") ? {push}{variable}) : true"),
        )
    take = f"{COLLECTOR}take({number}, {COLLECTOR}start({number}), "
    return [*edits, Edit(start, start, take, opens=True), Edit(end.end, end.end, ")")]
