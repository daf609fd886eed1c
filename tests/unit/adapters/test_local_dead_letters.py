"""Dead letters in a key-value store, while no worker has it."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.errors import RecordRefused
from headrace.limits import Limits
from headrace_adapters.base.dead_letters import LetterFilter, LetterPlace, Redriven
from headrace_adapters.local.carrier import LocalCarrier
from headrace_adapters.local.dead_letters import LocalLetterBox
from headrace_adapters.local.layout import DEAD_LETTER, JOB, number_key
from headrace_adapters.memory import MemoryStore
from headrace_topics.dead_letters import encode_dead_letter

ALL = LetterFilter()
START = b'{"type": "start", "runId": "r1", "blueprintId": "f"}'


def store_with(*letters: bytes) -> MemoryStore:
    store = MemoryStore()
    store.write([(number_key(DEAD_LETTER, number), record) for number, record in enumerate(letters)])
    return store


def letter(record: bytes | None, reason: str = "no JSON", at_ms: int = 1_000) -> bytes:
    return encode_dead_letter(record, None, reason, source_topic="jobs", partition=0, offset=7, at_ms=at_ms)


def redrive(box: LocalLetterBox, wanted: Any = ALL, **options: bool) -> tuple[list[str], list[tuple[LetterPlace, str]]]:
    told: list[Redriven] = []
    left_out = box.redrive(wanted, told.extend, **options)
    return [str(redriven.place) for redriven in told], left_out


def jobs(store: MemoryStore) -> list[bytes]:
    return [record for _, record in store.scan(JOB)]


def test_letters_are_found_newest_or_oldest_first_with_what_is_in_their_way() -> None:
    box = LocalLetterBox(
        store_with(letter(b"0", at_ms=5), letter(b"1", "large", at_ms=9), b"no letter", letter(b"3", at_ms=9))
    )

    found = box.find(ALL, limit=2)
    assert [str(kept.place) for kept in found.letters] == ["0-3", "0-1"]
    assert (found.matching, found.unreadable) == (3, 1)
    assert found.problem.startswith("0-2: expected a JSON object")
    assert [str(kept.place) for kept in box.find(ALL, limit=2, oldest_first=True).letters] == ["0-0", "0-1"]
    assert [str(kept.place) for kept in box.find(LetterFilter(6, "json"), limit=9).letters] == ["0-3"]
    assert LocalLetterBox(MemoryStore()).find(ALL, limit=1).letters == []


def test_what_is_redriven_goes_into_the_job_log_once_and_is_taken_up_by_the_next_worker() -> None:
    store = store_with(letter(START), letter(b"1"))
    box = LocalLetterBox(store)

    assert redrive(box, [LetterPlace(0, 0)]) == (["0-0"], [])
    assert jobs(store) == [START]
    assert redrive(box, [LetterPlace(0, 0)]) == ([], [(LetterPlace(0, 0), "it was redriven before")])
    assert redrive(box) == (["0-1"], [])
    assert redrive(box) == ([], [])
    assert jobs(store) == [START, b"1"]
    assert redrive(box, again=True) == (["0-0", "0-1"], [])
    assert all(kept.redriven_ms for kept in box.find(ALL, limit=9).letters)

    (taken, _) = LocalCarrier(store, Limits(), 1).poll(10)
    assert taken.command is not None
    assert taken.command.run_id == "r1"


def test_what_still_cannot_be_read_is_a_new_letter() -> None:
    store = store_with(letter(b"1"))
    redrive(LocalLetterBox(store))

    assert LocalCarrier(store, Limits(), 1).poll(10) == []

    kept = LocalLetterBox(store).find(ALL, limit=9).letters
    assert [(str(it.place), it.redriven_ms is not None) for it in kept] == [("0-2", False), ("0-0", True)]


def test_a_dry_run_changes_nothing_in_the_store() -> None:
    store = store_with(letter(START))

    assert redrive(LocalLetterBox(store), dry_run=True) == (["0-0"], [])

    assert jobs(store) == []
    assert len(list(store.scan(DEAD_LETTER))) == 1


def test_what_is_not_there_or_has_no_value_is_left_out() -> None:
    box = LocalLetterBox(store_with(letter(None)))

    assert redrive(box, [LetterPlace(0, 0), LetterPlace(1, 0)]) == (
        [],
        [
            (LetterPlace(0, 0), "it had no value, and the job log of a folder holds none"),
            (LetterPlace(1, 0), "there is no dead letter at this place"),
        ],
    )


def test_one_letter_is_looked_up_by_its_place() -> None:
    box = LocalLetterBox(store_with(letter(START), b"no letter"))
    redrive(box, [LetterPlace(0, 0)])

    kept = box.get(LetterPlace(0, 0))
    assert kept is not None
    assert (kept.letter.record, kept.redriven_ms is not None) == (START, True)
    assert box.get(LetterPlace(0, 9)) is None
    assert box.get(LetterPlace(1, 0)) is None
    with pytest.raises(RecordRefused, match="expected a JSON object"):
        box.get(LetterPlace(0, 1))
    with pytest.raises(RecordRefused, match="it says that 0-0 was redriven"):
        box.get(LetterPlace(0, 2))
