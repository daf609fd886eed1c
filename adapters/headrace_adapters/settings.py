"""The settings of a program, a worker or a command: given by hand, by the environment, or by a config file.

What is given by hand (an argument, an option) goes before an environment variable ``HEADRACE_<NAME>``, and that goes
before the config file, ``headrace.toml`` in the working directory (``HEADRACE_CONFIG`` names another one). What nobody
sets is left to the adapter: the defaults here tell what it takes then. Settings never change once they are read.
"""

from __future__ import annotations

__all__ = ["Settings", "load_settings", "resolve", "shown_url"]

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PositiveInt, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from headrace.app import DEFAULT_URL
from headrace.durations import parse_duration_ms
from headrace.errors import DefinitionError
from headrace.limits import Limits

PREFIX = "HEADRACE_"
CONFIG = "headrace.toml"
CONFIG_VARIABLE = "HEADRACE_CONFIG"

_LIMITS = Limits()

# Settings that are no business of an adapter.
_NOT_FOR_ADAPTERS = frozenset(("url", "app", "grace"))
# What only a server asks for; an adapter without one must not get it.
_FOR_SERVERS = frozenset(("username", "password"))

_URL_SECRET = re.compile(r"(?<=//)([^/@]*?:)[^/@]*(?=@)")


def _duration_ms(value: object) -> int:
    # Of an environment variable a number comes as text.
    return parse_duration_ms(int(value) if isinstance(value, str) and value.strip().isdecimal() else value)


DurationMs = Annotated[int, BeforeValidator(_duration_ms)]


class Settings(BaseSettings):
    """All settings that Headrace knows. Durations are ms, or text such as ``7d``."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    url: str = Field(DEFAULT_URL, min_length=1, description="where the work is carried")
    app: str | None = Field(None, description="the name of the app, for commands that load none")
    grace: DurationMs = Field(10_000, description="how long a stopping worker lets nodes finish")
    partitions: PositiveInt = Field(4, description="partitions of a new embedded store")
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
        left_out = _NOT_FOR_ADAPTERS if "://" in self.url else _NOT_FOR_ADAPTERS | _FOR_SERVERS
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


def resolve(url: str | None, given: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The URL and the adapter's settings for a program that gives these: entry point of ``headrace.settings``.

    A setting that Headrace does not know is left to the adapter, which may.
    """
    known = {name: value for name, value in given.items() if name in Settings.model_fields and name != "url"}
    settings = load_settings(url=url, **known)
    others = {name: value for name, value in given.items() if name not in Settings.model_fields}
    return settings.url, {**others, **settings.for_adapter()}


def shown_url(url: str) -> str:
    """A URL as it may be printed: a password in it is not."""
    return _URL_SECRET.sub(r"\1***", url)


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
    shown = "" if field is not None and "SecretStr" in str(field.annotation) else f" is {problem['input']!r}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"setting {name!r}{shown} {source}: {message[:1].lower()}{message[1:]}"
