"""The adapter ``kafka://host:port,...``."""

from __future__ import annotations

__all__ = ["KafkaAdapter", "open_adapter"]

from collections.abc import Mapping
from typing import Any

from headrace.adapter import Adapter, Client, Worker
from headrace.app import App
from headrace_adapters.kafka.client import connect_client
from headrace_adapters.kafka.settings import KafkaSettings, kafka_settings
from headrace_adapters.kafka.worker import KafkaWorker


class KafkaAdapter(Adapter):
    """The runs of an app on the topics of a cluster. Any number of workers share them; clients reach them from anywhere."""

    def __init__(self, app: App, settings: KafkaSettings) -> None:
        self._app = app
        self._settings = settings

    def worker(self) -> Worker:
        """A worker of this process."""
        return KafkaWorker(self._app, self._settings)

    async def client(self) -> Client:
        """A client of the topics, and of the workers that own them."""
        return await connect_client(self._app, self._settings)


def open_adapter(app: App, url: str, settings: Mapping[str, Any]) -> Adapter:
    """Open ``kafka://[user:password@]host:port[,...][?options of librdkafka]``."""
    return KafkaAdapter(app, kafka_settings(app.name, url, settings))
