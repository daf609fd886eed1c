"""What ``headrace dev broker`` refuses before anything is started or downloaded."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace_adapters.cli.exit_codes import ExitCode
from headrace_adapters.cli.main import main

Refused = Callable[..., dict[str, object]]


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Refused:
    """Type ``headrace dev broker`` on a machine without Java; gives the error."""

    def typed(*arguments: str) -> dict[str, object]:
        monkeypatch.setattr(sys, "argv", ["headrace", "dev", "broker", "--json", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        error = json.loads(err)["error"]
        assert out == ""
        assert caught.value.code == error["exitCode"]
        return error

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    return typed


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--nodes", "2"], "a broker has 1 or 3, not 2"),
        (["--port", "0"], "port: 0 is none; give a number from 1 to 65535"),
        (["--nodes", "3", "--port", "65534"], "give a number from 1 to 65533"),
    ],
)
def test_a_broker_of_no_use_is_refused_before_anything_is_looked_for(
    refused: Refused, arguments: list[str], reason: str
) -> None:
    error = refused(*arguments)

    assert error["exitCode"] == ExitCode.USAGE
    assert reason in str(error["message"])


def test_without_java_it_says_what_to_install_and_makes_nothing(refused: Refused, tmp_path: Path) -> None:
    error = refused()

    assert error["exitCode"] == ExitCode.STORE
    assert "install Java 17 or newer and Maven" in str(error["message"])
    assert list(tmp_path.iterdir()) == []
