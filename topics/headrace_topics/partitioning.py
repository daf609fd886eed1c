"""Which partition a run belongs to: the one that Java's client picks for its key.

Every producer has to agree, in any language, so this is murmur2 over the key's UTF-8 with Kafka's seed, as
``org.apache.kafka.common.utils.Utils.murmur2`` computes it; librdkafka calls it ``murmur2``, and has another default.
"""

from __future__ import annotations

__all__ = ["murmur2", "partition_of"]

from functools import lru_cache
from struct import unpack_from

from headrace.errors import RecordRefused

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF

# A run's partition is asked for at every record of it; beyond this many runs at once it is computed again.
_KEPT = 65_536


def murmur2(data: bytes) -> int:
    """The hash as Java gives it: a signed number of 32 bits."""
    length = len(data)
    words = length >> 2
    h = (_SEED ^ length) & _MASK
    for word in unpack_from(f"<{words}I", data):
        k = word * _M & _MASK
        h = (h * _M ^ (k ^ k >> 24) * _M) & _MASK
    if length & 3:
        h = (h ^ int.from_bytes(data[words << 2 :], "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    h ^= h >> 15
    return h - 0x1_0000_0000 if h & 0x8000_0000 else h


@lru_cache(maxsize=_KEPT)
def partition_of(run_id: str, partitions: int) -> int:
    """The partition, from 0, of a run in a topic of *partitions*.

    Raises :class:`RecordRefused` where UTF-8 cannot hold the run id (lone surrogates).
    """
    assert partitions > 0, partitions
    try:
        key = run_id.encode()
    except UnicodeEncodeError:
        raise RecordRefused(f"run id {run_id!r}: expected text that UTF-8 can hold, found a lone surrogate") from None
    return (murmur2(key) & 0x7FFF_FFFF) % partitions
