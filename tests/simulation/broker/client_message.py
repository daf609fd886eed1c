"""What consumers give and producers report: the part of ``confluent_kafka.Message`` that is used."""

from __future__ import annotations

__all__ = ["Message"]

from confluent_kafka import OFFSET_INVALID, TIMESTAMP_CREATE_TIME, TIMESTAMP_NOT_AVAILABLE, KafkaError

from tests.simulation.broker.messages import Place, Stored


class Message:
    """A record, or what is wrong with a place or, without one, with the client."""

    __slots__ = ("_error", "_place", "_record")

    def __init__(self, place: Place | None, record: Stored, error: KafkaError | None = None) -> None:
        self._place = place
        self._record = record
        self._error = error

    @staticmethod
    def problem(error: KafkaError, place: Place | None = None, offset: int = OFFSET_INVALID) -> Message:
        """What is no record. As in confluent-kafka its value is a text."""
        return Message(place, Stored(offset, None, error.str().encode(), -1), error)

    def topic(self) -> str | None:
        return None if self._place is None else self._place[0]

    def partition(self) -> int:
        # confluent-kafka says so of what is of no partition.
        return 0 if self._place is None else self._place[1]

    def offset(self) -> int:
        return self._record[0]

    def key(self) -> bytes | None:
        return self._record[1]

    def value(self) -> bytes | None:
        return self._record[2]

    def timestamp(self) -> tuple[int, int]:
        at_ms = self._record[3]
        return (TIMESTAMP_NOT_AVAILABLE, -1) if at_ms < 0 else (TIMESTAMP_CREATE_TIME, at_ms)

    def error(self) -> KafkaError | None:
        return self._error

    def headers(self) -> None:
        """There are none here."""

    def __len__(self) -> int:
        return len(self._record[2] or b"")
