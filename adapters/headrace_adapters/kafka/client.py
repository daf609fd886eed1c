"""A client of an app on Kafka: commands go through the jobs topic, and answers come from the owners or from the topics.

    submit    the record is on the jobs topic when the brokers have acknowledged it: from then on it cannot be lost. What it
              did is asked of the owner of its partition, over HTTP; where nobody owns it, or does not answer soon, the
              answer is ``accepted``
    result    one reader of the results topic for all who wait; a run that may have ended already is looked up once
    status    of the owner; without one, from the changelogs
    runs      of all owners; partitions without one from the coordination changelog
    events    from the events topic

So everything but the answer to a command is there without any worker, and no worker has to be known beforehand.
"""

from __future__ import annotations

__all__ = ["KafkaClient", "connect_client"]

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from itertools import count
from secrets import token_hex
from typing import Any, Final, TypeVar, cast

from headrace.adapter import Answer, Client, RunResult
from headrace.app import App
from headrace.bulk import Starts
from headrace.commands import Command, EngineCommand
from headrace.errors import StoreError
from headrace_adapters.base.run_views import at_the_door, result_view
from headrace_adapters.http import Answers, NotOwned, OwnedRuns, Unanswered, WorkerClient
from headrace_adapters.kafka.blueprint_log import BlueprintLog
from headrace_adapters.kafka.clients import Clients, ConfluentClients
from headrace_adapters.kafka.connection import WatchedAdmin
from headrace_adapters.kafka.connection import admin as admin_configuration
from headrace_adapters.kafka.owners import Owners, described_owners
from headrace_adapters.kafka.results_watch import ResultsWatch
from headrace_adapters.kafka.run_history import RunHistory
from headrace_adapters.kafka.run_records import RunRecords
from headrace_adapters.kafka.settings import KafkaSettings
from headrace_adapters.kafka.submissions import Submissions
from headrace_adapters.kafka.topic_layout import TopicLayout, ensure
from headrace_adapters.kafka.topic_scans import TopicScans
from headrace_topics.results_record import decode_result

_LOGGER = logging.getLogger(__name__)
_T = TypeVar("_T")

# How long it is waited for the answer to a command that is durable already.
ANSWER_S: Final = 5.0

# One worker is asked for so long; after that another one may be the owner.
ASKED_S: Final = 1.5

# A worker that was the owner a moment ago may be one again in the next; who is sent away looks again after this time.
AGAIN_S: Final = 0.1


