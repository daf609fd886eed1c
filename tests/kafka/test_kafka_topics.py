"""Topics, configurations and errors on a real broker."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, ResourceType

from headrace.errors import StoreError
from headrace_adapters.kafka.connection import (
    WatchedAdmin,
    admin,
    group_consumer,
    open_admin,
    open_consumer,
    open_producer,
    plain_producer,
    reader,
    transactional_producer,
)
from headrace_adapters.kafka.failures import store_error
from headrace_adapters.kafka.settings import RECORD_BYTES_MAX, KafkaSettings, kafka_settings
from headrace_adapters.kafka.topic_layout import create, describe, ensure, inspect
from headrace_topics.names import TOPICS
from tests.broker.fixtures import AppName
from tests.kafka.app_topics import delete_topics
from tests.kafka.endings import MakeTyped, Typed

pytestmark = pytest.mark.broker

WAIT_S = 30.0


class Place:
    """An app of its own at the broker."""

    def __init__(self, broker: str, app: str) -> None:
        self.app = app
        self.url = f"kafka://{broker}"
        self.admin: WatchedAdmin = open_admin(admin(self.settings()))

    def settings(self, **values: Any) -> KafkaSettings:
        return kafka_settings(self.app, self.url, values)

    def name(self, topic: str) -> str:
        return f"{self.app}.{topic}"

    def ensure(self, **values: Any) -> Any:
        return ensure(self.admin, self.settings(**values))

    def create(self, topic: str, partitions: int, **config: str) -> None:
        new = NewTopic(
            self.name(topic), partitions, 1, config={key.replace("_", "."): value for key, value in config.items()}
        )
        self.admin.create_topics([new])[self.name(topic)].result(WAIT_S)
        self.wait(lambda: topic in describe(self.admin, self.settings()).topics)

    def delete(self, *topics: str) -> None:
        for future in self.admin.delete_topics([self.name(topic) for topic in topics]).values():
            future.result(WAIT_S)
        self.wait(lambda: describe(self.admin, self.settings()).topics.keys().isdisjoint(topics))

    def alter(self, topic: str, **config: str) -> None:
        entries = [
            ConfigEntry(key.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
            for key, value in config.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, self.name(topic), incremental_configs=entries)
        self.admin.incremental_alter_configs([resource])[resource].result(WAIT_S)
        wanted = {key.replace("_", "."): value for key, value in config.items()}.items()
        self.wait(lambda: wanted <= describe(self.admin, self.settings()).topics[topic].config.items())

    def write(self, topic: str, value: bytes = b"{}") -> None:
        producer = open_producer(plain_producer(self.settings()))
        producer.produce(self.name(topic), value, b"key")
        assert producer.flush(WAIT_S) == 0

    def wait(self, seen: Callable[[], bool]) -> None:
        """A broker learns of a change by its log, a moment after the change was acknowledged."""
        deadline = time.monotonic() + WAIT_S
        while not seen():
            assert time.monotonic() < deadline, "the broker does not know of the change"
            time.sleep(0.02)


@pytest.fixture
def place(broker: str, app_name: AppName) -> Iterator[Place]:
    made = Place(broker, app_name("topics"))
    yield made
    delete_topics(made.admin, made.app)


def test_a_worker_creates_what_is_missing_and_finds_it_again(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    layout = place.ensure(partitions=3)
    again = place.ensure()

    assert layout == again
    assert layout.partitions == 3
    assert (layout.jobs, layout.context) == (place.name("jobs"), place.name("context-changelog"))
    assert (layout.coordination, layout.events) == (place.name("coordination-changelog"), place.name("events"))
    assert (layout.results, layout.blueprints) == (place.name("results"), place.name("blueprints"))
    assert layout.dead_letters == place.name("dead-letters")
    assert layout.topic_ids.keys() == {place.name(spec.name) for spec in TOPICS}
    assert len({*layout.topic_ids.values()}) == len(TOPICS)
    assert layout.cluster_id
    assert layout.tombstones_kept_ms == 7 * 86_400_000
    assert [record.levelname for record in caplog.records if "topic" in record.message] == ["INFO"]


def test_nothing_is_wrong_with_what_was_created(place: Place) -> None:
    created = create(place.admin, place.settings())
    cluster, problems = inspect(place.admin, place.settings())

    assert created == tuple(place.name(spec.name) for spec in TOPICS)
    assert problems == []
    assert {spec.name: cluster.topics[spec.name].config["cleanup.policy"] for spec in TOPICS} == {
        spec.name: spec.cleanup for spec in TOPICS
    }
    assert create(place.admin, place.settings()) == ()


def test_workers_that_start_at_once_agree_on_the_number_of_partitions(place: Place) -> None:
    """Each wants another number; whoever comes first decides, and those who insisted on another one are refused."""

    def start(wanted: int) -> Any:
        own = Place(place.url.removeprefix("kafka://"), place.app)
        try:
            return own.ensure(partitions=wanted)
        except StoreError as error:
            return str(error)

    with ThreadPoolExecutor(6) as pool:
        ends = list(pool.map(start, [2, 3, 4, 5, 6, 7]))

    layouts = [end for end in ends if not isinstance(end, str)]
    refused = [end for end in ends if isinstance(end, str)]
    assert len(layouts) == 1
    assert all("PARTITIONS_FIXED" in end and "PARTITIONS_UNEQUAL" not in end for end in refused)
    assert place.ensure() == layouts[0]


def test_topics_that_are_missing_get_the_partitions_of_those_that_exist(place: Place) -> None:
    place.create("events", 5, max_message_bytes=str(32 * 1024 * 1024))

    assert place.ensure().partitions == 5


def test_jobs_that_were_written_before_the_first_worker_are_no_sign_of_a_loss(place: Place) -> None:
    place.create("jobs", 2, max_message_bytes=str(32 * 1024 * 1024))
    place.write("jobs")

    assert place.ensure().partitions == 2


def test_a_number_of_partitions_that_differs_is_refused(place: Place) -> None:
    place.ensure(partitions=2)

    with pytest.raises(StoreError, match=r"PARTITIONS_FIXED at topic .*jobs: it has 2 partitions, and 'partitions' is 4"):
        place.ensure(partitions=4)


def test_a_topic_that_was_given_more_partitions_is_refused(place: Place) -> None:
    place.ensure(partitions=2)
    place.admin.create_partitions([NewPartitions(place.name("events"), 3)])[place.name("events")].result(WAIT_S)
    place.wait(lambda: describe(place.admin, place.settings()).topics["events"].partitions == 3)

    with pytest.raises(StoreError, match=r"PARTITIONS_UNEQUAL at topic .*events: it has 3 partitions"):
        place.ensure()


def test_every_reason_to_refuse_is_told_at_once(place: Place) -> None:
    place.ensure()
    place.alter("coordination-changelog", cleanup_policy="delete", retention_ms="1000")
    place.alter("jobs", cleanup_policy="compact", max_message_bytes="1048588")
    place.alter("results", min_insync_replicas="2")

    with pytest.raises(StoreError) as caught:
        place.ensure()

    lines = str(caught.value).splitlines()[1:]
    assert [line.split(" at topic ")[0].strip() for line in lines] == [
        "CLEANUP_LOSES",
        "MESSAGE_BYTES",
        "CLEANUP_LOSES",
        "MIN_INSYNC_REPLICAS",
    ]
    assert all("kafka-configs.sh --bootstrap-server" in line for line in lines)


def test_what_costs_nothing_yet_is_logged_and_work_goes_on(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.ensure()
    place.alter("jobs", unclean_leader_election_enable="true")

    place.ensure()

    assert [r.getMessage() for r in caplog.records if r.levelname == "WARNING" and "UNCLEAN_ELECTION" in r.getMessage()]


@pytest.mark.parametrize("lost", ["jobs", "context-changelog", "coordination-changelog", "blueprints"])
def test_a_topic_that_is_gone_with_the_work_of_others_is_not_made_again(place: Place, lost: str) -> None:
    before = place.ensure().topic_ids
    place.write("events")
    place.delete(lost)

    with pytest.raises(StoreError, match=f"LOST at topic {place.name(lost)}.*--empty"):
        place.ensure()
    with pytest.raises(StoreError, match="LOST"):
        create(place.admin, place.settings())
    assert [(p.code, p.topic) for p in inspect(place.admin, place.settings())[1]] == [("LOST", place.name(lost))]

    assert create(place.admin, place.settings(), empty=True) == (place.name(lost),)
    assert place.ensure().topic_ids[place.name(lost)] != before[place.name(lost)]


def test_a_topic_that_is_gone_before_there_was_work_is_made_again(place: Place) -> None:
    place.ensure()
    place.delete("jobs", "context-changelog")

    place.ensure()


def test_history_that_is_gone_stops_nobody(place: Place) -> None:
    place.ensure()
    place.write("coordination-changelog")
    place.delete("events", "dead-letters")

    place.ensure()


def test_more_copies_than_brokers_are_refused_with_what_to_do(place: Place) -> None:
    with pytest.raises(StoreError, match=r"creating topic .*jobs failed at Kafka .*'replication'"):
        place.ensure(replication=99)


# Clients as they are configured.


def test_the_largest_record_goes_through_every_topic_and_back(place: Place) -> None:
    layout = place.ensure(partitions=1)
    settings = place.settings()
    # What does not compress, because a batch that does is smaller than its record.
    key, value = b"k" * 1_024, bytes(range(256)) * ((RECORD_BYTES_MAX - 4_096) // 256)
    plain = open_producer({**plain_producer(settings), "compression.type": "none"})
    in_transaction = open_producer({**transactional_producer(settings, f"{place.app}.1"), "compression.type": "none"})

    in_transaction.init_transactions(WAIT_S)
    in_transaction.begin_transaction()
    in_transaction.produce(layout.coordination, value, key, 0, headers={"h": b"x" * 100})
    in_transaction.commit_transaction(WAIT_S)
    plain.produce(layout.jobs, value, key, 0, headers={"h": b"x" * 100})
    assert plain.flush(WAIT_S) == 0

    for topic in (layout.coordination, layout.jobs):
        consumer = open_consumer(reader(settings))
        consumer.assign([TopicPartition(topic, 0, 0)])
        message = consumer.poll(WAIT_S)
        assert message is not None
        assert message.error() is None
        assert message.value() == value
        consumer.close()


def test_a_record_above_the_limit_is_refused_where_it_is_produced(place: Place) -> None:
    producer = open_producer(plain_producer(place.settings()))

    with pytest.raises(KafkaException) as caught:
        producer.produce(place.name("jobs"), bytes(RECORD_BYTES_MAX), b"k")

    assert "value_bytes_max" in str(store_error("writing", caught.value, place.settings()))


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
@pytest.mark.parametrize("instance", [None, "w1"])
def test_a_member_of_the_group_gets_partitions(place: Place, protocol: str, instance: str | None) -> None:
    layout = place.ensure(partitions=2)
    settings = place.settings(group_protocol=protocol, instance=instance)
    consumer = open_consumer(group_consumer(settings, "headrace|http://h:1"))
    consumer.subscribe([layout.jobs])

    deadline = time.monotonic() + WAIT_S
    while len(consumer.assignment()) < 2:
        assert time.monotonic() < deadline
        assert (message := consumer.poll(0.1)) is None or message.error() is None

    consumer.close()


def test_a_reader_is_told_of_the_end_and_of_a_position_that_is_not_there(place: Place) -> None:
    layout = place.ensure(partitions=1)
    place.write("events")
    consumer = open_consumer(reader(place.settings()))

    consumer.assign([TopicPartition(layout.events, 0, 0)])
    assert consumer.poll(WAIT_S).value() == b"{}"
    assert consumer.poll(WAIT_S).error().code() == KafkaError._PARTITION_EOF
    consumer.assign([TopicPartition(layout.events, 0, 500)])
    problem = consumer.poll(WAIT_S).error()
    consumer.close()

    assert problem.code() == KafkaError._AUTO_OFFSET_RESET
    assert "not there any more" in str(store_error("reading", problem, place.settings()))


def test_a_producer_whose_place_was_taken_is_told_so(place: Place) -> None:
    layout = place.ensure(partitions=1)
    settings = place.settings()
    first = open_producer(transactional_producer(settings, f"{place.app}.1"))
    second = open_producer(transactional_producer(settings, f"{place.app}.1"))
    first.init_transactions(WAIT_S)
    second.init_transactions(WAIT_S)

    first.begin_transaction()
    first.produce(layout.events, b"{}", b"k", 0)
    with pytest.raises(KafkaException) as caught:
        first.commit_transaction(WAIT_S)

    told = str(store_error("committing", caught.value, settings))
    assert "another process has taken this one's place" in told
    assert "nothing is lost" in told


def test_a_topic_that_does_not_exist_is_told_with_what_to_do(place: Place) -> None:
    with pytest.raises(KafkaException) as caught:
        place.admin.delete_topics([place.name("jobs")])[place.name("jobs")].result(WAIT_S)

    assert f"headrace topics create --app {place.app}" in str(store_error("reading", caught.value, place.settings()))


def test_a_transaction_timeout_that_the_broker_does_not_allow_is_told_by_its_setting(place: Place) -> None:
    settings = place.settings(transaction_timeout_ms=3_600_000)
    producer = open_producer(transactional_producer(settings, f"{place.app}.1"))

    with pytest.raises(KafkaException) as caught:
        producer.init_transactions(WAIT_S)

    assert "set 'transaction_timeout_ms' to at most" in str(store_error("beginning", caught.value, settings))


def test_a_user_whom_the_broker_does_not_know_is_told_as_such(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """This broker asks nobody who he is, so it refuses whoever wants to say so."""
    monkeypatch.setattr("headrace_adapters.kafka.topic_layout.ANSWER_S", 2.0)
    url = f"kafka://me:hunter2@{place.url.removeprefix('kafka://')}?security.protocol=SASL_PLAINTEXT"
    settings = kafka_settings(place.app, url, {})

    with pytest.raises(StoreError, match="the servers refused the user") as caught:
        describe(open_admin(admin(settings)), settings)

    assert "hunter2" not in str(caught.value)


# The commands.


@pytest.fixture
def typed(place: Place, make_typed: MakeTyped) -> Typed:
    return make_typed("topics", place.url, place.app)


def test_topics_are_created_described_and_checked_by_commands(place: Place, typed: Typed) -> None:
    code, out, _ = typed("check")
    assert code == 1
    assert f"MISSING at {place.name('jobs')}" in out
    assert f"headrace topics create --app {place.app}" in out

    code, out, err = typed("create", "--partitions", "3")
    assert (code, err) == (0, "")
    assert out.splitlines() == [f"created {place.name(spec.name)}" for spec in TOPICS]
    assert typed("create") == (0, "", "all topics were there already\n")

    code, out, _ = typed("describe")
    assert code == 0
    assert out.splitlines()[1].split() == [place.name("jobs"), "3", "1", "1", "delete", "14", "d", "33554432"]
    assert typed("check") == (0, f"✔ the topics of {place.app} are as they should be\n", "")


def test_programs_get_the_same_as_json(place: Place, typed: Typed) -> None:
    code, out, _ = typed("describe", "--json")
    told = json.loads(out)
    assert (code, told["app"], told["brokers"]) == (0, place.app, 1)
    assert {topic["exists"] for topic in told["topics"]} == {False}

    code, out, _ = typed("create", "--json")
    told = json.loads(out)
    assert (code, told["ok"], told["problems"], len(told["created"])) == (0, True, [], len(TOPICS))

    place.alter("jobs", cleanup_policy="compact", unclean_leader_election_enable="true")
    code, out, _ = typed("check", "--json")
    told = json.loads(out)
    assert (code, told["ok"]) == (1, False)
    assert {(problem["code"], problem["fatal"]) for problem in told["problems"]} == {
        ("CLEANUP_LOSES", True),
        ("UNCLEAN_ELECTION", False),
    }
    assert told["problems"][0].keys() == {"code", "topic", "message", "advice", "fatal"}

    code, out, _ = typed("describe", "--json")
    jobs = json.loads(out)["topics"][0]
    assert (jobs["name"], jobs["partitions"], jobs["config"]["cleanup.policy"]) == (place.name("jobs"), 8, "compact")


def test_a_warning_alone_does_not_fail_a_check(place: Place, typed: Typed) -> None:
    place.ensure()
    place.alter("jobs", unclean_leader_election_enable="true")

    code, out, _ = typed("check")

    assert code == 0
    assert out.startswith("warning UNCLEAN_ELECTION at ")


def test_create_does_not_hide_a_loss_unless_it_is_told_to(place: Place, typed: Typed) -> None:
    place.ensure()
    place.write("events")
    place.delete("jobs")

    code, _, err = typed("create")
    assert code == 5
    assert "--empty" in err
    assert typed("create", "--empty")[0] == 0
