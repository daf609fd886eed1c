"""RocksDB as the local store: the only package that imports ``rocksdict``."""

from __future__ import annotations

__all__ = ["RocksStore"]

from headrace_adapters.rocks.store import RocksStore
