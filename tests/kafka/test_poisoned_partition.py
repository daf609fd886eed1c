"""Records that nobody can carry out, among good ones: they are put aside as they are, and stop nothing."""

from __future__ import annotations

import json
import random
from typing import NamedTuple

import pytest
from confluent_kafka import Message, Producer

from headrace_topics.dead_letters import decode_dead_letter
from headrace_topics.partitioning import partition_of
from tests.kafka.bad_records import BadRecord, bad_records
from tests.kafka.checker import check
from tests.kafka.endings import AppName, MakeLoad, MakeWorkers, Say, settled
from tests.kafka.load import Expected
from tests.kafka.workers import HANG_S

pytestmark = [pytest.mark.broker, pytest.mark.slow]


class Place(NamedTuple):
    """Where a record was written."""

    partition: int
    offset: int


class Sender:
    """Writes records exactly as they are, where it is told, and remembers where that was."""

    def __init__(self, servers: str, topic: str) -> None:
        self._topic = topic
        self._producer = Producer({"bootstrap.servers": servers, "linger.ms": 1, "message.max.bytes": 8_000_000})
        self.sent: dict[Place, BadRecord] = {}

    def send(self, record: BadRecord, partition: int) -> None:
        def note(error: object, message: Message) -> None:
            assert error is None, error
            self.sent[Place(message.partition(), message.offset())] = record

        self._producer.produce(self._topic, record.value, record.key, partition, on_delivery=note)
        self._producer.poll(0)

    def flush(self) -> None:
        assert self._producer.flush(HANG_S) == 0


def test_a_thousand_kinds_of_bad_records_are_put_aside_and_every_good_run_completes(
    broker: str, app_name: AppName, make_workers: MakeWorkers, make_load: MakeLoad, seed: int, say: Say
) -> None:
    workers = make_workers(app_name("poisoned"), broker)
    workers.begin().ready()
    load = make_load(workers, 96)
    sender = Sender(broker, f"{workers.app}.jobs")
    records = bad_records(random.Random(seed))

    for number, record in enumerate(records):
        # Wherever they stand: on the partition of their run, and on all others.
        sender.send(record, number % 4)
        if number % (len(records) // 12) == 0:
            load.allow(1 / 12)
            load.press(lambda: len(load.begun) - len(load.ended) < 20)
    load.finish()
    sender.flush()
    log = settled(workers)
    workers.stop()

    letters = {}
    for record in log.of("dead-letters"):
        letter = decode_dead_letter(record.value or b"")
        place = Place(letter.partition, letter.offset)
        assert place not in letters, f"it is put aside twice: {letter}"
        letters[place] = letter
        assert letter.source_topic == f"{workers.app}.jobs"
        assert letter.reason, f"it is not told why: {letter}"
        assert place in sender.sent, f"it is none of the bad records: {letter}"
        assert (letter.record, letter.key) == (sender.sent[place].value, sender.sent[place].key), sender.sent[place].kind
    missing = [record.kind for place, record in sender.sent.items() if place not in letters]
    assert not missing, f"{len(missing)} bad records were passed and not put aside: {missing[:20]}"
    check(log, load.expected, executions=workers.executions())
    say(f"{len(letters)} dead letters of as many kinds, {len(load.expected)} runs among them")


def test_records_on_wrong_partitions_are_moved_and_carried_out_once(
    broker: str, app_name: AppName, make_workers: MakeWorkers, make_load: MakeLoad, seed: int, say: Say
) -> None:
    """A producer with another partitioner, and one without keys."""
    draw = random.Random(seed)
    workers = make_workers(app_name("misplaced"), broker)
    for _ in range(2):
        workers.begin().ready()
    load = make_load(workers, 48)
    sender = Sender(broker, f"{workers.app}.jobs")
    misplaced: dict[str, Expected] = {}
    for number in range(60):
        run_id = f"misplaced-{number}"
        given = draw.randrange(100)
        misplaced[run_id] = Expected("asked", "completed", given + 1, 2)
        home = partition_of(run_id, 4)
        start = {"type": "start", "runId": run_id, "blueprintId": "asked", "input": 0}
        signal = {"type": "signal", "runId": run_id, "event": "answered", "payload": given}
        wrong = draw.choice([partition for partition in range(4) if partition != home])
        key = run_id.encode() if number % 2 else None
        for data, partition in ((start, wrong), (start, home if number % 3 else wrong), (signal, wrong)):
            sender.send(BadRecord("misplaced", key, json.dumps(data).encode()), partition)

    load.finish()
    sender.flush()
    log = settled(workers)
    workers.stop()

    found = check(log, load.expected | misplaced, executions=workers.executions())
    assert not log.of("dead-letters")
    say(f"{len(sender.sent)} records on wrong partitions, {len(found.histories)} runs")
