"""The offsets that groups have committed, and those in transactions that have not ended."""

from __future__ import annotations

__all__ = ["CommittedOffset", "CommittedOffsets"]

from collections.abc import Mapping
from typing import NamedTuple

from confluent_kafka import KafkaError

from tests.simulation.broker.messages import NO_OFFSET, Place
from tests.simulation.broker.refused import Refused


class CommittedOffset(NamedTuple):
    """An offset with its metadata, and how many commits were written before it."""

    offset: int
    metadata: str
    written: int


class _GroupOffsets:
    """One group's. *pending* are the offsets of open transactions, *epochs* what is known of their producers."""

    __slots__ = ("committed", "epochs", "pending")

    def __init__(self) -> None:
        self.committed: dict[Place, CommittedOffset] = {}
        self.pending: dict[int, dict[Place, CommittedOffset]] = {}
        self.epochs: dict[int, int] = {}


class CommittedOffsets:
    """The committed offsets of all groups. A group's offsets are part of transactions as a partition's records are."""

    __slots__ = ("_groups", "_metadata_bytes_max", "_written")

    def __init__(self, metadata_bytes_max: int) -> None:
        self._groups: dict[str, _GroupOffsets] = {}
        self._metadata_bytes_max = metadata_bytes_max
        self._written = 0

    def _of(self, group: str) -> _GroupOffsets:
        found = self._groups.get(group)
        if found is None:
            found = self._groups[group] = _GroupOffsets()
        return found

    def _rows(self, offsets: Mapping[Place, tuple[int, str]]) -> dict[Place, CommittedOffset]:
        rows = {}
        for place, (offset, metadata) in offsets.items():
            if len(metadata) > self._metadata_bytes_max:
                raise Refused(KafkaError.OFFSET_METADATA_TOO_LARGE)
            self._written += 1
            rows[place] = CommittedOffset(offset, metadata, self._written)
        return rows

    def commit(self, group: str, offsets: Mapping[Place, tuple[int, str]]) -> None:
        """Offsets that count from now on. Raises OFFSET_METADATA_TOO_LARGE."""
        self._of(group).committed.update(self._rows(offsets))

    # In transactions.

    def has_open(self, group: str, producer_id: int) -> bool:
        """Whether a transaction of this producer is open over the group's offsets."""
        found = self._groups.get(group)
        return found is not None and producer_id in found.pending

    def stage(self, group: str, producer_id: int, epoch: int, offsets: Mapping[Place, tuple[int, str]]) -> None:
        """Offsets that count when the transaction is committed. Raises as ``commit``, and INVALID_PRODUCER_EPOCH."""
        found = self._of(group)
        if epoch < found.epochs.get(producer_id, -1):
            raise Refused(KafkaError.INVALID_PRODUCER_EPOCH)
        rows = self._rows(offsets)
        found.epochs[producer_id] = epoch
        found.pending.setdefault(producer_id, {}).update(rows)

    def mark(self, group: str, producer_id: int, epoch: int, committed: bool) -> None:
        """A transaction ends. A later commit outside of it is not undone by offsets that were staged before that."""
        found = self._of(group)
        if epoch < found.epochs.get(producer_id, -1):
            raise Refused(KafkaError.INVALID_PRODUCER_EPOCH)
        found.epochs[producer_id] = epoch
        rows = found.pending.pop(producer_id, None)
        if committed and rows:
            for place, row in rows.items():
                before = found.committed.get(place)
                if before is None or row.written > before.written:
                    found.committed[place] = row

    # Looking, and forgetting.

    def fetch(self, group: str, place: Place, require_stable: bool) -> tuple[int, str] | Refused:
        """The committed offset, or UNSTABLE_OFFSET_COMMIT where an open transaction has one too and it matters."""
        found = self._groups.get(group)
        if found is None:
            return NO_OFFSET, ""
        if require_stable and any(place in rows for rows in found.pending.values()):
            return Refused(KafkaError.UNSTABLE_OFFSET_COMMIT)
        row = found.committed.get(place)
        return (row.offset, row.metadata) if row is not None else (NO_OFFSET, "")

    def forget(self, group: str) -> None:
        """All offsets of a group are gone, those in transactions too (which stay open)."""
        found = self._groups.get(group)
        if found is not None:
            found.committed.clear()
            for rows in found.pending.values():
                rows.clear()
