"""The simulated disk: what a store on it gives, and what is left of it when something dies."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from headrace.errors import StoreError, StoreFull, StoreLocked
from headrace_adapters.memory import MemoryStore
from tests.simulation.disk import BEFORE, DONE, WRITTEN, SimulatedDisk, SimulatedStore
from tests.simulation.kernel import Killed, Process


@pytest.fixture
def disk() -> SimulatedDisk:
    return SimulatedDisk(random.Random(1))


def killing(process: Process) -> Callable[[SimulatedStore], None]:
    def happen(_: SimulatedStore) -> None:
        process.alive = False

    return happen


def unplugging(disk: SimulatedDisk, process: Process) -> Callable[[SimulatedStore], None]:
    def happen(_: SimulatedStore) -> None:
        process.alive = False
        disk.lose_power()

    return happen


def number(count: int) -> bytes:
    return count.to_bytes(2, "big")


def write_numbers(store: SimulatedStore, numbers: range) -> None:
    """One batch for each, which also counts them: every batch replaces and deletes something of the one before."""
    for count in numbers:
        store.write([(b"last", number(count)), (b"n" + number(count), b"")], [b"t" + number(count - 1)])
        store.write([(b"t" + number(count), b"")])


def last_of(disk: SimulatedDisk, name: str) -> int:
    """How many batches of ``write_numbers`` the store holds; they are all there, and nothing of the others."""
    values = disk.look(name)
    last = int.from_bytes(values.get(b"last", b"\0"), "big")
    temporary = [key for key in values if key.startswith(b"t")]
    assert temporary in ([b"t" + number(last)], []) if last else temporary == []
    assert [key for key in sorted(values) if key.startswith(b"n")] == [b"n" + number(n) for n in range(1, last + 1)]
    return 2 * last - (last > 0 and not temporary)


def test_a_store_holds_what_a_store_in_memory_holds(disk: SimulatedDisk) -> None:
    draw, store, memory = random.Random(2), disk.open("s", Process("p")), MemoryStore()
    for _ in range(300):
        keys = [bytes(draw.choices(b"ab\xff", k=draw.randint(1, 3))) for _ in range(6)]
        batch = ([(key, bytes(draw.choices(b"xyz", k=2))) for key in keys[:3]], keys[3:5], [(keys[5], keys[5] + b"b")])
        which = draw.choice([(0, 1, 2), (0,), (1, 2), (0, 1)])
        store.write(*(part if index in which else [] for index, part in enumerate(batch)))
        memory.write(*(part if index in which else [] for index, part in enumerate(batch)))
        prefix, start, limit = keys[0][:1], draw.choice([None, keys[1]]), draw.choice([None, 2])
        assert list(store.scan(prefix, start, limit)) == list(memory.scan(prefix, start, limit))
        lower, upper = sorted(keys[:2])
        assert list(store.scan_between(lower, draw.choice([upper]))) == list(memory.scan_between(lower, upper))
        assert store.get(keys[0]) == memory.get(keys[0])
    assert list(store.scan(b"")) == list(memory.scan(b""))


def test_a_scan_shows_the_store_as_it_was_when_it_began(disk: SimulatedDisk) -> None:
    store = disk.open("s", Process("p"))
    store.write([(b"a", b"1"), (b"b", b"1")])
    scan = store.scan(b"")
    store.write([(b"b", b"2")], [b"a"])
    assert list(scan) == [(b"a", b"1"), (b"b", b"1")]


@pytest.mark.parametrize(("moment", "there"), [(BEFORE, 4), (WRITTEN, 5), (DONE, 5)])
@pytest.mark.parametrize("sync", [False, True])
def test_a_process_that_dies_leaves_every_batch_that_was_written(
    disk: SimulatedDisk, moment: str, there: int, sync: bool
) -> None:
    process = Process("p")
    store = disk.open("s", process, sync=sync)
    disk.strike(4, moment, killing(process))
    with pytest.raises(Killed):
        write_numbers(store, range(1, 9))
    assert last_of(disk, "s") == there
    for call in (lambda: store.get(b"a"), lambda: store.scan(b""), lambda: store.write([(b"a", b"")]), store.close):
        with pytest.raises(Killed):
            call()
    write_numbers(disk.open("s", Process("next")), range(there, 9))


def test_a_machine_without_power_loses_the_last_batches_and_no_others() -> None:
    left = set()
    for seed in range(200):
        disk = SimulatedDisk(random.Random(seed))
        store = disk.open("s", Process("p"))
        write_numbers(store, range(1, 6))
        lost = disk.lose_power()
        assert last_of(disk, "s") == 10 - lost["s"] == disk.writes("s")
        left.add(lost["s"])
        with pytest.raises(Killed):
            store.get(b"a")
        assert disk.lose_power() == {"s": 0}
    assert left == set(range(11))


@pytest.mark.parametrize(("moment", "there"), [(BEFORE, {4}), (WRITTEN, {4, 5}), (DONE, {5})])
def test_a_synced_store_loses_at_most_the_batch_that_is_under_way(moment: str, there: set[int]) -> None:
    seen = set()
    for seed in range(50):
        disk, process = SimulatedDisk(random.Random(seed)), Process("p")
        disk.strike(4, moment, unplugging(disk, process))
        with pytest.raises(Killed):
            write_numbers(disk.open("s", process, sync=True), range(1, 9))
        seen.add(last_of(disk, "s"))
    assert seen == there


def test_what_was_written_before_the_store_was_closed_is_not_lost(disk: SimulatedDisk) -> None:
    store = disk.open("s", Process("p"))
    write_numbers(store, range(1, 4))
    assert disk.unsynced("s") == 6
    store.close()
    store.close()
    assert disk.lose_power() == {"s": 0}
    assert last_of(disk, "s") == 6


def test_what_a_dead_process_wrote_is_not_lost_once_the_store_is_opened_again(disk: SimulatedDisk) -> None:
    process = Process("p")
    write_numbers(disk.open("s", process), range(1, 4))
    process.alive = False
    assert disk.unsynced("s") == 6
    disk.open("s", Process("next"))
    assert disk.lose_power() == {"s": 0}


def test_a_closed_store_says_so_to_a_process_that_lives(disk: SimulatedDisk) -> None:
    store = disk.open("s", Process("p"))
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.get(b"a")


def test_a_store_has_one_holder_until_that_dies_or_lets_go(disk: SimulatedDisk) -> None:
    first = Process("first")
    disk.open("s", first)
    with pytest.raises(StoreLocked, match="first"):
        disk.open("s", Process("second"))
    disk.open("other", Process("second"))
    first.alive = False
    disk.open("s", Process("third")).close()
    disk.open("s", Process("fourth"))


def test_a_refused_write_changes_nothing_and_may_be_tried_again(disk: SimulatedDisk) -> None:
    def refuse(_: SimulatedStore) -> None:
        raise StoreFull("no space")

    store = disk.open("s", Process("p"), sync=True)
    disk.strike(0, BEFORE, refuse)
    with pytest.raises(StoreFull):
        write_numbers(store, range(1, 2))
    assert not disk.look("s")
    write_numbers(store, range(1, 3))
    assert last_of(disk, "s") == 4


def test_a_sync_that_fails_leaves_a_store_that_only_closes(disk: SimulatedDisk) -> None:
    def fail(_: SimulatedStore) -> None:
        raise StoreError("the disk is gone")

    process = Process("p")
    store = disk.open("s", process, sync=True)
    disk.strike(2, WRITTEN, fail)
    with pytest.raises(StoreError, match="disk is gone"):
        write_numbers(store, range(1, 4))
    with pytest.raises(StoreError, match="disk is gone"):
        store.get(b"last")
    store.close()
    assert disk.unsynced("s") == 1
    assert last_of(disk, "s") == 3
    disk.open("s", process)


def test_strikes_come_in_their_order_and_may_be_called_off(disk: SimulatedDisk) -> None:
    seen: list[str] = []
    store = disk.open("s", Process("p"))
    disk.strike(1, BEFORE, lambda _: seen.append("second"))
    disk.strike(0, DONE, lambda _: seen.append("first"))
    disk.strike(2, BEFORE, lambda _: seen.append("third"))
    store.write([(b"a", b"")])
    store.write([(b"b", b"")])
    disk.calm()
    store.write([(b"c", b"")])
    assert seen == ["first", "second"]


def test_a_copy_comes_back_as_it_was(disk: SimulatedDisk) -> None:
    store = disk.open("s", Process("p"))
    write_numbers(store, range(1, 3))
    copy = disk.copy("s")
    write_numbers(store, range(3, 5))
    disk.bring_back("s", copy)
    with pytest.raises(Killed):
        store.get(b"last")
    assert last_of(disk, "s") == 4
    assert disk.lose_power() == {"s": 0}
    disk.delete("s")
    assert "s" not in disk
    assert not disk.look("s")
