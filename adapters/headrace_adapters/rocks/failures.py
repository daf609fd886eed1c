"""What RocksDB's failures mean for the operator.

``rocksdict`` raises a bare ``Exception`` with RocksDB's text; this is the only place that reads it.
"""

from __future__ import annotations

__all__ = ["is_from_rocksdb", "is_stall", "store_error"]

from pathlib import Path

from rocksdict import DbClosedError

from headrace.errors import StoreDamaged, StoreError, StoreFull, StoreLocked
from headrace_adapters.rocks.lock import locked_message

# As strerror() says them: ENOSPC, EDQUOT, EFBIG.
_FULL = ("No space left on device", "Disk quota exceeded", "File too large")
_DAMAGED = ("Corruption", "No such file or directory")
_LOCKED = ("lock hold by current process", "While lock file")


def is_from_rocksdb(error: Exception) -> bool:
    """Whether *error* is RocksDB's; all others (a key that is not bytes, say) are mistakes of the caller."""
    return type(error) is Exception or isinstance(error, DbClosedError)


def is_stall(error: Exception) -> bool:
    """Whether RocksDB only takes no writes at the moment, because it has tables to write or to compact first."""
    return is_from_rocksdb(error) and "Write stall" in str(error)


def store_error(folder: Path, doing: str, error: Exception) -> StoreError:
    """The error to raise for *error*, which RocksDB gave while *doing* something with the store in *folder*."""
    text = str(error)
    if isinstance(error, DbClosedError):
        return StoreError(f"the store in {folder} is closed; open it again")
    if any(sign in text for sign in _FULL):
        return StoreFull(
            f"{doing} the store in {folder} failed, the disk takes no more ({text}); what was acknowledged is safe: "
            "free space, then start the worker again"
        )
    if any(sign in text for sign in _LOCKED):
        return StoreLocked(locked_message(folder, ""))
    if is_stall(error):
        return StoreError(
            f"{doing} the store in {folder} did not succeed, its disk is too slow ({text}); "
            "use a faster disk or less load, then start the worker again"
        )
    if any(sign in text for sign in _DAMAGED):
        return StoreDamaged(
            f"{doing} the store in {folder} failed, its files are damaged ({text}); "
            "keep a copy of the folder, check the disk, and go on from a backup"
        )
    return StoreError(
        f"{doing} the store in {folder} failed ({text}); check the disk and the rights on the folder, "
        "then start the worker again"
    )
