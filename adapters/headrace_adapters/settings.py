"""The settings of a program, a worker or a command: given by hand, by the environment, or by a config file.

What is given by hand (an argument, an option) goes before an environment variable ``HEADRACE_<NAME>``, and that goes
before the config file, ``headrace.toml`` in the working directory (``HEADRACE_CONFIG`` names another one). What nobody
sets is left to the adapter: the defaults here tell what it takes then. Settings never change once they are read.
"""

from __future__ import annotations

__all__ = ["Settings", "is_secret", "load_settings", "resolve", "shown_url"]

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote

from pydantic import AfterValidator, BeforeValidator, Field, NonNegativeInt, PositiveInt, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from headrace.app import DEFAULT_URL
from headrace.durations import parse_duration_ms
from headrace.errors import DefinitionError
from headrace.limits import Limits

PREFIX = "HEADRACE_"
CONFIG = "headrace.toml"
CONFIG_VARIABLE = "HEADRACE_CONFIG"

DAY_MS = 24 * 3_600_000

_LIMITS = Limits()

# Settings that are no business of an adapter.
_NOT_FOR_ADAPTERS = frozenset(("url", "app", "grace"))
# What only a server asks for; an adapter without one must not get it.
_FOR_SERVERS = frozenset((
    "username", "password", "kafka", "group", "group_protocol", "instance", "standby", "state", "guarantee",
    "replication", "min_insync_replicas", "session_timeout_ms", "heartbeat_ms", "transaction_timeout_ms",
    "jobs_retention_ms", "events_retention_ms", "dead_letters_retention_ms",
    "http_host", "http_port", "http_advertise", "http_token",
))  # fmt: skip
# What only an adapter on this machine knows.
_FOR_LOCAL = frozenset(("sync",))
_LOCAL = ("embedded:", "memory:")

# What may be said of a server's client by its own names, such as ``sasl.password`` or ``ssl.key.pem``.
_SECRET_NAME = re.compile(r"password|passphrase|secret|token|pem|credential", re.IGNORECASE)
# From the user on, up to the last @: a password that should have been written with %40 and %2F must not be shown either.
_URL_SECRET = re.compile(r"(?<=//)([^:@?]*:).*(?=@)", re.DOTALL)
_URL_OPTION = re.compile(r"(?<=[?&])([^=&]*)=([^&]*)")


def is_secret(name: str) -> bool:
    """Whether the value of an option with this name must not be shown."""
    return _SECRET_NAME.search(name) is not None


def _duration_ms(value: object) -> int:
    # Of an environment variable a number comes as text.
    return parse_duration_ms(int(value) if isinstance(value, str) and value.strip().isdecimal() else value)


def _retention_ms(value: object) -> int:
    return -1 if value in (-1, "-1") else _duration_ms(value)


