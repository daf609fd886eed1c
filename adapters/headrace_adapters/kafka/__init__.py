"""The adapter for Kafka: scaled consumer groups, transactions, and state that is restored from changelogs.

The clients are an extra, so this says what to install where they are missing. See ``README.md`` beside this.
"""

from __future__ import annotations

__all__ = ["open_adapter"]

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from headrace.errors import DefinitionError

if TYPE_CHECKING:
    from headrace.adapter import Adapter
    from headrace.app import App


def open_adapter(app: App, url: str, settings: Mapping[str, Any]) -> Adapter:
    """Open ``kafka://[user:password@]host:port[,...][?options of librdkafka]``."""
    try:
        from headrace_adapters.kafka.adapter import open_adapter as opened
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in ("headrace", "headrace_adapters", "headrace_topics"):
            raise
        raise DefinitionError(f"kafka: needs {error.name}, which is not installed: pip install 'headrace[kafka]'") from None
    return opened(app, url, settings)