async def connect_client(
    app: App,
    settings: KafkaSettings,
    clients: Clients | None = None,
    *,
    is_joining: Callable[[], bool] = lambda: False,
) -> KafkaClient:
    """A client of the app, whose topics are looked at first, and made where there are none.

    *is_joining* is for the client of a worker: see :class:`KafkaClient`. Raises :class:`StoreError` when the topics cannot
    be used, or the cluster is not reached.
    """
    assert app.name == settings.app, "the settings are those of the app"
    made = clients or ConfluentClients()
    admin = cast("WatchedAdmin", made.admin(admin_configuration(settings)))
    layout = await asyncio.to_thread(ensure, admin, settings)
    return KafkaClient(made, settings, layout, lambda: time.time_ns() // 1_000_000, is_joining=is_joining)


class KafkaClient(Client):
    """Use it from one event loop. Made without touching the cluster; *layout* is what was found there.

    *is_joining* tells whether there is about to be an owner: with the client of a worker that has just started, a command
    waits for its answer though the group does not know of any worker yet.
    """

    def __init__(
        self,
        clients: Clients,
        settings: KafkaSettings,
        layout: TopicLayout,
        clock: Callable[[], int],
        *,
        is_joining: Callable[[], bool] = lambda: False,
        answer_s: float = ANSWER_S,
    ) -> None:
        self._settings = settings
        self._layout = layout
        self._clock = clock
        self._answer_s = answer_s
        self._is_joining = is_joining
        admin = clients.admin(admin_configuration(settings))
        self._owners = Owners(described_owners(admin, settings, layout.jobs))
        self._workers = WorkerClient(settings.http_token)
        self._answers = Answers(self._workers)
        bytes_max = settings.limits.value_bytes_max
        self._submissions = Submissions(clients, settings, layout.jobs, layout.partitions, bytes_max)
        self._scans = TopicScans(clients, admin, settings)
        self._watch = ResultsWatch(clients, settings, self._scans, layout.results, layout.partitions)
        self._records = RunRecords(self._scans, layout, lambda plans: BlueprintLog(clients, settings, layout, plans))
        self._history = RunHistory(clients, settings, self._scans, layout.events)
        # Request ids of other clients are others.
        self._name = token_hex(8)
        self._numbers = count(1)
        self._stopped: StoreError | None = None

    async def submit(self, command: Command) -> Answer:
        """Hand a command over; see :meth:`headrace.adapter.Client.submit`.

        Raises :class:`RecordRefused`, which names the field, for a command that could not stand in a record.
        """
        self._check()
        request_id = f"{self._name}-{next(self._numbers)}"
        record = at_the_door(_with_request(command, request_id), self._settings.limits.value_bytes_max)
        await self._submissions.send(command.run_id, record)
        try:
            async with asyncio.timeout(self._answer_s):
                return await self._answer(self._records.partition_of(command.run_id), request_id)
        except TimeoutError:
            return Answer(
                "accepted", f"it is on {self._layout.jobs}, and no worker has answered within {self._answer_s:g} s"
            )
        except StoreError as error:
            return Answer("accepted", f"it is on {self._layout.jobs}, and who works there is not known: {error}")

    async def _answer(self, partition: int, request_id: str) -> Answer:
        """The answer of the worker that owns the partition, whoever that is by now."""
        url = await self._owners.of(partition)
        while url is not None or self._owners.are_changing or self._is_joining():
            try:
                answer = None if url is None else await self._answers.of(url, request_id, ASKED_S)
            except Unanswered as error:
                _LOGGER.debug("%s", error)
                answer = None
            if answer is not None:
                return answer
            await asyncio.sleep(AGAIN_S)
            url = await self._owners.of(partition, anew=True)
        return Answer("accepted", f"it is on {self._layout.jobs}, and is taken up when a worker starts")

    async def start_many(self, starts: Starts, *, outstanding_max: int = 10_000) -> int:
        """Hand over many starts; see :meth:`headrace.adapter.Client.start_many`.

        They are durable when this returns; what they do is for the results and the history to tell.
        """
        self._check()
        return await self._submissions.send_many(starts, outstanding_max)

    async def result(self, run_id: str, timeout_s: float | None = None) -> RunResult | None:
        """The final result; see :meth:`headrace.adapter.Client.result`."""
        self._check()
        partition = self._records.partition_of(run_id)
        deadline = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
        await self._watch.start()
        with self._watch.waiting_for(run_id) as coming:
            record = self._watch.seen(run_id) or await self._ended(run_id, partition)
            if record is not None:
                return decode_result(record)
            left_s = None if deadline is None else deadline - asyncio.get_running_loop().time()
            if left_s is not None and left_s <= 0 and not coming.done():
                return None
            try:
                async with asyncio.timeout(None if left_s == math.inf else left_s):
                    return decode_result(await coming)
            except TimeoutError:
                return None

    async def _ended(self, run_id: str, partition: int) -> bytes | None:
        """The record of the result, where the run has ended already."""
        is_owned, view = await self._of_owner(partition, lambda url: self._workers.status(url, run_id))
        if not is_owned:
            return await self._records.result(run_id)
        if view is None or "endedAt" not in view:
            return None
        return await self._records.result(run_id, view["endedAt"])

    async def status(self, run_id: str) -> dict[str, Any] | None:
        """A run as people look at it."""
        self._check()
        view = await self._status(run_id)
        if view is None or "endedAt" not in view:
            return view
        record = await self._records.result(run_id, view["endedAt"])
        # Results may be kept for a shorter time than it is remembered that there was a run.
        return {**view, "nodes": [], "awaiting": []} if record is None else result_view(record)

    async def _status(self, run_id: str) -> dict[str, Any] | None:
        partition = self._records.partition_of(run_id)
        is_owned, view = await self._of_owner(partition, lambda url: self._workers.status(url, run_id))
        return view if is_owned else await self._records.status(run_id, self._clock())

    async def runs(
        self, *, states: frozenset[str] | None = None, flow: str | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        """Runs that are known."""
        self._check()
        left = set(range(self._layout.partitions))
        found: list[dict[str, Any]] = []
        for answer in await self._all_runs(states, flow, limit):
            # Two may believe that they have a partition, and the one that has it no more says nothing new.
            for row in answer.runs:
                if self._records.partition_of(row["runId"]) in left:
                    found.append(row)
            left -= set(answer.partitions)
        if left and len(found) < limit:
            found += await self._records.rows(sorted(left), states, flow, limit - len(found))
        return found[:limit]

    async def _all_runs(self, states: frozenset[str] | None, flow: str | None, limit: int) -> list[OwnedRuns]:
        owners = set((await self._owners.all(anew=True)).values())
        asked = [self._workers.runs(url, states, flow, limit) for url in sorted(owners)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, Unanswered):
                raise answer
        return [answer for answer in answers if isinstance(answer, OwnedRuns)]

    async def events(self, run_id: str, *, follow: bool = False) -> AsyncIterator[dict[str, Any]]:
        """The history of a run; see :meth:`headrace.adapter.Client.events`.

        What was rejected long before the run began is not a part of it.
        """
        self._check()
        partition = self._records.partition_of(run_id)
        is_owned, view = await self._of_owner(partition, lambda url: self._workers.status(url, run_id))
        if not is_owned:
            view = await self._records.row(run_id)
        since_ms = view["startedAt"] if view is not None and view["startedAt"] else None
        async with aclosing(self._history.events(run_id, partition, since_ms, follow=follow)) as events:
            async for event in events:
                yield event

    async def _of_owner(self, partition: int, ask: Callable[[str], Awaitable[_T]]) -> tuple[bool, _T | None]:
        """What the owner of a partition says, and whether there is one that says something."""
        url = await self._owners.of(partition)
        for _ in range(2):
            if url is None:
                break
            try:
                return True, await ask(url)
            except (NotOwned, Unanswered) as error:
                _LOGGER.debug("%s", error)
                known = url
                url = await self._owners.of(partition, anew=True)
                if url == known and isinstance(error, Unanswered):
                    break
        return False, None

    def stop(self, error: StoreError | None) -> None:
        """The worker that this client came from has stopped: nobody waits any longer here. In the event loop."""
        if self._stopped is None:
            self._stopped = error or StoreError("the worker has stopped, or this client was closed: ask another one")
            self._watch.fail(self._stopped)

    @property
    def works(self) -> bool:
        """Whether it was not closed, and its worker has not stopped."""
        return self._stopped is None

    def _check(self) -> None:
        if self._stopped is not None:
            raise self._stopped

    async def close(self) -> None:
        """Let go of all connections and threads; what was handed over is sent."""
        self.stop(None)
        await self._answers.close()
        await self._workers.close()
        await asyncio.gather(self._submissions.close(), self._watch.close(), self._history.close(), self._owners.close())
        await self._records.close()
        await self._scans.close()


def _with_request(command: Command, request_id: str) -> Command:
    """The command as one whose answer somebody waits for; what the engine says to itself is refused at the door."""
    if isinstance(command, EngineCommand):
        return command
    return command._replace(request_id=request_id)
