"""Where a worker is reached: paths of any length and alphabet, and what a dead worker leaves behind."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.errors import StoreError, StoreFull
from headrace_adapters.link import connect
from headrace_adapters.link.address import ADDRESS_NAME, PROTOCOL, Address, Place, read_address, socket_path

LONG = Path("x" * 120)


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files that is short enough for a socket, and this test's own."""
    with tempfile.TemporaryDirectory(prefix="hr") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def is_reached(folder: Path) -> bool:
    """Whether somebody listens at the address that *folder* names."""
    address = read_address(folder)
    assert address is not None
    with socket.socket(socket.AF_UNIX) as peer:
        return peer.connect_ex(address.path(folder)) == 0


@pytest.mark.parametrize(
    "name", ["data", "läufe \U0001f980 'q'", os.fsdecode(b"\xff\xfe"), str(LONG), os.fsdecode(b"\xff" * 110)]
)
def test_a_folder_of_any_name_has_a_socket_that_only_its_user_may_use(tmp_path: Path, temporary: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()

    place = Place(folder)

    assert is_reached(folder)
    assert mode(place.path) == 0o600
    assert mode(folder / ADDRESS_NAME) == 0o600
    if place.path.parent != folder.resolve():
        assert mode(place.path.parent) == 0o700
    assert len(os.fsencode(place.path)) <= 100
    place.leave()
    place.leave()
    assert [*folder.iterdir()] == []
    assert [*temporary.iterdir()] == []


def test_long_folders_that_differ_at_the_end_only_have_sockets_of_their_own(tmp_path: Path, temporary: Path) -> None:
    assert socket_path(tmp_path / LONG / "a") != socket_path(tmp_path / LONG / "b")
    assert socket_path(tmp_path / LONG / "a").is_relative_to(temporary)


def test_a_folder_is_the_same_by_whatever_path_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    monkeypatch.chdir(tmp_path)

    place = Place(Path("data"))

    assert is_reached(tmp_path / "link")
    assert is_reached(Path("./link/../data"))
    place.leave()


def test_the_address_says_who_is_there(tmp_path: Path) -> None:
    place = Place(tmp_path)

    data = json.loads((tmp_path / ADDRESS_NAME).read_bytes())

    assert data.keys() == {"pid", "socket", "version", "protocol"}
    assert (data["pid"], data["protocol"]) == (os.getpid(), PROTOCOL)
    assert read_address(tmp_path) == Address(**data)
    place.leave()
    assert read_address(tmp_path) is None


def test_a_folder_that_was_moved_is_still_reached(tmp_path: Path) -> None:
    (tmp_path / "before").mkdir()
    place = Place(tmp_path / "before")
    (tmp_path / "before").rename(tmp_path / "after")

    assert is_reached(tmp_path / "after")
    place.leave()


async def test_what_a_killed_worker_leaves_is_no_worker_and_is_replaced(tmp_path: Path, temporary: Path) -> None:
    for folder in (tmp_path, tmp_path / LONG):
        folder.mkdir(exist_ok=True)
        dead = Place(folder)
        # The kernel closes a socket of a killed process, and deletes no file.
        dead.socket.close()
        assert await connect(folder) is None

        place = Place(folder)

        assert is_reached(folder)
        place.leave()
        assert not place.path.exists()
        dead.leave()


def test_a_predecessor_that_leaves_late_takes_nothing_away(tmp_path: Path) -> None:
    predecessor = Place(tmp_path)
    predecessor.path.unlink()
    (tmp_path / ADDRESS_NAME).unlink()
    place = Place(tmp_path)

    predecessor.leave()

    assert is_reached(tmp_path)
    place.leave()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "\x00" * 64,
        '{"pid": 1}',
        '{"pid": "1", "socket": "worker.sock", "version": "1", "protocol": 1}',
        '{"pid": 1, "socket": null, "version": "1", "protocol": 1}',
        '{"pid": 1, "socket": "worker.sock", "version": "1", "protocol": true}',
        '{"pid": 1, "socket": "gone.sock", "version": "1", "protocol": 1}',
        '{"pid": 1, "socket": "worker.json/x", "version": "1", "protocol": 1}',
        '{"pid": 1, "socket": "worker.json", "version": "1", "protocol": 1}',
    ],
)
async def test_an_address_that_leads_nowhere_is_no_worker(tmp_path: Path, text: str) -> None:
    (tmp_path / ADDRESS_NAME).write_text(text, encoding="utf-8")

    assert await connect(tmp_path) is None


async def test_a_worker_of_another_protocol_is_named_with_its_version(tmp_path: Path) -> None:
    place = Place(tmp_path)
    newer = Address(4711, "worker.sock", "9.0", PROTOCOL + 1)
    (tmp_path / ADDRESS_NAME).write_text(json.dumps(newer._asdict()), encoding="utf-8")

    with pytest.raises(StoreError, match=rf"process 4711, Headrace 9\.0\) speaks protocol {PROTOCOL + 1}"):
        await connect(tmp_path)
    # Once it is gone, its version does not matter any more.
    place.socket.close()
    assert await connect(tmp_path) is None
    place.leave()


async def test_a_socket_that_nobody_accepts_on_is_no_answer(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.socket.listen(0)
    crowd = []
    for _ in range(4):
        crowd.append(socket.socket(socket.AF_UNIX))
        crowd[-1].setblocking(False)
        crowd[-1].connect_ex(os.fspath(place.path))

    with pytest.raises(StoreError, match="does not answer"):
        await connect(tmp_path, timeout_s=0.05)

    for peer in crowd:
        peer.close()
    place.leave()


async def test_an_address_that_no_socket_can_have_says_what_to_do(tmp_path: Path) -> None:
    address = Address(1, "y" * 200, "1", PROTOCOL)
    (tmp_path / ADDRESS_NAME).write_text(json.dumps(address._asdict()), encoding="utf-8")

    with pytest.raises(StoreError, match="shorter path"):
        await connect(tmp_path)


def test_a_folder_that_others_made_in_our_place_is_refused(tmp_path: Path, temporary: Path) -> None:
    folder = tmp_path / LONG
    folder.mkdir()
    private = socket_path(folder).parent
    private.mkdir(mode=0o777)
    private.chmod(0o777)

    with pytest.raises(StoreError, match="no private folder of this user"):
        Place(folder)
    assert private.exists()
    private.rmdir()
    private.symlink_to(tmp_path)
    with pytest.raises(StoreError, match="no private folder of this user"):
        Place(folder)


def test_where_no_path_is_short_enough_the_operator_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / LONG
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))

    with pytest.raises(StoreError, match="set TMPDIR to a shorter path"):
        Place(folder)


def test_a_folder_that_cannot_be_written_is_told_from_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError, match="check the space and the rights") as missing:
        Place(tmp_path / "missing")
    assert not isinstance(missing.value, StoreFull)

    def full(self: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StoreFull, match="No space left on device"):
        Place(tmp_path)
    assert [*tmp_path.iterdir()] == []


async def test_the_address_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    """Read while workers come and go, it never is half of one."""
    seen: set[bytes] = set()
    stop = asyncio.Event()

    def watch() -> None:
        while not stop.is_set():
            try:
                seen.add((tmp_path / ADDRESS_NAME).read_bytes())
            except FileNotFoundError:
                seen.add(b"")

    watching = asyncio.create_task(asyncio.to_thread(watch))
    for _ in range(200):
        await asyncio.to_thread(lambda: Place(tmp_path).leave())
    stop.set()
    await watching

    whole = json.dumps(json.loads(max(seen))).encode() + b"\n" if max(seen) else b""
    assert seen <= {b"", whole}
