"""Settings of the Kafka adapter, as they come from a URL, a command line, the environment or a file."""

from __future__ import annotations

__all__ = [
    "PARTITIONS_DEFAULT",
    "RECORD_BYTES_MAX",
    "TOPIC_BYTES_MAX",
    "KafkaSettings",
    "kafka_settings",
]

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from headrace.errors import DefinitionError
from headrace.limits import Limits
from headrace_adapters.kafka.client_options import client_options
from headrace_adapters.kafka.server_url import parse_url
from headrace_adapters.settings import DAY_MS

PARTITIONS_DEFAULT = 8
"""Partitions of a new app's topics, where nobody says how many."""

PARTITIONS_MAX = 10_000

TOPIC_BYTES_MAX = 32 * 1024 * 1024
"""``max.message.bytes`` of every topic: the largest batch of records as it is on the wire."""

RECORD_BYTES_MAX = TOPIC_BYTES_MAX - 64 * 1024
"""The largest record, in bytes, headers and all, that clients produce: with what a batch puts around it, it fits a topic."""

GUARANTEES = ("exactly_once", "at_least_once")
GROUP_PROTOCOLS = ("classic", "consumer")

FOR_EVER = -1

# What other adapters know; one program may have settings for several.
_OTHERS = frozenset(("sync", "url"))

_INT_MAX = 2**31 - 1
_WHOLE_NUMBERS: Mapping[str, tuple[int, int]] = {
    "partitions": (1, PARTITIONS_MAX),
    "replication": (1, 32_767),
    "min_insync_replicas": (1, 32_767),
    "standby": (0, 100),
    "http_port": (0, 65_535),
    "session_timeout_ms": (300, 3_600_000),
    "heartbeat_ms": (50, 3_600_000),
    # The broker's own bound (transaction.max.timeout.ms) is 15 minutes, unless somebody has raised it.
    "transaction_timeout_ms": (1_000, 3_600_000),
    "slots": (1, _INT_MAX),
    "threads_max": (1, _INT_MAX),
    "processes_max": (0, _INT_MAX),
}
_MAY_BE_NONE = frozenset(("partitions", "replication", "min_insync_replicas"))
_RETENTIONS = ("jobs_retention_ms", "events_retention_ms", "dead_letters_retention_ms")
_CHOICES: Mapping[str, tuple[str, ...]] = {"guarantee": GUARANTEES, "group_protocol": GROUP_PROTOCOLS}
_TEXTS = ("app", "group", "http_host", "instance", "http_advertise", "username")

# It becomes a part of the name of a folder and of a transactional id.
_INSTANCE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True, repr=False)
class KafkaSettings:
    """How this app is carried by Kafka. Secrets are :class:`pydantic.SecretStr`, those among *librdkafka* too.

    *partitions* is None where nobody has said how many: then existing topics are taken as they are, and new ones get
    :data:`PARTITIONS_DEFAULT`. *replication* None means three, or as many as there are brokers;
    *min_insync_replicas* None means one less than the replicas, and at least one.
    """

    servers: str
    app: str
    group: str
    partitions: int | None = None
    replication: int | None = None
    min_insync_replicas: int | None = None
    guarantee: str = "exactly_once"
    group_protocol: str = "classic"
    instance: str | None = None
    standby: int = 0
    state: Path = Path(".headrace")
    http_host: str = "127.0.0.1"
    http_port: int = 0
    http_advertise: str | None = None
    http_token: SecretStr | None = None
    session_timeout_ms: int = 6_000
    heartbeat_ms: int = 1_000
    transaction_timeout_ms: int = 10_000
    slots: int = 1_000
    threads_max: int = 16
    processes_max: int = 0
    limits: Limits = field(default_factory=Limits)
    username: str | None = None
    password: SecretStr | None = None
    librdkafka: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    jobs_retention_ms: int = 14 * DAY_MS
    events_retention_ms: int = 30 * DAY_MS
    dead_letters_retention_ms: int = 30 * DAY_MS

    def __post_init__(self) -> None:
        """Raises :class:`DefinitionError` for what cannot be."""
        for name, (least, most) in _WHOLE_NUMBERS.items():
            _check_number(name, getattr(self, name), least, most)
        for name in _RETENTIONS:
            value = getattr(self, name)
            if type(value) is not int or (value < 1 and value != FOR_EVER):
                raise DefinitionError(f"setting {name!r} must be a duration, or -1 to keep records for ever, not {value!r}")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise DefinitionError(f"setting {name!r} must be {' or '.join(choices)}, not {getattr(self, name)!r}")
        for name in _TEXTS:
            _check_text(name, getattr(self, name))
        for name in ("password", "http_token"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, SecretStr) and value.get_secret_value()):
                raise DefinitionError(f"setting {name!r} must be text that is not empty")
        if not isinstance(self.state, Path):
            raise DefinitionError(f"setting 'state' must be the path of a folder, not {self.state!r}")
        self._check_together()

    def _check_together(self) -> None:
        if self.instance is not None and not _INSTANCE.fullmatch(self.instance):
            raise DefinitionError(
                f"setting 'instance' names a folder and a group member, so it has 1 to 100 letters, digits, dots, "
                f"underscores and hyphens, and no dot in front: {self.instance!r} does not fit"
            )
        if self.http_advertise is not None:
            _check_advertised(self.http_advertise)
        if self.heartbeat_ms * 2 > self.session_timeout_ms:
            raise DefinitionError(
                f"setting 'heartbeat_ms' ({self.heartbeat_ms}) must be at most half of 'session_timeout_ms' "
                f"({self.session_timeout_ms}): one late heartbeat must not cost a worker its partitions"
            )
        replication, insync = self.replication, self.min_insync_replicas
        if replication is not None and insync is not None and insync > replication:
            raise DefinitionError(
                f"setting 'min_insync_replicas' ({insync}) must not be larger than 'replication' ({replication}): "
                "no record could be written"
            )
        if (self.username is None) != (self.password is None):
            given, missing = ("username", "password") if self.password is None else ("password", "username")
            raise DefinitionError(
                f"there is a {given} for Kafka and no {missing}: give both, in the URL (kafka://user:password@host:9092) "
                "or as the settings 'username' and 'password' (HEADRACE_USERNAME, HEADRACE_PASSWORD)"
            )

    @property
    def partitions_new(self) -> int:
        """The partitions that new topics get."""
        return self.partitions or PARTITIONS_DEFAULT

    def __repr__(self) -> str:
        shown = ", ".join(f"{item.name}={_shown(getattr(self, item.name))!r}" for item in fields(self))
        return f"KafkaSettings({shown})"


