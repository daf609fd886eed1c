"""How clients of Kafka are set up: configurations for librdkafka, and clients that log as Python does.

What decides whether work is lost is fixed here. What only makes it fast is a default, which the options of an
installation go before.
"""

from __future__ import annotations

__all__ = [
    "Lister",
    "WatchedAdmin",
    "admin",
    "client_logger",
    "common",
    "connect",
    "group_consumer",
    "open_admin",
    "open_consumer",
    "open_producer",
    "plain_producer",
    "reader",
    "transactional_producer",
]

import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal, Protocol, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from pydantic import SecretStr

from headrace.errors import DefinitionError
from headrace_adapters.kafka.client_logs import LOGGER, RepeatsFilter
from headrace_adapters.kafka.settings import RECORD_BYTES_MAX, KafkaSettings

CONNECT_S = 0.2

Config = dict[str, Any]
_Client = TypeVar("_Client")

# librdkafka wants room for the frame of a response around the largest fetch, and for several records of the largest size.
FETCH_BYTES_MAX = 2 * RECORD_BYTES_MAX
RECEIVE_BYTES_MAX = 2 * FETCH_BYTES_MAX

# Options of one kind of client; librdkafka warns at every start where the other kind is given them.
_OF_CONSUMERS = frozenset((
    "check.crcs", "consume.callback.max.messages", "coordinator.query.interval.ms", "fetch.error.backoff.ms",
    "fetch.message.max.bytes", "fetch.min.bytes", "fetch.queue.backoff.ms", "fetch.wait.max.ms", "group.remote.assignor",
    "max.partition.fetch.bytes", "max.poll.interval.ms", "offset.store.method", "offset.store.path",
    "offset.store.sync.interval.ms", "queued.max.messages.kbytes", "queued.min.messages",
))  # fmt: skip
_OF_PRODUCERS = frozenset((
    "batch.num.messages", "batch.size", "compression.codec", "compression.level", "compression.type", "linger.ms",
    "message.send.max.retries", "produce.offset.report", "queue.buffering.backpressure.threshold",
    "queue.buffering.max.kbytes", "queue.buffering.max.messages", "queue.buffering.max.ms", "queuing.strategy",
    "request.timeout.ms", "retries", "retry.backoff.max.ms", "retry.backoff.ms", "sticky.partitioning.linger.ms",
))  # fmt: skip

_TUNED: Mapping[str, Any] = {
    "socket.keepalive.enable": True,
    "log.connection.close": False,
    # A broker that comes back is found within a second; the default lets a worker wait for ten.
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 1_000,
    # How long a client keeps to a coordinator and to leaders that it once found. By default it asks those for 15 minutes
    # that a broker which came back no longer is, and calls hang so long: sending offsets to a transaction without an end.
    "metadata.max.age.ms": 2_000,
}
_TUNED_CONSUMER: Mapping[str, Any] = {
    # New and sought partitions join the next fetch, so a fetch that waits is short.
    "fetch.wait.max.ms": 20,
    "fetch.error.backoff.ms": 50,
    # By default a consumer that had enough in its queue stops for a second.
    "fetch.queue.backoff.ms": 5,
    "fetch.message.max.bytes": 4 * 1024 * 1024,
    "queued.max.messages.kbytes": 64 * 1024,
}
_TUNED_PRODUCER: Mapping[str, Any] = {
    "compression.type": "lz4",
    # A commit does not wait for it; between commits it makes batches of what is produced one by one.
    "linger.ms": 1,
    "queue.buffering.max.messages": 1_000_000,
    "queue.buffering.max.kbytes": 1024 * 1024,
}


def common(settings: KafkaSettings) -> Config:
    """What every client has, the options of the installation for all kinds of clients among it."""
    options = _options(settings, without=_OF_CONSUMERS | _OF_PRODUCERS)
    return {
        **_TUNED,
        "client.id": "headrace",
        **_login(settings, options),
        **options,
        "bootstrap.servers": settings.servers,
        "message.max.bytes": RECORD_BYTES_MAX,
        "receive.message.max.bytes": RECEIVE_BYTES_MAX,
    }


def group_consumer(settings: KafkaSettings, client_id: str) -> Config:
    """A member of the group of the app's workers; *client_id* tells its address."""
    config = _consumer(settings)
    config |= {
        "client.id": client_id,
        "group.id": settings.group,
        # Jobs that nobody has taken are taken, also those from before there was a group.
        "auto.offset.reset": "earliest",
        "enable.partition.eof": False,
        "group.protocol": settings.group_protocol,
    }
    if settings.instance is not None:
        config["group.instance.id"] = settings.instance
    if settings.group_protocol == "classic":
        # With the other protocol these three are settings of the broker, and librdkafka refuses them.
        config |= {
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": settings.session_timeout_ms,
            "heartbeat.interval.ms": settings.heartbeat_ms,
        }
    return config


def reader(settings: KafkaSettings, out_of_range: Literal["error", "earliest"] = "error") -> Config:
    """A consumer that is in no group: it is assigned what it reads, commits nothing, and is told of every end.

    A position that is not there (any more) is an error, because whoever reads a state must know of what it misses.
    """
    consumer = _consumer(settings)
    # Of members only: librdkafka compares it with the session of a group, and here there is none.
    consumer.pop("max.poll.interval.ms", None)
    return {
        **consumer,
        # A name is compulsory and nobody joins it. It begins as that of the group, so that one prefixed ACL fits both.
        "group.id": f"{settings.group}.reader",
        "auto.offset.reset": out_of_range,
        "enable.partition.eof": True,
    }


