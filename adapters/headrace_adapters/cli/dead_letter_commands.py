"""``dead-letters list``, ``show`` and ``redrive``: records that could not be read or handled."""

from __future__ import annotations

__all__ = ["dead_letters"]

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from headrace.errors import DefinitionError
from headrace_adapters.base.dead_letters import (
    FoundLetters,
    KeptLetter,
    LetterBox,
    LetterFilter,
    LetterPlace,
    Redriven,
    omission_told,
)
from headrace_adapters.cli.exit_codes import CliError, ExitCode
from headrace_adapters.cli.kafka_apps import is_kafka, kafka_app, silent_logger
from headrace_adapters.cli.options import AppOption, DebugOption, JsonOption, UrlOption, given_duration_ms
from headrace_adapters.cli.output import Output, clock_text, one_line
from headrace_adapters.cli.raw_bytes import key_text, lines_of, record_fields
from headrace_adapters.settings import load_settings, shown_url

REASON_CHARS_MAX = 100

dead_letters = typer.Typer(
    name="dead-letters", no_args_is_help=True, help="Records that could not be read or handled: look, and write them again."
)

SinceOption = Annotated[
    str | None,
    typer.Option("--since", metavar="TIME", help="only those of the last 30m, 2h, 7d; or from 2030-01-31[T12:00] on"),
]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="only those whose reason has this in it")]


@dead_letters.callback()
def _dead_letters() -> None:
    """Records that could not be read or handled: look, and write them again."""


@dead_letters.command("list")
def list_(
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, help="at most so many")] = 100,
    oldest: Annotated[bool, typer.Option("--oldest", help="the oldest ones first, else the newest")] = False,
    since: SinceOption = None,
    reason: ReasonOption = "",
    url: UrlOption = None,
    app: AppOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """List dead letters, those that were redriven too."""
    with Output(as_json, debug) as output:
        wanted = LetterFilter(_since_ms(since), reason)
        with _opened(url, app, debug=debug) as box:
            found = box.find(wanted, limit=limit, oldest_first=oldest)
        if output.as_json:
            for kept in found.letters:
                output.data(_view(kept))
        else:
            _show_list(output, found)


@dead_letters.command()
def show(
    place: Annotated[str, typer.Argument(metavar="PARTITION-OFFSET", help="its place, as list shows it")],
    url: UrlOption = None,
    app: AppOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show a dead letter with its record, to the byte."""
    with Output(as_json, debug) as output:
        wanted = LetterPlace.read(place)
        with _opened(url, app, debug=debug) as box:
            kept = box.get(wanted)
        if kept is None:
            raise _unknown(wanted)
        if output.as_json:
            output.data(_view(kept) | record_fields("record", kept.letter.record))
        else:
            _show(output, kept)


@dead_letters.command()
def redrive(
    places: Annotated[
        list[str] | None, typer.Argument(metavar="[PARTITION-OFFSET]...", help="their places, as list shows them")
    ] = None,
    all_: Annotated[
        bool, typer.Option("--all", help="all that were not redriven before, or those of them that fit")
    ] = False,
    since: SinceOption = None,
    reason: ReasonOption = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="write nothing, and tell what would be written where")] = False,
    again: Annotated[bool, typer.Option("--again", help="those that were redriven before, too")] = False,
    url: UrlOption = None,
    app: AppOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write records with their keys to where they came from, once the cause is gone; each of them once.

    What still cannot be handled becomes a new dead letter. A start that was taken meanwhile changes nothing.
    """
    with Output(as_json, debug) as output:
        wanted = _wanted(places or [], all_=all_, since=since, reason=reason)
        count = 0

        def tell(done: Sequence[Redriven]) -> None:
            nonlocal count
            count += len(done)
            for redriven in done:
                _tell(output, redriven, dry_run=dry_run)

        with _opened(url, app, debug=debug) as box:
            left_out = box.redrive(wanted, tell, again=again, dry_run=dry_run)
        for place, why in left_out:
            if output.as_json:
                output.data({"position": str(place), "redriven": False, "reason": why})
            else:
                output.line((f"{place} ", "yellow"), f"is left out: {why}")
        told = "would be written" if dry_run else "written"
        output.note((f"{count} {'record' if count == 1 else 'records'} {told}", "dim"))
        output.end(ExitCode.REFUSED if left_out else ExitCode.OK)


def _wanted(places: Sequence[str], *, all_: bool, since: str | None, reason: str) -> LetterFilter | Collection[LetterPlace]:
    if all_ == bool(places):
        raise DefinitionError(
            "say which ones: their places, such as 0-41 ('headrace dead-letters list' shows them), or --all, which may be "
            "narrowed by --since and --reason; not both"
        )
    if all_:
        return LetterFilter(_since_ms(since), reason)
    if since is not None or reason:
        raise DefinitionError("--since and --reason narrow --all: leave them out where places are given")
    return {LetterPlace.read(place) for place in places}


@contextmanager
def _opened(url: str | None, app: str | None, *, debug: bool) -> Iterator[LetterBox]:
    settings = load_settings(url=url)
    scheme = settings.url.partition(":")[0].lower()
    box: LetterBox
    if is_kafka(settings.url):
        at = kafka_app(settings, app, "dead letters")
        from headrace_adapters.kafka.dead_letters import open_letter_box as open_kafka

        box = open_kafka(at, logger=None if debug else silent_logger())
    elif scheme == "embedded":
        from headrace_adapters.embedded.dead_letters import open_letter_box as open_folder

        box = open_folder(settings.url)
    else:
        raise DefinitionError(
            f"{shown_url(settings.url)!r} keeps no dead letters that a command could reach: give --url kafka://host:9092 or "
            "embedded:FOLDER, or set HEADRACE_URL"
        )
    try:
        yield box
    finally:
        box.close()


def _unknown(place: LetterPlace) -> CliError:
    return CliError(
        ExitCode.UNKNOWN,
        f"there is no dead letter at {place}: see 'headrace dead-letters list'; those that are older than the retention of "
        "the topic are gone",
        position=str(place),
    )


def _since_ms(text: str | None) -> int | None:
    """The moment that ``--since`` says: so long ago, or a date with or without a time (in this machine's zone)."""
    if text is None:
        return None
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1_000)
    except (ValueError, OverflowError, OSError):
        ago_ms = given_duration_ms("--since (a date such as 2030-01-31, or how long ago)", text)
        assert ago_ms is not None
        return time.time_ns() // 1_000_000 - ago_ms


