"""Which folders a store opens, and who may have them open."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rocksdict import Rdict

from headrace.errors import StoreError, StoreLocked, StoreTooNew
from headrace_adapters.rocks import RocksStore
from headrace_adapters.rocks.lock import LOCK_NAME
from headrace_adapters.rocks.options import MIB, open_database
from headrace_adapters.rocks.stamp import STAMP_KEY

HOLD = """
import sys
from pathlib import Path
from headrace_adapters.rocks import RocksStore
store = RocksStore(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.read()
"""

# Holds the lock of RocksDB only, as a tool of somebody else would.
HOLD_ROCKSDB = """
import sys
from headrace_adapters.rocks.options import open_database
database = open_database(sys.argv[1], create=True, cache_bytes=1_000_000, write_buffer_bytes=1_000_000)
print("ready", flush=True)
sys.stdin.read()
"""

# Leaves a child behind, which waits on the same input.
HOLD_AND_FORK = """
import os, sys
from pathlib import Path
from headrace_adapters.rocks import RocksStore
store = RocksStore(Path(sys.argv[1]))
if os.fork() == 0:
    print("ready", flush=True)
    sys.stdin.read()
    os._exit(0)
sys.stdin.read()
"""


def start(program: str, folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def stop(process: subprocess.Popen[str], number: int = signal.SIGKILL) -> None:
    process.send_signal(number)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        pipe.close()


def raw(folder: Path) -> Rdict:
    return open_database(str(folder), create=True, cache_bytes=MIB, write_buffer_bytes=MIB)


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir() if path.is_file()}


def test_a_new_store_is_stamped_with_format_and_version(tmp_path: Path) -> None:
    RocksStore(tmp_path / "deep" / "store").close()

    database = raw(tmp_path / "deep" / "store")
    stamp = json.loads(database.get(STAMP_KEY) or b"")
    database.close()
    assert stamp["format"] == 1
    assert isinstance(stamp["createdBy"], str)


def test_a_store_of_a_later_format_is_refused_with_what_to_do(tmp_path: Path) -> None:
    RocksStore(tmp_path).close()
    database = raw(tmp_path)
    database.put(STAMP_KEY, b'{"format": 7, "createdBy": "9.1.0"}')
    database.close()

    with pytest.raises(StoreTooNew, match=r"format 7 \(made by Headrace 9\.1\.0\).*up to 1; install") as refusal:
        RocksStore(tmp_path)

    assert str(tmp_path) in str(refusal.value)
    # Refused is not held: the later version can have it at once.
    raw(tmp_path).close()


@pytest.mark.parametrize("stamp", [b"", b"nonsense", b"[]", b'{"format": "1"}', b'{"format": true}', b'{"format": 0}'])
def test_a_stamp_that_cannot_be_read_is_refused(tmp_path: Path, stamp: bytes) -> None:
    RocksStore(tmp_path).close()
    database = raw(tmp_path)
    database.put(STAMP_KEY, stamp)
    database.close()

    with pytest.raises(StoreError, match="stamp that cannot be read"):
        RocksStore(tmp_path)


def test_a_folder_with_other_files_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("two years of work")
    before = contents(tmp_path)

    with pytest.raises(StoreError, match=r"thesis\.txt.*give an empty folder"):
        RocksStore(tmp_path)

    assert contents(tmp_path) == before


def test_a_rocksdb_of_somebody_else_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    database = raw(tmp_path)
    database.put(b"a", b"1")
    database.close()
    before = contents(tmp_path)

    with pytest.raises(StoreError, match="no store of Headrace"):
        RocksStore(tmp_path)

    assert contents(tmp_path) == before


def test_a_rocksdb_without_a_stamp_is_refused_even_beside_a_lock_file(tmp_path: Path) -> None:
    database = raw(tmp_path)
    database.put(b"a", b"1")
    database.close()
    (tmp_path / LOCK_NAME).touch()

    with pytest.raises(StoreError, match="has no stamp"):
        RocksStore(tmp_path)

    database = raw(tmp_path)
    assert database.get(STAMP_KEY) is None
    database.close()


def test_a_fresh_volume_and_hidden_files_do_not_make_a_folder_foreign(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    (tmp_path / ".gitkeep").touch()

    RocksStore(tmp_path).close()


@pytest.mark.parametrize("database_made", [False, True])
def test_a_store_that_was_killed_before_it_was_stamped_is_finished(tmp_path: Path, database_made: bool) -> None:
    (tmp_path / LOCK_NAME).touch()
    if database_made:
        raw(tmp_path).close()

    with RocksStore(tmp_path) as store:
        store.write([(b"a", b"1")])
    with RocksStore(tmp_path) as store:
        assert store.get(b"a") == b"1"


def test_a_store_that_lost_its_index_is_refused_instead_of_begun_anew(tmp_path: Path) -> None:
    with RocksStore(tmp_path) as store:
        store.write([(b"a", b"1")])
    (tmp_path / "CURRENT").rename(tmp_path / ".CURRENT")

    with pytest.raises(StoreError, match="CURRENT is missing"):
        RocksStore(tmp_path)

    (tmp_path / ".CURRENT").rename(tmp_path / "CURRENT")
    with RocksStore(tmp_path) as store:
        assert store.get(b"a") == b"1"


def test_a_damaged_store_is_refused_with_what_to_do(tmp_path: Path) -> None:
    RocksStore(tmp_path).close()
    (tmp_path / "CURRENT").write_text("MANIFEST-999999\n")

    with pytest.raises(StoreError, match=r"start the worker again|from a backup"):
        RocksStore(tmp_path)


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StoreError, match="File exists"):
        RocksStore(tmp_path / "file")
    with pytest.raises(StoreError, match="Not a directory"):
        RocksStore(tmp_path / "file" / "store")


def test_a_second_store_on_the_folder_in_this_process_is_refused_and_the_first_one_goes_on(tmp_path: Path) -> None:
    with RocksStore(tmp_path) as store:
        for _ in range(2):
            with pytest.raises(StoreLocked, match=f"already open in this process \\({os.getpid()}\\); close it"):
                RocksStore(tmp_path)
        store.write([(b"a", b"1")])
        assert store.get(b"a") == b"1"


def test_a_store_that_another_process_holds_is_refused_with_its_number_until_that_one_ends(tmp_path: Path) -> None:
    holder = start(HOLD, tmp_path)
    try:
        with pytest.raises(StoreLocked, match=f"held by process {holder.pid}; .*stop it, or give another folder"):
            RocksStore(tmp_path)
    finally:
        stop(holder)

    RocksStore(tmp_path).close()


def test_a_lock_of_rocksdb_itself_is_refused_alike_from_this_and_another_process(tmp_path: Path) -> None:
    RocksStore(tmp_path).close()
    database = raw(tmp_path)
    with pytest.raises(StoreLocked, match="give another folder"):
        RocksStore(tmp_path)
    database.close()

    holder = start(HOLD_ROCKSDB, tmp_path)
    try:
        with pytest.raises(StoreLocked, match="give another folder"):
            RocksStore(tmp_path)
    finally:
        stop(holder)

    RocksStore(tmp_path).close()


def test_a_forked_child_that_outlives_the_holder_does_not_keep_the_folder(tmp_path: Path) -> None:
    holder = start(HOLD_AND_FORK, tmp_path)
    holder.kill()
    holder.wait()
    try:
        RocksStore(tmp_path).close()
    finally:
        # The end of its input ends the child.
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.close()
        holder.stdout.close()
