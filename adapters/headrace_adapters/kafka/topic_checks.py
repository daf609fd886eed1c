"""What can be wrong with the topics of an app, what it would cost, and what to do about it."""

from __future__ import annotations

__all__ = ["TopicProblem", "check"]

from collections.abc import Iterator
from typing import NamedTuple

from headrace_adapters.kafka.settings import FOR_EVER, TOPIC_BYTES_MAX, KafkaSettings
from headrace_adapters.kafka.topic_plan import ClusterState, TopicState, topic_name
from headrace_adapters.settings import DAY_MS
from headrace_topics.names import TOPICS, TopicSpec

# Workers write all of these; a blueprint is read from the first partition of its topic.
_PARTITIONS_OF = {"blueprints": 1}

_UNDER_STATE = "partition counts cannot change under state, because a run's partition follows from their number"


class TopicProblem(NamedTuple):
    """One thing that is wrong. A *fatal* one loses data or stops the work, so that no worker starts."""

    code: str
    topic: str
    what: str
    to_do: str
    fatal: bool

    def __str__(self) -> str:
        return f"{self.code} at topic {self.topic}: {self.what}: {self.to_do}"


def check(cluster: ClusterState, settings: KafkaSettings) -> list[TopicProblem]:
    """Every problem of the app's topics, topic by topic."""
    problems: list[TopicProblem] = []
    for spec in TOPICS:
        topic = cluster.topics.get(spec.name)
        if topic is None:
            to_do = f"create it with 'headrace topics create --app {settings.app}', or as docs/cli.md tells"
            problems.append(TopicProblem("MISSING", topic_name(settings.app, spec.name), "it does not exist", to_do, True))
            continue
        problems += _partition_problems(spec, topic, cluster, settings)
        problems += _cleanup_problems(spec, topic, settings)
        problems += _copy_problems(topic, cluster, settings)
        problems += _size_problems(topic, settings)
        problems += _time_problems(spec, topic, settings)
    return problems


def _partition_problems(
    spec: TopicSpec, topic: TopicState, cluster: ClusterState, settings: KafkaSettings
) -> Iterator[TopicProblem]:
    count = topic.partitions
    if not spec.keyed_by_run:
        expected = _PARTITIONS_OF.get(spec.name, count)
        if count != expected:
            yield TopicProblem(
                "PARTITIONS",
                topic.name,
                f"it has {count} partitions, and must have {expected}",
                "create it anew with one partition, and write its records again",
                True,
            )
        return
    first = cluster.partitions
    if count != first:
        yield TopicProblem(
            "PARTITIONS_UNEQUAL",
            topic.name,
            f"it has {count} partitions and the topics keyed by run before it have {first}",
            f"{_UNDER_STATE}; where nothing was written yet, delete the topics of the app and create them again, else take "
            "back what changed one of them, or give the app a new name",
            True,
        )
    # One is told of: the others have as many.
    elif spec.name == "jobs" and settings.partitions not in (None, count):
        yield TopicProblem(
            "PARTITIONS_FIXED",
            topic.name,
            f"it has {count} partitions, and 'partitions' is {settings.partitions}",
            f"{_UNDER_STATE}; set 'partitions' to {count}, or do not set it",
            True,
        )


def _cleanup_problems(spec: TopicSpec, topic: TopicState, settings: KafkaSettings) -> Iterator[TopicProblem]:
    found = {part.strip() for part in topic.config.get("cleanup.policy", "delete").split(",") if part.strip()}
    wanted = set(spec.cleanup.split(","))
    if found == wanted:
        return
    shown, to_do = ",".join(sorted(found)) or "empty", _alter(topic, settings, "cleanup.policy", spec.cleanup)
    if "compact" in found and "compact" not in wanted:
        yield TopicProblem(
            "CLEANUP_LOSES",
            topic.name,
            f"its cleanup.policy is {shown}, so a record goes when another one of the same run comes",
            to_do,
            True,
        )
    elif "delete" in found and "delete" not in wanted:
        limits = [f"{key}={topic.config[key]}" for key in ("retention.ms", "retention.bytes") if _limited(topic, key)]
        if limits:
            yield TopicProblem(
                "CLEANUP_LOSES",
                topic.name,
                f"its cleanup.policy is {shown} with {' and '.join(limits)}, so state goes that is needed",
                to_do,
                True,
            )
        else:
            yield TopicProblem(
                "CLEANUP", topic.name, f"its cleanup.policy is {shown}, and should be {spec.cleanup}", to_do, False
            )
    else:
        yield TopicProblem(
            "CLEANUP", topic.name, f"its cleanup.policy is {shown}, so it grows more than it needs to", to_do, False
        )


