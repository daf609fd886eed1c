"""The place of a worker on its machine: a folder with its store, and an id that outlives the process.

    <state>/<app>/slot-0/store     RocksDB: the committed state of the partitions that this worker has, or had
    <state>/<app>/slot-0/slot.json {"id": ...}
    <state>/<app>/slot-a/port      the HTTP port of the last worker, where slots have names

A worker takes the first slot that nobody holds, so a worker that starts again gets the one of its predecessor: its warm
store, and its transactional id, under which the broker aborts at once what the predecessor left open. With *instance* the
slot has that name, and no other worker can take it.

The store is a copy of what the changelogs hold. One that is damaged is put aside, never deleted, and made again.
"""

from __future__ import annotations

__all__ = ["Slot", "take_slot"]

import contextlib
import json
import logging
import time
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from headrace.errors import StoreError, StoreFull, StoreLocked
from headrace_adapters.rocks import RocksStore
from headrace_adapters.rocks.lock import FolderLock

_LOGGER = logging.getLogger(__name__)

SLOTS_MAX = 1_000
STORE = "store"
IDENTITY = "slot.json"
PORT = "port"

# Written by a worker that found its store damaged while it worked, for the next one that takes the slot.
DAMAGED = "damaged"


class Slot(NamedTuple):
    """A slot that this process holds as long as its store is open."""

    folder: Path
    id: str
    store: RocksStore

    def report_damage(self) -> None:
        """Have the store put aside when the slot is taken the next time."""
        (self.folder / DAMAGED).touch()

    @property
    def port(self) -> int:
        """The port that was kept last; 0 where none is known."""
        with contextlib.suppress(OSError, ValueError):
            port = int((self.folder / PORT).read_text())
            return port if 0 < port < 65_536 else 0
        return 0

    def keep_port(self, port: int) -> None:
        """Remember the HTTP port for the next worker that takes the slot."""
        (self.folder / PORT).write_text(str(port))


def take_slot(folder: Path, instance: str | None) -> Slot:
    """The slot of *instance*, or the first free one, below *folder* (which is made).

    Raises :class:`StoreLocked` when another process holds it, and :class:`StoreError` when it cannot be used.
    """
    if instance is not None:
        return _open(folder / f"slot-{instance}")
    for number in range(SLOTS_MAX):
        with contextlib.suppress(StoreLocked):
            return _open(folder / f"slot-{number}")
    raise StoreError(f"all {SLOTS_MAX} slots in {folder} are taken: give another folder (setting 'state')")


def _open(folder: Path) -> Slot:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / DAMAGED).exists():
            _put_aside(folder, "its last worker found it damaged")
            (folder / DAMAGED).unlink(missing_ok=True)
        store = _open_store(folder)
        try:
            return Slot(folder, _identity(folder), store)
        except BaseException:
            store.close()
            raise
    except OSError as error:
        raise StoreError(
            f"the folder {folder} for the state of this worker cannot be used: {error.strerror}; "
            "give one that it may write to (setting 'state')"
        ) from error


def _open_store(folder: Path) -> RocksStore:
    # What the disk loses in a power cut, the changelogs give back: nothing is worth waiting for here.
    try:
        return RocksStore(folder / STORE, sync=False)
    except (StoreLocked, StoreFull):
        raise
    except StoreError as error:
        _put_aside(folder, str(error))
        return RocksStore(folder / STORE, sync=False)


def _put_aside(folder: Path, reason: str) -> None:
    """Raises :class:`StoreLocked` where somebody has the store: whoever found it damaged may have had it long before."""
    if not (folder / STORE).exists():
        return
    lock = FolderLock(folder / STORE)
    try:
        aside = folder / f"{STORE}.damaged-{time.time_ns()}"
        (folder / STORE).rename(aside)
    finally:
        lock.release()
    _LOGGER.error("the local store is put aside as %s and made again from the changelogs: %s", aside, reason)


def _identity(folder: Path) -> str:
    """The id of the slot; made with the slot, and again where it cannot be read."""
    path = folder / IDENTITY
    with contextlib.suppress(FileNotFoundError, ValueError, TypeError, KeyError):
        known = json.loads(path.read_bytes())["id"]
        if isinstance(known, str) and known:
            return known
    made = uuid4().hex
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps({"id": made}))
    fresh.replace(path)
    return made