def transactional_producer(settings: KafkaSettings, transactional_id: str) -> Config:
    """The one producer of a slot, which all of its state is written by."""
    return {
        # A transaction that begins while the broker ends the one before is refused, and tried again after this time:
        # by default 100 ms, twenty times of what a transaction takes.
        "retry.backoff.ms": 1,
        "retry.backoff.max.ms": 5,
        **_producer(settings),
        "transactional.id": transactional_id,
        "transaction.timeout.ms": settings.transaction_timeout_ms,
    }


def plain_producer(settings: KafkaSettings, delivery_timeout_ms: int = 30_000) -> Config:
    """A producer without transactions: each record is there when it is acknowledged, once and in order."""
    return {**_producer(settings), "delivery.timeout.ms": delivery_timeout_ms}


def admin(settings: KafkaSettings) -> Config:
    """A client that looks at topics and groups, and makes topics."""
    return common(settings)


def client_logger() -> logging.Logger:
    """Where clients log: ``headrace.kafka``. What they repeat many times a second is passed on now and then."""
    logger = logging.getLogger(LOGGER)
    if not any(isinstance(each, RepeatsFilter) for each in logger.filters):
        logger.addFilter(RepeatsFilter())
    return logger


def open_consumer(config: Config) -> Consumer:
    """A consumer. Raises :class:`DefinitionError` for options that librdkafka does not take."""
    return _open(Consumer, config)


def open_producer(config: Config) -> Producer:
    """A producer. Raises :class:`DefinitionError` for options that librdkafka does not take."""
    return _open(RaisingProducer, config)


class Lister(Protocol):
    """Whoever can list topics."""

    def list_topics(self, topic: str, timeout: float) -> Any: ...


def connect(client: Lister, topic: str) -> None:
    """Have a new admin client find out who leads *topic*.

    Else, where it is first asked for offsets, the question who leads the partitions may go out on a connection that is given
    up for a better one, and is repeated three seconds later. Where nobody is reached, the next call says so.
    """
    with suppress(KafkaException):
        client.list_topics(topic, CONNECT_S)


def open_admin(config: Config, logger: logging.Logger | None = None) -> WatchedAdmin:
    """A client for topics and groups. Raises :class:`DefinitionError` for options that librdkafka does not take."""
    return _open(WatchedAdmin, config, logger)


class RaisingProducer(Producer):
    """A producer whose ``flush`` raises what can be caught."""

    def flush(self, timeout: float = -1) -> int:
        """Raises :class:`KafkaException` for what confluent-kafka raises as a ``KafkaError``.

        That is no exception, so that no handler but one for it by name would see it; and a callback that was called while
        it was on its way has made a ``SystemError`` of it.
        """
        try:
            return super().flush(timeout)
        except KafkaError as error:  # type: ignore[misc]
            raise KafkaException(error) from None
        except SystemError as error:
            cause = error.__cause__
            if isinstance(cause, KafkaError):
                raise KafkaException(cause) from error
            if isinstance(cause, KafkaException):
                raise cause from error
            raise


class WatchedAdmin(AdminClient):
    """An admin client that remembers what was wrong with its connections.

    Its calls end with a time-out only, whether nobody listens, the user is refused or the certificate is wrong.
    """

    def __init__(self, config: Config, logger: logging.Logger) -> None:
        self._trouble: KafkaError | None = None
        watched: Config = {**config, "error_cb": self._note}
        super().__init__(watched, logger=logger)

    def trouble(self) -> KafkaError | None:
        """The last thing that went wrong with a connection; logs of the client are passed on, too."""
        self.poll(0)
        return self._trouble

    def _note(self, error: KafkaError) -> None:
        # That all brokers are down follows each time from something that says more.
        if self._trouble is None or error.code() != KafkaError._ALL_BROKERS_DOWN:
            self._trouble = error


def _open(kind: type[_Client], config: Config, logger: logging.Logger | None = None) -> _Client:
    try:
        return kind(config, logger=logger or client_logger())  # type: ignore[call-arg]
    except KafkaException as error:
        problem = error.args[0]
        if problem.code() != KafkaError._INVALID_ARG:
            raise
        raise DefinitionError(
            f"librdkafka does not take an option of the URL or of the setting 'kafka': {problem.str()}"
        ) from None


def _options(settings: KafkaSettings, without: frozenset[str]) -> Config:
    return {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value
        for name, value in settings.librdkafka.items()
        if name not in without
    }


def _login(settings: KafkaSettings, options: Config) -> Config:
    if settings.username is None or settings.password is None:
        return {}
    login = {
        # Unless somebody says that it may, a password does not go over a wire that anybody can read.
        "security.protocol": "SASL_SSL",
        "sasl.username": settings.username,
        "sasl.password": settings.password.get_secret_value(),
    }
    if "sasl.mechanisms" not in options:
        login["sasl.mechanism"] = "PLAIN"
    return login


def _consumer(settings: KafkaSettings) -> Config:
    return {
        **_TUNED_CONSUMER,
        **common(settings),
        **_options(settings, without=_OF_PRODUCERS),
        "allow.auto.create.topics": False,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "fetch.max.bytes": FETCH_BYTES_MAX,
        "isolation.level": "read_committed",
    }


def _producer(settings: KafkaSettings) -> Config:
    return {
        **_TUNED_PRODUCER,
        **common(settings),
        **_options(settings, without=_OF_CONSUMERS),
        "enable.idempotence": True,
        "acks": "all",
        "partitioner": "murmur2",
    }
