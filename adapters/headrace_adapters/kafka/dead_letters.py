"""Dead letters on Kafka: found by reading their topic, and written again in transactions that remember it.

    find, get   from the dead letters topic, up to its present end
    redrive     1. the transactional id ``<app>.redrive`` is taken: whoever redrives elsewhere is ended by that, and what
                   he has committed can be read
                2. the topic is read to its very end, also past transactions that are open now: what is meant and was
                   not written again before
                3. letters in groups, each in one transaction: the records to the topic that they came from, and a mark
                   for each of them on the partition of its letter

So a letter is written again once, whatever stops this between two steps and whoever does it at the same time. What a
transaction did that was in doubt is seen by the next one who reads.
"""

from __future__ import annotations

__all__ = ["KafkaLetterBox", "open_letter_box"]

import heapq
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from confluent_kafka import KafkaError, KafkaException

from headrace.errors import RecordRefused, StoreError
from headrace_adapters.base.dead_letters import (
    FoundLetters,
    KeptLetter,
    LetterBox,
    LetterFilter,
    LetterPlace,
    Redriven,
    home_of,
    omission_told,
)
from headrace_adapters.kafka.clients import Clients, ConfluentClients, Producer
from headrace_adapters.kafka.connection import admin, open_admin, transactional_producer
from headrace_adapters.kafka.failures import store_error
from headrace_adapters.kafka.letter_reader import LetterReader
from headrace_adapters.kafka.passing import passes
from headrace_adapters.kafka.settings import KafkaSettings
from headrace_adapters.kafka.topic_layout import describe
from headrace_adapters.kafka.topic_plan import topic_name
from headrace_adapters.kafka.transactions import Outgoing, send
from headrace_topics.dead_letters import DeadLetter, RedrivenMark, decode_dead_letters_record, encode_redriven

# One transaction: few enough that it ends within its time-out, and that what is under way is not much.
LETTERS_AT_ONCE: Final = 500
BYTES_AT_ONCE: Final = 8 * 1024 * 1024

# One attempt of a call that waits for the broker, and how long it is tried.
ATTEMPT_S: Final = 5.0
GIVE_UP_S: Final = 60.0

_TAKEN_OVER: Final = (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH)


class _Topics(NamedTuple):
    """The topics that are used here. *homes* is the number of partitions of the jobs."""

    jobs: str
    homes: int
    letters: str
    partitions: int


class _Index(NamedTuple):
    """What one reading of the topic has found: the letters that are meant, in order, and when letters were redriven."""

    meant: list[LetterPlace]
    redriven_ms: dict[LetterPlace, int]


def open_letter_box(
    settings: KafkaSettings, clients: Clients | None = None, logger: logging.Logger | None = None
) -> KafkaLetterBox:
    """The dead letters of the app. Raises :class:`StoreError` where there are no topics of it; none is made.

    *logger* hears what the first client meets, which looks whether the cluster is there at all.
    """
    made = clients or ConfluentClients()
    topics = describe(open_admin(admin(settings), logger), settings).topics
    missing = [topic_name(settings.app, name) for name in ("jobs", "dead-letters") if name not in topics]
    if missing:
        raise StoreError(
            f"there is no topic {' and no topic '.join(missing)} at Kafka ({settings.servers}): see that the app's name is "
            f"right; 'headrace topics check --app {settings.app}' tells more"
        )
    jobs, letters = topics["jobs"], topics["dead-letters"]
    return KafkaLetterBox(made, settings, _Topics(jobs.name, jobs.partitions, letters.name, letters.partitions))


