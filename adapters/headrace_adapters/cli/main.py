"""The program ``headrace``."""

from __future__ import annotations

__all__ = ["cli", "main"]

import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import orjson
import typer

from headrace_adapters.cli import (
    dead_letter_commands,
    definition_commands,
    dev_commands,
    look_commands,
    operate_commands,
    run_commands,
    start_commands,
    topic_commands,
)
from headrace_adapters.cli.exit_codes import ExitCode

_EXIT_CODES = "  ".join(f"{int(code)} {code.name.lower()}" for code in ExitCode)

cli = typer.Typer(
    name="headrace",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=f"Exit codes: {_EXIT_CODES}",
)

_WORK, _TELL, _LOOK, _DEFINE = "Work", "Tell a run something", "Look at runs", "Look at flows"
_DEVELOP = "Develop"
_LOOK_AFTER = "Look after a cluster"

cli.command(rich_help_panel=_WORK)(run_commands.run)
cli.command(rich_help_panel=_WORK)(run_commands.worker)
cli.command(rich_help_panel=_WORK)(start_commands.start)
cli.command(rich_help_panel=_LOOK)(look_commands.result)
cli.command(rich_help_panel=_LOOK)(look_commands.status)
cli.command("list", rich_help_panel=_LOOK)(look_commands.list_)
cli.command(rich_help_panel=_LOOK)(look_commands.events)
cli.command(rich_help_panel=_TELL)(operate_commands.resume)
cli.command(rich_help_panel=_TELL)(operate_commands.signal)
cli.command(rich_help_panel=_TELL)(operate_commands.cancel)
cli.command(rich_help_panel=_TELL)(operate_commands.pause)
cli.command(rich_help_panel=_TELL)(operate_commands.unpause)
cli.command(rich_help_panel=_DEFINE)(definition_commands.check)
cli.command(rich_help_panel=_DEFINE)(definition_commands.graph)
cli.add_typer(topic_commands.topics, rich_help_panel=_LOOK_AFTER)
cli.add_typer(dead_letter_commands.dead_letters, rich_help_panel=_LOOK_AFTER)
cli.add_typer(dev_commands.dev, rich_help_panel=_DEVELOP)


def _show_version(wanted: bool) -> None:
    if wanted:
        try:
            typer.echo(f"headrace {version('headrace')}")
        except PackageNotFoundError:
            typer.echo("headrace, not installed")
        raise typer.Exit


@cli.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="show the version and exit")
    ] = False,
) -> None:
    """Durable workflows: run them here, start and watch them anywhere."""


def main() -> None:
    """Run the command of this process's arguments, and exit with its code."""
    for stream in (sys.stdout, sys.stderr):
        # A character that the terminal's encoding lacks must not end a command.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if "--json" not in sys.argv:
        cli()
        return
    # Wrong options, too, are told as JSON to whoever asked for JSON.
    try:
        code = cli(standalone_mode=False)
    except typer.Abort:
        code = ExitCode.INTERRUPTED
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        told = {"code": ExitCode.USAGE.name, "exitCode": int(ExitCode.USAGE), "message": error.format_message()}
        sys.stderr.write(orjson.dumps({"error": told}, option=orjson.OPT_APPEND_NEWLINE).decode())
        code = ExitCode.USAGE
    sys.exit(int(code or 0))


if __name__ == "__main__":
    main()
