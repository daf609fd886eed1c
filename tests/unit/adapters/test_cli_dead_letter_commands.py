"""The commands on a folder; those on Kafka are tested on a broker."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace_adapters.cli.main import main
from headrace_adapters.embedded.adapter import STORE
from headrace_adapters.local.layout import DEAD_LETTER, JOB, number_key
from headrace_adapters.rocks import RocksStore
from headrace_adapters.settings import Settings
from headrace_topics.dead_letters import encode_dead_letter

Typed = Callable[..., tuple[int, str, str]]

START = b'{"type": "start", "runId": "r1", "blueprintId": "f"}'
AT_MS = int(time.mktime((2024, 5, 1, 12, 0, 0, 0, 0, -1))) * 1_000


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Typed:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"HEADRACE_{name.upper()}", raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["headrace", "dead-letters", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        return int(caught.value.code or 0), *capsys.readouterr()

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two dead letters, of noon and of one o'clock."""
    store = RocksStore(tmp_path / "data" / STORE)
    for number, record in enumerate((START, b"\xff")):
        letter = encode_dead_letter(
            record, None, f"reason {number}", source_topic="jobs", partition=0, offset=-1, at_ms=AT_MS + number * 3_600_000
        )
        store.write([(number_key(DEAD_LETTER, number), letter)])
    store.close()
    return tmp_path / "data"


@pytest.mark.usefixtures("folder")
def test_letters_are_listed_for_people_and_for_programs(typed: Typed) -> None:
    code, out, err = typed("list")
    assert (code, err) == (0, "")
    assert [line.split()[:4] for line in out.splitlines()[1:]] == [
        ["0-1", "2024-05-01", "13:00:00", "jobs"],
        ["0-0", "2024-05-01", "12:00:00", "jobs"],
    ]

    code, out, _ = typed("list", "--json", "--oldest")
    first, second = (json.loads(line) for line in out.splitlines())
    assert first == {
        "position": "0-0",
        "at": AT_MS,
        "source": {"topic": "jobs", "partition": 0, "offset": -1},
        "reason": "reason 0",
        "recordBytes": len(START),
    }
    assert second["position"] == "0-1"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("since", "positions"),
    [("2024-05-01T12:30", ["0-1"]), ("2024-05-01", ["0-1", "0-0"]), ("2h", []), ("36500d", ["0-1", "0-0"])],
)
def test_since_is_a_date_or_how_long_ago(typed: Typed, since: str, positions: list[str]) -> None:
    code, out, _ = typed("list", "--json", "--since", since)

    assert code == 0
    assert [json.loads(line)["position"] for line in out.splitlines()] == positions


def test_redriving_writes_to_the_job_log_and_is_remembered(typed: Typed, folder: Path) -> None:
    assert typed("redrive", "--all", "--reason", "REASON 0") == (0, "0-0 to jobs, partition 0\n", "1 record written\n")
    code, out, _ = typed("redrive", "0-0", "0-1")
    assert (code, out) == (4, "0-1 to jobs, partition 0\n0-0 is left out: it was redriven before\n")

    code, out, _ = typed("show", "0-0")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == [
        "dead",
        "source",
        "key",
        "reason",
        "redriven",
        "record",
        '{"type":',
    ]
    store = RocksStore(folder / STORE)
    assert [record for _, record in store.scan(JOB)] == [START, b"\xff"]
    store.close()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["redrive"], "say which ones"),
        (["redrive", "0-0", "--all"], "not both"),
        (["redrive", "0-0", "--since", "1h"], "narrow --all"),
        (["redrive", "0-0", "--reason", "x"], "narrow --all"),
        (["redrive", "0-0", "zero"], "PARTITION-OFFSET"),
        (["list", "--since", "yesterday"], "--since"),
        (["list", "--url", "memory:"], "keeps no dead letters that a command could reach"),
        (["list", "--url", "kafka://h"], "--app NAME"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_done(typed: Typed, arguments: list[str], told: str) -> None:
    code, out, err = typed(*arguments)

    assert (code, out) == (2, "")
    assert told in err


def test_a_folder_that_somebody_holds_or_that_is_none_is_told(typed: Typed, folder: Path) -> None:
    store = RocksStore(folder / STORE)
    code, _, err = typed("list")
    store.close()
    assert code == 5
    assert "stop the worker" in err

    code, _, err = typed("list", "--url", "embedded:nowhere")
    assert code == 5
    assert "there is no store in nowhere" in err
    assert not (folder.parent / "nowhere").exists()
