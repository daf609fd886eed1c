"""An app at a Kafka cluster, for commands that look after its topics and load no flow."""

from __future__ import annotations

__all__ = ["is_kafka", "kafka_app", "silent_logger"]

import logging
from typing import TYPE_CHECKING

from headrace.app import App
from headrace.errors import DefinitionError
from headrace_adapters.cli.loading import load_app, names_code
from headrace_adapters.settings import Settings, shown_url

if TYPE_CHECKING:
    from headrace_adapters.kafka.settings import KafkaSettings


def is_kafka(url: str) -> bool:
    """Whether a URL is one of Kafka."""
    return url.lower().startswith("kafka:")


def kafka_app(settings: Settings, target: str | None, what: str) -> KafkaSettings:
    """The app that *target* or the settings name, at the cluster of the URL; *what* of it is wanted.

    Raises :class:`DefinitionError` for another URL, where no app is named, and where the client is not installed.
    """
    if not is_kafka(settings.url):
        raise DefinitionError(
            f"{what} are what Kafka has, and {shown_url(settings.url)!r} is no URL of it: give --url kafka://host:9092, "
            "or set HEADRACE_URL"
        )
    name = _app_name(settings, target, what)
    try:
        import headrace_adapters.kafka.connection  # noqa: F401 (whoever is given the app opens clients)
        from headrace_adapters.kafka.settings import kafka_settings
    except ModuleNotFoundError as error:
        raise DefinitionError(
            f"the client of Kafka is not installed ({error.name} is missing): pip install 'headrace[kafka]'"
        ) from None
    return kafka_settings(name, settings.url, settings.for_adapter())


def _app_name(settings: Settings, target: str | None, what: str) -> str:
    if target is not None and names_code(target):
        return load_app(target).name
    name = target or settings.app
    if name is None:
        raise DefinitionError(
            f"{what} are those of an app: give its name with --app NAME or HEADRACE_APP, or its code with --app file.py"
        )
    return App(name).name


def silent_logger() -> logging.Logger:
    """For a command that tells in its error why a server is not reached; at each attempt again is too much."""
    logger = logging.Logger("headrace.kafka.silent")  # noqa: LOG001 (nobody else may find it and hear nothing)
    logger.addHandler(logging.NullHandler())
    return logger
