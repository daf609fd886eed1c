"""Where records stand: keys that sort as they are to be read."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headrace.ports import TimerEntry
from headrace_adapters.local.layout import JOB, PARTITIONS_MAX, Layout, number_key, numbered, timer_entry, timer_key

ENTRIES = st.builds(TimerEntry, st.integers(0, 2**63), st.text(), st.text(), st.integers(-1, 10**6))


@given(ENTRIES, ENTRIES)
def test_timers_sort_by_their_due_time_and_come_back(one: TimerEntry, other: TimerEntry) -> None:
    prefix = Layout(3).timer

    assert timer_entry(prefix, timer_key(prefix, one)) == one
    if one.due_ms != other.due_ms:
        assert (timer_key(prefix, one) < timer_key(prefix, other)) == (one.due_ms < other.due_ms)
    assert (timer_key(prefix, one) == timer_key(prefix, other)) == (one == other)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_numbered_records_sort_by_their_number(one: int, other: int) -> None:
    assert numbered(JOB, number_key(JOB, one)) == one
    assert (number_key(JOB, one) < number_key(JOB, other)) == (one < other)


def test_no_prefix_of_one_partition_begins_one_of_another() -> None:
    layouts = [Layout(number) for number in (0, 1, 255, 256, PARTITIONS_MAX - 1)]
    prefixes = [getattr(layout, name) for layout in layouts for name in Layout.__slots__]

    assert len(set(prefixes)) == len(prefixes)
    assert {len(prefix) for prefix in prefixes} == {3}
