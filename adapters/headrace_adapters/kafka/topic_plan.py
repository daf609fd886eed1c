"""The topics of an app as they are to be: names, configuration, and what of them is known."""

from __future__ import annotations

__all__ = ["ClusterState", "TopicState", "new_topics", "topic_name", "wanted_config"]

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from headrace_adapters.kafka.settings import FOR_EVER, TOPIC_BYTES_MAX, KafkaSettings
from headrace_adapters.settings import DAY_MS
from headrace_topics.names import TOPICS, TopicSpec

REPLICATION_DEFAULT = 3

TOMBSTONES_KEPT_MS = 7 * DAY_MS
"""How long a changelog tells that a key is gone. A copy of the state that is older than this has to be made anew."""

# The newest segment is never compacted and a restore reads it whole, so it is small; and a quiet partition closes it too.
_SEGMENT_BYTES = 128 * 1024 * 1024
_SEGMENT_MS = DAY_MS

# How much of a log may be superseded before it is compacted: less is read in a restore, and more is written by brokers.
_DIRTY_RATIO = "0.3"

# Not keyed by run: one partition keeps their records in one order.
_PARTITIONS_OTHERS = 1


class TopicState(NamedTuple):
    """A topic as it is. *replication* is that of the partition which has the fewest copies; *config* is all that counts."""

    name: str
    topic_id: str
    partitions: int
    replication: int
    config: Mapping[str, str]


class ClusterState(NamedTuple):
    """A cluster, and the topics of one app that exist, by the names of :data:`headrace_topics.names.TOPICS`."""

    cluster_id: str
    brokers: int
    topics: Mapping[str, TopicState]

    @property
    def partitions(self) -> int | None:
        """The partitions of the topics keyed by run: those of the jobs, else of the first one; None where there is none."""
        return next(
            (self.topics[spec.name].partitions for spec in TOPICS if spec.keyed_by_run and spec.name in self.topics), None
        )

    @property
    def missing(self) -> tuple[TopicSpec, ...]:
        """The topics that do not exist."""
        return tuple(spec for spec in TOPICS if spec.name not in self.topics)


class NewTopicPlan(NamedTuple):
    """A topic that is to be created."""

    name: str
    partitions: int
    replication: int
    config: Mapping[str, str]


def topic_name(app: str, name: str) -> str:
    """The whole name of a topic of *app*, by its name in :data:`headrace_topics.names.TOPICS`."""
    return f"{app}.{name}"


def new_topics(specs: Iterable[TopicSpec], cluster: ClusterState, settings: KafkaSettings) -> list[NewTopicPlan]:
    """What *specs* are to be created as; those keyed by run get the partitions that others of them have."""
    replication = settings.replication or max(1, min(REPLICATION_DEFAULT, cluster.brokers))
    keyed = cluster.partitions or settings.partitions_new
    return [
        NewTopicPlan(
            topic_name(settings.app, spec.name),
            keyed if spec.keyed_by_run else _PARTITIONS_OTHERS,
            replication,
            wanted_config(spec, replication, settings),
        )
        for spec in specs
    ]


def wanted_config(spec: TopicSpec, replication: int, settings: KafkaSettings) -> dict[str, str]:
    """The configuration of a new topic. What a cluster's own default might make unsafe is said, too."""
    config = {
        "cleanup.policy": spec.cleanup,
        "max.message.bytes": str(TOPIC_BYTES_MAX),
        "min.insync.replicas": str(settings.min_insync_replicas or max(1, replication - 1)),
        "retention.bytes": str(FOR_EVER),
        "retention.ms": str(_retention_ms(spec, settings)),
        "unclean.leader.election.enable": "false",
    }
    if "compact" in spec.cleanup:
        config |= {
            "delete.retention.ms": str(TOMBSTONES_KEPT_MS),
            "min.cleanable.dirty.ratio": _DIRTY_RATIO,
            "segment.bytes": str(_SEGMENT_BYTES),
            "segment.ms": str(_SEGMENT_MS),
        }
    if spec.name == "jobs":
        # Others write it, and a clock of theirs that is wrong must not decide how long a job is kept.
        config["message.timestamp.type"] = "LogAppendTime"
    return config


def _retention_ms(spec: TopicSpec, settings: KafkaSettings) -> int:
    if spec.name == "results":
        # As long as a second start is told of the first one, its result can be had.
        return settings.limits.dedup_window_ms
    return {
        "jobs": settings.jobs_retention_ms,
        "events": settings.events_retention_ms,
        "dead-letters": settings.dead_letters_retention_ms,
    }.get(spec.name, FOR_EVER)
