"""The topics of an app at a cluster: looked at, created where they are missing, and refused where work would be lost."""

from __future__ import annotations

__all__ = ["TopicLayout", "create", "describe", "ensure", "inspect"]

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec, ResourceType

from headrace.errors import StoreError
from headrace_adapters.kafka.failures import request_error
from headrace_adapters.kafka.offsets import Place, ask_offsets
from headrace_adapters.kafka.settings import KafkaSettings
from headrace_adapters.kafka.topic_checks import TopicProblem, check
from headrace_adapters.kafka.topic_plan import (
    TOMBSTONES_KEPT_MS,
    ClusterState,
    NewTopicPlan,
    TopicState,
    new_topics,
    topic_name,
)
from headrace_topics.names import TOPICS

_LOGGER = logging.getLogger(__name__)

ANSWER_S = 10.0

# Brokers tell each other of a new topic; until the one that is asked knows it, it is asked again, as often as this.
KNOWN_S = 30.0
KNOWN_LOOK_S = 0.05

# Only workers write these, so a record in one of them says that there has been work.
_WRITTEN_BY_WORKERS = ("context-changelog", "coordination-changelog", "events", "results")
# Without one of these, once there has been work, runs are lost or damaged.
_NEEDED_BY_RUNS = ("jobs", "context-changelog", "coordination-changelog", "blueprints")

_STAGES = (frozenset(("jobs",)), frozenset(spec.name for spec in TOPICS if spec.name != "jobs"))

