"""What survives: killed processes, logs cut short, disks that are full or do not confirm.

Every batch here writes two keys with one value, so half a batch would be seen.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.errors import StoreFull
from headrace_adapters.rocks import RocksStore

# Writes batches from number argv[2] on and says each one that was acknowledged.
WRITE = """
import sys
from pathlib import Path
from headrace_adapters.rocks import RocksStore
store = RocksStore(Path(sys.argv[1]))
number = int(sys.argv[2])
while True:
    value = b"%d" % number * 50
    store.write([(b"a%08d" % number, value), (b"b%08d" % number, value)])
    print(number, flush=True)
    number += 1
"""

# Ends without closing the store, so that all is in the log only.
WRITE_AND_DIE = """
import os, sys
from pathlib import Path
from headrace_adapters.rocks import RocksStore
store = RocksStore(Path(sys.argv[1]))
for number in range(int(sys.argv[2])):
    value = b"%d" % number * 50
    store.write([(b"a%08d" % number, value), (b"b%08d" % number, value)])
os._exit(0)
"""

# Files may not grow beyond a limit, as on a disk that is full; prints how many were acknowledged.
WRITE_TO_A_LIMIT = """
import os, resource, signal, sys
from pathlib import Path
from headrace.errors import StoreFull
from headrace_adapters.rocks import RocksStore
store = RocksStore(Path(sys.argv[1]))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
number = 0
def write():
    value = b"%d" % number * 50
    store.write([(b"a%08d" % number, value), (b"b%08d" % number, value)])
try:
    while True:
        write()
        number += 1
except StoreFull as full:
    assert "free space, then start the worker again" in str(full), full
assert store.get(b"a%08d" % number) is None
assert store.get(b"b%08d" % number) is None
assert store.get(b"b%08d" % (number - 1)) is not None
try:
    write()
except StoreFull:
    print(number, flush=True)
if sys.argv[3] == "close":
    store.close()
os._exit(0)
"""

# The kernel is told (seccomp) to answer fsync and fdatasync with an error; prints what was acknowledged before.
WRITE_WITHOUT_CONFIRMATION = """
import ctypes, os, struct, sys
from pathlib import Path
from headrace.errors import StoreError, StoreFull
from headrace_adapters.rocks import RocksStore

def fail_syncs(error_number):
    allow, refuse = (6, 0, 0, 0x7FFF0000), (6, 0, 0, 0x50000 | error_number)
    steps = [(0x20, 0, 0, 0), (0x15, 2, 0, 74), (0x15, 1, 0, 75), allow, refuse]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    class Filter(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("steps", ctypes.c_void_p)]
    kernel = ctypes.CDLL(None)
    if kernel.prctl(38, 1, 0, 0, 0) or kernel.syscall(317, 1, 1, ctypes.byref(Filter(5, ctypes.addressof(program)))):
        os._exit(77)

store = RocksStore(Path(sys.argv[1]))
for number in range(10):
    value = b"%d" % number * 50
    store.write([(b"a%08d" % number, value), (b"b%08d" % number, value)])
fail_syncs(int(sys.argv[2]))
uses = [lambda: store.write([(b"a%08d" % 10, b"10" * 50), (b"b%08d" % 10, b"10" * 50)]),
        lambda: store.get(b"a%08d" % 1), lambda: store.scan(b"a"), store.flush]
for use in uses:
    try:
        use()
        raise SystemExit("it went on")
    except StoreError as error:
        assert isinstance(error, StoreFull) == (sys.argv[2] == "28"), error
        assert "start the worker again" in str(error), error
