"""Records of the jobs topic as jobs: what is carried out, moved, put aside, recognised, and read again."""

from __future__ import annotations

from collections import Counter

import orjson
import pytest
from tests.kafka.recorded_carrier import LogMessage, layout_of

from headrace import commands as c
from headrace_adapters.kafka import job_log
from headrace_adapters.kafka.job_log import ANY_PARTITION, JobLog
from headrace_topics.dead_letters import decode_dead_letter
from headrace_topics.jobs_record import encode_command
from headrace_topics.partitioning import partition_of

HERE = next(number for number in range(3) if partition_of("r", 3) == number)
ELSEWHERE = (HERE + 1) % 3


def log_of(value_bytes_max: int = 1_000, counted: Counter[str] | None = None) -> JobLog:
    counts = Counter() if counted is None else counted
    return JobLog(layout_of(), value_bytes_max, lambda: 77, lambda what: counts.update([what]))


def message(value: bytes | None, at: int = 0, number: int = HERE, key: bytes | None = b"r") -> LogMessage:
    return LogMessage("app.jobs", number, at, key, value)


CANCEL = encode_command(c.Cancel("r"))
NODE = encode_command(c.RunNode("r", "f", "n", -1, 0, 1))


def test_a_record_is_a_job_and_moves_the_offset() -> None:
    log = log_of()

    jobs = log.read([message(CANCEL, 4), message(NODE, 9)])

    assert [job.command for job in jobs] == [c.Cancel("r"), c.RunNode("r", "f", "n", -1, 0, 1)]
    assert log.next == {HERE: 10}
    assert log.aside == []


def test_a_record_without_a_key_is_as_good_as_one_with_it() -> None:
    jobs = log_of().read([message(CANCEL, key=None)])

    assert [job.command for job in jobs] == [c.Cancel("r")]


def test_a_record_on_a_wrong_partition_is_written_where_it_belongs(caplog: pytest.LogCaptureFixture) -> None:
    counted: Counter[str] = Counter()
    log = log_of(counted=counted)

    jobs = log.read([message(CANCEL, at, ELSEWHERE, key) for at, key in enumerate([b"r", None])])

    assert [job.command for job in jobs] == [None, None], "the offset moves past it"
    assert log.next == {ELSEWHERE: 2}
    assert log.aside == [("app.jobs", HERE, b"r", CANCEL)] * 2
    assert counted == {"moved": 2}
    assert caplog.text.count("murmur2") == 1, "who is to be told is told once"


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        (b"r", None, "has no value"),
        (b"r", b"", "JSON"),
        (b"r", b"{", "JSON"),
        (b"r", b"[]", "object"),
        (b"r", b'{"type":"dance","runId":"r"}', "type"),
        (b"r", b'{"type":"cancel"}', "runId"),
        (b"r", b'{"type":"cancel","runId":7}', "runId"),
        (b"s", CANCEL, "key"),
        (b"\xff", CANCEL, "UTF-8"),
        (b"r", b'{"type":"cancel","runId":"\xff"}', "UTF-8"),
        (b"r", b'{"type":"signal","runId":"r","event":"e","payload":"' + b"x" * 2_000 + b'"}', "payload"),
    ],
)
def test_what_cannot_be_read_is_a_dead_letter_with_its_reason_and_place(
    key: bytes | None, value: bytes | None, reason: str
) -> None:
    counted: Counter[str] = Counter()
    log = log_of(counted=counted)

    (job,) = log.read([message(value, 41, key=key)])

    assert job.command is None
    assert log.next == {HERE: 42}
    (letter,) = log.aside
    assert (letter.topic, letter.partition, letter.key) == ("app.dead-letters", ANY_PARTITION, key)
    told = decode_dead_letter(letter.value or b"")
    assert (told.record, told.key, told.source_topic) == (value, key, "app.jobs")
    assert (told.partition, told.offset, told.at_ms) == (HERE, 41, 77)
    assert reason in told.reason
    assert counted == {"dead_letter": 1}


def test_a_command_that_could_not_be_carried_out_is_a_dead_letter_too() -> None:
    letter = log_of().refuse(HERE, c.Cancel("r"), "a defect", 5)

    told = decode_dead_letter(letter.value or b"")
    assert (told.record, told.key, told.reason, told.at_ms) == (CANCEL, b"r", "a defect", 5)


