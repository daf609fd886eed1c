"""Dead letters as whoever looks after them sees them, whatever carries the app: found, chosen, written again."""

from __future__ import annotations

__all__ = ["FoundLetters", "KeptLetter", "LetterBox", "LetterFilter", "LetterPlace", "Redriven", "home_of", "omission_told"]

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, Self

import orjson

from headrace.errors import DefinitionError, RecordRefused
from headrace_topics.dead_letters import DeadLetter
from headrace_topics.partitioning import partition_of


class LetterPlace(NamedTuple):
    """Where a dead letter lies; written ``PARTITION-OFFSET``."""

    partition: int
    offset: int

    @classmethod
    def read(cls, text: str) -> Self:
        """The place that *text* names. Raises :class:`DefinitionError`."""
        partition, hyphen, offset = text.partition("-")
        if hyphen and all(part.isascii() and part.isdecimal() and len(part) < 19 for part in (partition, offset)):
            return cls(int(partition), int(offset))
        raise DefinitionError(
            f"a dead letter is named by its place, PARTITION-OFFSET, such as 0-41 ('headrace dead-letters list' shows "
            f"them), and not by {text!r}"
        )

    def __str__(self) -> str:
        return f"{self.partition}-{self.offset}"


class KeptLetter(NamedTuple):
    """A dead letter, and when it was written again last (None: never)."""

    place: LetterPlace
    letter: DeadLetter
    redriven_ms: int | None = None


class LetterFilter(NamedTuple):
    """Which dead letters are meant: those put aside at *since_ms* or later whose reason holds *reason*."""

    since_ms: int | None = None
    reason: str = ""

    def takes(self, letter: DeadLetter) -> bool:
        """Whether this one is meant; upper and lower case in the reason are the same."""
        return (self.since_ms is None or letter.at_ms >= self.since_ms) and self.reason.lower() in letter.reason.lower()


class FoundLetters(NamedTuple):
    """Some of *matching* letters; *unreadable* other records were in their way, the first one for *problem*."""

    letters: list[KeptLetter]
    matching: int = 0
    unreadable: int = 0
    problem: str = ""


class Redriven(NamedTuple):
    """A dead letter whose record was, or would be, written to a partition of a topic."""

    place: LetterPlace
    topic: str
    partition: int


class LetterBox(ABC):
    """The dead letters of one app. Blocks; every method raises :class:`headrace.errors.StoreError`."""

    @abstractmethod
    def find(self, wanted: LetterFilter, *, limit: int, oldest_first: bool = False) -> FoundLetters:
        """The newest letters, or the oldest ones, in this order; those that were written again are among them."""

    @abstractmethod
    def get(self, place: LetterPlace) -> KeptLetter | None:
        """The letter at a place; None where there is none (any more)."""

    @abstractmethod
    def redrive(
        self,
        wanted: LetterFilter | Collection[LetterPlace],
        told: Callable[[Sequence[Redriven]], None],
        *,
        again: bool = False,
        dry_run: bool = False,
    ) -> list[tuple[LetterPlace, str]]:
        """Write records to where they came from, oldest first, and remember that; *told* hears of those that are durable.

        Those that were written before are left out unless *again* says otherwise. Gives what was not written, and why;
        of a filter only what cannot be written is among it. With *dry_run* nothing is written, and *told* hears what
        would be.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of what is open."""


def home_of(letter: DeadLetter, partitions: int) -> int:
    """The partition of the run that the record is about, where that can be told; else the one where it was."""
    try:
        if letter.key is not None:
            return partition_of(letter.key.decode(), partitions)
        data = orjson.loads(letter.record or b"")
        return partition_of(data["runId"], partitions)
    except (ValueError, TypeError, KeyError, AttributeError, RecordRefused):
        return letter.partition if 0 <= letter.partition < partitions else 0


def omission_told(letter: DeadLetter) -> str:
    """Why the record of a letter is not in it."""
    return (
        f"{letter.omitted} bytes were too many for a dead letter: the record lies at offset {letter.offset} of partition "
        f"{letter.partition} of {letter.source_topic}, as long as that is kept"
    )
