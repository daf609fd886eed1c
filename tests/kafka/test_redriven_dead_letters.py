"""Dead letters on a real broker: found, shown, and written again once, whoever else does the same."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from confluent_kafka import Producer

from headrace.errors import RecordRefused, StoreError
from headrace_adapters.base.dead_letters import LetterFilter, LetterPlace, Redriven
from headrace_adapters.kafka.connection import (
    admin,
    open_admin,
    open_producer,
    transactional_producer,
)
from headrace_adapters.kafka.dead_letters import KafkaLetterBox, open_letter_box
from headrace_adapters.kafka.settings import KafkaSettings, kafka_settings
from headrace_adapters.kafka.topic_layout import create
from headrace_topics.dead_letters import RedrivenMark, encode_dead_letter, encode_redriven
from headrace_topics.partitioning import partition_of
from tests.broker.fixtures import AppName
from tests.kafka.app_topics import delete_topics
from tests.kafka.endings import MakeTyped, MakeWorkers, Typed
from tests.kafka.topic_log import read_log
from tests.kafka.workers import until

pytestmark = pytest.mark.broker

WAIT_S = 30.0
PARTITIONS = 4
ALL = LetterFilter()

Written = list[tuple[int, bytes | None, bytes | None]]


class Place:
    """An app of its own, whose dead letters are written here as a worker writes them."""

    def __init__(self, broker: str, app: str) -> None:
        self.app = app
        self.url = f"kafka://{broker}"
        self.settings: KafkaSettings = kafka_settings(
            app, self.url, {"partitions": PARTITIONS, "transaction_timeout_ms": 5_000}
        )
        self._admin = open_admin(admin(self.settings))
        create(self._admin, self.settings)
        self._boxes: list[KafkaLetterBox] = []

    def box(self) -> KafkaLetterBox:
        self._boxes.append(open_letter_box(self.settings))
        return self._boxes[-1]

    def put_aside(self, *letters: bytes) -> None:
        producer = Producer({"bootstrap.servers": self.settings.servers})
        for letter in letters:
            producer.produce(f"{self.app}.dead-letters", letter)
        assert producer.flush(WAIT_S) == 0

    def written(self, count: int) -> Written:
        """The records of the jobs topic, as (partition, key, value), of which there are so many."""
        jobs = read_log(self.settings.servers, self.app, ["jobs"]).of("jobs")
        assert len(jobs) == count, jobs
        return [(record.partition, record.key, record.value) for record in jobs]

    def close(self) -> None:
        for box in self._boxes:
            box.close()
        delete_topics(self._admin, self.app)


@pytest.fixture
def place(broker: str, app_name: AppName) -> Iterator[Place]:
    made = Place(broker, app_name("letters"))
    yield made
    made.close()


def letter(place: Place, record: bytes | None, key: bytes | None = None, **others: Any) -> bytes:
    fields = {"source_topic": f"{place.app}.jobs", "partition": 3, "offset": 7, "at_ms": time.time_ns() // 1_000_000}
    reason = others.pop("reason", "no JSON")
    return encode_dead_letter(record, key, reason, **{**fields, **others})


def redrive(box: KafkaLetterBox, wanted: Any = ALL, **options: bool) -> tuple[list[Redriven], list[tuple[LetterPlace, str]]]:
    told: list[Redriven] = []
    left_out = box.redrive(wanted, told.extend, **options)
    return told, left_out


def test_letters_are_found_newest_or_oldest_first_by_reason_and_age(place: Place) -> None:
    now_ms = time.time_ns() // 1_000_000
    place.put_aside(
        letter(place, b"0", at_ms=now_ms - 7_200_000, reason="No JSON"),
        letter(place, b"1", at_ms=now_ms - 60_000, reason="field 'type'"),
        b"no dead letter",
        letter(place, b"3", at_ms=now_ms, reason="no json, again"),
    )
    box = place.box()

    found = box.find(ALL, limit=2)
    assert [kept.letter.record for kept in found.letters] == [b"3", b"1"]
    assert (found.matching, found.unreadable) == (3, 1)
    assert found.problem.startswith("0-2: expected a JSON object")
    assert [kept.letter.record for kept in box.find(ALL, limit=9, oldest_first=True).letters] == [b"0", b"1", b"3"]
    assert [str(kept.place) for kept in box.find(LetterFilter(reason="no JSON"), limit=9).letters] == ["0-3", "0-0"]
    assert [str(kept.place) for kept in box.find(LetterFilter(now_ms - 3_600_000), limit=9).letters] == ["0-3", "0-1"]


def test_one_letter_is_found_by_its_place(place: Place) -> None:
    place.put_aside(letter(place, b"\xff\x00", b"r1"), b"no dead letter")
    box = place.box()

    kept = box.get(LetterPlace(0, 0))
    assert kept is not None
    assert (kept.letter.record, kept.letter.key, kept.redriven_ms) == (b"\xff\x00", b"r1", None)
    assert box.get(LetterPlace(0, 9)) is None
    assert box.get(LetterPlace(7, 0)) is None
    with pytest.raises(RecordRefused, match="expected a JSON object"):
        box.get(LetterPlace(0, 1))


def test_record_and_key_go_back_to_the_byte_and_to_the_partition_of_the_run(place: Place) -> None:
    by_key, by_record, by_nothing = b"\xff{", b'{"runId": "r2"}', b"no JSON"
    place.put_aside(
        letter(place, by_key, b"r1"),
        letter(place, by_record),
        letter(place, by_nothing, partition=2),
        letter(place, None, b"r1"),
    )

    told, left_out = redrive(place.box())

    home_1, home_2 = partition_of("r1", PARTITIONS), partition_of("r2", PARTITIONS)
    assert [(str(it.place), it.partition) for it in told] == [("0-0", home_1), ("0-1", home_2), ("0-2", 2), ("0-3", home_1)]
    assert left_out == []
    assert sorted(place.written(4), key=repr) == sorted(
        [(home_1, b"r1", by_key), (home_2, None, by_record), (2, None, by_nothing), (home_1, b"r1", None)], key=repr
    )


def test_what_was_redriven_is_remembered_and_not_written_again_unless_somebody_says_so(place: Place) -> None:
    place.put_aside(letter(place, b"0", b"r1"), letter(place, b"1", b"r1"))
    first, second = LetterPlace(0, 0), LetterPlace(0, 1)

    told, _ = redrive(place.box(), [first])
    assert [it.place for it in told] == [first]
    assert redrive(place.box(), [first, LetterPlace(0, 99)]) == (
        [],
        [(LetterPlace(0, 99), "there is no dead letter at this place"), (first, "it was redriven before")],
    )
    told, _ = redrive(place.box())
    assert [it.place for it in told] == [second]
    assert redrive(place.box()) == ([], [])
    assert [value for _, _, value in place.written(2)] == [b"0", b"1"]

    kept = {str(it.place): it.redriven_ms for it in place.box().find(ALL, limit=9).letters}
    assert kept.keys() == {"0-0", "0-1"}
    assert all(kept.values())
    assert place.box().get(first).redriven_ms == kept["0-0"]
    with pytest.raises(RecordRefused, match="it says that 0-0 was redriven"):
        place.box().get(LetterPlace(0, 2))

    told, _ = redrive(place.box(), again=True)
    assert [it.place for it in told] == [first, second]
    place.written(4)


def test_a_dry_run_tells_and_writes_nothing(place: Place) -> None:
    place.put_aside(letter(place, b"0", b"r1"))

    told, _ = redrive(place.box(), dry_run=True)

    assert [str(it.place) for it in told] == ["0-0"]
    place.written(0)
    assert len(redrive(place.box())[0]) == 1


def test_filters_choose_what_is_redriven(place: Place) -> None:
    place.put_aside(letter(place, b"0", reason="no JSON"), letter(place, b"1", reason="too large"))

    told, _ = redrive(place.box(), LetterFilter(reason="large"))

    assert [str(it.place) for it in told] == ["0-1"]


def test_a_letter_that_names_another_topic_makes_nobody_write_there(place: Place) -> None:
    place.put_aside(letter(place, b"0", source_topic="payments"), letter(place, b"1"))

    told, left_out = redrive(place.box())

    assert [str(it.place) for it in told] == ["0-1"]
    assert left_out == [(LetterPlace(0, 0), f"it came from payments, and nobody of this app reads but {place.app}.jobs")]


def test_a_letter_without_its_record_is_not_redriven_as_if_there_had_been_none(place: Place) -> None:
    place.put_aside(letter(place, b"x" * 1_000, b"r1", bytes_max=500))

    assert redrive(place.box())[0] == []
    (why,) = (why for _, why in redrive(place.box())[1])
    assert why.startswith(
        f"1000 bytes were too many for a dead letter: the record lies at offset 7 of partition 3 of {place.app}"
    )
    place.written(0)


def test_many_letters_go_in_several_transactions(place: Place) -> None:
    place.put_aside(*(letter(place, b"%d" % number, b"r%d" % number) for number in range(1_200)))
    groups: list[int] = []

    place.box().redrive(ALL, lambda done: groups.append(len(done)))

    assert groups == [500, 500, 200]
    assert sorted(int(value or b"") for _, _, value in place.written(1_200)) == list(range(1_200))


def test_of_two_who_redrive_at_once_the_later_goes_on_where_the_earlier_was(place: Place) -> None:
    place.put_aside(*(letter(place, b"%d" % number, b"r1") for number in range(700)))
    earlier, later = place.box(), place.box()
    told: list[Redriven] = []

    def interrupted(done: Sequence[Redriven]) -> None:
        told.extend(done)
        if len(told) == 500:
            told.extend(redrive(later)[0])

    with pytest.raises(StoreError, match="somebody else has begun to redrive"):
        earlier.redrive(ALL, interrupted)

    assert sorted(it.place for it in told) == [LetterPlace(0, number) for number in range(700)]
    place.written(700)


def test_a_transaction_that_is_open_hides_no_mark_from_whoever_redrives(place: Place) -> None:
    """A worker died in the middle: what lies behind its transaction is committed, and cannot be read before that ends."""
    place.put_aside(letter(place, b"0", b"r1"))
    dead = open_producer(transactional_producer(place.settings, f"{place.app}.dead"))
    dead.init_transactions(WAIT_S)
    dead.begin_transaction()
    dead.produce(f"{place.app}.dead-letters", letter(place, b"never"))
    assert dead.flush(WAIT_S) == 0
    place.put_aside(encode_redriven(RedrivenMark(0, 0, f"{place.app}.jobs", 0, 1)))

    (seen,) = place.box().find(ALL, limit=9).letters
    assert seen.redriven_ms is None, "whoever only looks does not wait for it"
    assert redrive(place.box()) == ([], [])
    place.written(0)


def test_an_app_without_topics_is_told_and_none_are_made(place: Place) -> None:
    nobody = kafka_settings(f"{place.app}-other", place.url, {})

    with pytest.raises(
        StoreError, match=r"no topic .*-other.jobs and no topic .*-other.dead-letters .*see that the app's name"
    ):
        open_letter_box(nobody)
    with pytest.raises(StoreError, match="no topic"):
        open_letter_box(nobody)


# Through a worker, and by the commands.


@pytest.fixture
def typed(place: Place, make_typed: MakeTyped) -> Typed:
    return make_typed("dead-letters", place.url, place.app)


def test_a_value_that_was_too_large_is_redriven_when_the_limit_is_raised(
    place: Place, make_workers: MakeWorkers, typed: Typed
) -> None:
    workers = make_workers(place.app, place.settings.servers)
    strict = workers.begin(value_bytes_max=100)
    start = {"type": "start", "runId": "r1", "blueprintId": "chained", "input": "x" * 500}
    producer = Producer({"bootstrap.servers": place.settings.servers, "partitioner": "murmur2_random"})
    producer.produce(f"{place.app}.jobs", json.dumps(start).encode(), b"r1")
    assert producer.flush(WAIT_S) == 0
    until(lambda: strict.is_alive and typed("list", "--json")[1] != "", "put aside")
    strict.stop()

    code, out, _ = typed("list", "--json")
    told = json.loads(out)
    assert (code, told["key"], told["source"]["topic"]) == (0, "r1", f"{place.app}.jobs")
    assert "value_bytes_max" in told["reason"]
    workers.begin().ready()
    code, out, err = typed("redrive", "--all")
    assert (code, err) == (0, "1 record written\n")
    assert out == f"{told['position']} to {place.app}.jobs, partition {partition_of('r1', PARTITIONS)}\n"

    results: list[bytes | None] = []

    def ended() -> bool:
        results[:] = [record.value for record in read_log(place.settings.servers, place.app, ["results"]).of("results")]
        return bool(results)

    until(ended, "ended")
    result = json.loads(results[0] or b"")
    assert (result["runId"], result["status"]) == ("r1", "completed")
    assert typed("redrive", "--all") == (0, "", "0 records written\n")
    code, out, _ = typed("redrive", told["position"])
    assert (code, out) == (4, f"{told['position']} is left out: it was redriven before\n")


def test_a_record_that_fits_no_dead_letter_stops_nobody(place: Place, make_workers: MakeWorkers, typed: Typed) -> None:
    """Bytes that are no text become a third longer in a dead letter."""
    worker = make_workers(place.app, place.settings.servers).begin()
    producer = Producer({"bootstrap.servers": place.settings.servers, "message.max.bytes": 33_000_000})
    producer.produce(f"{place.app}.jobs", b"\xff" * 30_000_000, b"r1", 2)
    producer.produce(f"{place.app}.jobs", b"{", b"r1", 2)
    assert producer.flush(WAIT_S) == 0

    until(lambda: worker.is_alive and typed("list", "--json")[1].count("\n") == 2, "put aside")

    code, out, _ = typed("list", "--oldest", "--limit", "1", "--json")
    assert (code, json.loads(out)["recordBytes"]) == (0, 30_000_000)
    code, out, _ = typed("show", json.loads(out)["position"])
    assert out.splitlines()[-1].startswith("record   30000000 bytes were too many for a dead letter")


def test_the_commands_list_show_and_tell(place: Place, typed: Typed) -> None:
    assert typed("list") == (0, "", "no dead letters\n")
    place.put_aside(
        letter(place, b'{"type":\n "strat"}', b"r1"), letter(place, b"\xff\x00abc", reason="byte 0 is not UTF-8")
    )

    code, out, err = typed("list", "--limit", "1", "--oldest")
    assert (code, err) == (0, "these are 1 of 2: --limit shows more\n")
    head, row = out.splitlines()
    assert head.split() == ["position", "when", "source", "key", "redriven", "reason"]
    assert row.split()[0] == "0-0"
    assert row.split()[3:6] == [f"{place.app}.jobs", "3-7", "r1"]

    code, out, _ = typed("show", "0-0")
    assert code == 0
    assert out.splitlines()[-2:] == ['{"type":', ' "strat"}']
    code, out, _ = typed("show", "0-1")
    assert out.splitlines()[-1] == "00000000  ff 00 61 62 63                                   ..abc"
    code, out, _ = typed("show", "0-1", "--json")
    assert (json.loads(out)["recordBase64"], json.loads(out)["recordBytes"]) == ("/wBhYmM=", 5)

    code, _, err = typed("show", "0-9", "--json")
    assert (code, json.loads(err)["error"]["position"]) == (7, "0-9")
    assert typed("show", "9")[0] == 2
    code, out, _ = typed("redrive", "0-1", "--dry-run", "--json")
    to = {"topic": f"{place.app}.jobs", "partition": 3}
    assert (code, json.loads(out)) == (0, {"position": "0-1", "redriven": False, "to": to})
    code, out, _ = typed("redrive", "0-9", "--json")
    assert code == 4
    assert json.loads(out)["reason"] == "there is no dead letter at this place"