@pytest.mark.parametrize("value", [b"\xff" * 900, b"\x00" * 900, b'"' * 900])
def test_a_record_that_no_dead_letter_can_hold_is_told_of_without_its_bytes(
    value: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In base64 or with escapes it is larger than it was; a transaction with it would fail for ever."""
    monkeypatch.setattr(job_log, "VALUE_BYTES_MAX", 1_000)
    monkeypatch.setattr(job_log, "KEY_BYTES_MAX", 100)
    log = log_of()

    log.read([message(value)])

    (letter,) = log.aside
    assert len(letter.value or b"") < 1_000
    told = decode_dead_letter(letter.value or b"")
    assert (told.record, told.omitted, told.key, told.offset) == (None, 900, b"r", 0)


def test_a_key_that_no_dead_letter_can_hold_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_log, "VALUE_BYTES_MAX", 40_000)
    log = log_of()

    log.read([message(CANCEL, key=b"\xff" * 30_000)])

    (letter,) = log.aside
    assert letter.key is None
    assert decode_dead_letter(letter.value or b"").key is None


def test_a_record_that_is_too_large_to_be_moved_is_a_dead_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_log, "VALUE_BYTES_MAX", len(CANCEL) - 1)
    log = log_of()

    assert [job.command for job in log.read([message(CANCEL)])] == [c.Cancel("r")], "where it belongs it is carried out"
    log.read([message(CANCEL, 1, ELSEWHERE)])

    (letter,) = log.aside
    assert letter.topic == "app.dead-letters"
    assert "too many to be moved" in orjson.loads(letter.value or b"")["reason"]


# What comes back.


def test_a_node_job_of_this_worker_is_recognised_once_when_it_comes_back() -> None:
    log = log_of()
    log.committed({HERE: [NODE]})

    jobs = log.read([message(NODE, 0), message(NODE, 1)])

    assert [job.command is None for job in jobs] == [True, False]
    assert log.next == {HERE: 2}


def test_a_node_job_is_recognised_on_its_own_partition_only() -> None:
    log = log_of()
    log.committed({ELSEWHERE: [NODE]})

    assert [job.command is None for job in log.read([message(NODE)])] == [False]


def test_what_was_put_aside_goes_out_once() -> None:
    log = log_of()
    log.read([message(b"{")])
    assert len(log.aside) == 1

    log.committed({})

    assert log.aside == []
    assert log.next == {HERE: 1}


def test_after_going_back_nothing_since_the_last_commit_has_happened() -> None:
    log = log_of()
    log.read([message(CANCEL, 0)])
    log.committed({HERE: [NODE]})
    log.read([message(b"{", 1), message(CANCEL, 2, ELSEWHERE)])

    log.go_back({HERE: 1})

    assert log.aside == [], "what was put aside is put aside again when it is read again"
    assert log.next == {HERE: 1}
    assert [job.command is None for job in log.read([message(NODE, 1)])] == [False], "and is known from the state"


def test_what_was_put_aside_for_a_partition_that_went_goes_with_it() -> None:
    """Its offset does not move any more, so whoever has the partition now puts it aside."""
    log = log_of()
    log.read([message(b"{", 0), message(b"{", 0, ELSEWHERE)])
    log.committed({})
    log.read([message(b"[", 1), message(b"[", 1, ELSEWHERE), message(CANCEL, 2, ELSEWHERE)])

    log.forget([ELSEWHERE, 99])

    assert [decode_dead_letter(it.value or b"").partition for it in log.aside] == [HERE]
    assert log.next == {HERE: 2}


def test_a_partition_that_comes_back_recognises_nothing_from_before() -> None:
    log = log_of()
    log.committed({HERE: [NODE]})
    log.forget([HERE])

    assert [job.command is None for job in log.read([message(NODE)])] == [False]


def test_what_a_backlog_of_starts_causes_is_not_all_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Node jobs come back behind a million starts; one that is not known again says nothing new."""
    monkeypatch.setattr(job_log, "OWN_MAX", 3)
    log = log_of()
    nodes = [encode_command(c.RunNode("r", "f", f"n{number}", -1, 0, 1)) for number in range(6)]
    for node in nodes:
        log.committed({HERE: [node]})

    jobs = log.read([message(node, at) for at, node in enumerate(nodes)])
    assert [job.command is None for job in jobs] == [True] * 3 + [False] * 3

    log.committed({HERE: nodes[:1]})
    assert [job.command is None for job in log.read([message(nodes[0], 6)])] == [True], "there is room again"
