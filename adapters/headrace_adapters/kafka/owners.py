"""Who owns a partition, and at which address: what the members of the workers' group say of themselves.

A worker tells its address in its client id, ``headrace|http://host:port``, so the group's description is all that is
needed. It is asked for at most once at a time and kept for a moment; whoever finds that it is not right any more asks for
it anew.
"""

from __future__ import annotations

__all__ = ["Described", "Owners", "client_id", "described_owners"]

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

from confluent_kafka import ConsumerGroupState, KafkaError, KafkaException

from headrace_adapters.kafka.clients import Admin
from headrace_adapters.kafka.failures import store_error
from headrace_adapters.kafka.settings import KafkaSettings

_PREFIX: Final = "headrace|"

KEPT_S: Final = 5.0
REQUEST_S: Final = 5.0

# Who is sent to the wrong worker asks again; a group that shares out anew is not asked in a loop.
ANEW_S: Final = 0.1


def client_id(url: str) -> str:
    """The client id of a worker that is reached at *url*."""
    return _PREFIX + url


class Described(NamedTuple):
    """The addresses by partition, and whether the group is sharing them out anew at this moment."""

    owners: Mapping[int, str]
    changing: bool = False


class Owners:
    """Addresses by partition, for one event loop. *describe* gives them; it blocks, and is called in a thread."""

    def __init__(self, describe: Callable[[], Described], *, kept_s: float = KEPT_S) -> None:
        self._describe = describe
        self._kept_s = kept_s
        self._thread = ThreadPoolExecutor(1, "headrace-owners")
        self._known: Mapping[int, str] = {}
        self.are_changing = False
        """Whether the group was sharing partitions out anew when it was asked: soon there may be other owners."""
        self._asked_s = -float("inf")
        self._asking: asyncio.Task[None] | None = None

    async def of(self, partition: int, *, anew: bool = False) -> str | None:
        """The URL of the worker that has the partition; None where nobody has it. Raises :class:`StoreError`.

        With *anew* it is not taken from memory; that nobody has it never is, because a worker may have come.
        """
        owner = (await self.all(anew=anew)).get(partition)
        return owner if owner is not None else (await self.all(anew=True)).get(partition)

    async def all(self, *, anew: bool = False) -> Mapping[int, str]:
        """The URLs by partition, of those that somebody has. Raises :class:`StoreError`."""
        age_s = asyncio.get_running_loop().time() - self._asked_s
        if age_s >= (ANEW_S if anew else self._kept_s):
            if self._asking is None or self._asking.done():
                self._asking = asyncio.create_task(self._ask())
            # Others wait for the same answer, so one that gives up must not take it from them.
            await asyncio.shield(self._asking)
        return self._known

    async def _ask(self) -> None:
        here = asyncio.get_running_loop()
        described = await here.run_in_executor(self._thread, self._describe)
        # While partitions are shared out nobody is named, and most of them stay where they were.
        if described.owners or not described.changing:
            self._known = described.owners
        self.are_changing = described.changing
        self._asked_s = here.time()

    async def close(self) -> None:
        """Ask no more."""
        if self._asking is not None and not self._asking.done():
            await asyncio.wait({self._asking})
        self._thread.shutdown()


def described_owners(admin: Admin, settings: KafkaSettings, jobs: str) -> Callable[[], Described]:
    """What asks the cluster for the owners of the partitions of topic *jobs*; it blocks, and raises StoreError."""
    doing = "asking who works"

    def describe() -> Described:
        try:
            asked = admin.describe_consumer_groups([settings.group], request_timeout=REQUEST_S)
            group = asked[settings.group].result(REQUEST_S + 1)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
                return Described({})
            raise store_error(doing, error, settings) from error
        except TimeoutError:
            raise store_error(doing, KafkaError(KafkaError._TIMED_OUT), settings) from None
        changing = bool(group.members) and group.state != ConsumerGroupState.STABLE
        return Described(_owners_in(group, jobs), changing)

    return describe


def _owners_in(group: Any, jobs: str) -> dict[int, str]:
    owners: dict[int, str] = {}
    for member in group.members:
        if member.client_id.startswith(_PREFIX) and member.assignment is not None:
            for place in member.assignment.topic_partitions:
                if place.topic == jobs:
                    owners[place.partition] = member.client_id.removeprefix(_PREFIX)
    return owners
