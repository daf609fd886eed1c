"""The records of a store on one machine, put on topics: they are the same records."""

from __future__ import annotations

__all__ = ["layout", "publish"]

from headrace_adapters.kafka.topic_layout import TopicLayout
from headrace_adapters.local.layout import EVENTS, RESULT, KeyValueStore, Layout
from headrace_topics.names import coordination_key, split_key
from headrace_topics.partitioning import partition_of
from tests.kafka.memory_kafka import MemoryKafka


def layout(partitions: int, app: str = "app") -> TopicLayout:
    """The topics of an app that nobody has made anywhere."""
    names = ("jobs", "context-changelog", "coordination-changelog", "events", "results", "blueprints", "dead-letters")
    return TopicLayout(*(f"{app}.{name}" for name in names), partitions=partitions, topic_ids={}, cluster_id="memory")


def publish(kafka: MemoryKafka, store: KeyValueStore, topics: TopicLayout) -> None:
    """Append everything that the store holds of runs."""
    for number in range(topics.partitions):
        places = Layout(number)
        for key, value in store.scan(places.head):
            run = key[len(places.head) :]
            kafka.append(topics.coordination, number, coordination_key(run, ("r",)), value)
        for key, value in store.scan(places.coordination):
            kafka.append(topics.coordination, number, key[len(places.coordination) :], value)
        for key, value in store.scan(places.context):
            kafka.append(topics.context, number, key[len(places.context) :], value)
    for space, topic in ((EVENTS, topics.events), (RESULT, topics.results)):
        for key, value in store.scan(space):
            run_id = split_key(key[len(space) : key.index(b'",', len(space)) + 1] + b"]")[0]
            kafka.append(topic, partition_of(run_id, topics.partitions), run_id.encode(), value)
