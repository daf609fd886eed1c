"""The blueprints topic: all workers find the same versions, and the same newest one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from confluent_kafka import KafkaError
from tests.kafka.memory_kafka import MemoryKafka
from tests.kafka.recorded_carrier import layout_of

from headrace.blueprint import Blueprint, from_json
from headrace.errors import DefinitionError, StoreError
from headrace.plans import Plans
from headrace.registry import Registry
from headrace_adapters.kafka import blueprint_log
from headrace_adapters.kafka.blueprint_log import BlueprintLog
from headrace_adapters.kafka.settings import KafkaSettings

TOPIC = layout_of().blueprints


def flow(version: str = "1", name: str = "f", uses: str = "work") -> Blueprint:
    return from_json({"id": name, "nodes": [{"id": "n", "uses": uses}], "edges": [], "metadata": {"version": version}})


class WorkerSide:
    """The log of one worker, and what it knows."""

    def __init__(self, kafka: MemoryKafka) -> None:
        self.plans = Plans(Registry())
        self.log = BlueprintLog(kafka, KafkaSettings("localhost:1", "app", "app"), layout_of(), self.plans)

    def newest(self, name: str = "f") -> str:
        plan = self.plans.get(name, None)
        return "" if plan is None else plan.version

    def knows(self) -> list[str]:
        return [f"{blueprint.id}@{blueprint.version}" for blueprint in self.plans.blueprints()]


@pytest.fixture
def kafka() -> MemoryKafka:
    return MemoryKafka()


@pytest.fixture
def side(kafka: MemoryKafka) -> WorkerSide:
    return WorkerSide(kafka)


def keys(kafka: MemoryKafka) -> list[Any]:
    return [record.key for record in kafka.logs.get((TOPIC, 0), [])]


def test_an_empty_topic_is_read_to_its_end_at_once(side: WorkerSide) -> None:
    side.log.read_to_end()
    assert side.knows() == []
    assert not side.log.poll()


def test_what_one_worker_publishes_all_others_know(kafka: MemoryKafka, side: WorkerSide) -> None:
    side.log.read_to_end()
    side.log.publish([flow("1"), flow("1", "g")])
    assert keys(kafka) == [b"f@1", b"g@1"]

    other = WorkerSide(kafka)
    other.log.read_to_end()

    assert other.knows() == ["f@1", "g@1"]
    assert other.plans.blueprints() == [flow("1"), flow("1", "g")]


def test_what_is_there_already_is_not_written_again(kafka: MemoryKafka, side: WorkerSide) -> None:
    for _ in range(3):
        side.log.read_to_end()
        side.log.publish([flow("1"), flow("2")])
        side = WorkerSide(kafka)

    assert keys(kafka) == [b"f@1", b"f@2"]


def test_what_was_deployed_last_is_the_newest_for_all(kafka: MemoryKafka, side: WorkerSide) -> None:
    side.log.publish([flow("1")])
    upgraded = WorkerSide(kafka)
    upgraded.log.read_to_end()
    upgraded.log.publish([flow("2")])
    assert side.newest() == "1"

    assert side.log.poll()
    assert not side.log.poll()
    assert side.newest() == upgraded.newest() == "2"
    assert side.knows() == ["f@1", "f@2"]

    rolled_back = WorkerSide(kafka)
    rolled_back.log.read_to_end()
    rolled_back.log.publish([flow("1")])
    for each in (side, upgraded):
        each.log.poll()

    assert [each.newest() for each in (side, upgraded, rolled_back)] == ["1", "1", "1"]
    late = WorkerSide(kafka)
    late.log.read_to_end()
    assert late.newest() == "1"


def test_the_last_of_several_versions_of_an_app_is_the_newest(kafka: MemoryKafka, side: WorkerSide) -> None:
    side.log.publish([flow("2"), flow("1")])
    assert side.newest() == "1"

    again = WorkerSide(kafka)
    again.log.read_to_end()
    again.log.publish([flow("1"), flow("2")])

    assert again.newest() == "2"
    assert keys(kafka) == [b"f@2", b"f@1", b"f@2"]


def test_a_version_that_others_have_with_other_content_is_refused(kafka: MemoryKafka, side: WorkerSide) -> None:
    side.log.publish([flow("1")])
    other = WorkerSide(kafka)
    other.log.read_to_end()

    with pytest.raises(DefinitionError, match="give the changed blueprint another version"):
        other.log.publish([flow("1", uses="another")])
    assert keys(kafka) == [b"f@1"]


def test_a_version_that_comes_with_other_content_changes_nothing(
    kafka: MemoryKafka, side: WorkerSide, caplog: pytest.LogCaptureFixture
) -> None:
    """Two workers that begin at the same moment may both write it; who was first is what all go by."""
    side.log.publish([flow("1")])
    kafka.append(TOPIC, 0, b"f@1", json.dumps({"id": "f", "nodes": [{"id": "n", "uses": "x"}], "edges": []}).encode())

    assert not side.log.poll()
    assert side.plans.blueprints() == [flow("1")]
    assert "is no blueprint for this worker" in caplog.text


@pytest.mark.parametrize(
    "record",
    [b"", b"{", b"\xff", b"[]", b"7", b"null", b'"x"', b"{}", b'{"id":1}', b'{"id":"f","nodes":[{}]}',
     b'{"id":"f","nodes":{},"edges":7}', b'{"id":"f","nodes":[{"id":"a","uses":"x"}],"edges":[{"source":"a","target":"b"}]}',
     b'{"id":"f","nodes":[],"metadata":[]}', b"[" * 2_000],
)  # fmt: skip
def test_a_record_that_is_no_blueprint_stops_nobody(
    kafka: MemoryKafka, side: WorkerSide, record: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    kafka.append(TOPIC, 0, b"f@1", record)
    kafka.append(TOPIC, 0, b"gone", None)
    side.log.read_to_end()
    side.log.publish([flow("1", "g")])

    assert side.knows() == ["g@1"]
    assert "record 0 of app.blueprints is no blueprint" in caplog.text


def test_an_end_that_is_no_record_is_reached_too(kafka: MemoryKafka, side: WorkerSide) -> None:
    """Marks of transactions and what was compacted take offsets and give nothing to read."""
    kafka.append(TOPIC, 0, b"f@1", b"{}", transaction="t")
    kafka.end("t", "aborted")

    side.log.read_to_end()
    assert side.knows() == []


def test_an_end_that_is_not_reached_is_an_error_for_the_operator(
    kafka: MemoryKafka, side: WorkerSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blueprint_log, "END_S", 0.05)
    kafka.append(TOPIC, 0, b"f@1", b"{}", transaction="left open")

    with pytest.raises(StoreError, match=r"app\.blueprints could not be read to its end, 1, .* \(it is at 0\)"):
        side.log.read_to_end()


def test_a_worker_that_is_to_stop_does_not_read_to_the_end(kafka: MemoryKafka, side: WorkerSide) -> None:
    kafka.append(TOPIC, 0, b"f@1", b"{}", transaction="left open")

    with pytest.raises(StoreError):
        side.log.read_to_end(lambda: True)


def test_a_worker_that_is_to_stop_does_not_wait_until_brokers_are_back(kafka: MemoryKafka, side: WorkerSide) -> None:
    kafka.admin_errors.extend([KafkaError(KafkaError._TRANSPORT)] * 9)
    answers = iter([False, False, True])

    with pytest.raises(StoreError, match="asking how far"):
        side.log.read_to_end(lambda: next(answers))
    assert len(kafka.admin_errors) == 6


def test_the_end_is_asked_for_again_while_nobody_leads_the_topic(kafka: MemoryKafka, side: WorkerSide) -> None:
    kafka.admin_errors.extend([KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION), KafkaError(KafkaError._TRANSPORT)])
    side.log.read_to_end()
    assert not kafka.admin_errors

    kafka.admin_errors.append(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
    with pytest.raises(StoreError, match="asking how far"):
        side.log.read_to_end()


def test_an_error_of_the_reader_is_told_and_reading_goes_on(
    kafka: MemoryKafka, side: WorkerSide, caplog: pytest.LogCaptureFixture
) -> None:
    WorkerSide(kafka).log.publish([flow("1")])
    kafka.consumer_errors.append(KafkaError(KafkaError._TRANSPORT))

    side.log.read_to_end()

    assert side.knows() == ["f@1"]
    assert "reading app.blueprints" in caplog.text


def test_blueprints_that_the_brokers_do_not_take_keep_the_worker_from_starting(
    kafka: MemoryKafka, side: WorkerSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka.refused = {b"f@1": KafkaError._MSG_TIMED_OUT}
    with pytest.raises(StoreError, match=r"writing to app\.blueprints"):
        side.log.publish([flow("1")])

    monkeypatch.setattr(blueprint_log, "END_S", 0.05)
    kafka.acknowledges = False
    with pytest.raises(StoreError, match="took no records"):
        side.log.publish([flow("1")])
