"""A checker that finds nothing proves nothing: each fault that it is there for is made by hand, and has to be told."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import NamedTuple

import pytest

from headrace_adapters.rocks import RocksStore
from headrace_topics.dead_letters import encode_dead_letter
from headrace_topics.partitioning import partition_of
from tests.kafka.checker import check
from tests.kafka.endings import AppName, settled
from tests.kafka.load import Expected, Load
from tests.kafka.stores import check_stores, copies_of
from tests.kafka.topic_log import Record, TopicLog
from tests.kafka.workers import Workers

pytestmark = [pytest.mark.broker, pytest.mark.slow]

Harm = Callable[[TopicLog], None]


class Whole(NamedTuple):
    """What a few runs have left, with one that still waits."""

    log: TopicLog
    expected: dict[str, Expected]
    executions: dict[tuple[str, str], int]
    state: Path


@pytest.fixture(scope="module")
def whole(broker: str, app_name: AppName, tmp_path_factory: pytest.TempPathFactory, seed: int) -> Whole:
    workers = Workers(tmp_path_factory.mktemp("checked"), app_name("checked"), broker)
    try:
        workers.begin().ready()
        load = Load(broker, workers.app, random.Random(seed), 24)
        load.send("living", type="start", blueprintId="asked", input=1)
        load.finish()
        load.close()
        settled(workers)
        workers.stop()
        log = settled(workers)
    finally:
        workers.close()
    return Whole(log, load.expected, dict(workers.executions()), workers.state)


def records_of(log: TopicLog, topic: str, run_id: str) -> list[Record]:
    return [record for record in log.of(topic) if record.key is not None and f'"{run_id}"' in f'"{record.key.decode()}"']


def drop(log: TopicLog, *records: Record) -> None:
    topic = records[0].topic
    log.records[topic] = [record for record in log.of(topic) if record not in records]


def put_in(log: TopicLog, record: Record, *, behind: Record) -> None:
    place = log.of(record.topic).index(behind) + 1
    log.records[record.topic] = [*log.of(record.topic)[:place], record, *log.of(record.topic)[place:]]


def a_result_is_missing(log: TopicLog) -> None:
    drop(log, *records_of(log, "results", "run-0"))


def a_result_is_there_twice(log: TopicLog) -> None:
    (record,) = records_of(log, "results", "run-0")
    put_in(log, record._replace(offset=record.offset + 10_000), behind=record)


def a_result_is_of_nobody(log: TopicLog) -> None:
    (record,) = records_of(log, "results", "run-0")
    put_in(log, record._replace(key=b"ghost"), behind=record)


def a_result_says_something_else(log: TopicLog) -> None:
    (record,) = records_of(log, "results", "run-0")
    data = json.loads(record.value or b"{}")
    put_in(log, record._replace(value=json.dumps({**data, "output": -1}).encode()), behind=record)
    drop(log, record)


def events_are_missing(log: TopicLog) -> None:
    drop(log, records_of(log, "events", "run-0")[1])


def events_are_there_twice(log: TopicLog) -> None:
    record = records_of(log, "events", "run-0")[1]
    put_in(log, record, behind=record)


def events_come_after_the_end(log: TopicLog) -> None:
    *_, last = records_of(log, "events", "run-0")
    data = json.loads(last.value or b"{}")
    count = sum(len(decision["events"]) for decision in data["decisions"])
    late = {**data, "seq": data["seq"] + count, "decisions": [{"at": 1, "events": [{"type": "runDuplicate"}]}]}
    put_in(log, last._replace(value=json.dumps(late).encode()), behind=last)


def a_tombstone_is_missing(log: TopicLog) -> None:
    gone = next(record for record in log.of("coordination-changelog") if record.value is None)
    drop(log, gone)


def a_context_value_is_an_older_one(log: TopicLog) -> None:
    drop(log, records_with_value(log, "context-changelog", '["living"')[-1])


def records_with_value(log: TopicLog, topic: str, key: str) -> list[Record]:
    return [record for record in log.of(topic) if (record.key or b"").startswith(key.encode())]


def a_part_of_the_state_is_missing(log: TopicLog) -> None:
    drop(log, *records_with_value(log, "coordination-changelog", '["living","n","answer"'))


def a_start_was_passed_by(log: TopicLog) -> None:
    pass_by(log, at_home=True)


def a_start_on_a_wrong_partition_was_passed_by(log: TopicLog) -> None:
    pass_by(log, at_home=False)


def pass_by(log: TopicLog, *, at_home: bool) -> None:
    """As if somebody had started one more run, and nobody had taken that up."""
    record = next(r for r in log.of("jobs") if r.value is not None and b'"living"' in r.value and b"start" in r.value)
    lost = next(
        f"lost-{number}" for number in range(100) if (partition_of(f"lost-{number}", 4) == record.partition) == at_home
    ).encode()
    put_in(log, record._replace(key=lost, value=(record.value or b"").replace(b"living", lost)), behind=record)


def a_job_is_not_taken(log: TopicLog) -> None:
    log.committed = dict.fromkeys(log.committed, 0)


def a_dead_letter_is_of_no_bad_record(log: TopicLog) -> None:
    record = log.of("jobs")[0]
    source = {"source_topic": f"{log.app}.jobs", "partition": record.partition, "offset": record.offset}
    letter = encode_dead_letter(record.value, record.key, "none", **source, at_ms=1)
    log.records["dead-letters"] = [record._replace(topic="dead-letters", value=letter)]


def a_bad_record_was_passed_by(log: TopicLog) -> None:
    record = log.of("jobs")[0]
    put_in(log, record._replace(value=b"no JSON", offset=record.offset), behind=record)


def something_is_on_a_wrong_partition(log: TopicLog) -> None:
    (record,) = records_of(log, "results", "run-0")
    put_in(log, record._replace(partition=(record.partition + 1) % 4), behind=record)
    drop(log, record)


def the_changelog_is_ahead_of_the_offset(log: TopicLog) -> None:
    record = next(record for record in log.of("coordination-changelog") if record.key == b'["","offset"]')
    put_in(log, record._replace(value=b'{"next":1000000}'), behind=log.of("coordination-changelog")[-1])


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (a_result_is_missing, "run-0 is completed, and has 0 results"),
        (a_result_is_there_twice, "run-0 has 2 results"),
        (a_result_is_of_nobody, "run ghost has a result and no event"),
        (a_result_says_something_else, "run-0: its events say"),
        (events_are_missing, "run-0: event"),
        (events_are_there_twice, "run-0: event"),
        (events_come_after_the_end, "comes after the end"),
        (a_tombstone_is_missing, "the marker says"),
        (a_context_value_is_an_older_one, "the changelog and the events differ"),
        (a_part_of_the_state_is_missing, "the changelog and the events differ"),
        (a_start_was_passed_by, "1 records of type start lie below the committed offset, 0 were taken"),
        (a_start_on_a_wrong_partition_was_passed_by, "was taken from wrong partitions 1 times and did not arrive"),
        (a_job_is_not_taken, "everything is done, and this is not taken"),
        (a_dead_letter_is_of_no_bad_record, "a dead letter is of no bad record"),
        (a_bad_record_was_passed_by, "a bad record was passed and is no dead letter"),
        (something_is_on_a_wrong_partition, "run-0 belongs on partition"),
        (the_changelog_is_ahead_of_the_offset, "the changelog tells of offsets"),
    ],
)
def test_the_checker_tells_what_is_wrong(whole: Whole, harm: Harm, told: str) -> None:
    living = {"living": Expected("asked", "completed", None, 0)}
    log = copy(whole.log)
    log.records = dict(whole.log.records)
    with pytest.raises(AssertionError) as unharmed:
        check(log, whole.expected | living)
    assert str(unharmed.value).startswith(f"1 violations in {log.app}:\nrun living of asked has not ended"), unharmed.value

    harm(log)

    with pytest.raises(AssertionError) as harmed:
        check(log, whole.expected | living)
    assert told in str(harmed.value)


def test_the_checker_tells_of_results_that_nobody_expected(whole: Whole) -> None:
    wrong = {**whole.expected, "run-0": whole.expected["run-0"]._replace(output=-1)}
    with pytest.raises(AssertionError, match="run-0 of chained is completed with"):
        check(whole.log, wrong)
    less = {run_id: expected for run_id, expected in whole.expected.items() if run_id != "run-0"}
    with pytest.raises(AssertionError, match="nobody has started run run-0"):
        check(whole.log, less)
    with pytest.raises(AssertionError, match="count_1 is completed 1 times and was executed 0 times"):
        check(whole.log, whole.expected, executions={})


def test_the_checker_tells_of_a_store_that_differs_from_the_changelog(whole: Whole) -> None:
    assert check_stores(whole.state, whole.log) == 4
    (folder,) = copies_of(whole.state)
    with RocksStore(folder) as store:
        kept = dict(store.scan(b"C"))
        key, value = next(iter(kept.items()))
        store.write([(key, b"{}")])
    with pytest.raises(AssertionError, match="in the changelog"):
        check_stores(whole.state, whole.log)
    with RocksStore(folder) as store:
        store.write([(key, value), (b'X\x00\x00["ghost","k"]', b"1")])
    with pytest.raises(AssertionError, match="ghost"):
        check_stores(whole.state, whole.log)
    with RocksStore(folder) as store:
        store.write([], [b'X\x00\x00["ghost","k"]'])
    assert check_stores(whole.state, whole.log) == 4
