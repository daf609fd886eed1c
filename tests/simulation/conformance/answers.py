"""What a program was told by a broker and its clients, as plain values that can be compared and kept in a file."""

from __future__ import annotations

__all__ = ["WAIT_S", "Answers", "flagged", "outcome"]

from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, KafkaException

WAIT_S = 20.0
"""How long a call may take that is expected to end at once: what is waited for in programs is shorter."""


class Answers:
    """Everything that was told, in order: lists that begin with who was told what."""

    def __init__(self) -> None:
        self.given: list[list[Any]] = []

    def say(self, what: str, *values: Any) -> None:
        """Keep one answer. *values* are what JSON has."""
        self.given.append([what, *values])


def flagged(error: KafkaError) -> str:
    """The name of an error, and the flags that decide what is done about it."""
    flags = (("retriable", error.retriable()), ("fatal", error.fatal()), ("abort", error.txn_requires_abort()))
    return " ".join([error.name(), *(word for word, is_so in flags if is_so)])


def outcome(call: Callable[[], Any]) -> str:
    """How a call ended."""
    try:
        call()
    except KafkaException as error:
        return flagged(error.args[0])
    except KafkaError as error:
        # What made a client useless comes, once, as an exception of another class, out of whatever serves callbacks then.
        return f"raised {flagged(error)}"
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        return type(error).__name__
    return "ok"
