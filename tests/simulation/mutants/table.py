"""The table of mistakes in the README of the simulation, between two comments that mark its place."""

from __future__ import annotations

__all__ = ["README", "write_table"]

from collections.abc import Iterable
from pathlib import Path

from .catalogue import named
from .hunt import Find, sort_of

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- mutants: begin -->", "<!-- mutants: end -->"

HEAD = "| Mutant | What is wrong | Seed | Worlds | Seconds | How it showed |\n|---|---|---:|---:|---:|---|\n"


def write_table(finds: Iterable[Find], readme: Path = README) -> None:
    """Put the table in the place of the one that is there."""
    text = readme.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    assert rest, f"{readme} has no place for the table: {BEGIN} and {END}"
    assert after, f"{readme} has no place for the table: {BEGIN} and {END}"
    readme.write_text(f"{before}{BEGIN}\n{HEAD}{''.join(map(_row, finds))}{END}{after}", encoding="utf-8")


def _row(find: Find) -> str:
    mutant, failure = named(find.name), find.failure
    seed, how = ("", "not found") if failure is None else (str(failure.seed), f"`{_plain(sort_of(failure))}`")
    return f"| {mutant.name} | {_plain(mutant.what)} | {seed} | {find.worlds} | {find.seconds:.1f} | {how} |\n"


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("`", "'")
