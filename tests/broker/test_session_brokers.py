"""Where the fixtures take their broker from, in pytest sessions of their own with two conftests that import them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace_adapters.devbroker import BrokerNode
from tests.broker.session_brokers import ADDRESS_VARIABLE

ROOT = Path(__file__).parents[2]

CONFTEST = "from tests.broker.fixtures import app_name, broker, own_broker\n"
ASKS_FOR_SHARED = """
def test_it_asks_for_the_shared_one(broker, app_name):
    print(f"shared={broker}=")
    assert app_name("a") != app_name("a")
"""
ASKS_FOR_OWN = """
def test_it_asks_for_its_own(own_broker):
    print(f"own={own_broker.pid}=")
    own_broker.pause()
"""

Session = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """Run a test in two folders with these variables, of which None takes one away; gives the ended process."""

    def run(test: str, **variables: str | None) -> subprocess.CompletedProcess[str]:
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "conftest.py").write_text(CONFTEST, encoding="utf-8")
            (tmp_path / folder / f"test_{folder}.py").write_text(test, encoding="utf-8")
        (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = broker\n", encoding="utf-8")
        given = {"CI": None, ADDRESS_VARIABLE: None, "PYTHONPATH": str(ROOT), **variables}
        kept = {name: value for name, value in os.environ.items() if name not in given}
        return subprocess.run(
            [sys.executable, "-m", "pytest", "--import-mode=importlib", "-rA", "-p", "no:cacheprovider"],
            cwd=tmp_path,
            env=kept | {name: value for name, value in given.items() if value is not None},
            check=False,
            capture_output=True,
            text=True,
            timeout=240,
        )

    return run


def without_java(folder: Path) -> dict[str, str | None]:
    return {"PATH": str(folder), "JAVA_HOME": None}


@pytest.mark.parametrize("test", [ASKS_FOR_SHARED, ASKS_FOR_OWN])
def test_without_a_broker_tests_skip_and_the_end_says_why(session: Session, tmp_path: Path, test: str) -> None:
    ended = session(test, **without_java(tmp_path))

    assert ended.returncode == 0
    assert "2 skipped" in ended.stdout
    told = ended.stdout.split("! NO BROKER: tests that need one were skipped !")
    assert len(told) == 2
    assert told[1].partition("\n=")[0].count("install Java") == 1


@pytest.mark.parametrize("test", [ASKS_FOR_SHARED, ASKS_FOR_OWN])
def test_in_continuous_integration_a_missing_broker_is_a_failure(session: Session, tmp_path: Path, test: str) -> None:
    ended = session(test, CI="true", **without_java(tmp_path))

    assert ended.returncode == 1
    assert "2 errors" in ended.stdout
    assert "CI is set, so a missing broker is a failure" in ended.stdout


def test_a_broker_that_was_named_and_does_not_answer_is_a_failure(session: Session) -> None:
    ended = session(ASKS_FOR_SHARED, **{ADDRESS_VARIABLE: "127.0.0.1:1"})

    assert ended.returncode == 1
    assert f"{ADDRESS_VARIABLE}=127.0.0.1:1: no broker answers there" in ended.stdout


@pytest.mark.broker
def test_a_broker_that_was_named_is_taken(session: Session, tmp_path: Path, own_broker: BrokerNode) -> None:
    address = f"{own_broker.bootstrap},localhost:1"

    ended = session(ASKS_FOR_SHARED, **{ADDRESS_VARIABLE: address}, **without_java(tmp_path))

    assert ended.returncode == 0
    assert ended.stdout.count(f"shared={address}=") == 2


@pytest.mark.broker
@pytest.mark.slow
def test_several_conftests_share_one_broker_which_ends_with_the_session(session: Session, own_broker: BrokerNode) -> None:
    """The node that is asked for here only says that one can be started."""
    ended = session(ASKS_FOR_OWN, CI="true")
    numbers = [part for part in ended.stdout.split("=") if part.isdecimal()]

    assert ended.returncode == 0, ended.stdout
    assert len(numbers) == 2
    assert numbers[0] == numbers[1]
    with pytest.raises(ProcessLookupError):
        os.kill(int(numbers[0]), 0)
