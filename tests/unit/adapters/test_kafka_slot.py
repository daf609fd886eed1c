"""The place of a worker on its machine: found again, never shared, and made again where it is damaged."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from headrace.errors import StoreError, StoreLocked
from headrace_adapters.kafka.slot import DAMAGED, IDENTITY, PORT, STORE, take_slot


def damage(store: Path) -> None:
    """Make a store that nobody can open."""
    for path in store.iterdir():
        if path.name.startswith(("MANIFEST", "CURRENT")):
            path.write_bytes(b"damaged")


def test_workers_of_one_machine_take_the_first_slots_that_are_free(tmp_path: Path) -> None:
    slots = [take_slot(tmp_path / "app", None) for _ in range(3)]
    assert [slot.folder.name for slot in slots] == ["slot-0", "slot-1", "slot-2"]
    assert len({slot.id for slot in slots}) == 3

    slots[1].store.close()
    again = take_slot(tmp_path / "app", None)

    assert again.folder.name == "slot-1"
    assert again.id == slots[1].id, "and is the one that was there"
    for slot in (slots[0], again, slots[2]):
        slot.store.close()


def test_a_slot_keeps_its_store_and_its_id(tmp_path: Path) -> None:
    first = take_slot(tmp_path, None)
    first.store.write([(b"k", b"v")])
    first.store.close()

    second = take_slot(tmp_path, None)

    assert second.store.get(b"k") == b"v"
    assert second.id == first.id
    second.store.close()


def test_an_instance_has_its_own_slot_which_no_other_takes(tmp_path: Path) -> None:
    named = take_slot(tmp_path, "blue.1")
    assert named.folder.name == "slot-blue.1"

    with pytest.raises(StoreLocked):
        take_slot(tmp_path, "blue.1")
    other = take_slot(tmp_path, "green")

    assert other.id != named.id
    named.store.close()
    other.store.close()


def test_a_store_that_cannot_be_opened_is_put_aside_and_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    slot = take_slot(tmp_path, None)
    slot.store.write([(b"k", b"v")])
    slot.store.close()
    damage(slot.folder / STORE)

    again = take_slot(tmp_path, None)

    assert again.store.get(b"k") is None
    assert again.id == slot.id, "the slot is the same, so what it left open is ended"
    assert len(list(slot.folder.glob(f"{STORE}.damaged-*"))) == 1, "nothing is deleted"
    assert "made again from the changelogs" in caplog.text
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    again.store.close()


def test_a_store_that_its_last_worker_found_damaged_is_put_aside(tmp_path: Path) -> None:
    slot = take_slot(tmp_path, None)
    slot.store.write([(b"k", b"v")])
    slot.store.close()
    slot.report_damage()

    again = take_slot(tmp_path, None)

    assert again.store.get(b"k") is None
    assert not (slot.folder / DAMAGED).exists()
    again.store.write([(b"k", b"new")])
    again.store.close()
    third = take_slot(tmp_path, None)
    assert third.store.get(b"k") == b"new", "it is put aside once"
    third.store.close()


def test_a_worker_that_reports_damage_takes_no_store_from_the_one_that_has_the_slot_by_then(tmp_path: Path) -> None:
    first = take_slot(tmp_path, None)
    first.store.close()
    second = take_slot(tmp_path, None)
    second.store.write([(b"k", b"v")])
    first.report_damage()

    third = take_slot(tmp_path, None)

    assert third.folder.name == "slot-1"
    assert list(second.folder.glob(f"{STORE}.damaged-*")) == []
    assert second.store.get(b"k") == b"v"
    for slot in (second, third):
        slot.store.close()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b"{}", b'{"id":""}', b'{"id":7}', b"\xff\xfe", b"null"])
def test_an_id_that_cannot_be_read_is_made_anew(tmp_path: Path, content: bytes) -> None:
    slot = take_slot(tmp_path, None)
    slot.store.close()
    (slot.folder / IDENTITY).write_bytes(content)

    again = take_slot(tmp_path, None)

    assert again.id
    assert again.id != slot.id
    assert json.loads((slot.folder / IDENTITY).read_bytes()) == {"id": again.id}
    again.store.close()


def test_a_slot_remembers_the_port_of_its_last_worker(tmp_path: Path) -> None:
    slot = take_slot(tmp_path, "a")
    assert slot.port == 0
    slot.keep_port(4_711)
    assert slot.port == 4_711

    for content in ("", "x", "-1", "0", "65536", "1e3"):
        (slot.folder / PORT).write_text(content)
        assert slot.port == 0
    (slot.folder / PORT).write_bytes(b"\xff")
    assert slot.port == 0
    slot.store.close()


def test_a_folder_that_is_none_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")

    with pytest.raises(StoreError, match=r"cannot be used: .*setting 'state'"):
        take_slot(tmp_path / "state", None)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_refused_with_what_to_do(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StoreError, match=r"cannot be used: .*setting 'state'"):
            take_slot(tmp_path / "app", None)
    finally:
        tmp_path.chmod(0o700)


def test_an_id_that_cannot_be_written_leaves_no_store_open(tmp_path: Path) -> None:
    (tmp_path / "slot-0" / IDENTITY).mkdir(parents=True)

    with pytest.raises(StoreError):
        take_slot(tmp_path, None)

    (tmp_path / "slot-0" / IDENTITY).rmdir()
    take_slot(tmp_path, None).store.close()
