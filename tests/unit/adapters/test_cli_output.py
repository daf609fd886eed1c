from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from headrace.errors import (
    BlueprintInvalid,
    CommandRefused,
    DefinitionError,
    HeadraceError,
    Problem,
    RunEndedBadly,
    StoreLocked,
    ValueRefused,
)
from headrace_adapters.cli.exit_codes import CliError, ExitCode, code_of_answer, code_of_status
from headrace_adapters.cli.output import Output, clock_text, compact, duration_text, one_line
from headrace_adapters.cli.progress import choose_rows
from headrace_adapters.cli.rows import Row


@pytest.mark.parametrize(
    ("duration_ms", "text"),
    [
        (-5, "0 ms"),
        (0, "0 ms"),
        (999, "999 ms"),
        (1_500, "1.50 s"),
        (12_340, "12.3 s"),
        (60_000, "1 min"),
        (185_000, "3 min 5 s"),
        (7_800_000, "2 h 10 min"),
        (273_600_000, "3 d 4 h"),
    ],
)
def test_durations_are_said_as_people_do(duration_ms: int, text: str) -> None:
    assert duration_text(duration_ms) == text


def test_a_time_that_is_not_there_is_empty() -> None:
    assert clock_text(None) == clock_text(0) == ""
    assert len(clock_text(1_000)) == 8
    assert len(clock_text(1_000, with_date=True)) == 19


def test_long_values_are_cut_and_lines_are_joined() -> None:
    assert compact({"a": [1, None]}) == '{"a":[1,null]}'
    assert compact("x" * 100, 10) == '"xxxxxxxx…'
    assert one_line(" a\n\n  b\r\nc ") == "a / b / c"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DefinitionError("x"), ExitCode.USAGE),
        (ValueRefused("x"), ExitCode.USAGE),
        (HeadraceError("x"), ExitCode.USAGE),
        (CommandRefused("x"), ExitCode.REFUSED),
        (StoreLocked("x"), ExitCode.STORE),
        (RunEndedBadly("x", None), ExitCode.FAILED),
        (CliError(ExitCode.UNKNOWN, "x"), ExitCode.UNKNOWN),
        (ZeroDivisionError("x"), ExitCode.DEFECT),
    ],
)
def test_an_error_ends_a_command_with_the_code_of_whoever_has_to_act(
    error: Exception, code: ExitCode, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as caught, Output(as_json=True):
        raise error

    assert caught.value.exit_code == code
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err)["error"]["code"] == code.name


def test_details_of_an_error_are_there_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), Output(as_json=True):
        raise CliError(ExitCode.UNKNOWN, "x", runId="r1")
    with pytest.raises(typer.Exit), Output(as_json=True):
        raise BlueprintInvalid("f", (Problem("EMPTY_NODE_ID", "node ''", "is empty"),))

    first, second = (json.loads(line)["error"] for line in capsys.readouterr().err.splitlines())
    assert first["runId"] == "r1"
    assert second["problems"] == [{"code": "EMPTY_NODE_ID", "where": "node ''", "message": "is empty", "warning": False}]


def test_what_looks_like_markup_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with Output() as output:
        output.line("[red]not red[/red] :smile:")
        output.note("[link]")

    assert capsys.readouterr() == ("[red]not red[/red] :smile:\n", "[link]\n")


def test_programs_get_no_remarks_and_prints_do_not_get_between_their_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with Output(as_json=True) as output:
        output.note("a remark")
        print("an app prints")  # noqa: T201
        output.data({"n": 1})

    assert capsys.readouterr() == ('{"n":1}\n', "an app prints\n")


def test_long_lines_stay_whole_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Output() as output:
        output.line("word " * 400)
        output.value({"text": "x" * 3_000})

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 3


def test_the_documentation_names_every_exit_code() -> None:
    page = (Path(__file__).parents[3] / "docs" / "cli.md").read_text(encoding="utf-8")

    assert [code.name for code in ExitCode if f"| {int(code)} | `{code.name}` |" not in page] == []


def test_finals_and_answers_have_their_codes() -> None:
    assert [code_of_status(status) for status in ("completed", "failed", "cancelled")] == [0, 1, 3]
    assert [code_of_answer(outcome) for outcome in ("applied", "accepted", "duplicate", "ignored", "unknown")] == [
        0, 0, 4, 4, 7,
    ]  # fmt: skip


def test_where_there_is_little_room_what_goes_on_or_went_wrong_is_shown_first() -> None:
    rows = [Row(f"done{number}", "completed", until_ms=number) for number in range(10)]
    rows += [Row(f"later{number}") for number in range(10)]
    rows += [Row("failed", "failed", until_ms=3), Row("busy", "running")]

    shown, left = choose_rows(rows, 5)

    assert [row.id for row in shown] == ["done8", "done9", "failed", "busy"]
    assert len(left) == 18
    assert choose_rows(rows, 22) == (rows, [])
