"""What a store answers: look-ups, scans, batches."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import StoreError
from headrace_adapters.rocks import RocksStore
from headrace_adapters.rocks.options import MIB, open_database

KEYS = st.binary(min_size=1, max_size=3).filter(lambda key: not key.startswith(b"\x00h"))
BATCHES = st.lists(
    st.tuples(
        st.dictionaries(KEYS, st.binary(max_size=4), max_size=6),
        st.lists(KEYS, max_size=4),
        st.lists(st.tuples(KEYS, KEYS).map(lambda pair: (min(pair), max(pair))), max_size=2),
    ),
    max_size=6,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RocksStore]:
    with RocksStore(tmp_path / "store") as opened:
        yield opened


def test_a_written_record_is_read_and_an_absent_one_is_none(store: RocksStore) -> None:
    store.write([(b"a", b"1"), (b"empty", b"")])

    assert store.get(b"a") == b"1"
    assert store.get(b"empty") == b""
    assert store.get(b"b") is None
    assert store.get_many([b"b", b"a", b"b", b"a"]) == [None, b"1", None, b"1"]
    assert store.get_many([]) == []


def test_a_scan_gives_its_prefix_in_key_order_and_nothing_else(store: RocksStore) -> None:
    store.write([(b"r2", b"d"), (b"r1\xff", b"c"), (b"r1", b"a"), (b"q\xff\xff", b"x"), (b"r1\x00", b"b")])

    assert list(store.scan(b"r1")) == [(b"r1", b"a"), (b"r1\x00", b"b"), (b"r1\xff", b"c")]
    assert list(store.scan(b"r3")) == []


def test_a_scan_begins_at_its_start_and_ends_at_its_limit(store: RocksStore) -> None:
    store.write([(b"a%d" % i, b"") for i in range(5)] + [(b"b", b"")])

    assert [key for key, _ in store.scan(b"a", start=b"a2", limit=2)] == [b"a2", b"a3"]
    assert [key for key, _ in store.scan(b"a", start=b"a4")] == [b"a4"]
    assert [key for key, _ in store.scan(b"a", start=b"A", limit=1)] == [b"a0"]
    assert list(store.scan(b"a", start=b"b")) == []
    assert list(store.scan(b"a", limit=0)) == []


def test_a_prefix_of_highest_bytes_is_bounded_by_the_end_of_the_store(store: RocksStore) -> None:
    store.write([(b"\xfe", b"1"), (b"\xff", b"2"), (b"\xff\xff", b"3"), (b"a\xff", b"4"), (b"b", b"5")])

    assert [value for _, value in store.scan(b"\xff")] == [b"2", b"3"]
    assert [value for _, value in store.scan(b"\xff\xff")] == [b"3"]
    assert [value for _, value in store.scan(b"a\xff")] == [b"4"]
    assert [value for _, value in store.scan_between(b"b", None)] == [b"5", b"1", b"2", b"3"]
    assert [value for _, value in store.scan_between(b"b", b"\xff", limit=5)] == [b"5", b"1"]


def test_a_scan_keeps_its_bound_when_nobody_else_does(store: RocksStore) -> None:
    """The iterator of the client holds only the address of its bound: freed and reused, it would end elsewhere."""
    store.write([(b"p%05d" % i, b"") for i in range(5_000)])

    scans = [store.scan_between(b"p%05d" % i, b"p%05d" % (i + 7)) for i in range(0, 3_000, 3)]
    gc.collect()
    rubbish = [b"\x00%06d" % i for i in range(10_000)]

    assert [len(list(scan)) for scan in scans] == [7] * len(scans)
    assert len(rubbish) == 10_000


def test_a_scan_sees_the_store_as_it_was_when_it_was_asked_for(store: RocksStore) -> None:
    store.write([(b"a1", b"old"), (b"a2", b"old")])

    scan = store.scan(b"a")
    store.write([(b"a2", b"new"), (b"a3", b"new")], deletes=[b"a1"])

    assert list(scan) == [(b"a1", b"old"), (b"a2", b"old")]
    assert list(store.scan(b"a")) == [(b"a2", b"new"), (b"a3", b"new")]


def test_the_stamp_is_neither_seen_by_scans_nor_lost_with_deleted_ranges(tmp_path: Path) -> None:
    with RocksStore(tmp_path) as store:
        store.write([(b"\x00a", b"1"), (b"z", b"2")])
        assert list(store.scan(b"", limit=2)) == [(b"\x00a", b"1"), (b"z", b"2")]
        assert list(store.scan(b"\x00")) == [(b"\x00a", b"1")]

        store.write(ranges=[(b"", b"\xff")])
        assert list(store.scan(b"")) == []

    with RocksStore(tmp_path) as store:
        assert list(store.scan(b"")) == []


def test_within_a_batch_ranges_and_deletes_come_before_puts(store: RocksStore) -> None:
    store.write([(b"a", b"1"), (b"b", b"1"), (b"c", b"1"), (b"d", b"1")])

    store.write(puts=[(b"b", b"2"), (b"d", b"2")], deletes=[b"d", b"absent"], ranges=[(b"a", b"c")])

    assert list(store.scan(b"")) == [(b"b", b"2"), (b"c", b"1"), (b"d", b"2")]


def test_a_batch_with_a_mistake_in_it_is_not_written_at_all(store: RocksStore) -> None:
    with pytest.raises((TypeError, KeyError, ValueError)):
        store.write([(b"a", b"1"), (b"b", "text")])  # type: ignore[list-item]

    assert list(store.scan(b"")) == []
    store.write([(b"a", b"1")])
    assert store.get(b"a") == b"1"


@settings(max_examples=40, deadline=None)
@given(batches=BATCHES, prefix=st.binary(max_size=2))
def test_a_store_answers_as_a_sorted_dict_would_open_and_opened_again(
    batches: list[tuple[dict[bytes, bytes], list[bytes], list[tuple[bytes, bytes]]]], prefix: bytes
) -> None:
    model: dict[bytes, bytes] = {}
    with tempfile.TemporaryDirectory() as folder:
        with RocksStore(Path(folder), sync=False) as store:
            for puts, deletes, ranges in batches:
                store.write(puts.items(), deletes, ranges)
                gone = {key for key in model if any(lower <= key < upper for lower, upper in ranges)}
                model = {key: value for key, value in model.items() if key not in gone and key not in deletes} | puts
                assert list(store.scan(prefix)) == sorted(item for item in model.items() if item[0].startswith(prefix))
        with RocksStore(Path(folder), sync=False) as store:
            assert list(store.scan(b"")) == sorted(model.items())
            assert store.get_many(model) == list(model.values())


def test_a_writer_that_is_faster_than_the_tables_waits_and_loses_nothing(tmp_path: Path) -> None:
    """A buffer this small is full all the time; RocksDB then refuses writes until it has made a table of one."""
    with RocksStore(tmp_path, sync=False, write_buffer_bytes=200_000) as store:
        for number in range(1_000):
            store.write((b"%04d-%02d" % (number, i), os.urandom(1_000)) for i in range(20))

        assert sum(1 for _ in store.scan(b"")) == 20_000


def test_closing_ends_open_scans_and_lets_the_folder_go(tmp_path: Path) -> None:
    store = RocksStore(tmp_path)
    store.write([(b"a1", b""), (b"a2", b"")])
    scan = store.scan(b"a")
    next(scan)

    store.close()
    store.close()

    assert list(scan) == []
    with RocksStore(tmp_path) as again:
        assert len(list(again.scan(b"a"))) == 2


def test_a_closed_store_says_that_it_is_closed(tmp_path: Path) -> None:
    store = RocksStore(tmp_path)
    store.close()

    for use in (
        lambda: store.get(b"a"),
        lambda: store.get_many([b"a"]),
        lambda: store.scan(b"a"),
        lambda: store.write([(b"a", b"")]),
        store.flush,
        store.approximate_count,
    ):
        with pytest.raises(StoreError, match="closed; open it again"):
            use()


def test_a_store_that_was_dropped_without_closing_can_be_opened_again(tmp_path: Path) -> None:
    RocksStore(tmp_path).write([(b"a", b"1")])
    gc.collect()

    with RocksStore(tmp_path) as store:
        assert store.get(b"a") == b"1"


def test_an_unreadable_block_fails_the_scan_instead_of_ending_it(tmp_path: Path) -> None:
    with RocksStore(tmp_path) as store:
        store.write([(b"a%05d" % i, (b"%05d" % i) * 20) for i in range(20_000)])
    (table,) = tmp_path.glob("*.sst")
    damaged = bytearray(table.read_bytes())
    middle = len(damaged) // 2
    damaged[middle : middle + 64] = bytes(64)
    table.write_bytes(damaged)

    with RocksStore(tmp_path) as store:
        assert store.get(b"a00000") is not None
        with pytest.raises(StoreError, match=r"damaged.*from a backup"):
            list(store.scan(b"a"))


def test_size_and_count_tell_about_the_store(store: RocksStore) -> None:
    small = store.size_bytes()
    store.write([(b"a%05d" % i, b"x" * 100) for i in range(10_000)])

    assert store.size_bytes() - small > 1_000_000
    assert 9_000 < store.approximate_count() < 11_000


def test_a_store_opened_again_has_the_settings_of_this_opening(tmp_path: Path) -> None:
    """The client by itself takes the settings of the last opening, and a cache of 8 MiB."""
    for cache_mib in (16, 48):
        database = open_database(str(tmp_path), create=True, cache_bytes=cache_mib * MIB, write_buffer_bytes=MIB)
        assert database.property_int_value("rocksdb.block-cache-capacity") == cache_mib * MIB
        database.close()


def test_opening_many_times_leaves_few_files(tmp_path: Path) -> None:
    for _ in range(8):
        with RocksStore(tmp_path) as store:
            store.write([(b"a", b"1")])

    assert len(list(tmp_path.iterdir())) < 20
