"""Durable work on one machine, without any server: RocksDB in a folder. See ``README.md`` beside this."""

from headrace_adapters.embedded.adapter import EmbeddedAdapter, open_adapter

__all__ = ["EmbeddedAdapter", "open_adapter"]
