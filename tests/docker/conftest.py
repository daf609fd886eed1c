"""Says, at the end, where the image was not tried."""

from __future__ import annotations

import pytest

from tests.broker.fixtures import broker

__all__ = ["broker"]

NOT_TRIED = pytest.StashKey[str]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """What was not tried must not look as if it had been."""
    if NOT_TRIED in config.stash:
        terminalreporter.section("NO IMAGE: it was neither built nor run", sep="!", yellow=True, bold=True)
        terminalreporter.write_line(config.stash[NOT_TRIED])
