from __future__ import annotations

from typing import Any

import pytest

from headrace_adapters.kafka.settings import KafkaSettings, kafka_settings
from headrace_adapters.kafka.topic_checks import TopicProblem, check
from headrace_adapters.kafka.topic_plan import ClusterState, TopicState, new_topics
from headrace_topics.names import TOPICS

DAY_MS = 86_400_000


def settings_of(**values: Any) -> KafkaSettings:
    return kafka_settings("orders", "kafka://h", values)


def good_cluster(brokers: int = 3, settings: KafkaSettings | None = None) -> dict[str, TopicState]:
    """Topics as Headrace creates them."""
    plans = new_topics(TOPICS, ClusterState("c", brokers, {}), settings or settings_of())
    return {
        spec.name: TopicState(plan.name, f"id of {spec.name}", plan.partitions, plan.replication, plan.config)
        for spec, plan in zip(TOPICS, plans, strict=True)
    }


def problems_with(name: str, brokers: int = 3, settings: KafkaSettings | None = None, **changes: Any) -> list[TopicProblem]:
    """What is found when one topic has *changes*, of itself or (with underscores for dots) of its configuration."""
    topics = good_cluster(brokers)
    own = {key: value for key, value in changes.items() if key in TopicState._fields}
    config = {key.replace("_", "."): value for key, value in changes.items() if key not in own}
    topic = topics[name]
    topics[name] = topic._replace(**own, config={**topic.config, **config})
    return check(ClusterState("c", brokers, topics), settings or settings_of())


@pytest.mark.parametrize("brokers", [1, 2, 3, 5])
def test_what_headrace_creates_is_as_it_should_be(brokers: int) -> None:
    assert check(ClusterState("c", brokers, good_cluster(brokers)), settings_of()) == []


def test_a_topic_that_does_not_exist_is_fatal() -> None:
    topics = good_cluster()
    del topics["results"]

    (problem,) = check(ClusterState("c", 3, topics), settings_of())

    assert (problem.code, problem.topic, problem.fatal) == ("MISSING", "orders.results", True)
    assert "headrace topics create --app orders" in problem.to_do


CHANGELOG, FATAL, WARNING = "context-changelog", True, False


