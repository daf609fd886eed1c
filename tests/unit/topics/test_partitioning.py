"""A run is where Java's client would put it."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import RecordRefused
from headrace_topics.partitioning import murmur2, partition_of


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_the_hash_is_the_one_of_javas_own_tests(data: bytes, expected: int) -> None:
    assert murmur2(data) == expected


def step_by_step(data: bytes) -> int:
    """MurmurHash2 as its description says it, byte by byte, with Kafka's seed."""

    def bits32(number: int) -> int:
        return number & 0xFFFFFFFF

    m = 0x5BD1E995
    h = 0x9747B28C ^ len(data)
    whole = len(data) - len(data) % 4
    for place in range(0, whole, 4):
        k = bits32(sum(data[place + byte] << 8 * byte for byte in range(4)) * m)
        k = bits32((k ^ k >> 24) * m)
        h = bits32(h * m) ^ k
    rest = data[whole:]
    for byte in reversed(range(len(rest))):
        h ^= rest[byte] << 8 * byte
    if rest:
        h = bits32(h * m)
    h = bits32((h ^ h >> 13) * m)
    h ^= h >> 15
    return h - 2**32 if h >= 2**31 else h


@given(st.binary(max_size=70))
def test_the_hash_is_that_of_its_description_for_every_length(data: bytes) -> None:
    assert murmur2(data) == step_by_step(data)


@given(st.text(max_size=40), st.integers(1, 1_000))
def test_the_partition_comes_from_the_positive_hash_of_the_utf_8_bytes(run_id: str, partitions: int) -> None:
    assert partition_of(run_id, partitions) == (step_by_step(run_id.encode()) & 0x7FFFFFFF) % partitions


def test_a_negative_hash_is_made_positive_as_java_does_it() -> None:
    """Java takes the sign bit off; the absolute value, or Python's modulo, would be another partition."""
    assert murmur2(b"21") < 0
    assert partition_of("21", 7) == (-973932308 & 0x7FFFFFFF) % 7 == 3


def test_runs_spread_over_all_partitions() -> None:
    counts = Counter(partition_of(f"order-{number}", 12) for number in range(12_000))

    assert set(counts) == set(range(12))
    assert max(counts.values()) < 2 * min(counts.values())


def test_a_run_id_that_utf_8_cannot_hold_has_no_partition() -> None:
    with pytest.raises(RecordRefused, match="lone surrogate"):
        partition_of("\ud800", 4)
