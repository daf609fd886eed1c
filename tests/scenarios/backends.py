"""The adapters on which scenarios run: each opens a carrier, and opens it again after the death of its worker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from headrace.limits import Limits
from headrace_adapters.local.carrier import LocalCarrier
from headrace_adapters.local.layout import KeyValueStore
from headrace_adapters.memory import MemoryStore
from headrace_adapters.rocks import RocksStore

PARTITIONS = 3


class Backend:
    """A place where records stay while workers come and go."""

    def __init__(self, open_store: Callable[[], KeyValueStore]) -> None:
        self._open_store = open_store
        self.store = open_store()

    def carrier(self) -> LocalCarrier:
        """A carrier for the next worker."""
        return LocalCarrier(self.store, Limits(), PARTITIONS)

    def die(self) -> None:
        """The process that held the store is gone; another one opens it."""
        self.store.close()
        self.store = self._open_store()

    def close(self) -> None:
        """Let go of everything."""
        self.store.close()


def _memory(_: Path) -> Backend:
    store = MemoryStore()
    return Backend(lambda: store)


def _embedded(folder: Path) -> Backend:
    # What a sync is worth is tested with real processes; here it would only cost time.
    return Backend(lambda: RocksStore(folder / "data", sync=False))


BACKENDS: dict[str, Callable[[Path], Backend]] = {"memory": _memory, "embedded": _embedded}