def _hidden(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options whose secrets do not show."""
    hidden: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, Mapping):
            # Of a table only the whole name tells: ``key`` says nothing, ``ssl.key`` does.
            hidden |= _hidden({f"{name}.{below}": deeper for below, deeper in value.items()})
        else:
            secret = is_secret(name) and not isinstance(value, SecretStr)
            hidden[name] = SecretStr(str(value)) if secret else value
    return hidden


DurationMs = Annotated[int, BeforeValidator(_duration_ms)]
RetentionMs = Annotated[int, BeforeValidator(_retention_ms)]
Options = Annotated[dict[str, Any], AfterValidator(_hidden)]


class Settings(BaseSettings):
    """All settings that Headrace knows. Durations are ms, or text such as ``7d``."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    url: str = Field(DEFAULT_URL, min_length=1, description="where the work is carried")
    app: str | None = Field(None, description="the name of the app, for commands that load none")
    grace: DurationMs = Field(10_000, description="how long a stopping worker lets nodes finish")
    partitions: PositiveInt = Field(4, description="partitions of a new embedded store; of new topics of an app 8")
    sync: bool = Field(True, description="wait for the disk at every commit of an embedded store")
    slots: PositiveInt = Field(1_000, description="executions at once in a worker")
    threads_max: PositiveInt = Field(16, description="nodes at once that are plain functions")
    processes_max: int = Field(0, ge=0, description="processes for nodes that are CPU-bound; 0: they run in threads")
    value_bytes_max: PositiveInt = Field(_LIMITS.value_bytes_max, description="size of one value, encoded")
    batch_items_max: PositiveInt = Field(_LIMITS.batch_items_max, description="items of one batch")
    runs_cached_max: PositiveInt = Field(_LIMITS.runs_cached_max, description="runs of a partition held in memory")
    dedup_window_ms: DurationMs = Field(_LIMITS.dedup_window_ms, description="how long an ended run is remembered")
    username: str | None = Field(None, description="for adapters whose server asks for one")
    password: SecretStr | None = Field(None, description="for adapters whose server asks for one; never shown")
    kafka: Options = Field({}, description="options of librdkafka by their own names; secrets are never shown")
    group: str | None = Field(None, min_length=1, description="the consumer group of an app's workers; else its name")
    group_protocol: Literal["classic", "consumer"] = Field("classic", description="how a group shares out partitions")
    instance: str | None = Field(None, min_length=1, description="the name of a worker that keeps it over restarts")
    standby: NonNegativeInt = Field(0, description="workers that keep a warm copy of a partition's state, besides its owner")
    state: Path = Field(Path(".headrace"), description="the folder in which a worker keeps its copy of the state")
    guarantee: Literal["exactly_once", "at_least_once"] = Field("exactly_once", description="what a crash may repeat")
    replication: PositiveInt | None = Field(None, description="copies of a new topic; else 3, or one a broker")
    min_insync_replicas: PositiveInt | None = Field(
        None, description="copies that a write of a new topic waits for; else one less than there are, at least 1"
    )
    session_timeout_ms: DurationMs = Field(6_000, description="how long a silent worker keeps its partitions")
    heartbeat_ms: DurationMs = Field(1_000, description="how often a worker says that it lives")
    transaction_timeout_ms: DurationMs = Field(10_000, description="how long a transaction may take")
    jobs_retention_ms: RetentionMs = Field(14 * DAY_MS, description="how long jobs are kept in their topic; -1: for ever")
    events_retention_ms: RetentionMs = Field(30 * DAY_MS, description="how long the history of runs is kept; -1: for ever")
    dead_letters_retention_ms: RetentionMs = Field(30 * DAY_MS, description="how long dead letters are kept; -1: for ever")
    http_host: str = Field("127.0.0.1", min_length=1, description="where a worker answers questions")
    http_port: int = Field(0, ge=0, le=65_535, description="the port of that; 0: any that is free")
    http_advertise: str | None = Field(None, min_length=1, description="how others reach it, such as http://worker-1:8080")
    http_token: SecretStr | None = Field(None, description="what whoever asks a worker must know; never shown")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the config file."""
        return init_settings, env_settings, _ConfigFile(settings_cls)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Fields as they may be printed or logged."""
        for name, value in super().__repr_args__():
            yield name, shown_url(value) if name == "url" else value

    def for_adapter(self) -> dict[str, Any]:
        """What somebody has set, by the names that adapters know."""
        served = "://" in self.url and not self.url.lower().startswith(_LOCAL)
        left_out = _NOT_FOR_ADAPTERS | (_FOR_LOCAL if served else _FOR_SERVERS)
        return {name: getattr(self, name) for name in sorted(self.model_fields_set - left_out)}


class _ConfigFile(PydanticBaseSettingsSource):
    """The config file, where there is one."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        return _read_config()


def load_settings(**given: Any) -> Settings:
    """The settings, with those *given* that are not None going first.

    Raises :class:`DefinitionError` that names the setting, where it comes from and what was expected.
    """
    said = {name: value for name, value in given.items() if value is not None}
    try:
        return Settings(**said)
    except ValidationError as error:
        lines = [_problem(dict(problem), said) for problem in error.errors(include_url=False)]
        raise DefinitionError("\n".join(lines)) from None
    except SettingsError:
        # The only variable that holds more than one value; what is in it may be secret.
        raise DefinitionError(
            f"setting 'kafka' (environment: {PREFIX}KAFKA) must be a JSON object of options of librdkafka, "
            'such as {"security.protocol": "SSL"}'
        ) from None


def resolve(url: str | None, given: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The URL and the adapter's settings for a program that gives these: entry point of ``headrace.settings``.

    A setting that Headrace does not know is left to the adapter, which may.
    """
    known = {name: value for name, value in given.items() if name in Settings.model_fields and name != "url"}
    settings = load_settings(url=url, **known)
    others = {name: value for name, value in given.items() if name not in Settings.model_fields}
    return settings.url, {**others, **settings.for_adapter()}


def shown_url(url: str) -> str:
    """A URL as it may be printed: a password in it is not, nor is an option that holds one."""
    return _URL_OPTION.sub(_shown_option, _URL_SECRET.sub(r"\1***", url))


def _shown_option(option: re.Match[str]) -> str:
    return f"{option[1]}={'***' if is_secret(unquote(option[1])) else option[2]}"


def _read_config() -> dict[str, Any]:
    named = os.environ.get(CONFIG_VARIABLE)
    path = Path(named or CONFIG)
    if not named and not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DefinitionError(f"the config file {path} cannot be read: {error}") from None


def _problem(problem: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    if name in given:
        source = "(as it was given)"
    elif PREFIX + name.upper() in os.environ:
        source = f"(environment: {PREFIX}{name.upper()})"
    else:
        source = f"(config file: {os.environ.get(CONFIG_VARIABLE) or CONFIG})"
    if problem["type"] == "extra_forbidden":
        return f"there is no setting {name!r} {source}; there are {', '.join(Settings.model_fields)}"
    field = Settings.model_fields.get(name)
    hidden = name.startswith("kafka") or (field is not None and "SecretStr" in str(field.annotation))
    shown = "" if hidden else f" is {problem['input']!r}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"setting {name!r}{shown} {source}: {message[:1].lower()}{message[1:]}"