def _view(kept: KeptLetter) -> dict[str, Any]:
    """A dead letter for programs, without its record."""
    letter = kept.letter
    view = {
        "position": str(kept.place),
        "at": letter.at_ms,
        "source": {"topic": letter.source_topic, "partition": letter.partition, "offset": letter.offset},
        "reason": letter.reason,
        "recordBytes": letter.omitted or (None if letter.record is None else len(letter.record)),
        **record_fields("key", letter.key),
    }
    return view if kept.redriven_ms is None else {**view, "redrivenAt": kept.redriven_ms}


def _source(kept: KeptLetter) -> str:
    letter = kept.letter
    return f"{letter.source_topic} {letter.partition}{'' if letter.offset < 0 else f'-{letter.offset}'}"


def _show_list(output: Output, found: FoundLetters) -> None:
    if found.unreadable:
        output.note((f"{found.unreadable} other records cannot be read as dead letters; {found.problem}", "yellow"))
    if not found.letters:
        output.note(("no dead letters", "dim"))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("position", "when", "source", "key", "redriven", "reason"):
        folds = name in ("key", "reason")
        table.add_column(name, overflow="fold" if folds else "ellipsis", no_wrap=not folds)
    for kept in found.letters:
        reason = one_line(kept.letter.reason)
        table.add_row(
            Text(str(kept.place)),
            Text(clock_text(kept.letter.at_ms, with_date=True)),
            Text(_source(kept)),
            Text(key_text(kept.letter.key)),
            Text(clock_text(kept.redriven_ms, with_date=True), "green"),
            Text(reason if len(reason) <= REASON_CHARS_MAX else reason[: REASON_CHARS_MAX - 1] + "…"),
        )
    output.table(table)
    if found.matching > len(found.letters):
        output.note((f"these are {len(found.letters)} of {found.matching}: --limit shows more", "dim"))


def _show(output: Output, kept: KeptLetter) -> None:
    letter = kept.letter
    output.line((f"dead letter {kept.place}", "bold"), (f" of {clock_text(letter.at_ms, with_date=True)}", "dim"))
    output.line(("source   ", "dim"), _source(kept))
    output.line(("key      ", "dim"), key_text(letter.key) or ("none", "dim"))
    output.line(("reason   ", "dim"), (one_line(letter.reason), "red"))
    if kept.redriven_ms is not None:
        output.line(("redriven ", "dim"), (clock_text(kept.redriven_ms, with_date=True), "green"))
    if letter.omitted:
        output.line(("record   ", "dim"), (omission_told(letter), "yellow"))
        return
    if letter.record is None:
        output.line(("record   ", "dim"), ("none", "dim"))
        return
    output.line(("record   ", "dim"), (f"{len(letter.record)} bytes", "dim"))
    for line in lines_of(letter.record):
        output.line(line)


def _tell(output: Output, redriven: Redriven, *, dry_run: bool) -> None:
    if output.as_json:
        to = {"topic": redriven.topic, "partition": redriven.partition}
        output.data({"position": str(redriven.place), "redriven": not dry_run, "to": to})
    else:
        style = "dim" if dry_run else "green"
        output.line((f"{redriven.place} ", style), f"to {redriven.topic}, partition {redriven.partition}")
