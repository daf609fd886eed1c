"""A producer of a program: each call says how it ended, and what was reported of records by then."""

from __future__ import annotations

__all__ = ["Writer"]

from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import KafkaError, TopicPartition

from headrace_adapters.kafka.clients import Producer
from tests.simulation.conformance.answers import WAIT_S, Answers, flagged, outcome


class Writer:
    """*name* stands before each answer."""

    def __init__(self, name: str, producer: Producer, answers: Answers, now_s: Callable[[], float]) -> None:
        self.name = name
        self.producer = producer
        self._answers = answers
        self._now_s = now_s
        self._reports: list[tuple[int, int, str]] = []

    def init(self) -> None:
        self._call("init", lambda: self.producer.init_transactions(WAIT_S))

    def begin(self) -> None:
        self._call("begin", self.producer.begin_transaction)

    def write(self, topic: str, number: int, *values: str | None, key: str | None = None) -> None:
        """Hand records over. What is refused at once is said, the rest is reported."""
        for value in values:
            ended = outcome(
                lambda value=value: self.producer.produce(  # type: ignore[misc]
                    topic, _bytes(value), _bytes(key), number, on_delivery=self._note
                )
            )
            if ended != "ok":
                self._answers.say(f"{self.name} write {_short(value)}", ended)

    def write_unwatched(self, topic: str, number: int, value: str) -> None:
        """Hand a record over that nobody asks a report of."""
        self._call("write", lambda: self.producer.produce(topic, value.encode(), None, number))

    def offsets(self, metadata: Any, topic: str, offsets: Mapping[int, int], note: str = "") -> None:
        """Send offsets to the transaction, under the metadata of a group."""
        places = [TopicPartition(topic, number, offset, metadata=note) for number, offset in offsets.items()]
        self._call("offsets", lambda: self.producer.send_offsets_to_transaction(places, metadata, WAIT_S))

    def flush(self) -> None:
        self._call("flush", lambda: self.producer.flush(WAIT_S))

    def commit(self) -> None:
        self._call("commit", lambda: self.producer.commit_transaction(WAIT_S))

    def abort(self) -> None:
        self._call("abort", lambda: self.producer.abort_transaction(WAIT_S))

    def transact(self, topic: str, metadata: Any, offsets: Mapping[int, int]) -> None:
        """A transaction as a worker has it: a record, offsets, commit; aborted where it is refused."""
        self.begin()
        self.write(topic, 0, "of the transaction")
        self.flush()
        self.offsets(metadata, topic, offsets)
        self.commit()
        self.abort()

    def purge(self) -> None:
        self._call("purge", self.producer.purge)

    def poll(self, within_s: float) -> None:
        """Wait until something is reported or wrong: a poll may also end for a line of the client's log."""
        until_s = self._now_s() + within_s
        while (ended := outcome(lambda: self.producer.poll(0.05))) == "ok" and not self._reports and self._now_s() < until_s:
            pass
        self._tell("poll", ended)

    def _call(self, what: str, call: Callable[[], Any]) -> None:
        self._tell(what, outcome(call))

    def _tell(self, what: str, ended: str) -> None:
        reports = [f"{number}:{said}" for number, _, said in sorted(self._reports)]
        self._reports.clear()
        self._answers.say(f"{self.name} {what}", ended, *([reports] if reports else []))

    def _note(self, error: KafkaError | None, message: Any) -> None:
        at = message.offset()
        said = (
            f"{_short(_text(message.value()))}@{at}"
            if error is None
            else f"{_short(_text(message.value()))} {flagged(error)}"
        )
        self._reports.append((message.partition(), at if at is not None and at >= 0 else 1 << 40, said))


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def _short(text: str | None) -> str:
    return "none" if text is None else text[:20]
