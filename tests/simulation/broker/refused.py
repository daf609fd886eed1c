"""The answer of a broker that does not do what was asked: an error code of Kafka's."""

from __future__ import annotations

__all__ = ["Refused"]

from confluent_kafka import KafkaError


class Refused(Exception):
    """A broker's refusal. *code* is one of those of ``confluent_kafka.KafkaError``.

    With MEMBER_ID_REQUIRED comes the *member_id* to join again with.
    """

    def __init__(self, code: int, member_id: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.member_id = member_id

    def __str__(self) -> str:
        return str(KafkaError(self.code).name())
