"""One worker a folder.

The kernel holds the lock (``flock``), so it ends with the process, however that ends; the file holds the number of
the process only for the message that the next one gets. The file is never deleted: two workers could otherwise hold
locks on two files of the same name. It is also the mark by which a folder is known as a store of Headrace before
anything in it is opened.
"""

from __future__ import annotations

__all__ = ["LOCK_NAME", "FolderLock"]

import contextlib
import fcntl
import os
import weakref
from pathlib import Path

from headrace.errors import StoreLocked

LOCK_NAME = "LOCK.headrace"

_held: weakref.WeakSet[FolderLock] = weakref.WeakSet()


class FolderLock:
    """The lock of one folder, held from construction until :meth:`release`.

    Raises :class:`StoreLocked` when another holder exists, in this process or in another one, and ``OSError`` when
    the file cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._descriptor = -1
        self._descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(self._descriptor)
            self.release()
            raise StoreLocked(locked_message(folder, holder)) from None
        except OSError:
            self.release()
            raise
        # The number is a courtesy: a full disk must not keep anybody from opening the store.
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        _held.add(self)

    def release(self) -> None:
        """Let the folder go; a second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        # A store that was dropped without being closed must not keep its folder.
        self.release()


def locked_message(folder: Path, holder: str) -> str:
    """What the operator reads; *holder* is a process number, or empty where it is not known."""
    if holder == str(os.getpid()):
        return (
            f"the store in {folder} is already open in this process ({holder}); close it there first, or give another folder"
        )
    who = f"process {holder}" if holder else "another process"
    return (
        f"the store in {folder} is held by {who}; "
        "reach that worker with the same command while it runs, stop it, or give another folder"
    )


def _holder(descriptor: int) -> str:
    with contextlib.suppress(OSError):
        text = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        return text if text.isdecimal() else ""
    return ""


def _release_in_child() -> None:
    """A forked child shares the lock; were it to outlive its parent, nobody could open the folder."""
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_release_in_child)
