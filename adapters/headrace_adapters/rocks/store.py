"""One RocksDB for all partitions of a worker: bytes in, bytes out, whole batches.

What it guarantees

* A batch is all or nothing, before and after any crash. When :meth:`RocksStore.write` returns and the store is
  synced, the batch survives the process, the machine and the power; when it raises, nothing of it is visible.
* One holder a folder: see ``lock``. Only stores of Headrace are opened: see ``stamp``.
* Every failure is a :class:`StoreError` whose text says what to do.

What a failed write leaves

* The log took no more (``StoreFull``, ``StoreError``): reading goes on, and ``write`` may be tried again. It fails
  until RocksDB itself has seen that the disk has room for a write buffer (half of *write_buffer_bytes*), which it
  looks for every 5 seconds. For a quota or a limit on the size of files it does not look, so there only closing
  and opening helps, which always does.
* The batch went into the log and the disk did not confirm it: nobody can know what a power cut would leave. The
  store then refuses everything but ``close``; opened again, it has the batch whole or not at all.

Three properties of RocksDB and ``rocksdict`` shaped this module.

* A write holds the interpreter, a sync of the log does not. So a batch is written without sync, and the log is synced
  after it, which costs the same and lets the other threads work in the meantime.
* A write that RocksDB holds back, because its tables are behind, would stop all threads; on a full disk for ever,
  its recovery waiting for the writer and the writer for the recovery. So RocksDB is told to refuse instead, and the
  waiting is done here.
* An iterator keeps only the *address* of its upper bound, stops silently at an unreadable block, and holds the folder
  for as long as it lives. So scans are generators of this module, which keep the bound, look at the status at the
  end, and are known to the store, which ends them when it is closed.
"""

from __future__ import annotations

__all__ = ["RocksStore"]

import contextlib
import os
import time
import weakref
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from itertools import islice, starmap
from pathlib import Path
from typing import Self

from rocksdict import Rdict, RdictIter, ReadOptions, WriteBatch, WriteOptions

from headrace.errors import StoreError
from headrace_adapters.rocks.failures import is_from_rocksdb, is_stall, store_error
from headrace_adapters.rocks.options import MIB, open_database
from headrace_adapters.rocks.stamp import STAMP_KEY, check_stamp, enter_folder, new_stamp, unstamped

Record = tuple[bytes, bytes]

# RocksDB takes no writes while its tables are behind; a disk that needs longer than this to catch up is broken.
STALL_S_MAX = 60
STALL_PAUSE_S = 0.002