def kafka_settings(app_name: str, url: str, values: Mapping[str, Any]) -> KafkaSettings:
    """The settings of *app_name* at *url*, with *values* by name, those of ``Limits`` among them.

    Raises :class:`DefinitionError` for a URL or a setting that cannot be; it says which part, and what was expected.
    """
    own = {item.name for item in fields(KafkaSettings)} - {"servers", "app", "limits", "librdkafka"} | {"kafka"}
    bounds = {item.name for item in fields(Limits)}
    unknown = sorted(set(values) - own - bounds - _OTHERS)
    if unknown:
        known = ", ".join(sorted(own | bounds | _OTHERS))
        raise DefinitionError(f"unknown settings {', '.join(unknown)}: use some of {known}")
    try:
        limits = Limits(**{name: value for name, value in values.items() if name in bounds})
    except (TypeError, ValueError) as error:
        raise DefinitionError(f"a setting cannot be: {error}") from None
    said = {name: value for name, value in values.items() if name in own - {"kafka"} and value is not None}
    for name in ("password", "http_token"):
        if isinstance(said.get(name), str):
            said[name] = SecretStr(said[name])
    if isinstance(said.get("state"), str):
        said["state"] = Path(said["state"])
    said.setdefault("group", app_name)
    at = parse_url(url)
    _take_credentials(said, "username", at.username)
    _take_credentials(said, "password", at.password)
    options = client_options(at.options, values.get("kafka") or {})
    if "username" in said and (twice := sorted({"sasl.username", "sasl.password"} & options.keys())):
        raise DefinitionError(f"{' and '.join(twice)} and the setting 'username' say the same: give one of them")
    return KafkaSettings(servers=at.servers, app=app_name, limits=limits, librdkafka=options, **said)


def _take_credentials(said: dict[str, Any], name: str, in_url: str | SecretStr | None) -> None:
    if in_url is None:
        return
    if said.get(name) not in (None, in_url):
        raise DefinitionError(f"the URL has a {name}, and the setting {name!r} is another one: give one of them")
    said[name] = in_url


def _check_number(name: str, value: object, least: int, most: int) -> None:
    if value is None and name in _MAY_BE_NONE:
        return
    if type(value) is not int or not least <= value <= most:
        raise DefinitionError(f"setting {name!r} must be a whole number from {least} to {most}, not {value!r}")


def _check_text(name: str, value: object) -> None:
    if value is None and name not in ("app", "group", "http_host"):
        return
    if not isinstance(value, str) or not value or not value.isprintable() or value != value.strip():
        raise DefinitionError(f"setting {name!r} must be text that is not empty, not {value!r}")


def _check_advertised(url: str) -> None:
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 0) >= 0
    except ValueError:
        whole = None
    # A password in it would be told to everybody who may look at the group.
    if not whole or "@" in url or "|" in url:
        raise DefinitionError(
            "setting 'http_advertise' must be the address at which other machines reach this worker, "
            "such as http://worker-1:8080, without a user or a password"
        )


def _shown(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else value
