"""Which partitions of other workers this one keeps a warm copy of, so that it takes them over without a full restore.

Nobody assigns them: every worker asks the group who has what, and finds the same answer. For each partition the members
that do not own it are put into an order that depends on the partition and on nothing else (highest random weight), and the
first *replicas* of them keep it warm. When members come or go, few copies move.
"""

from __future__ import annotations

__all__ = ["Standby", "warm_partitions"]

import logging
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from hashlib import blake2b
from typing import Any

from confluent_kafka import ConsumerGroupState, KafkaException

from headrace_adapters.base.host import THIS_HOST, Host
from headrace_adapters.kafka.clients import Admin

_LOGGER = logging.getLogger(__name__)

LOOK_S = 3.0
REQUEST_S = 5.0


def warm_partitions(member: str, owners: Mapping[int, str], members: Iterable[str], replicas: int) -> set[int]:
    """The partitions that *member* keeps warm, where *owners* tells who has each one."""
    others = sorted(members)
    found = set()
    for number, owner in owners.items():
        candidates = [other for other in others if other != owner]
        candidates.sort(key=lambda other: blake2b(f"{number}/{other}".encode(), digest_size=8).digest())
        if member in candidates[:replicas]:
            found.add(number)
    return found


class Standby:
    """Asks the group now and then. Used from the loop's thread, and never waits."""

    def __init__(self, admin: Admin, group: str, topic: str, replicas: int, host: Host = THIS_HOST) -> None:
        self._admin = admin
        self._group = group
        self._topic = topic
        self._replicas = replicas
        self._host = host
        self._asked: Future[Any] | None = None
        self._due_s = 0.0

    def look(self, member: str) -> set[int] | None:
        """The partitions to keep warm; None where nothing new is known. *member* is this worker's id in the group."""
        now_s = self._host.now_s()
        if not self._replicas or not member:
            return None
        if self._asked is None:
            if now_s >= self._due_s:
                self._due_s = now_s + LOOK_S
                asked = self._admin.describe_consumer_groups([self._group], request_timeout=REQUEST_S)
                self._asked = asked[self._group]
            return None
        if not self._asked.done():
            return None
        asked_now, self._asked = self._asked, None
        try:
            group = asked_now.result()
        except KafkaException as error:
            _LOGGER.warning("it is not known who has which partition, so copies stay as they are: %s", error.args[0].str())
            return None
        if group.state != ConsumerGroupState.STABLE:
            # While partitions are shared out some have no owner, and are about to have one.
            return None
        members = group.members
        owners = {
            place.partition: known.member_id
            for known in members
            for place in (known.assignment.topic_partitions if known.assignment else ())
            if place.topic == self._topic
        }
        return warm_partitions(member, owners, [known.member_id for known in members], self._replicas)
