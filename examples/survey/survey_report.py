"""The report of a survey, in Markdown: tables that a person can check against the files."""

from __future__ import annotations

from typing import Any

HOW_TO_CHECK = """## How to check this

`find PATH -name '*.py'` gives the files; left out are folders that begin with a dot, and virtual environments.
`wc -l FILE` gives the lines of a file (one less, where its last line has no end), and
`grep -cE '^\\s*(async )?def ' FILE` its functions (more, where a text in it looks like one). A function's length counts
from its `def` to its last line. Complexity is an estimate: one, and one more for each point where the function may go
another way."""


def write(root: str, limit: int, ranking: dict[str, Any], found: dict[str, Any], approval: str) -> str:
    """The text of the report."""
    totals = ranking["totals"]
    counts = ", ".join(f"{totals[what]} {what}" for what in ("files", "lines", "functions", "classes"))
    parts = [
        f"# Survey of {_cell(root)}",
        f"**{counts}; {len(ranking['errors'])} files could not be parsed.**",
        f"Verdict: {found['verdict']}. Approval: {_cell(approval)}.",
    ]
    if found["functions"]:
        rows = [
            [_code(f"{it['file']}:{it['line']}"), _code(it["name"]), it["lines"], it["complexity"]]
            for it in found["functions"]
        ]
        parts += [f"## Functions longer than {limit} lines", _table(["Place", "Function", "Lines", "Complexity"], rows)]
    if ranking["errors"]:
        errors = [[_code(it["file"]), it["message"]] for it in ranking["errors"]]
        parts += ["## Not parsed", _table(["File", "Error"], errors)]
    parts += ["## Files, those with the longest functions first", _files(ranking)]
    if totals["imports"]:
        used = [[_code(module), files] for module, files in totals["imports"].items()]
        parts += ["## Modules that most files import", _table(["Module", "Files"], used)]
    return "\n\n".join([*parts, HOW_TO_CHECK]) + "\n"


def _files(ranking: dict[str, Any]) -> str:
    rows: list[list[Any]] = []
    for it in ranking["files"]:
        longest = it["longest"]
        named = f"{_code(longest['name'])} (line {longest['line']})" if longest["name"] else ""
        rows.append(
            [_code(it["file"]), it["lines"], it["functions"], it["classes"], named, longest["lines"], it["complexity"]]
        )
    totals = ranking["totals"]
    last = [f"{totals['files']} files", totals["lines"], totals["functions"], totals["classes"], ""]
    rows.append([f"**{value}**" if value != "" else "" for value in [*last, totals["longest"], totals["complexity"]]])
    return _table(["File", "Lines", "Functions", "Classes", "Longest function", "Its lines", "Highest complexity"], rows)


def _table(titles: list[str], rows: list[list[Any]]) -> str:
    # Numbers stand to the right, by what the first row holds.
    marks = ["---:" if rows and isinstance(value, int) else "---" for value in (rows[0] if rows else titles)]
    lines = [titles, marks, *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _code(name: str) -> str:
    """A name as it is: underscores in it mean nothing to Markdown then."""
    return name if "`" in name else f"`{name}`"


def _cell(value: object) -> str:
    """Text that ends no cell and no line."""
    return " ".join(str(value).replace("|", "\\|").split())