store.close()
print(number + 1, flush=True)
os._exit(0)
"""


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)], stdout=subprocess.PIPE, text=True, env=environment
    )


def said(program: str, *arguments: object) -> str:
    process = start(program, *arguments)
    output, _ = process.communicate(timeout=120)
    if process.returncode == 77:
        pytest.skip("SKIPPED: this machine does not let a process filter its own system calls")
    assert process.returncode == 0
    return output


def count_of_whole_batches(folder: Path) -> int:
    """How many batches the store has; asserts that they are the first ones, without a gap, each one whole."""
    with RocksStore(folder) as store:
        first = {key[1:]: value for key, value in store.scan(b"a")}
        second = {key[1:]: value for key, value in store.scan(b"b")}
    assert first == second
    assert sorted(first) == [b"%08d" % number for number in range(len(first))]
    return len(first)


def test_batches_that_were_acknowledged_survive_a_killed_process(tmp_path: Path) -> None:
    """Kill it at a random moment, four times on one store; go on from what is there."""
    there = 0
    for round_number in range(4):
        acknowledged = -1
        with start(WRITE, tmp_path, there) as writer:
            assert writer.stdout is not None
            for _ in range(random.Random(round_number).randint(1, 300)):
                acknowledged = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            for line in writer.stdout.read().splitlines(keepends=True):
                acknowledged = int(line) if line.endswith("\n") else acknowledged

        there = count_of_whole_batches(tmp_path)
        assert acknowledged < there <= acknowledged + 2


@pytest.mark.parametrize("cut_bytes", [1, 7, 40, 150, 1_000, 9_000])
def test_a_log_that_was_cut_short_loses_its_last_batches_and_never_half_of_one(tmp_path: Path, cut_bytes: int) -> None:
    said(WRITE_AND_DIE, tmp_path, 200)
    newest = max(tmp_path.glob("*.log"))
    os.truncate(newest, newest.stat().st_size - cut_bytes)

    there = count_of_whole_batches(tmp_path)

    # A batch takes between 100 and 400 bytes of the log.
    assert 200 - 2 - cut_bytes // 100 <= there < 200


def test_a_log_with_garbage_in_its_middle_gives_the_batches_before_it(tmp_path: Path) -> None:
    said(WRITE_AND_DIE, tmp_path, 200)
    newest = max(tmp_path.glob("*.log"))
    content = bytearray(newest.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 16] = b"\xa5" * 16
    newest.write_bytes(content)

    assert 50 < count_of_whole_batches(tmp_path) < 150


@pytest.mark.parametrize("ending", ["close", "die"])
@pytest.mark.parametrize("limit_bytes", [20_001, 65_537])
def test_a_disk_that_takes_no_more_loses_nothing_that_was_acknowledged(
    tmp_path: Path, limit_bytes: int, ending: str
) -> None:
    acknowledged = int(said(WRITE_TO_A_LIMIT, tmp_path, limit_bytes, ending))

    assert acknowledged > 20
    assert count_of_whole_batches(tmp_path) == acknowledged


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.uname().machine != "x86_64",
    reason="SKIPPED: the filter of system calls is written for Linux on x86_64",
)
@pytest.mark.parametrize("error_number", [5, 28])
def test_a_disk_that_does_not_confirm_stops_the_store_and_the_batch_is_there_whole_or_not_at_all(
    tmp_path: Path, error_number: int
) -> None:
    acknowledged = int(said(WRITE_WITHOUT_CONFIRMATION, tmp_path, error_number))

    assert acknowledged <= count_of_whole_batches(tmp_path) <= acknowledged + 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MB; needs root, and the right to mount."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("SKIPPED: a real full disk needs root to mount one")
    mounted = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"SKIPPED: no file system could be mounted for a real full disk: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(store: RocksStore, number: int) -> int:
    """Write batches until one is refused; the number of that one."""
    while True:
        value = os.urandom(10_000)
        try:
            store.write([(b"a%08d" % number, value), (b"b%08d" % number, value)])
        except StoreFull:
            return number
        number += 1


@pytest.mark.slow
def test_a_full_disk_refuses_keeps_reading_and_goes_on_when_there_is_space(small_disk: Path) -> None:
    folder = small_disk / "store"
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(2_000_000))
    # RocksDB goes on when a write buffer's worth of space is free, so that has to be small here.
    with RocksStore(folder, write_buffer_bytes=1_000_000) as store:
        refused = fill(store, 0)
        assert refused > 20
        assert store.get(b"a%08d" % refused) is None
        assert store.get(b"b%08d" % (refused - 1)) is not None
        assert fill(store, refused) == refused

        ballast.unlink()
        # RocksDB looks for space every 5 seconds.
        deadline = time.monotonic() + 60
        later = fill(store, refused)
        while later == refused:
            assert time.monotonic() < deadline
            time.sleep(0.2)
            later = fill(store, refused)

    subprocess.run(["mount", "-o", "remount,size=60m", str(small_disk)], check=True)
    assert count_of_whole_batches(folder) == later


def test_a_store_that_was_killed_on_a_full_disk_opens_when_there_is_space(small_disk: Path) -> None:
    folder = small_disk / "store"
    ballast = small_disk / "ballast"
    said(WRITE_AND_DIE, folder, 100)
    ballast.write_bytes(bytes(5_000_000))
    with open(ballast, "ab", buffering=0) as rest:  # noqa: PTH123 - unbuffered, to fill the disk to its last byte
        for size in (4_096, 1):
            try:
                while True:
                    rest.write(bytes(size))
            except OSError:
                continue

    with pytest.raises(StoreFull, match="free space, then start the worker again"):
        RocksStore(folder)

    ballast.unlink()
    assert count_of_whole_batches(folder) == 100
