"""Survey a tree of Python sources: measure every file, rank them, ask for an approval, write a report.

    find ──> measure (a batch: one call for each file) ──> rank ─┬─ a function is longer than the limit ──> findings ─┐
                                                                 └─ none is ──────────────────────────────> clean ────┤
    ┌────────────────────────────────────────────────────────────────────────────────────────────────────────────────┘
    ├─ no approval is asked for ───────────────────────────────────────> report
    └─ it is ──> approval (waits for the signal "approved") ─┬─────────> approved ────> report
                                                             ├ timeout > unanswered ──> report
                                                             └ reject ─> withheld

The input is an object: ``{"path": "engine"}`` says which folder. What may be said besides: ``limit``, the longest
function that is fine, in lines; ``approve``, whether to wait for an approval; ``report``, the file to write.

    headrace run examples/survey/survey.py survey --input '{"path": "engine"}'
"""

from __future__ import annotations

import os
import tokenize
from pathlib import Path
from typing import Any

import source_measures
import survey_report

from headrace import App, Context, FatalError, Flow, Result

LIMIT_LINES = 30

survey = Flow("survey")
app = App("survey").add(survey)


@survey.node
def find(ctx: Context) -> list[str]:
    """The Python files below the folder, by their paths from there, in order. What others need goes into the context."""
    asked = ctx.input if isinstance(ctx.input, dict) else {}
    path, limit = asked.get("path"), asked.get("limit", LIMIT_LINES)
    if not isinstance(path, str) or not isinstance(limit, int) or isinstance(limit, bool):
        # Another attempt would be given the same input, so it is no use to try again.
        raise FatalError('the input is an object such as {"path": "engine", "limit": 30, "approve": true}')
    if not Path(path).is_dir():
        raise FatalError(f"there is no folder {path!r} (looked from {Path.cwd()})")
    ctx.patch({
        "root": path,
        "limit": limit,
        "approve": asked.get("approve") is True,
        "report": str(asked.get("report") or "survey-report.md"),
    })  # fmt: skip
    return python_files(Path(path))


def python_files(root: Path) -> list[str]:
    """Without folders that begin with a dot and virtual environments: what is in them is not of this tree."""
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [it for it in folders if it[0] != "." and not Path(folder, it, "pyvenv.cfg").exists()]
        found += [Path(folder, name).relative_to(root).as_posix() for name in names if name.endswith(".py")]
    return sorted(found)


def measure(ctx: Context) -> dict[str, Any] | Result:
    """One file, as numbers. Of one that cannot be read or parsed the error is collected, in its place."""
    path = Path(ctx.get("root"), ctx.input)
    try:
        # Opens a file as Python itself does: UTF-8, unless its first lines say otherwise.
        with tokenize.open(path) as file:
            text = file.read()
        return {"file": ctx.input} | source_measures.measure(text, ctx.input, limit_lines=ctx.get("limit"))
    except (OSError, RecursionError, SyntaxError, ValueError) as error:
        # As raising would, but without a traceback in the log: nobody is to repair this program.
        return Result(error=f"{type(error).__name__}: {error}")


# At most 32 files at once. This is work for the processor: a worker that has processes runs it there.
survey.batch("measured", measure, find, after=find, chunk_size=32, on_item_error="collect", cpu_bound=True)


@survey.node(after="measured", inputs={"files": find, "measures": "measured"})
def rank(ctx: Context) -> dict[str, Any]:
    """The files with the longest functions first, those that could not be measured apart, and the totals."""
    measures, errors = [], []
    for file, measured in zip(ctx.input["files"], ctx.input["measures"], strict=True):
        if "error" in measured:
            errors.append({"file": file, "message": measured["error"]["message"]})
        else:
            measures.append(measured)
    measures.sort(key=lambda it: (-it["longest"]["lines"], it["file"]))
    return {"files": measures, "errors": errors, "totals": source_measures.totals(measures)}


@survey.node(after=rank, when="result.output.totals.longest > context.limit")
def findings(ctx: Context) -> dict[str, Any]:
    """Every function that is longer than the limit, the longest first."""
    long = [{"file": it["file"], **function} for it in ctx.input["files"] for function in it["long"]]
    long.sort(key=lambda it: (-it["lines"], it["file"], it["line"]))
    return {"verdict": f"{len(long)} functions are longer than {ctx.get('limit')} lines", "functions": long}


@survey.node(after=rank, when="result.output.totals.longest <= context.limit")
def clean(ctx: Context) -> dict[str, Any]:
    """Nothing to find."""
    return {"verdict": f"no function is longer than {ctx.get('limit')} lines", "functions": []}


# Only one of the two runs, and the join does not wait for the other one.
survey.wait("approval", event="approved", timeout="20s", after=[findings, clean], when="context.approve")


@survey.node(after="approval")
def approved(ctx: Context) -> str:
    """A signal came, or a resume without an action; what it carries may say from whom."""
    by = ctx.input.get("by") if isinstance(ctx.input, dict) else None
    return f"approved by {by}" if by else "approved"


@survey.node(after="approval", action="timeout")
def unanswered() -> str:
    """Nobody came, and the report is written all the same."""
    return "nobody answered in time"


@survey.node(after="approval", action="reject")
def withheld(ctx: Context) -> dict[str, Any]:
    """The report is not wanted."""
    return {"report": None, "reason": ctx.input or "rejected"}


@survey.node(
    after=[approved, unanswered],
    inputs={
        "ranking": rank,
        "findings": findings,
        "clean": clean,
        "approved": approved,
        "unanswered": unanswered,
    },
)
def report(ctx: Context) -> dict[str, Any]:
    """Write the report, and say where it is.

    After a crash this may run again. It writes the same file once more, and nobody ever sees half of one.
    """
    given = ctx.input
    found = given["findings"] or given["clean"]
    approval = given["approved"] or given["unanswered"] or "not asked for"
    text = survey_report.write(ctx.get("root"), ctx.get("limit"), given["ranking"], found, approval)
    path = Path(ctx.get("report")).absolute()
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)
    totals, errors = given["ranking"]["totals"], given["ranking"]["errors"]
    counts = {what: totals[what] for what in ("files", "lines", "functions", "classes", "longest", "complexity")}
    return {"report": str(path), "verdict": found["verdict"], "approval": approval, **counts, "notParsed": len(errors)}


survey.edge(findings, report, when="!context.approve").edge(clean, report, when="!context.approve")