class RocksStore:
    """The store in *folder*, which is made if it is missing; use from one thread.

    *sync*: every write waits for the disk. Without it a killed process still loses nothing, a power cut may lose
    the last seconds (whole batches, the latest first).
    *cache_bytes*: blocks read from disk. *write_buffer_bytes*: what gathers in memory before
    it becomes a table; for moments half as much again.

    Raises :class:`StoreLocked`, :class:`StoreTooNew`, :class:`StoreFull`, or :class:`StoreError` for a folder that
    is no store of Headrace (which is left as it is) or cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        *,
        sync: bool = True,
        cache_bytes: int = 64 * MIB,
        write_buffer_bytes: int = 32 * MIB,
    ) -> None:
        self.folder = Path(folder)
        self.sync = sync
        self._write_options = WriteOptions()
        self._write_options.no_slowdown = True
        self._scans: set[weakref.ref[Generator[Record, None, None]]] = set()
        self._unconfirmed: StoreError | None = None
        self._closed = False
        exists, self._lock = enter_folder(self.folder)
        try:
            self._db = self._open(not exists, cache_bytes, write_buffer_bytes)
        except BaseException:
            self._lock.release()
            raise

    def get(self, key: bytes) -> bytes | None:
        """The value of *key*, or None."""
        try:
            value: bytes | None = self._db.get(key)
            return value
        except Exception as error:
            raise self._failure("reading", error) from error

    def get_many(self, keys: Iterable[bytes]) -> list[bytes | None]:
        """The values of *keys* in their order, None for those that are absent; cheaper than one by one on disk."""
        try:
            return list(self._db.get(list(keys)) or ())
        except Exception as error:
            raise self._failure("reading", error) from error

    def scan(self, prefix: bytes, start: bytes | None = None, limit: int | None = None) -> Iterator[Record]:
        """The records whose keys begin with *prefix*, in key order, from the key *start* on, *limit* at most.

        What is seen is the store at the moment of this call. The scan holds files and memory of RocksDB until it
        is exhausted or dropped.
        """
        lower = prefix if start is None or start < prefix else start
        return self.scan_between(lower, _after_all(prefix), limit)

    def scan_between(self, lower: bytes, upper: bytes | None, limit: int | None = None) -> Iterator[Record]:
        """As :meth:`scan`, for *lower* <= key < *upper*; None is the end of the store."""
        options = ReadOptions()
        if upper is not None:
            options.set_iterate_upper_bound(upper)
        try:
            cursor = self._db.iter(options)
            cursor.seek(lower)
        except Exception as error:
            raise self._failure("reading", error) from error
        records = self._records(cursor, (options, upper))
        self._scans.add(weakref.ref(records, self._scans.discard))
        found: Iterator[Record] = records
        if lower <= STAMP_KEY and (upper is None or upper > STAMP_KEY):
            found = (record for record in records if record[0] != STAMP_KEY)
        return found if limit is None else islice(found, limit)

    def write(
        self,
        puts: Iterable[Record] = (),
        deletes: Iterable[bytes] = (),
        ranges: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        """Apply one batch, all or nothing: first *ranges* (from, up to but not with) and *deletes*, then *puts*.

        So a key that is both deleted and put is put. A deleted range slows the reads around it until it is
        compacted: it is for a partition, not for a run. What a failure leaves is in the module's text.
        Raises :class:`StoreFull` or :class:`StoreError`.
        """
        # A batch is used up by an attempt, and a stalled attempt is repeated.
        puts, deletes, ranges = list(puts), list(deletes), list(ranges)
        if not (puts or deletes or ranges):
            return
        deadline = 0.0
        while True:
            try:
                self._db.write(_batch(puts, deletes, ranges), self._write_options)
                break
            except Exception as error:
                if not is_stall(error):
                    raise self._failure("writing", error) from error
                deadline = deadline or time.monotonic() + STALL_S_MAX
                if time.monotonic() > deadline:
                    raise self._failure(f"for {STALL_S_MAX} s writing", error) from error
                time.sleep(STALL_PAUSE_S)
        if self.sync:
            self.flush()

    def flush(self) -> None:
        """Wait until everything written so far is on the disk; what a synced write does by itself.

        Raises :class:`StoreFull` or :class:`StoreError`, after which only :meth:`close` works.
        """
        try:
            self._db.flush_wal(True)
        except Exception as error:
            raise self._stop(error) from error

    def close(self) -> None:
        """Let the folder go; open scans end, and a second call does nothing.

        Raises :class:`StoreError` when the last writes of a store without *sync* could not reach the disk.
        """
        if self._closed:
            return
        self._closed = True
        try:
            self._close_database()
        except Exception as error:
            # RocksDB also makes a table of what is in memory. Where that fails, a synced log has it all.
            if self._unconfirmed is None and not self.sync:
                raise self._failure("closing", error) from error
        finally:
            self._lock.release()

    def size_bytes(self) -> int:
        """What the files of the store take on disk now, logs included."""
        total = 0
        for entry in os.scandir(self.folder):
            # RocksDB deletes files in the background.
            with contextlib.suppress(FileNotFoundError):
                total += entry.stat(follow_symlinks=False).st_size if entry.is_file(follow_symlinks=False) else 0
        return total

    def approximate_count(self) -> int:
        """About how many records the store holds, at no cost; overwritten and deleted ones may count."""
        try:
            return self._db.property_int_value("rocksdb.estimate-num-keys") or 0
        except Exception as error:
            raise self._failure("reading", error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _open(self, create: bool, cache_bytes: int, write_buffer_bytes: int) -> Rdict:
        try:
            database = open_database(
                str(self.folder), create=create, cache_bytes=cache_bytes, write_buffer_bytes=write_buffer_bytes
            )
        except Exception as error:
            raise self._failure("opening", error) from error
        try:
            self._stamp(database)
        except Exception as error:
            with contextlib.suppress(Exception):
                database.close()
            if isinstance(error, StoreError):
                raise
            raise self._failure("opening", error) from error
        return database

    def _stamp(self, database: Rdict) -> None:
        """Look at the stamp; write it where the store is new, or was killed before it got one."""
        stamp: bytes | None = database.get(STAMP_KEY)
        if stamp is not None:
            check_stamp(self.folder, stamp)
            return
        cursor = database.iter()
        cursor.seek_to_first()
        cursor.status()
        if cursor.valid():
            raise unstamped(self.folder)
        batch = WriteBatch(raw_mode=True)
        batch.put(STAMP_KEY, new_stamp())
        database.write(batch, self._write_options)
        database.flush_wal(True)

    def _records(self, cursor: RdictIter, _pointed_at: tuple[object, ...]) -> Generator[Record, None, None]:
        # The cursor points into the bytes of its bound, so the generator owns them as long as it has the cursor.
        key, value, advance = cursor.key, cursor.value, cursor.next
        while (found := key()) is not None:
            yield found, value()
            advance()
        try:
            cursor.status()
        except Exception as error:
            raise self._failure("reading", error) from error

    def _close_database(self) -> None:
        for reference in list(self._scans):
            scan = reference()
            if scan is not None:
                scan.close()
        self._db.close()

    def _stop(self, error: Exception) -> StoreError:
        """After a sync that failed: what is in memory may differ from the disk, so nobody gets to read it."""
        failure = self._failure("syncing", error)
        if self._unconfirmed is None and not self._closed:
            self._unconfirmed = failure
            with contextlib.suppress(Exception):
                self._close_database()
        return failure

    def _failure(self, doing: str, error: Exception) -> StoreError:
        """What to raise for an error of RocksDB; any other one is the caller's mistake and goes on as it is."""
        if not is_from_rocksdb(error):
            raise error
        if self._unconfirmed is not None:
            return type(self._unconfirmed)(str(self._unconfirmed))
        return store_error(self.folder, doing, error)


def _batch(puts: list[Record], deletes: list[bytes], ranges: list[tuple[bytes, bytes]]) -> WriteBatch:
    batch = WriteBatch(raw_mode=True)
    for lower, upper in ranges:
        batch.delete_range(lower, upper)
        if lower <= STAMP_KEY < upper:
            batch.put(STAMP_KEY, new_stamp())
    # A deque of length 0 runs the calls without a bytecode of Python for each.
    deque(map(batch.delete, deletes), 0)
    deque(starmap(batch.put, puts), 0)
    return batch


def _after_all(prefix: bytes) -> bytes | None:
    """The smallest key after all that begin with *prefix*; None where there is no such key."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes((stripped[-1] + 1,)) if stripped else None
