"""Dead letters in the store of one machine, for whoever holds it while no worker does.

They stand under ``D``, by number, and so do the marks of those that were redriven: the place of a letter is ``0-NUMBER``.
A record that is redriven goes into the job log in the write that makes its mark, and the next worker takes it up.
"""

from __future__ import annotations

__all__ = ["LocalLetterBox"]

import heapq
import time
from collections.abc import Callable, Collection, Iterator, Sequence

from headrace.errors import RecordRefused
from headrace_adapters.base.dead_letters import (
    FoundLetters,
    KeptLetter,
    LetterBox,
    LetterFilter,
    LetterPlace,
    Redriven,
)
from headrace_adapters.local.carrier import next_number
from headrace_adapters.local.layout import DEAD_LETTER, JOB, KeyValueStore, number_key, numbered
from headrace_topics.dead_letters import DeadLetter, RedrivenMark, decode_dead_letters_record, encode_redriven

# The job log is one, whatever partition a run belongs to.
JOBS = "jobs"
PARTITION = 0


class LocalLetterBox(LetterBox):
    """The dead letters of *store*, which this box closes."""

    def __init__(self, store: KeyValueStore) -> None:
        self._store = store

    def find(self, wanted: LetterFilter, *, limit: int, oldest_first: bool = False) -> FoundLetters:
        """See :meth:`LetterBox.find`."""
        redriven_ms = self._redriven_ms()
        unreadable: list[str] = []
        matching = [
            KeptLetter(place, found, redriven_ms.get(place))
            for place, found in self._records(unreadable)
            if isinstance(found, DeadLetter) and wanted.takes(found)
        ]
        choose = heapq.nsmallest if oldest_first else heapq.nlargest
        chosen = choose(limit, matching, key=lambda kept: (kept.letter.at_ms, kept.place))
        return FoundLetters(chosen, len(matching), len(unreadable), unreadable[0] if unreadable else "")

    def get(self, place: LetterPlace) -> KeptLetter | None:
        """See :meth:`LetterBox.get`. What is there and is no dead letter raises :class:`RecordRefused`."""
        record = self._store.get(number_key(DEAD_LETTER, place.offset)) if place.partition == PARTITION else None
        if record is None:
            return None
        found = decode_dead_letters_record(record)
        if isinstance(found, RedrivenMark):
            raise RecordRefused(f"{place} is no dead letter: it says that {found.partition}-{found.offset} was redriven")
        return KeptLetter(place, found, self._redriven_ms().get(place))

    def redrive(
        self,
        wanted: LetterFilter | Collection[LetterPlace],
        told: Callable[[Sequence[Redriven]], None],
        *,
        again: bool = False,
        dry_run: bool = False,
    ) -> list[tuple[LetterPlace, str]]:
        """See :meth:`LetterBox.redrive`."""
        redriven_ms = self._redriven_ms()
        left_out: list[tuple[LetterPlace, str]] = []
        meant: set[LetterPlace] = set()
        job, mark = next_number(self._store, JOB), next_number(self._store, DEAD_LETTER)
        puts: list[tuple[bytes, bytes]] = []
        written: list[Redriven] = []
        for place, found in self._records([]):
            is_filter = isinstance(wanted, LetterFilter)
            if isinstance(found, RedrivenMark) or not (
                wanted.takes(found) if isinstance(wanted, LetterFilter) else place in wanted
            ):
                continue
            meant.add(place)
            if place in redriven_ms and not again:
                left_out += [] if is_filter else [(place, "it was redriven before")]
            elif found.record is None:
                left_out.append((place, "it had no value, and the job log of a folder holds none"))
            else:
                written.append(Redriven(place, JOBS, PARTITION))
                puts.append((number_key(JOB, job + len(written) - 1), found.record))
                done = RedrivenMark(*place, JOBS, PARTITION, time.time_ns() // 1_000_000)
                puts.append((number_key(DEAD_LETTER, mark + len(written) - 1), encode_redriven(done)))
        if not isinstance(wanted, LetterFilter):
            left_out += [(place, "there is no dead letter at this place") for place in sorted({*wanted} - meant)]
        if puts and not dry_run:
            self._store.write(puts)
        if written:
            told(written)
        return left_out

    def close(self) -> None:
        """Let go of the store."""
        self._store.close()

    def _records(self, unreadable: list[str]) -> Iterator[tuple[LetterPlace, DeadLetter | RedrivenMark]]:
        """Both kinds of records, in order; why others cannot be read goes to *unreadable*."""
        for key, record in self._store.scan(DEAD_LETTER):
            place = LetterPlace(PARTITION, numbered(DEAD_LETTER, key))
            try:
                yield place, decode_dead_letters_record(record)
            except RecordRefused as error:
                unreadable.append(f"{place}: {error}")

    def _redriven_ms(self) -> dict[LetterPlace, int]:
        marks = (found for _, found in self._records([]) if isinstance(found, RedrivenMark))
        return {LetterPlace(mark.partition, mark.offset): mark.at_ms for mark in marks}
