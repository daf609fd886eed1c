"""What the commands refuse before they reach a broker; ``tests/kafka/test_kafka_topics.py`` has the rest."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace_adapters.cli.exit_codes import ExitCode
from headrace_adapters.cli.main import main
from headrace_adapters.kafka import topic_layout
from headrace_adapters.settings import Settings

SECRET = "hunter2"

Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Typed:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"HEADRACE_{name.upper()}", raising=False)
    monkeypatch.delenv("HEADRACE_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(topic_layout, "ANSWER_S", 0.3)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["headrace", "topics", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        return int(caught.value.code or 0), *capsys.readouterr()

    return run


@pytest.mark.parametrize("command", ["create", "describe", "check"])
@pytest.mark.parametrize("url", [None, "memory:", "embedded:./data", "theirs://me:hunter2@host"])
def test_only_kafka_has_topics(typed: Typed, command: str, url: str | None) -> None:
    code, out, err = typed(command, "--app", "orders", *(("--url", url) if url else ()))

    assert (code, out) == (ExitCode.USAGE, "")
    assert "is no URL of it: give --url kafka://host:9092" in err
    assert SECRET not in err


@pytest.mark.parametrize("command", ["create", "describe", "check"])
def test_topics_are_those_of_an_app(typed: Typed, command: str) -> None:
    code, _, err = typed(command, "--url", "kafka://127.0.0.1:1")

    assert code == ExitCode.USAGE
    assert "give its name with --app NAME or HEADRACE_APP, or its code with --app file.py" in err


def test_a_name_that_no_topic_can_have_is_refused(typed: Typed) -> None:
    code, _, err = typed("check", "--url", "kafka://127.0.0.1:1", "--app", "my orders")

    assert code == ExitCode.USAGE
    assert "an app cannot be called 'my orders'" in err


def test_the_name_may_come_from_the_code_of_the_app(typed: Typed) -> None:
    Path("topics_shop.py").write_text("from headrace import App\napp = App('other name')\n", encoding="utf-8")

    code, _, err = typed("check", "--url", "kafka://127.0.0.1:1", "--app", "topics_shop.py")

    assert code == ExitCode.USAGE
    assert "an app cannot be called 'other name'" in err


@pytest.mark.parametrize("command", ["create", "describe", "check"])
def test_a_cluster_that_is_not_reached_is_told_without_the_password(typed: Typed, command: str) -> None:
    code, out, err = typed(command, "--url", f"kafka://me:{SECRET}@127.0.0.1:1", "--app", "orders", "--json")

    told = json.loads(err)["error"]
    assert (code, out) == (ExitCode.STORE, "")
    assert (told["code"], told["exitCode"]) == ("STORE", 5)
    assert "the servers are not reached" in told["message"]
    assert SECRET not in err


def test_why_a_cluster_is_not_reached_is_told_once(typed: Typed) -> None:
    code, _, err = typed("check", "--url", "kafka://127.0.0.1:1", "--app", "orders")

    assert code == ExitCode.STORE
    assert err.count("Connection refused") == 1
    assert len(err.splitlines()) == 1


def test_a_setting_that_cannot_be_is_refused(typed: Typed) -> None:
    for arguments in (("--url", "kafka://127.0.0.1:port"), ("--url", "kafka://127.0.0.1:1?acks=1")):
        assert typed("check", "--app", "orders", *arguments)[0] == ExitCode.USAGE
    assert typed("create", "--app", "orders", "--url", "kafka://127.0.0.1:1", "--partitions", "0")[0] == ExitCode.USAGE


def test_a_client_that_is_not_installed_is_told_with_what_to_install(tmp_path: Path) -> None:
    """In a process of its own, because here the client has been imported."""
    program = (
        "import sys; sys.modules['confluent_kafka'] = None; sys.argv[0] = 'headrace'\n"
        "from headrace_adapters.cli.main import main; main()"
    )
    command = ["topics", "check", "--url", "kafka://127.0.0.1:1", "--app", "orders"]

    done = subprocess.run(
        [sys.executable, "-c", program, *command], capture_output=True, text=True, cwd=tmp_path, check=False
    )

    assert done.returncode == ExitCode.USAGE
    assert "confluent_kafka is missing" in done.stderr
    assert "pip install 'headrace[kafka]'" in done.stderr
