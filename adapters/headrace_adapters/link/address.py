"""Where the worker of a folder is reached.

The worker of a folder writes ``worker.json`` into it, which names the socket: ``worker.sock`` beside it, or, where
the path of the folder is longer than a socket's address may be, one in a private folder of the system's temporary
one. The file is replaced in one step, so it is read whole or not at all. It outlives a worker that is killed, and
that does no harm: whether a worker lives is told by the socket alone, since the kernel refuses connections to one
that nobody listens on.
"""

from __future__ import annotations

__all__ = [
    "ADDRESS_NAME",
    "BACKLOG_MAX",
    "PROTOCOL",
    "Address",
    "Place",
    "installed_version",
    "read_address",
    "socket_path",
]

import contextlib
import errno
import hashlib
import json
import os
import socket
import stat
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import BinaryIO, NamedTuple

from headrace.errors import StoreError, StoreFull, StoreLocked

ADDRESS_NAME = "worker.json"
SOCKET_NAME = "worker.sock"

# Raised by one when an older Headrace could not talk to this one.
PROTOCOL = 1

# The kernel takes 107 bytes on Linux and 103 on macOS.
SOCKET_PATH_BYTES_MAX = 100

# Connections that wait to be accepted; the kernel refuses further ones with "try again".
BACKLOG_MAX = 1_024

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Address(NamedTuple):
    """What ``worker.json`` says: *socket* is relative to the folder, or absolute."""

    pid: int
    socket: str
    version: str
    protocol: int

    def path(self, folder: Path) -> str:
        """Where the socket of the worker of *folder* is."""
        return os.fspath(folder.resolve() / self.socket)


def installed_version() -> str:
    """The version of Headrace, ``unknown`` where it runs from its sources."""
    try:
        return version("headrace")
    except PackageNotFoundError:
        return "unknown"


def socket_path(folder: Path) -> Path:
    """Where the worker of *folder* listens. The folder need not exist; nothing is made."""
    resolved = folder.resolve()
    near = resolved / SOCKET_NAME
    if len(os.fsencode(near)) <= SOCKET_PATH_BYTES_MAX:
        return near
    digest = hashlib.sha256(os.fsencode(resolved)).hexdigest()[:24]
    far = Path(tempfile.gettempdir()).resolve() / f"headrace-{os.geteuid()}-{digest}" / SOCKET_NAME
    if len(os.fsencode(far)) > SOCKET_PATH_BYTES_MAX:
        raise StoreError(
            f"no socket fits: a path may have {SOCKET_PATH_BYTES_MAX} bytes, and both {near} and {far} are longer; "
            "set TMPDIR to a shorter path, or give a folder with one"
        )
    return far


def read_address(folder: Path) -> Address | None:
    """What the worker of *folder* wrote; None where none did, or where the file is not readable as an address."""
    try:
        data = json.loads((folder / ADDRESS_NAME).read_bytes())
        address = Address(data["pid"], data["socket"], data["version"], data["protocol"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    # Booleans are integers to Python and nothing to a reader of this file.
    types = (int, str, str, int)
    return address if all(type(field) is kind for field, kind in zip(address, types, strict=True)) else None


class Place:
    """The socket and ``worker.json`` of the worker of *folder*, from construction until :meth:`leave`.

    The folder must exist, and its lock is to be held, so that what lies there is of a worker that has died.
    Raises :class:`StoreLocked` when a living worker answers all the same, :class:`StoreFull` when the disk takes no
    more, and :class:`StoreError` when the socket cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder.resolve() / ADDRESS_NAME
        self.path = socket_path(folder)
        # A file whose descriptor is open keeps its number, so what has the number of ours is ours.
        self._marks: dict[Path, tuple[int, int]] = {}
        self._written: BinaryIO | None = None
        self._is_private = False
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if self.path.parent != self._file.parent:
                _make_private(self.path.parent)
                self._is_private = True
            self._bind(folder)
            self._write()
        except BaseException as error:
            self.leave()
            if not isinstance(error, OSError):
                raise
            kind = StoreFull if error.errno in _FULL else StoreError
            raise kind(
                f"the worker of {folder} cannot be made reachable at {self.path} ({error.strerror or error}); "
                "check the space and the rights there, then start it again"
            ) from error

    def leave(self) -> None:
        """Withdraw, and close the socket; a second call does nothing."""
        self.withdraw()
        self.socket.close()

    def withdraw(self) -> None:
        """Take away the files that are still ours, so that nobody comes; the socket stays open."""
        for path, mark in self._marks.items():
            with contextlib.suppress(OSError):
                if _mark(path) == mark:
                    path.unlink()
        self._marks.clear()
        if self._is_private:
            with contextlib.suppress(OSError):
                self.path.parent.rmdir()
        if self._written is not None:
            self._written.close()

    def _bind(self, folder: Path) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            refused = probe.connect_ex(os.fspath(self.path))
            if refused in {0, errno.EAGAIN}:
                raise StoreLocked(
                    f"a worker of {folder} already answers at {self.path}; "
                    "reach that one with the same command, stop it, or give another folder"
                )
        self.path.unlink(missing_ok=True)
        self.socket.bind(os.fspath(self.path))
        self._marks[self.path] = _mark(self.path)
        # Nobody can connect before it listens, so at no moment can another user.
        self.path.chmod(0o600)
        self.socket.listen(BACKLOG_MAX)

    def _write(self) -> None:
        """A reader finds the file of this worker, or the one of its predecessor, and never half of one."""
        name = os.fspath(self.path) if self._is_private else SOCKET_NAME
        address = Address(os.getpid(), name, installed_version(), PROTOCOL)
        descriptor, draft = tempfile.mkstemp(prefix=f".{ADDRESS_NAME}.", dir=self._file.parent)
        # Without a buffer, since what a full disk refuses would be written again when it is closed.
        self._written = os.fdopen(descriptor, "wb", buffering=0)
        try:
            # ASCII, because the temporary folder may have a name that is no Unicode.
            self._written.write(json.dumps(address._asdict()).encode() + b"\n")
            mark = _mark(Path(draft))
            Path(draft).replace(self._file)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise
        self._marks[self._file] = mark


def _mark(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino


def _make_private(folder: Path) -> None:
    """Others can write into the temporary folder, so whatever lies there under our name is looked at first."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise StoreError(
            f"{folder} is where the worker's socket belongs, and it is no private folder of this user; "
            "take it away, or set TMPDIR to another folder"
        )