_CONFIG = (
    "cleanup.policy", "delete.retention.ms", "max.message.bytes", "message.timestamp.type", "min.cleanable.dirty.ratio",
    "min.insync.replicas", "retention.bytes", "retention.ms", "segment.bytes", "segment.ms",
    "unclean.leader.election.enable",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TopicLayout:
    """The topics of an app, found to be fit for work. *partitions* is that of each topic keyed by run.

    *topic_ids* is by whole name; a topic that was deleted and made again has another one. *tombstones_kept_ms* says how
    long a changelog tells of keys that are gone: a copy of the state that is older may hold what is deleted.
    """

    jobs: str
    context: str
    coordination: str
    events: str
    results: str
    blueprints: str
    dead_letters: str
    partitions: int
    topic_ids: Mapping[str, str]
    cluster_id: str
    tombstones_kept_ms: int = TOMBSTONES_KEPT_MS


def ensure(admin: AdminClient, settings: KafkaSettings) -> TopicLayout:
    """The topics of the app, those that are missing created.

    Raises :class:`StoreError` with every problem that would lose work; the others are logged.
    """
    cluster = describe(admin, settings)
    if cluster.missing:
        created = create(admin, settings, cluster)
        if created:
            _LOGGER.info("created topics %s at %s", ", ".join(created), settings.servers)
        cluster = describe(admin, settings)
    problems = check(cluster, settings)
    fatal = [problem for problem in problems if problem.fatal]
    if fatal:
        raise _refusal(fatal, settings)
    for problem in problems:
        _LOGGER.warning("%s", problem)
    return _layout(cluster, settings)


def describe(admin: AdminClient, settings: KafkaSettings) -> ClusterState:
    """The cluster and the topics of the app that exist. Raises :class:`StoreError`."""
    doing = "looking at topics"
    asked = _call(admin, settings, doing, lambda: admin.describe_cluster(request_timeout=ANSWER_S))
    about = _result(admin, settings, doing, asked)
    names = {topic_name(settings.app, spec.name): spec.name for spec in TOPICS}
    wanted = TopicCollection([*names])
    described = _call(admin, settings, doing, lambda: admin.describe_topics(wanted, request_timeout=ANSWER_S))
    found: dict[str, Any] = {}
    for name, future in described.items():
        try:
            found[name] = future.result(ANSWER_S + 5)
        except (KafkaException, TimeoutError) as error:
            if not _is(error, KafkaError.UNKNOWN_TOPIC_OR_PART):
                raise request_error(admin, settings, doing, error) from error
    configs = _configs(admin, settings, found)
    topics = {
        names[name]: TopicState(
            name,
            str(topic.topic_id),
            len(topic.partitions),
            min(len(partition.replicas) for partition in topic.partitions),
            configs[name],
        )
        for name, topic in found.items()
        if name in configs
    }
    return ClusterState(str(about.cluster_id), len(about.nodes), topics)


def inspect(admin: AdminClient, settings: KafkaSettings) -> tuple[ClusterState, list[TopicProblem]]:
    """The topics of the app that exist, and every problem of all of them. Raises :class:`StoreError`."""
    cluster = describe(admin, settings)
    lost = {problem.topic: problem for problem in _lost(admin, cluster, settings)}
    return cluster, [lost.get(problem.topic, problem) for problem in check(cluster, settings)]


def create(
    admin: AdminClient, settings: KafkaSettings, cluster: ClusterState | None = None, *, empty: bool = False
) -> tuple[str, ...]:
    """Create what is missing; gives the names of what this call created. Raises :class:`StoreError`.

    A topic that has been there before is not made again, unless *empty* says that its records may be gone.

    Several may do this at once. The jobs come first and alone, so whoever creates them decides how many partitions the
    others get, which are created only when the number is seen.
    """
    cluster = cluster or describe(admin, settings)
    if not empty and (lost := _lost(admin, cluster, settings)):
        raise _refusal(lost, settings)
    created: list[str] = []
    for stage in _STAGES:
        specs = [spec for spec in cluster.missing if spec.name in stage]
        if specs:
            created += _create(admin, settings, new_topics(specs, cluster, settings))
            cluster = _when_known(admin, settings, [spec.name for spec in specs])
    return tuple(created)


def _create(admin: AdminClient, settings: KafkaSettings, plans: Iterable[NewTopicPlan]) -> list[str]:
    doing = "creating topics"
    topics = [NewTopic(p.name, p.partitions, p.replication, config=dict(p.config)) for p in plans]
    asked = _call(
        admin,
        settings,
        doing,
        lambda: admin.create_topics(topics, operation_timeout=ANSWER_S, request_timeout=ANSWER_S + 5),
    )
    created = []
    for name, future in asked.items():
        try:
            future.result(ANSWER_S + 10)
            created.append(name)
        except (KafkaException, TimeoutError) as error:
            # Somebody else has created it at the same time; what became of it is checked as if it had always been there.
            if not _is(error, KafkaError.TOPIC_ALREADY_EXISTS):
                raise request_error(admin, settings, f"creating topic {name}", error) from error
    return created


def _when_known(admin: AdminClient, settings: KafkaSettings, names: list[str]) -> ClusterState:
    """The cluster as soon as topics that were created can be written and read."""
    deadline = time.monotonic() + KNOWN_S
    while True:
        cluster = describe(admin, settings)
        if all(name in cluster.topics for name in names):
            _ends(admin, settings, [cluster.topics[name] for name in names])
            return cluster
        if time.monotonic() > deadline:
            missing = ", ".join(topic_name(settings.app, name) for name in names if name not in cluster.topics)
            raise StoreError(
                f"Kafka ({settings.servers}) created topics and does not know them after {KNOWN_S:.0f} s: {missing}: "
                "see that its brokers are well, and try again"
            )
        time.sleep(KNOWN_LOOK_S)


def _configs(admin: AdminClient, settings: KafkaSettings, names: Iterable[str]) -> dict[str, dict[str, str]]:
    doing = "looking at the configuration of topics"
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    if not resources:
        return {}
    asked = _call(admin, settings, doing, lambda: admin.describe_configs(resources, request_timeout=ANSWER_S))
    configs: dict[str, dict[str, str]] = {}
    for resource, future in asked.items():
        try:
            entries = future.result(ANSWER_S + 5)
        except (KafkaException, TimeoutError) as error:
            # Deleted since it was described, or not known yet by the broker that was asked: as if it were not there.
            if _is(error, KafkaError.UNKNOWN_TOPIC_OR_PART):
                continue
            raise request_error(admin, settings, doing, error) from error
        configs[resource.name] = {key: entries[key].value for key in _CONFIG if key in entries and entries[key].value}
    return configs


def _lost(admin: AdminClient, cluster: ClusterState, settings: KafkaSettings) -> list[TopicProblem]:
    """Topics that are missing though there has been work: an empty one in their place would hide what is lost."""
    needed = [spec.name for spec in cluster.missing if spec.name in _NEEDED_BY_RUNS]
    witnesses = [cluster.topics[name] for name in _WRITTEN_BY_WORKERS if name in cluster.topics]
    if not needed or not witnesses or not (written := _written(admin, settings, witnesses)):
        return []
    return [
        TopicProblem(
            "LOST",
            topic_name(settings.app, name),
            f"it is missing, though there has been work ({written} has records)",
            "bring it back from a copy; or, where runs may be lost, delete the folders of the workers' state and run "
            f"'headrace topics create --app {settings.app} --empty'",
            True,
        )
        for name in needed
    ]


def _written(admin: AdminClient, settings: KafkaSettings, topics: list[TopicState]) -> str | None:
    """The first of *topics* that has ever had a record."""
    return next((topic for (topic, _), end in _ends(admin, settings, topics).items() if end > 0), None)


def _ends(admin: AdminClient, settings: KafkaSettings, topics: Iterable[TopicState]) -> dict[Place, int]:
    """Where every partition ends. One of a new topic has no leader for a moment, so it is asked again."""
    places = [TopicPartition(topic.name, number) for topic in topics for number in range(topic.partitions)]
    specs = dict.fromkeys(places, OffsetSpec.latest())
    return ask_offsets(admin, settings, "looking at the ends of topics", specs, within_s=KNOWN_S)


def _layout(cluster: ClusterState, settings: KafkaSettings) -> TopicLayout:
    names = {spec.name: topic_name(settings.app, spec.name) for spec in TOPICS}
    partitions = cluster.partitions
    assert partitions is not None
    kept = [
        int(t.config.get("delete.retention.ms", TOMBSTONES_KEPT_MS)) for n, t in cluster.topics.items() if "changelog" in n
    ]
    return TopicLayout(
        jobs=names["jobs"],
        context=names["context-changelog"],
        coordination=names["coordination-changelog"],
        events=names["events"],
        results=names["results"],
        blueprints=names["blueprints"],
        dead_letters=names["dead-letters"],
        partitions=partitions,
        topic_ids={topic.name: topic.topic_id for topic in cluster.topics.values()},
        cluster_id=cluster.cluster_id,
        tombstones_kept_ms=min(kept),
    )


def _refusal(problems: list[TopicProblem], settings: KafkaSettings) -> StoreError:
    lines = "\n".join(f"  {problem}" for problem in problems)
    return StoreError(f"the topics of app {settings.app!r} at Kafka ({settings.servers}) cannot be used:\n{lines}")


def _call(admin: AdminClient, settings: KafkaSettings, doing: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except KafkaException as error:
        raise request_error(admin, settings, doing, error) from error


def _result(admin: AdminClient, settings: KafkaSettings, doing: str, future: Future[Any]) -> Any:
    try:
        return future.result(ANSWER_S + 5)
    except (KafkaException, TimeoutError) as error:
        raise request_error(admin, settings, doing, error) from error


def _is(error: Exception, *codes: int) -> bool:
    return isinstance(error, KafkaException) and error.args[0].code() in codes
