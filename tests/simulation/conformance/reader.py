"""A consumer without a group: what it reads, where its partitions end, and what is wrong with them."""

from __future__ import annotations

__all__ = ["Reader", "row_of"]

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from confluent_kafka import KafkaError, TopicPartition

from headrace_adapters.kafka.clients import Consumer
from tests.simulation.conformance.answers import WAIT_S, Answers, flagged, outcome

POLL_S = 0.05


class Reader:
    """Reads committed records of the partitions of one topic, from where it is told to.

    *rest* waits until no transaction is open in partitions of a topic.
    """

    def __init__(
        self,
        name: str,
        consumer: Consumer,
        topic: str,
        answers: Answers,
        now_s: Callable[[], float],
        rest: Callable[[str, Iterable[int]], None],
    ) -> None:
        self.name = name
        self.consumer = consumer
        self._topic = topic
        self._answers = answers
        self._now_s = now_s
        self._rest = rest
        self._numbers: set[int] = set()

    def assign(self, starts: Mapping[int, int]) -> None:
        """Read just these partitions, each from an offset."""
        self._numbers = set(starts)
        self._call("assign", self.consumer.assign, self._places(starts))

    def add(self, starts: Mapping[int, int]) -> None:
        """Read these as well."""
        if self._call("add", self.consumer.incremental_assign, self._places(starts)):
            self._numbers.update(starts)

    def remove(self, *numbers: int) -> None:
        """Do not read these any more."""
        if self._call("remove", self.consumer.incremental_unassign, self._places(dict.fromkeys(numbers, 0))):
            self._numbers.difference_update(numbers)

    def pause(self, *numbers: int) -> None:
        self._call("pause", self.consumer.pause, self._places(dict.fromkeys(numbers, 0)))

    def resume(self, *numbers: int) -> None:
        self._call("resume", self.consumer.resume, self._places(dict.fromkeys(numbers, 0)))

    def seek(self, number: int, offset: int) -> None:
        """Go on from another place; asked again for as long as the client is not ready for it."""
        place = TopicPartition(self._topic, number, offset)
        deadline_s = self._now_s() + WAIT_S
        while (ended := outcome(lambda: self.consumer.seek(place))) == "_STATE" and self._now_s() < deadline_s:
            self.consumer.poll(0.01)
        self._answers.say(f"{self.name} seek", ended)

    def read(self, *numbers: int, waits: bool = True) -> None:
        """Say everything until each of the partitions (all, where none is named) has come to an end or to an error.

        It *waits* for markers that are on their way, unless a transaction is open on purpose.
        """
        wanted = set(numbers or self._numbers)
        if waits:
            self._rest(self._topic, sorted(wanted))
        rows: dict[str, list[str]] = {}
        deadline_s = self._now_s() + WAIT_S
        while wanted:
            assert self._now_s() < deadline_s, f"{self.name}: no end of {wanted} within {WAIT_S} s; so far {rows}"
            first = self.consumer.poll(POLL_S)
            for message in () if first is None else (first, *self.consumer.consume(1_000, 0)):
                rows.setdefault(str(message.partition()), []).append(row_of(message))
                if message.error() is not None:
                    wanted.discard(message.partition())
        self._answers.say(f"{self.name} read", dict(sorted(rows.items())))

    def look(self, seconds: float = 0.3) -> None:
        """Say everything that comes within this time."""
        rows: dict[str, list[str]] = {}
        until_s = self._now_s() + seconds
        while (left_s := until_s - self._now_s()) > 0:
            message = self.consumer.poll(left_s)
            if message is not None:
                rows.setdefault(str(message.partition()), []).append(row_of(message))
        self._answers.say(f"{self.name} looked", dict(sorted(rows.items())))

    def _places(self, starts: Mapping[int, int]) -> list[TopicPartition]:
        return [TopicPartition(self._topic, number, offset) for number, offset in starts.items()]

    def _call(self, what: str, call: Callable[[Any], None], argument: Any) -> bool:
        ended = outcome(lambda: call(argument))
        self._answers.say(f"{self.name} {what}", ended)
        return ended == "ok"


def row_of(message: Any) -> str:
    """A record, an end or an error, as it is compared."""
    error = message.error()
    if error is None:
        value = message.value()
        return f"{'none' if value is None else value.decode()}@{message.offset()}"
    if error.code() == KafkaError._PARTITION_EOF:
        # What is no record has no key: a restore tells them apart by it.
        assert message.key() is None
        return f"end@{message.offset()}"
    return flagged(error)
