"""Options that every test may read; no client of any technology is imported here.

*--seed* makes a random run repeatable: it feeds hypothesis and the simulations, and is printed at the start and again
when something failed. *--scenarios* and *--adapter* are registered here, not beside the scenarios, because pytest
reads options only from the outermost conftest of what it is asked to run; so are *--seeds*, *--jobs* and *--mutants*, which
are those of tests/simulation.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from pathlib import Path

import hypothesis
import pytest

SEED_ENVIRONMENT = "HEADRACE_SEED"

_NO_BYTECODE, _BYTECODE_FOLDER = "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("headrace")
    group.addoption(
        "--seed",
        type=int,
        default=None,
        metavar="N",
        help=f"seed of everything random (default: {SEED_ENVIRONMENT}, else drawn and printed)",
    )
    group.addoption(
        "--scenarios",
        type=Path,
        default=None,
        metavar="DIR",
        help="run the scenario files of this folder instead of the project's own",
    )
    group.addoption(
        "--adapter",
        action="append",
        default=[],
        metavar="NAME",
        help="run scenarios on this adapter only (may be given several times)",
    )
    group.addoption(
        "--thorough",
        action="store_true",
        help="run all of several similar cases, and those with faults in full size",
    )
    group.addoption(
        "--seeds",
        default=None,
        metavar="FROM..TO",
        help="run the simulated worlds of all these seeds (the last one among them)",
    )
    group.addoption(
        "--jobs",
        type=int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="run simulated worlds in so many processes (default: one for each core)",
    )
    group.addoption(
        "--mutants",
        action="store_true",
        help="plant mistakes in the product, one by one, and see that simulated worlds find each of them",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Settle the seed before hypothesis' own plugin reads its option."""
    _compile_once(config)
    # Whoever gives one wants the one world of it, and everybody else as many as there is time for.
    config.option.seed_given = config.option.seed is not None
    if config.option.seed is None:
        from_environment = os.environ.get(SEED_ENVIRONMENT, "")
        if from_environment and not from_environment.isdecimal():
            raise pytest.UsageError(f"{SEED_ENVIRONMENT} must be a whole number, not {from_environment!r}")
        config.option.seed = int(from_environment) if from_environment else random.SystemRandom().randrange(2**32)
    if config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = str(config.option.seed)
    # A deadline per example measures the machine; print_blob gives the line that repeats one failing example.
    hypothesis.settings.register_profile("headrace", deadline=None, derandomize=False, print_blob=True)
    hypothesis.settings.load_profile("headrace")


def _compile_once(config: pytest.Config) -> None:
    """Where Python is to write nothing beside the sources, the programs of tests share what the first of them compiles."""
    if os.environ.pop(_NO_BYTECODE, ""):
        os.environ[_BYTECODE_FOLDER] = folder = tempfile.mkdtemp(prefix="headrace-bytecode-")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of several similar cases one is enough for every day."""
    if not config.getoption("--thorough"):
        left_out = [item for item in items if item.get_closest_marker("thorough") is not None]
        items[:] = [item for item in items if item.get_closest_marker("thorough") is None]
        if left_out:
            config.hook.pytest_deselected(items=left_out)


def pytest_report_header(config: pytest.Config) -> str:
    return f"headrace: --seed {config.option.seed}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say the seed again beside the failures: the header may be far up, and -q leaves it out."""
    if terminalreporter.stats.get("failed") or terminalreporter.stats.get("error"):
        terminalreporter.write_line(f"headrace: repeat with --seed {config.option.seed}")


@pytest.fixture(scope="session")
def thorough(request: pytest.FixtureRequest) -> bool:
    """Whether tests with faults are to run in full size."""
    return bool(request.config.getoption("--thorough"))


@pytest.fixture(scope="session")
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of this session."""
    return int(request.config.getoption("--seed"))
