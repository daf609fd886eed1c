"""Options of librdkafka that an installation gives by their own names, and those that Headrace keeps for itself."""

from __future__ import annotations

__all__ = ["client_options"]

import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from pydantic import SecretStr

from headrace.errors import DefinitionError
from headrace_adapters.settings import is_secret


class _Owned(NamedTuple):
    """Why an option is not taken, and the values that say what Headrace does anyway."""

    reason: str
    fine: tuple[str, ...] = ()


_POSITIONS = "positions move in the transaction that writes the state, or work is lost"
_OWN_TIME = "a record must be given up within its transaction; set 'transaction_timeout_ms'"
_IDEMPOTENT = "without it a record can be lost, doubled or out of order"
_SIZE = "topics, producers and consumers agree on 32 MiB"
_SERVERS = "the servers are in the URL"

_OWNED: Mapping[str, _Owned] = {
    "bootstrap.servers": _Owned(_SERVERS),
    "metadata.broker.list": _Owned(_SERVERS),
    "test.mock.num.brokers": _Owned(_SERVERS),
    "client.id": _Owned("a worker tells its address in it"),
    "group.id": _Owned("set 'group'"),
    "group.instance.id": _Owned("set 'instance'"),
    "group.protocol": _Owned("set 'group_protocol'"),
    "group.protocol.type": _Owned("the group is one of consumers", ("consumer",)),
    "partition.assignment.strategy": _Owned(
        "partitions move one by one, so that the others work on meanwhile", ("cooperative-sticky",)
    ),
    "session.timeout.ms": _Owned("set 'session_timeout_ms'"),
    "heartbeat.interval.ms": _Owned("set 'heartbeat_ms'"),
    "enable.auto.commit": _Owned(_POSITIONS, ("false",)),
    "auto.commit.enable": _Owned(_POSITIONS, ("false",)),
    "auto.commit.interval.ms": _Owned(_POSITIONS),
    "enable.auto.offset.store": _Owned(_POSITIONS, ("false",)),
    "auto.offset.reset": _Owned("a worker without a position reads from the beginning, so that no start is skipped"),
    "isolation.level": _Owned("what an aborted transaction wrote has not happened", ("read_committed",)),
    "enable.partition.eof": _Owned("a restore is told by it that it has read everything"),
    "allow.auto.create.topics": _Owned("a topic that the broker makes by itself has the wrong configuration", ("false",)),
    "transactional.id": _Owned("it belongs to the slot of a worker, so that a restart fences its predecessor"),
    "transaction.timeout.ms": _Owned("set 'transaction_timeout_ms'"),
    "message.timeout.ms": _Owned(_OWN_TIME),
    "delivery.timeout.ms": _Owned(_OWN_TIME),
    "enable.idempotence": _Owned(_IDEMPOTENT, ("true",)),
    "enable.gapless.guarantee": _Owned(_IDEMPOTENT),
    "acks": _Owned("what only one broker has can be lost", ("all", "-1")),
    "request.required.acks": _Owned("what only one broker has can be lost", ("all", "-1")),
    "max.in.flight": _Owned(_IDEMPOTENT),
    "max.in.flight.requests.per.connection": _Owned(_IDEMPOTENT),
    "partitioner": _Owned("every producer of a run must find the same partition", ("murmur2", "murmur2_random")),
    "message.max.bytes": _Owned(_SIZE),
    "message.copy.max.bytes": _Owned(_SIZE),
    "receive.message.max.bytes": _Owned(_SIZE),
    "fetch.max.bytes": _Owned(_SIZE),
}


def client_options(in_url: Mapping[str, Any], in_setting: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options of both places, with values as text and secrets as :class:`SecretStr`; the URL's go first.

    Nested tables stand for names with dots, because that is what ``security.protocol = "SSL"`` means in TOML. Raises
    :class:`DefinitionError` for an option that Headrace keeps for itself, and for a value that is no text or number.
    """
    if not isinstance(in_setting, Mapping):
        raise DefinitionError(
            "setting 'kafka' must be a table of options of librdkafka, such as {\"security.protocol\": ...}"
        )
    options: dict[str, Any] = {}
    for name, value in (*_flat(in_setting, ""), *in_url.items()):
        text = _text(name, value)
        owned = _OWNED.get(name)
        if owned is None:
            options[name] = SecretStr(text) if is_secret(name) else text
        elif text.lower() not in owned.fine:
            raise DefinitionError(f"option {name!r} of librdkafka is not for you to set: {owned.reason}")
    return MappingProxyType(options)


def _flat(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if not isinstance(name, str) or not name:
            raise DefinitionError(f"setting 'kafka': the name of an option must be text, not {name!r}")
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _text(name: str, value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        return str(value)
    raise DefinitionError(f"option {name!r} of librdkafka must be text, a number, true or false, not {type(value).__name__}")
