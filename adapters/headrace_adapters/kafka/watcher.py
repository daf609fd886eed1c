"""What a carrier tells whoever counts: metrics, tests, a terminal."""

from __future__ import annotations

__all__ = ["Unwatched", "Watcher"]

from typing import Protocol


class Watcher(Protocol):
    """Called from the loop's thread; must not block and must not raise."""

    def committed(self, records: int, jobs: int, took_s: float) -> None:
        """One commit of so many records, with so many jobs taken."""
        ...

    def counted(self, what: str) -> None:
        """One of: ``moved``, ``dead_letter``, ``undone``, ``in_doubt``, ``fenced``."""
        ...

    def restoring(self, number: int, records: int, remaining: int) -> None:
        """A partition has read so many changelog records, and so many offsets are left."""
        ...

    def warm(self, number: int, lacking: int | None) -> None:
        """The copy of another worker's partition lacks so many changelog records; None: no warm copy is kept any more."""
        ...

    def left(self, number: int) -> None:
        """The partition is not this worker's any more."""
        ...


class Unwatched:
    """Nobody counts."""

    def committed(self, records: int, jobs: int, took_s: float) -> None:
        """Nothing."""

    def counted(self, what: str) -> None:
        """Nothing."""

    def restoring(self, number: int, records: int, remaining: int) -> None:
        """Nothing."""

    def warm(self, number: int, lacking: int | None) -> None:
        """Nothing."""

    def left(self, number: int) -> None:
        """Nothing."""
