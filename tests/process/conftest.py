from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .programs import Programs
from .saying import say

__all__ = ["programs", "say"]


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    """Programs on a store of their own; none is left when the test ends."""
    begun = Programs(tmp_path)
    yield begun
    begun.close()
