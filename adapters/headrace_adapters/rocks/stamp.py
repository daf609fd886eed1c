"""Which folders are stores of Headrace, and of which format.

A folder is looked at before RocksDB is let in, because RocksDB writes into every folder that it opens and deletes
files that it takes for leftovers. Inside the store one record, the stamp, says the format.
"""

from __future__ import annotations

__all__ = ["FORMAT", "STAMP_KEY", "check_folder", "check_stamp", "enter_folder", "new_stamp", "unstamped"]

import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from headrace.errors import StoreError, StoreTooNew
from headrace_adapters.rocks.failures import store_error
from headrace_adapters.rocks.lock import LOCK_NAME, FolderLock

# Raised by one when an older Headrace could not read what this one writes.
FORMAT = 1

# Reserved: scans leave it out and deleted ranges leave it in.
STAMP_KEY = b"\x00headrace"

_ELSEWHERE = "give an empty folder, or one that Headrace made"


def check_folder(folder: Path) -> bool:
    """Whether *folder* already holds a RocksDB; raises :class:`StoreError` when Headrace must keep out of it.

    Nothing is written. Hidden files and ``lost+found`` do not count: a fresh volume has them.
    """
    names = {path.name for path in folder.iterdir()}
    if LOCK_NAME not in names:
        foreign = sorted(name for name in names if name != "lost+found" and not name.startswith("."))
        if foreign:
            shown = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
            raise StoreError(
                f"the folder {folder} is no store of Headrace: it holds other files ({shown}) and no {LOCK_NAME}; "
                f"nothing was changed; {_ELSEWHERE}"
            )
    if "CURRENT" in names:
        return True
    # RocksDB would begin a new database here and delete these.
    tables = sorted(name for name in names if name.endswith((".sst", ".log")))
    if tables:
        raise StoreError(
            f"the store in {folder} is damaged: its file CURRENT is missing beside {tables[0]}; nothing was changed; "
            "go on from a backup, or give an empty folder"
        )
    return False


def new_stamp() -> bytes:
    """The stamp that this version writes."""
    try:
        created_by = version("headrace")
    except PackageNotFoundError:
        created_by = "unknown"
    return json.dumps({"format": FORMAT, "createdBy": created_by}).encode()


def check_stamp(folder: Path, stamp: bytes) -> None:
    """Raise :class:`StoreTooNew` or :class:`StoreError` when this version must not use a store with *stamp*."""
    try:
        fields = json.loads(stamp)
        written, created_by = fields["format"], fields.get("createdBy", "unknown")
        if type(written) is not int or written < 1:
            raise ValueError(written)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise StoreError(
            f"the store in {folder} has a stamp that cannot be read ({stamp[:80]!r}); "
            "go on from a backup, or give an empty folder"
        ) from None
    if written > FORMAT:
        raise StoreTooNew(
            f"the store in {folder} has format {written} (made by Headrace {created_by}), and this version reads "
            f"formats up to {FORMAT}; install that version of Headrace or a later one, or give another folder"
        )


def unstamped(folder: Path) -> StoreError:
    """For a RocksDB with records and no stamp."""
    return StoreError(f"the RocksDB in {folder} was not made by Headrace: it has no stamp; {_ELSEWHERE}")


def enter_folder(folder: Path) -> tuple[bool, FolderLock]:
    """Make *folder*, see that it is ours, and lock it; whether there is a database, and the lock."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        check_folder(folder)
        lock = FolderLock(folder)
    except OSError as error:
        raise store_error(folder, "opening", Exception(str(error))) from error
    try:
        # Looked at again: another worker may have begun a database before the lock was had.
        return check_folder(folder), lock
    except BaseException:
        lock.release()
        raise