@pytest.mark.parametrize(
    ("name", "changes", "code", "fatal", "told"),
    [
        (CHANGELOG, {"partitions": 7}, "PARTITIONS_UNEQUAL", FATAL, "it has 7 partitions and"),
        ("results", {"partitions": 9}, "PARTITIONS_UNEQUAL", FATAL, "partition counts cannot change under state"),
        ("blueprints", {"partitions": 2}, "PARTITIONS", FATAL, "2 partitions, and must have 1"),
        (CHANGELOG, {"cleanup_policy": "delete", "retention_ms": "1"}, "CLEANUP_LOSES", FATAL, "retention.ms=1"),
        (CHANGELOG, {"cleanup_policy": "compact,delete", "retention_ms": "5"}, "CLEANUP_LOSES", FATAL, "state goes"),
        (CHANGELOG, {"cleanup_policy": "compact,delete", "retention_bytes": "9"}, "CLEANUP_LOSES", FATAL, "bytes=9"),
        ("blueprints", {"cleanup_policy": "delete", "retention_ms": "1"}, "CLEANUP_LOSES", FATAL, "entity-name orders"),
        (CHANGELOG, {"cleanup_policy": "delete"}, "CLEANUP", WARNING, "should be compact"),
        (CHANGELOG, {"cleanup_policy": "compact, delete"}, "CLEANUP", WARNING, "compact,delete"),
        (CHANGELOG, {"cleanup_policy": ""}, "CLEANUP", WARNING, "empty"),
        ("jobs", {"cleanup_policy": "compact"}, "CLEANUP_LOSES", FATAL, "when another one of the same run comes"),
        ("jobs", {"cleanup_policy": "compact,delete"}, "CLEANUP_LOSES", FATAL, "--add-config cleanup.policy=delete"),
        ("events", {"cleanup_policy": "compact"}, "CLEANUP_LOSES", FATAL, "cleanup.policy is compact"),
        ("dead-letters", {"cleanup_policy": "compact"}, "CLEANUP_LOSES", FATAL, "cleanup.policy is compact"),
        ("results", {"cleanup_policy": "compact"}, "CLEANUP", WARNING, "cleanup.policy=[compact,delete]"),
        ("results", {"cleanup_policy": "delete"}, "CLEANUP", WARNING, "grows"),
        (CHANGELOG, {"replication": 1, "min_insync_replicas": "1"}, "REPLICATION", WARNING, "one copy, on a cluster of 3"),
        (CHANGELOG, {"min_insync_replicas": "1"}, "MIN_INSYNC_REPLICAS", WARNING, "may be lost with one broker"),
        (CHANGELOG, {"min_insync_replicas": "3"}, "MIN_INSYNC_REPLICAS", WARNING, "no broker may be missing"),
        (CHANGELOG, {"min_insync_replicas": "4"}, "MIN_INSYNC_REPLICAS", FATAL, "of 3 copies: nothing can be written"),
        ("jobs", {"max_message_bytes": "1048588"}, "MESSAGE_BYTES", FATAL, "max.message.bytes=33554432"),
        ("jobs", {"unclean_leader_election_enable": "true"}, "UNCLEAN_ELECTION", WARNING, "without the last records"),
        ("jobs", {"retention_bytes": "1000"}, "RETENTION", WARNING, "retention.bytes=-1"),
        ("jobs", {"retention_ms": "1000"}, "RETENTION", WARNING, f"retention.ms={14 * DAY_MS}"),
        ("results", {"retention_ms": "1000"}, "RETENTION", WARNING, f"retention.ms={7 * DAY_MS}"),
    ],
)  # fmt: skip
def test_each_problem_is_found_and_told_with_what_to_do(
    name: str, changes: dict[str, Any], code: str, fatal: bool, told: str
) -> None:
    (problem,) = problems_with(name, **changes)

    assert (problem.code, problem.topic, problem.fatal) == (code, f"orders.{name}", fatal)
    assert told in str(problem)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("jobs", {"retention_ms": "-1"}),
        ("jobs", {"retention_ms": str(DAY_MS)}),
        ("events", {"retention_ms": "1000", "retention_bytes": "5"}),
        ("results", {"retention_ms": "-1"}),
        ("dead-letters", {"partitions": 4}),
        (CHANGELOG, {"max_message_bytes": "99999999"}),
        (CHANGELOG, {"retention_ms": "1000"}),
    ],
)
def test_what_an_operator_may_decide_is_no_problem(name: str, changes: dict[str, Any]) -> None:
    assert problems_with(name, **changes) == []


def test_one_copy_is_fine_where_there_are_not_three_brokers() -> None:
    assert problems_with("jobs", brokers=2, replication=1, min_insync_replicas="1") == []


def test_nothing_can_be_written_where_more_copies_are_wanted_than_there_are() -> None:
    (problem,) = problems_with("jobs", brokers=1, min_insync_replicas="2")

    assert problem.fatal
    assert "of one copy" in problem.what
    assert "min.insync.replicas=1" in problem.to_do


def test_a_number_of_partitions_that_somebody_wants_does_not_change_what_exists() -> None:
    (problem,) = check(ClusterState("c", 3, good_cluster()), settings_of(partitions=16))

    assert (problem.code, problem.topic, problem.fatal) == ("PARTITIONS_FIXED", "orders.jobs", True)
    assert "set 'partitions' to 8, or do not set it" in problem.to_do
    assert check(ClusterState("c", 3, good_cluster()), settings_of(partitions=8)) == []


def test_all_problems_are_told_topic_by_topic() -> None:
    topics = good_cluster()
    topics["jobs"] = topics["jobs"]._replace(
        config={**topics["jobs"].config, "cleanup.policy": "compact", "max.message.bytes": "1"}
    )
    del topics["blueprints"]

    found = check(ClusterState("c", 3, topics), settings_of())

    assert [(problem.topic, problem.code) for problem in found] == [
        ("orders.jobs", "CLEANUP_LOSES"),
        ("orders.jobs", "MESSAGE_BYTES"),
        ("orders.blueprints", "MISSING"),
    ]
