"""What was measured is said while the tests run. A conftest imports the fixture from here."""

from __future__ import annotations

__all__ = ["say"]

from collections.abc import Callable

import pytest


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Write a line that is seen without asking for it: what was measured."""
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")

    def line(text: str) -> None:
        with capsys.disabled():
            if reporter is not None:
                reporter.write_line(f"\n{text}")

    return line
