"""Looking at flows: ``check`` and ``graph``, of an app or of a blueprint in a JSON file."""

from __future__ import annotations

__all__ = ["check", "graph"]

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from headrace.blueprint import Blueprint, from_json
from headrace.draw import to_dot, to_mermaid
from headrace.errors import BlueprintInvalid, DefinitionError, Problem
from headrace.validation import validate
from headrace_adapters.cli.exit_codes import ExitCode
from headrace_adapters.cli.inputs import read_document
from headrace_adapters.cli.loading import load_app
from headrace_adapters.cli.options import DebugOption, JsonOption
from headrace_adapters.cli.output import Output

SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="APP", help="file.py, package.module, module:object, or a file.json of one or more blueprints",
        show_default=False,
    ),
]  # fmt: skip


class Format(StrEnum):
    """What a graph is written in."""

    MERMAID = "mermaid"
    DOT = "dot"


def check(source: SourceArgument, as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Validate every flow and print each problem with its node or edge; exit code 1 if there is any."""
    with Output(as_json, debug) as output:
        checked = list(_check(source))
        bad = any(not problem.warning for _, _, problems in checked for problem in problems)
        if output.as_json:
            flows = [
                {"id": flow, "version": version, "problems": [problem._asdict() for problem in problems]}
                for flow, version, problems in checked
            ]
            output.data({"ok": not bad, "flows": flows})
        else:
            _show(output, source, checked)
        output.end(ExitCode.FAILED if bad else ExitCode.OK)


_Checked = tuple[str, str, tuple[Problem, ...]]


def _check(source: str) -> list[_Checked]:
    if source.endswith(".json"):
        checked: list[_Checked] = []
        readable: list[Blueprint] = []
        documents = _documents(source)
        for document in documents:
            try:
                readable.append(from_json(document))
            except BlueprintInvalid as error:
                checked.append((error.blueprint_id, "", error.problems))
        # What one file leaves out, another one or an app may have; a file of several is taken to be whole.
        known = {blueprint.id for blueprint in readable} if len(documents) > 1 else None
        return checked + [(it.id, it.version, validate(it, blueprints=known)) for it in readable]
    app = load_app(source)
    implementations, blueprints = app.registry, app.blueprints
    known = {blueprint.id for blueprint in blueprints}
    return [(it.id, it.version, validate(it, implementations=implementations, blueprints=known)) for it in blueprints]


def _documents(source: str) -> list[Any]:
    document = read_document(Path(source))
    return document if isinstance(document, list) else [document]


def _show(output: Output, source: str, checked: list[_Checked]) -> None:
    for flow, version, problems in checked:
        errors = sum(not problem.warning for problem in problems)
        mark = ("✘ ", "bold red") if errors else ("✔ ", "green")
        output.line(mark, (flow or "(no id)", "bold"), (f" version {version}" if version else "", "dim"))
        for problem in problems:
            style = "yellow" if problem.warning else "red"
            place = "" if problem.where == "blueprint" else f" at {problem.where}"
            kind = "warning " if problem.warning else ""
            output.line("    ", (f"{kind}{problem.code}", style), f"{place}: {problem.message}")
    if not checked:
        output.note((f"{source} has no flows", "yellow"))


def graph(
    source: SourceArgument,
    flow: Annotated[
        str | None, typer.Argument(metavar="FLOW", help="the flow, where there are several", show_default=False)
    ] = None,
    format_: Annotated[Format, typer.Option("--format", "-f", help="what it is written in")] = Format.MERMAID,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Print the graph of a flow, as Mermaid or DOT text."""
    with Output(as_json, debug) as output:
        blueprint = _blueprint(source, flow)
        text = to_dot(blueprint) if format_ is Format.DOT else to_mermaid(blueprint)
        if output.as_json:
            output.data({"flow": blueprint.id, "version": blueprint.version, "format": format_.value, "text": text})
        else:
            output.line(text.rstrip("\n"))


def _blueprint(source: str, flow: str | None) -> Blueprint:
    if source.endswith(".json"):
        blueprints = [from_json(document) for document in _documents(source)]
    else:
        blueprints = list(load_app(source).blueprints)
    newest = {blueprint.id: blueprint for blueprint in blueprints}
    if flow is None and len(newest) == 1:
        return next(iter(newest.values()))
    if flow not in newest:
        named = ", ".join(newest) or "none at all"
        what = f"has no flow {flow!r}" if flow is not None else "has several: say which FLOW to draw"
        raise DefinitionError(f"{source} {what}; its flows are: {named}")
    return newest[flow]
