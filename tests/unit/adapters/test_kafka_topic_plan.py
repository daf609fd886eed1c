from __future__ import annotations

from typing import Any

import pytest

from headrace_adapters.kafka.settings import KafkaSettings, kafka_settings
from headrace_adapters.kafka.topic_plan import ClusterState, TopicState, new_topics, topic_name, wanted_config
from headrace_topics.names import TOPICS

DAY_MS = 86_400_000
SPECS = {spec.name: spec for spec in TOPICS}


def settings_of(**values: Any) -> KafkaSettings:
    return kafka_settings("orders", "kafka://h", values)


def topic(name: str, partitions: int) -> TopicState:
    return TopicState(topic_name("orders", name), "id", partitions, 1, {})


def test_a_new_app_gets_all_topics_with_equal_partitions_where_runs_are_keys() -> None:
    plans = {plan.name: plan for plan in new_topics(TOPICS, ClusterState("c", 1, {}), settings_of())}

    assert list(plans) == [f"orders.{spec.name}" for spec in TOPICS]
    assert {plan.partitions for name, plan in plans.items() if SPECS[name.removeprefix("orders.")].keyed_by_run} == {8}
    assert plans["orders.blueprints"].partitions == plans["orders.dead-letters"].partitions == 1


def test_new_topics_get_the_partitions_of_those_that_exist() -> None:
    cluster = ClusterState("c", 1, {"events": topic("events", 5), "blueprints": topic("blueprints", 1)})

    assert cluster.partitions == 5
    assert {p.partitions for p in new_topics([SPECS["jobs"], SPECS["results"]], cluster, settings_of(partitions=3))} == {5}


def test_the_jobs_decide_how_many_partitions_there_are() -> None:
    cluster = ClusterState("c", 1, {"events": topic("events", 5), "jobs": topic("jobs", 7)})

    assert cluster.partitions == 7
    assert ClusterState("c", 1, {"blueprints": topic("blueprints", 1)}).partitions is None


def test_what_is_missing_is_told_in_order() -> None:
    cluster = ClusterState("c", 1, {"jobs": topic("jobs", 1), "results": topic("results", 1)})

    assert [spec.name for spec in cluster.missing] == [n for n in SPECS if n not in ("jobs", "results")]


@pytest.mark.parametrize(
    ("brokers", "values", "replication", "insync"),
    [
        (1, {}, 1, 1),
        (2, {}, 2, 1),
        (3, {}, 3, 2),
        (9, {}, 3, 2),
        (9, {"replication": 5}, 5, 4),
        (9, {"replication": 5, "min_insync_replicas": 3}, 5, 3),
        (1, {"replication": 3}, 3, 2),
    ],
)
def test_copies_are_as_many_as_make_sense_and_one_may_be_missing(
    brokers: int, values: dict[str, Any], replication: int, insync: int
) -> None:
    (plan,) = new_topics([SPECS["jobs"]], ClusterState("c", brokers, {}), settings_of(**values))

    assert plan.replication == replication
    assert plan.config["min.insync.replicas"] == str(insync)


@pytest.mark.parametrize(
    ("name", "cleanup", "retention_ms"),
    [
        ("jobs", "delete", 14 * DAY_MS),
        ("context-changelog", "compact", -1),
        ("coordination-changelog", "compact", -1),
        ("events", "delete", 30 * DAY_MS),
        ("results", "compact,delete", 7 * DAY_MS),
        ("blueprints", "compact", -1),
        ("dead-letters", "delete", 30 * DAY_MS),
    ],
)
def test_each_topic_keeps_what_is_needed_of_it(name: str, cleanup: str, retention_ms: int) -> None:
    config = wanted_config(SPECS[name], 3, settings_of())

    assert config["cleanup.policy"] == cleanup
    assert config["retention.ms"] == str(retention_ms)
    assert config["retention.bytes"] == "-1"
    assert config["max.message.bytes"] == str(32 * 1024 * 1024)
    assert config["unclean.leader.election.enable"] == "false"
    assert ("delete.retention.ms" in config) is ("compact" in cleanup)


def test_retention_is_as_it_is_set() -> None:
    settings = settings_of(
        jobs_retention_ms=-1, events_retention_ms=5, dead_letters_retention_ms=6, dedup_window_ms=9 * DAY_MS
    )
    kept = {name: wanted_config(spec, 1, settings)["retention.ms"] for name, spec in SPECS.items()}

    assert (kept["jobs"], kept["events"], kept["dead-letters"]) == ("-1", "5", "6")
    assert kept["results"] == str(9 * DAY_MS)


def test_a_copy_that_was_away_for_days_is_told_of_what_is_gone() -> None:
    config = wanted_config(SPECS["coordination-changelog"], 1, settings_of())

    assert int(config["delete.retention.ms"]) == 7 * DAY_MS


def test_clocks_of_producers_do_not_decide_how_long_jobs_are_kept() -> None:
    stamped = [name for name, spec in SPECS.items() if "message.timestamp.type" in wanted_config(spec, 1, settings_of())]

    assert stamped == ["jobs"]
