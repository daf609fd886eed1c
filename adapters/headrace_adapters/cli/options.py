"""Options that several commands have, and what they open with them."""

from __future__ import annotations

__all__ = [
    "AppOption",
    "DebugOption",
    "JsonOption",
    "RunArgument",
    "TargetArgument",
    "UrlOption",
    "client_app",
    "given_duration_ms",
]

from typing import Annotated

import typer

from headrace.app import App
from headrace.durations import parse_duration_ms
from headrace.errors import DefinitionError
from headrace_adapters.cli.loading import load_app, names_code
from headrace_adapters.settings import Settings, shown_url

TargetArgument = Annotated[
    str,
    typer.Argument(metavar="APP", help="file.py, package.module, module:object or file.py:object", show_default=False),
]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="the id of the run", show_default=False)]
UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url", "-u", metavar="URL", help="where the work is carried (default: HEADRACE_URL, then embedded:./data)",
        show_default=False,
    ),
]  # fmt: skip
AppOption = Annotated[
    str | None,
    typer.Option(
        "--app", "-a", metavar="APP", show_default=False,
        help="the name of the app (HEADRACE_APP), or file.py or module:object to load it",
    ),
]  # fmt: skip
JsonOption = Annotated[bool, typer.Option("--json", help="write JSON for programs, and nothing else")]
DebugOption = Annotated[bool, typer.Option("--debug", help="show tracebacks of errors")]

# Where a command names no app and no adapter asks for one, any name will do.
NAMELESS = "headrace"

# Adapters whose places hold the runs of one app, so that nobody has to say whose.
_ONE_APP = ("embedded:", "memory:")


def client_app(settings: Settings, target: str | None) -> App:
    """The app of a command that only reaches runs: loaded where *target* says what to load, else its name.

    Raises :class:`DefinitionError` where nobody has said which app is meant, and several live side by side.
    """
    if target is not None and names_code(target):
        return load_app(target)
    named = target or settings.app
    if named is None and not settings.url.lower().startswith(_ONE_APP):
        raise DefinitionError(
            f"several apps live side by side at {shown_url(settings.url)}: say which one is meant, with --app NAME or "
            "HEADRACE_APP"
        )
    return App(named or NAMELESS)


def given_duration_ms(option: str, text: str | None) -> int | None:
    """The duration of an option; raises :class:`DefinitionError`. Numbers without a unit are seconds."""
    if text is None:
        return None
    try:
        return parse_duration_ms(f"{text}s" if text.replace(".", "", 1).isdecimal() else text)
    except ValueError:
        raise DefinitionError(
            f"{option}: expected seconds, or a duration such as 500ms, 30s, 5m or 1h, not {text!r}"
        ) from None
