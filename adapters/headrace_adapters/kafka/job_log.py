"""Records of the jobs topic as jobs; and what becomes of those that are none, or stand on the wrong partition.

A record that another partitioner put elsewhere is written again on the partition of its run, and one that cannot be read
becomes a dead letter with the reason and where it came from. Both go out in the transaction that moves the offset past
the record, so neither is lost or doubled. Node jobs that this worker has written itself are recognised by their bytes when
they come back: their work is in the state already.
"""

from __future__ import annotations

__all__ = ["JobLog"]

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from headrace.commands import Command
from headrace.errors import RecordRefused
from headrace.values import trimmed
from headrace_adapters.base import Job
from headrace_adapters.kafka.topic_layout import TopicLayout
from headrace_adapters.kafka.transactions import VALUE_BYTES_MAX, Outgoing
from headrace_topics.dead_letters import encode_dead_letter
from headrace_topics.jobs_record import decode_command, encode_command
from headrace_topics.partitioning import partition_of

_LOGGER = logging.getLogger(__name__)

# The producer's partitioner chooses: dead letters need not lie beside anything.
ANY_PARTITION = -1

# What of a dead letter may be as long as others made it. One that could not be written would stop its partition.
REASON_CHARS_MAX = 10_000
KEY_BYTES_MAX = 16 * 1024

# How many node jobs of a partition are known again. They come back behind what was there before them, which may be a
# million starts; one that is not known again is decoded, and says nothing new to the engine.
OWN_MAX = 20_000


class JobLog:
    """Reads records of jobs, and remembers until the next commit what is to be written because of them."""

    def __init__(
        self,
        layout: TopicLayout,
        value_bytes_max: int,
        clock: Callable[[], int],
        counted: Callable[[str], None] = lambda what: None,  # noqa: ARG005
    ) -> None:
        self._layout = layout
        self._value_bytes_max = value_bytes_max
        self._clock = clock
        self._counted = counted
        self._own: dict[int, set[bytes]] = {}
        self._told_of_moves = False
        self.next: dict[int, int] = {}
        """By partition, the offset behind the last record that was read."""
        self._aside: dict[int, list[Outgoing]] = {}

    @property
    def aside(self) -> list[Outgoing]:
        """Records to be written with the next commit: those that were moved, and dead letters."""
        return [record for records in self._aside.values() for record in records]

    def read(self, messages: Iterable[Any]) -> list[Job]:
        """The jobs that these records hold."""
        jobs: list[Job] = []
        for message in messages:
            number, value = message.partition(), message.value()
            self.next[number] = message.offset() + 1
            own = self._own.get(number)
            if own and value in own:
                own.discard(value)
                jobs.append(_RECOGNISED)
                continue
            command = self._command(message, number, value)
            if command is not None:
                jobs.append(Job(command, b""))
            else:
                jobs.append(_RECOGNISED)
        return jobs

    def _command(self, message: Any, number: int, value: bytes | None) -> Command | None:
        """The command of a record that is to be carried out here; None where it was put aside."""
        key: bytes | None = message.key()
        try:
            if value is None:
                raise RecordRefused("the record has no value: expected a JSON object")
            command = decode_command(value, _text(key), value_bytes_max=self._value_bytes_max)
            home = partition_of(command.run_id, self._layout.partitions)
            if home != number and len(value) > VALUE_BYTES_MAX:
                raise RecordRefused(f"it stands on a wrong partition and has {len(value)} bytes: too many to be moved")
        except RecordRefused as error:
            self._put_aside(message, key, value, str(error))
            return None
        if home == number:
            return command
        if not self._told_of_moves:
            self._told_of_moves = True
            _LOGGER.warning(
                "a record of run %r stood on partition %d of %s and belongs on %d: it is moved, as all that follow, which "
                "costs a round more; let its producer partition by murmur2 of the run id, as Java's does",
                command.run_id, number, self._layout.jobs, home,
            )  # fmt: skip
        self._counted("moved")
        self._aside.setdefault(number, []).append(Outgoing(self._layout.jobs, home, command.run_id.encode(), value))
        return None

    def _put_aside(self, message: Any, key: bytes | None, value: bytes | None, reason: str) -> None:
        number, offset = message.partition(), message.offset()
        _LOGGER.warning("record %d of partition %d of %s is a dead letter: %s", offset, number, self._layout.jobs, reason)
        self._counted("dead_letter")
        letter = self._letter(value, key, reason, number, offset, self._clock())
        self._aside.setdefault(number, []).append(letter)

    def _letter(self, value: bytes | None, key: bytes | None, reason: str, number: int, offset: int, at_ms: int) -> Outgoing:
        """A dead letter; without the record where it fits none, since what is escaped or in base64 becomes larger."""
        letter = encode_dead_letter(
            value,
            key,
            reason[:REASON_CHARS_MAX],
            source_topic=self._layout.jobs,
            partition=number,
            offset=offset,
            at_ms=at_ms,
            bytes_max=VALUE_BYTES_MAX - KEY_BYTES_MAX,
        )
        kept = key if len(key or b"") <= KEY_BYTES_MAX else None
        return Outgoing(self._layout.dead_letters, ANY_PARTITION, kept, letter)

    def refuse(self, number: int, command: Command, reason: str, now_ms: int) -> Outgoing:
        """The dead letter of a command that could be read and not be carried out."""
        self._counted("dead_letter")
        return self._letter(encode_command(command), command.run_id.encode(), reason, number, -1, now_ms)

    def committed(self, jobs: Mapping[int, Iterable[bytes]]) -> None:
        """What was put aside is written, and these node jobs (by partition), which are known when they come back."""
        self._aside.clear()
        for number, own in jobs.items():
            known = self._own.setdefault(number, set())
            if len(known) < OWN_MAX:
                known.update(map(trimmed, own))

    def go_back(self, offsets: dict[int, int]) -> None:
        """Nothing since the last commit has happened; these are the offsets from which records come again."""
        self._aside.clear()
        self.next = dict(offsets)
        self._own.clear()

    def forget(self, numbers: Iterable[int]) -> None:
        """These partitions are somebody else's now."""
        for number in numbers:
            self._own.pop(number, None)
            self._aside.pop(number, None)
            self.next.pop(number, None)


# Stands for a record that asks for nothing, so that the offset moves past it.
_RECOGNISED = Job(None, b"")


def _text(key: bytes | None) -> str | None:
    if key is None:
        return None
    try:
        return key.decode()
    except UnicodeDecodeError:
        raise RecordRefused("the record's key: expected UTF-8, the run id, found other bytes") from None
