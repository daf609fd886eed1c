"""How dead letters are named and chosen, and where their records belong."""

from __future__ import annotations

import pytest

from headrace.errors import DefinitionError
from headrace_adapters.base.dead_letters import LetterFilter, LetterPlace, home_of
from headrace_topics.dead_letters import DeadLetter
from headrace_topics.partitioning import partition_of


def letter(record: bytes | None = None, key: bytes | None = None, partition: int = 2) -> DeadLetter:
    return DeadLetter(record, key, "Field 'type'", "orders.jobs", partition, 7, 1_000)


def test_a_place_is_written_and_read_back() -> None:
    assert str(LetterPlace(3, 41)) == "3-41"
    assert LetterPlace.read("3-41") == LetterPlace(3, 41)
    assert min(LetterPlace(1, 0), LetterPlace(0, 10), LetterPlace(0, 9)) == LetterPlace(0, 9)


@pytest.mark.parametrize("text", ["", "3", "3-", "-3", "3-x", "3-4-5", "+3-4", "3-²", "3 - 4", "0-9999999999999999999"])
def test_what_names_no_place_is_refused_with_where_to_look(text: str) -> None:
    with pytest.raises(DefinitionError, match="dead-letters list"):
        LetterPlace.read(text)


@pytest.mark.parametrize(
    ("wanted", "taken"),
    [
        (LetterFilter(), True),
        (LetterFilter(reason="FIELD"), True),
        (LetterFilter(reason="other"), False),
        (LetterFilter(since_ms=1_000), True),
        (LetterFilter(since_ms=1_001), False),
        (LetterFilter(since_ms=1_001, reason="field"), False),
    ],
)
def test_letters_are_meant_by_age_and_reason(wanted: LetterFilter, taken: bool) -> None:
    assert wanted.takes(letter()) is taken


def test_a_record_belongs_to_the_partition_of_its_run_where_that_can_be_told() -> None:
    assert home_of(letter(b"{", b"r1"), 8) == partition_of("r1", 8)
    assert home_of(letter(b'{"runId": "r2"}', b"r1"), 8) == partition_of("r1", 8), "the key goes first"
    assert home_of(letter(b'{"runId": "r2"}'), 8) == partition_of("r2", 8)


@pytest.mark.parametrize(
    ("record", "key"),
    [
        (b"{", None),
        (None, None),
        (b"[]", None),
        (b"7", None),
        (b"null", None),
        (b"{}", None),
        (b'{"runId": 7}', None),
        (b'{"runId": ["r1"]}', None),
        (b'{"runId": "r1"}', b"\xff"),
    ],
)
def test_else_a_record_belongs_to_where_it_was(record: bytes | None, key: bytes | None) -> None:
    assert home_of(letter(record, key), 8) == 2


def test_a_partition_that_does_not_exist_is_not_written_to() -> None:
    assert home_of(letter(b"{", partition=9), 8) == 0
    assert home_of(letter(b"{", partition=-1), 8) == 0
