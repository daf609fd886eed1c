"""One partition on its way to be worked on, or to be kept warm: what was asked about it, and how far it is."""

from __future__ import annotations

__all__ = ["ENDS", "FENCING", "OFFSETS", "READING", "WARM", "RestoreTask", "Restored"]

from concurrent.futures import Future
from typing import Any, NamedTuple

from confluent_kafka import TopicPartition

from headrace_adapters.base.host import Aside
from headrace_adapters.kafka.changelog_copy import Progress

# The states of a partition; ``restore.py`` tells what happens in each.
OFFSETS, FENCING, ENDS, READING, WARM = "offsets", "fencing", "ends", "reading", "warm"


class Restored(NamedTuple):
    """A partition that is up to date: from where its jobs are read, and how far its copy is."""

    number: int
    offset: int
    progress: Progress


class RestoreTask:
    """*offset* is the one that is committed, negative where none is; *ends* are those of the changelogs."""

    def __init__(self, number: int, state: str, now_s: float) -> None:
        self.number = number
        self.state = state
        self.asked: Future[Any] | None = None
        self.asked_ends: dict[TopicPartition, Future[Any]] = {}
        self.asked_starts: dict[TopicPartition, Future[Any]] = {}
        self.fencing: Aside | None = None
        self.offset = 0
        self.first_job = 0
        self.unstable_s: float | None = None
        self.committer = ""
        """The transactional id of the last committer."""
        self.held_s: dict[int, float] = {}
        """By changelog, since when readers of committed records are held up before its end."""
        self.again_s = 0.0
        self.look_s = 0.0
        """When it is to be asked how far a warm copy is behind."""
        self.progress: Progress = []
        self.ends: Progress = []
        self.begun_s = self.moved_s = self.told_s = now_s
        self.records = 0
        self.reading = False

    @property
    def remaining(self) -> int:
        """How many offsets are left, at most so many records."""
        return sum(max(0, end - done) for end, done in zip(self.ends, self.progress, strict=False))
