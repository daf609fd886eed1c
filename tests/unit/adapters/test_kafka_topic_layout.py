"""What can be seen without a broker; the rest is in ``tests/kafka/test_kafka_topics.py``."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import FrozenInstanceError
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from headrace.errors import StoreError
from headrace_adapters.kafka import topic_layout
from headrace_adapters.kafka.connection import admin, open_admin
from headrace_adapters.kafka.settings import kafka_settings
from headrace_adapters.kafka.topic_layout import TopicLayout, create, describe, ensure, inspect
from headrace_adapters.kafka.topic_plan import TopicState

SECRET = "hunter2"


@pytest.mark.parametrize("call", [ensure, describe, inspect, create])
def test_a_cluster_that_nobody_reaches_is_told_with_the_reason(
    call: topic_layout.Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topic_layout, "ANSWER_S", 0.3)
    settings = kafka_settings("orders", f"kafka://me:{SECRET}@127.0.0.1:1?security.protocol=SASL_PLAINTEXT", {})

    with pytest.raises(StoreError) as caught:
        call(open_admin(admin(settings)), settings)

    assert "looking at topics failed at Kafka (127.0.0.1:1): the servers are not reached" in str(caught.value)
    assert "Connection refused" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_layout_does_not_change() -> None:
    layout = TopicLayout("j", "c", "o", "e", "r", "b", "d", 3, {"j": "id"}, "cluster")

    with pytest.raises(FrozenInstanceError):
        layout.partitions = 4  # type: ignore[misc]


class Leaderless:
    """Answers as the client does for a partition without a leader: with an offset that is none, and no error."""

    def __init__(self) -> None:
        self.asked = 0

    def list_offsets(self, specs: dict[TopicPartition, Any], **_: Any) -> dict[TopicPartition, Future[Any]]:
        self.asked += 1
        answers: dict[TopicPartition, Future[Any]] = {}
        for place in specs:
            answers[place] = Future()
            answers[place].set_result(SimpleNamespace(offset=-1001 if self.asked == 1 else 7))
        return answers


def test_the_end_of_a_partition_that_nobody_leads_is_asked_for_again() -> None:
    leaderless = Leaderless()
    settings = kafka_settings("shop", "kafka://127.0.0.1:9092", {})
    ends = topic_layout._ends(leaderless, settings, [TopicState("shop.events", "id", 1, 1, {})])

    assert ends == {("shop.events", 0): 7}
    assert leaderless.asked == 2
