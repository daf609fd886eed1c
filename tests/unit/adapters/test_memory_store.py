"""The store in memory: what it owes as any store does, and its faults."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_adapters.memory import Crash, MemoryStore

KEYS = st.binary(min_size=0, max_size=3)


def filled() -> MemoryStore:
    store = MemoryStore()
    store.write([(key, key.upper()) for key in (b"a1", b"a2", b"b1", b"b2", b"b\xff", b"c")])
    return store


def test_a_scan_gives_its_prefix_in_order_from_its_start_and_up_to_its_limit() -> None:
    store = filled()

    assert [key for key, _ in store.scan(b"b")] == [b"b1", b"b2", b"b\xff"]
    assert [key for key, _ in store.scan(b"b", b"b2")] == [b"b2", b"b\xff"]
    assert [key for key, _ in store.scan(b"b", b"a")] == [b"b1", b"b2", b"b\xff"]
    assert [key for key, _ in store.scan(b"b", None, 2)] == [b"b1", b"b2"]
    assert list(store.scan(b"b", None, 0)) == []
    assert list(store.scan(b"x")) == []
    assert len(list(store.scan(b""))) == len(store) == 6


def test_a_scan_between_bounds_includes_the_lower_one_only() -> None:
    store = filled()

    assert [key for key, _ in store.scan_between(b"a2", b"b2")] == [b"a2", b"b1"]
    assert [key for key, _ in store.scan_between(b"b2", None)] == [b"b2", b"b\xff", b"c"]
    assert [key for key, _ in store.scan_between(b"a", b"z", 1)] == [b"a1"]
    assert list(store.scan_between(b"z", b"a")) == []


def test_within_a_write_ranges_and_deletes_come_before_puts() -> None:
    store = filled()
    store.write([(b"a1", b"new"), (b"b2", b"new")], [b"a1", b"nobody"], [(b"b", b"c")])

    assert dict(store.scan(b"")) == {b"a1": b"new", b"a2": b"A2", b"b2": b"new", b"c": b"C"}


@given(st.lists(st.tuples(st.sampled_from(["put", "delete", "range"]), KEYS, KEYS), max_size=30))
def test_a_store_answers_as_a_sorted_dict_would(steps: list[tuple[str, bytes, bytes]]) -> None:
    store, model = MemoryStore(), dict[bytes, bytes]()
    for kind, one, other in steps:
        if kind == "put":
            store.write([(one, other)])
            model[one] = other
        elif kind == "delete":
            store.write([], [one])
            model.pop(one, None)
        else:
            store.write([], [], [(one, other)])
            model = {key: value for key, value in model.items() if not one <= key < other}

    assert list(store.scan(b"")) == sorted(model.items())
    assert len(store) == len(model)
    assert all(store.get(key) == value for key, value in model.items())


def test_a_crash_before_a_write_has_written_nothing_and_one_after_it_everything() -> None:
    for when, found in (("before", None), ("after", b"v")):
        store = filled()
        setattr(store.faults, when, 2)
        store.write([(b"first", b"v")])
        with pytest.raises(Crash, match=when):
            store.write([(b"k", b"v")], [b"c"])

        assert store.get(b"first") == b"v"
        assert store.get(b"k") == found
        assert (store.get(b"c") is None) == (found is not None)
        store.write([(b"later", b"v")])
        assert store.get(b"later") == b"v", "a fault comes once"
