from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .programs import Programs


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    """Programs on a store of their own; none is left when the test ends."""
    begun = Programs(tmp_path)
    yield begun
    begun.close()


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Write a line that is seen without asking for it: what was measured."""
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")

    def line(text: str) -> None:
        with capsys.disabled():
            if reporter is not None:
                reporter.write_line(f"\n{text}")

    return line