def _copy_problems(topic: TopicState, cluster: ClusterState, settings: KafkaSettings) -> Iterator[TopicProblem]:
    copies, insync = topic.replication, int(topic.config.get("min.insync.replicas", 1))
    if copies == 1 and cluster.brokers >= 3:
        yield TopicProblem(
            "REPLICATION",
            topic.name,
            f"it has one copy, on a cluster of {cluster.brokers} brokers",
            "give it three by kafka-reassign-partitions: what the broker with the only copy loses is lost",
            False,
        )
    if insync > copies:
        yield TopicProblem(
            "MIN_INSYNC_REPLICAS",
            topic.name,
            f"its min.insync.replicas is {insync}, of {_copies(copies)}: nothing can be written",
            _alter(topic, settings, "min.insync.replicas", str(max(1, copies - 1))),
            True,
        )
    elif insync == copies > 1:
        yield TopicProblem(
            "MIN_INSYNC_REPLICAS",
            topic.name,
            f"its min.insync.replicas is {insync}, of {insync} copies: no broker may be missing",
            _alter(topic, settings, "min.insync.replicas", str(copies - 1)),
            False,
        )
    elif insync < 2 and copies >= 3:
        yield TopicProblem(
            "MIN_INSYNC_REPLICAS",
            topic.name,
            f"its min.insync.replicas is {insync}: a write may be lost with one broker",
            _alter(topic, settings, "min.insync.replicas", "2"),
            False,
        )
    if topic.config.get("unclean.leader.election.enable", "false") == "true":
        yield TopicProblem(
            "UNCLEAN_ELECTION",
            topic.name,
            "unclean.leader.election.enable is true: a broker without the last records may lead it",
            _alter(topic, settings, "unclean.leader.election.enable", "false"),
            False,
        )


def _size_problems(topic: TopicState, settings: KafkaSettings) -> Iterator[TopicProblem]:
    size = int(topic.config.get("max.message.bytes", TOPIC_BYTES_MAX))
    if size < TOPIC_BYTES_MAX:
        yield TopicProblem(
            "MESSAGE_BYTES",
            topic.name,
            f"its max.message.bytes is {size}: a larger record, which Headrace may write, would stop its partition",
            _alter(topic, settings, "max.message.bytes", str(TOPIC_BYTES_MAX)),
            True,
        )


def _time_problems(spec: TopicSpec, topic: TopicState, settings: KafkaSettings) -> Iterator[TopicProblem]:
    if spec.name == "jobs":
        if _limited(topic, "retention.bytes"):
            yield TopicProblem(
                "RETENTION",
                topic.name,
                f"its retention.bytes is {topic.config['retention.bytes']}: jobs go untaken when they are many",
                _alter(topic, settings, "retention.bytes", str(FOR_EVER)),
                False,
            )
        if _limited(topic, "retention.ms") and int(topic.config["retention.ms"]) < DAY_MS:
            yield TopicProblem(
                "RETENTION",
                topic.name,
                f"its retention.ms is {topic.config['retention.ms']}: jobs go when no worker takes them for so long",
                _alter(topic, settings, "retention.ms", str(settings.jobs_retention_ms)),
                False,
            )
    window_ms = settings.limits.dedup_window_ms
    if spec.name == "results" and _limited(topic, "retention.ms") and int(topic.config["retention.ms"]) < window_ms:
        yield TopicProblem(
            "RETENTION",
            topic.name,
            f"its retention.ms is {topic.config['retention.ms']}, and runs are remembered for {window_ms} ms "
            "('dedup_window_ms'): whoever asks late finds no result",
            _alter(topic, settings, "retention.ms", str(window_ms)),
            False,
        )


def _limited(topic: TopicState, key: str) -> bool:
    return int(topic.config.get(key, FOR_EVER)) != FOR_EVER


def _copies(count: int) -> str:
    return "one copy" if count == 1 else f"{count} copies"


def _alter(topic: TopicState, settings: KafkaSettings, key: str, value: str) -> str:
    # kafka-configs wants a list of values in brackets.
    value = f"[{value}]" if "," in value else value
    return (
        f"kafka-configs.sh --bootstrap-server {settings.servers} --alter --entity-type topics --entity-name {topic.name} "
        f"--add-config {key}={value}"
    )