class KafkaLetterBox(LetterBox):
    """Get one from :func:`open_letter_box`. Used by one thread."""

    def __init__(self, clients: Clients, settings: KafkaSettings, topics: _Topics) -> None:
        self._clients = clients
        self._settings = settings
        self._topics = topics
        self._reader = LetterReader(clients, settings, topics.letters, topics.partitions)
        self._producer: Producer | None = None

    def find(self, wanted: LetterFilter, *, limit: int, oldest_first: bool = False) -> FoundLetters:
        """See :meth:`LetterBox.find`."""
        redriven_ms: dict[LetterPlace, int] = {}
        matching = unreadable = 0
        problem = ""

        def letters() -> Iterator[tuple[int, LetterPlace, DeadLetter]]:
            nonlocal matching, unreadable, problem
            for place, record in self._reader.read(since_ms=wanted.since_ms):
                try:
                    found = _decoded(record)
                except RecordRefused as error:
                    unreadable, problem = unreadable + 1, problem or f"{place}: {error}"
                    continue
                if isinstance(found, RedrivenMark):
                    redriven_ms[LetterPlace(found.partition, found.offset)] = found.at_ms
                elif wanted.takes(found):
                    matching += 1
                    yield found.at_ms, place, found

        choose = heapq.nsmallest if oldest_first else heapq.nlargest
        chosen = choose(limit, letters(), key=lambda found: found[:2])
        kept = [KeptLetter(place, letter, redriven_ms.get(place)) for _, place, letter in chosen]
        return FoundLetters(kept, matching, unreadable, problem)

    def get(self, place: LetterPlace) -> KeptLetter | None:
        """See :meth:`LetterBox.get`. What is there and is no dead letter raises :class:`RecordRefused`."""
        if place.partition >= self._topics.partitions:
            return None
        letter: DeadLetter | None = None
        redriven_ms: int | None = None
        for at, record in self._reader.read(begins={place.partition: place.offset}):
            if at == place:
                found = _decoded(record)
                if isinstance(found, RedrivenMark):
                    raise RecordRefused(
                        f"{place} is no dead letter: it says that {found.partition}-{found.offset} was redriven"
                    )
                letter = found
            elif letter is None:
                # Records come in order, so there is none at this place.
                return None
            elif (mark := _mark_of(record)) is not None and mark[:2] == place:
                redriven_ms = mark.at_ms
        return None if letter is None else KeptLetter(place, letter, redriven_ms)

    def redrive(
        self,
        wanted: LetterFilter | Collection[LetterPlace],
        told: Callable[[Sequence[Redriven]], None],
        *,
        again: bool = False,
        dry_run: bool = False,
    ) -> list[tuple[LetterPlace, str]]:
        """See :meth:`LetterBox.redrive`."""
        if not dry_run:
            self._take_over()
        index = self._index(wanted)
        due = [place for place in index.meant if again or place not in index.redriven_ms]
        left_out: list[tuple[LetterPlace, str]] = []
        if not isinstance(wanted, LetterFilter):
            left_out += [(place, "there is no dead letter at this place") for place in sorted({*wanted} - {*index.meant})]
            left_out += [(place, "it was redriven before") for place in index.meant if place not in {*due}]
        for group in self._groups(due):
            able, unable = self._planned(group)
            left_out += unable
            if able and not dry_run:
                self._commit(able)
            if able:
                told([to for to, _ in able])
        return left_out

    def close(self) -> None:
        """See :meth:`LetterBox.close`."""
        self._reader.close()
        self._close_producer()

    # What is to be written.

    def _index(self, wanted: LetterFilter | Collection[LetterPlace]) -> _Index:
        """One reading of the topic, with nothing of it kept but places."""
        index = _Index([], {})
        if isinstance(wanted, LetterFilter):
            records = self._reader.read(since_ms=wanted.since_ms, strictly=True)
        else:
            records = self._reader.read(begins=_begins(wanted, self._topics.partitions), strictly=True)
        for place, record in records:
            try:
                found = _decoded(record)
            except RecordRefused:
                continue
            if isinstance(found, RedrivenMark):
                index.redriven_ms[LetterPlace(found.partition, found.offset)] = found.at_ms
            elif wanted.takes(found) if isinstance(wanted, LetterFilter) else place in wanted:
                index.meant.append(place)
        return index

    def _groups(self, due: Sequence[LetterPlace]) -> Iterator[list[KeptLetter]]:
        """The letters at these places, as many at once as one transaction takes."""
        group: list[KeptLetter] = []
        size = 0
        left = set(due)
        begins = _begins(due, self._topics.partitions)
        for place, record in self._reader.read(begins=begins, while_left=left) if due else ():
            if place not in left:
                continue
            left.discard(place)
            letter = _decoded(record)
            assert isinstance(letter, DeadLetter), place
            group.append(KeptLetter(place, letter))
            size += len(record or b"")
            if len(group) >= LETTERS_AT_ONCE or size >= BYTES_AT_ONCE:
                yield group
                group, size = [], 0
        if group:
            yield group

    def _planned(
        self, group: Sequence[KeptLetter]
    ) -> tuple[list[tuple[Redriven, KeptLetter]], list[tuple[LetterPlace, str]]]:
        """Where each one goes; and those that go nowhere, with the reason."""
        jobs, homes = self._topics.jobs, self._topics.homes
        able: list[tuple[Redriven, KeptLetter]] = []
        unable: list[tuple[LetterPlace, str]] = []
        for kept in group:
            letter, place = kept.letter, kept.place
            # A dead letter is a record that anybody may have written: it must not say where this one writes to.
            if letter.source_topic != jobs:
                unable.append((place, f"it came from {letter.source_topic}, and nobody of this app reads but {jobs}"))
            elif letter.omitted:
                unable.append((place, omission_told(letter)))
            else:
                able.append((Redriven(place, jobs, home_of(letter, homes)), kept))
        return able, unable

    # Writing.

    def _take_over(self) -> None:
        """The one producer of those who redrive; what another one has open is aborted by that."""
        self._close_producer()
        producer = self._clients.producer(transactional_producer(self._settings, f"{self._settings.app}.redrive"))
        self._producer = producer
        try:
            _insist(lambda: producer.init_transactions(ATTEMPT_S))
        except KafkaException as error:
            raise self._failure(error) from error

    def _close_producer(self) -> None:
        """Let go of the producer of an earlier redrive."""
        if self._producer is not None:
            self._producer.purge()
            self._producer = None

    def _commit(self, group: Sequence[tuple[Redriven, KeptLetter]]) -> None:
        producer = self._producer
        assert producer is not None, "the producer was not opened"
        now_ms = time.time_ns() // 1_000_000
        try:
            producer.begin_transaction()
            for to, kept in group:
                letter, place = kept.letter, kept.place
                mark = encode_redriven(RedrivenMark(*place, to.topic, to.partition, now_ms))
                send(producer, Outgoing(to.topic, to.partition, letter.key, letter.record))
                send(producer, Outgoing(self._topics.letters, place.partition, letter.key, mark))
            _insist(lambda: producer.commit_transaction(ATTEMPT_S))
        except KafkaException as error:
            reason: KafkaError = error.args[0]
            if not reason.fatal():
                self._abort(producer)
            raise self._failure(error) from error

    def _abort(self, producer: Producer) -> None:
        """Whatever becomes of this, the next one who redrives ends the transaction before it looks at anything."""
        try:
            producer.abort_transaction(ATTEMPT_S)
        except KafkaException:
            self._close_producer()

    def _failure(self, error: KafkaException) -> StoreError:
        reason: KafkaError = error.args[0]
        if reason.code() in _TAKEN_OVER:
            return StoreError(
                f"somebody else has begun to redrive dead letters of {self._settings.app}: what was told here is written, "
                "and the other one goes on from there; do it again if anything is left"
            )
        return store_error("redriving dead letters", error, self._settings)


def _decoded(record: bytes | None) -> DeadLetter | RedrivenMark:
    if record is None:
        raise RecordRefused("the record has no value: expected a JSON object")
    return decode_dead_letters_record(record)


def _mark_of(record: bytes | None) -> RedrivenMark | None:
    try:
        found = _decoded(record)
    except RecordRefused:
        return None
    return found if isinstance(found, RedrivenMark) else None


def _begins(places: Collection[LetterPlace], partitions: int) -> Mapping[int, int]:
    """By partition, the first offset of *places*."""
    begins: dict[int, int] = {}
    for partition, offset in places:
        if partition < partitions:
            begins[partition] = min(offset, begins.get(partition, offset))
    return begins


def _insist(call: Callable[[], Any]) -> None:
    """Repeat a call that the broker did not answer in time: librdkafka then goes on where it was."""
    deadline = time.monotonic() + GIVE_UP_S
    while True:
        try:
            call()
            return
        except KafkaException as error:
            reason: KafkaError = error.args[0]
            if not passes(reason) or reason.txn_requires_abort() or time.monotonic() > deadline:
                raise
