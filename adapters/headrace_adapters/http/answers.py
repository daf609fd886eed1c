"""The answers of workers to commands: everybody who waits for one of the same worker is asked for together.

A client that hands over hundreds of commands at once would otherwise make hundreds of requests at once, and each of them
costs more than the command. A request takes along every command that waits at that moment and comes back with the first
answers; those who are still waiting go with the next one.
"""

from __future__ import annotations

__all__ = ["Answers"]

import asyncio
from typing import Final

from headrace.adapter import Answer
from headrace.errors import HeadraceError
from headrace_adapters.http.client import WorkerClient
from headrace_adapters.http.questions import Unanswered

# Answers come by the thousand a second where there are many; where there are few, one more request finds the newest.
ASKED_AT_ONCE: Final = 500
REQUESTS_AT_ONCE: Final = 4

# One request waits no longer, so that a place is free again soon where answers do not come.
WAIT_S: Final = 1.0


class Answers:
    """Waits for the answers of workers, for one event loop."""

    def __init__(self, client: WorkerClient) -> None:
        self._client = client
        self._by_url: dict[str, _Waiting] = {}

    async def of(self, url: str, request_id: str, timeout_s: float) -> Answer | None:
        """The answer of the worker at *url*; None when it has none in time. Raises :class:`Unanswered`."""
        waiting = self._by_url.get(url)
        if waiting is None:
            # Workers that start again have other addresses, and nobody asks the old ones any more.
            self._by_url = {known: others for known, others in self._by_url.items() if not others.is_idle}
            waiting = self._by_url[url] = _Waiting(self._client, url)
        try:
            async with asyncio.timeout(timeout_s):
                return await waiting.of(request_id)
        except TimeoutError:
            return None
        finally:
            waiting.forget(request_id)

    async def close(self) -> None:
        """Ask nobody any more."""
        for waiting in list(self._by_url.values()):
            await waiting.close()
        self._by_url.clear()


class _Waiting:
    """Those who wait for one worker."""

    def __init__(self, client: WorkerClient, url: str) -> None:
        self._client = client
        self._url = url
        self._futures: dict[str, asyncio.Future[Answer]] = {}
        # In the order in which they came; a dictionary, because those who give up leave it anywhere.
        self._unasked: dict[str, None] = {}
        self._requests: set[asyncio.Task[None]] = set()
        self._is_about_to_ask = False

    @property
    def is_idle(self) -> bool:
        return not self._futures and not self._requests

    async def of(self, request_id: str) -> Answer:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._futures[request_id] = future
        self._unasked[request_id] = None
        if not self._is_about_to_ask:
            self._is_about_to_ask = True
            # Everybody who is woken in the same round goes along.
            asyncio.get_running_loop().call_soon(self._ask)
        return await future

    def forget(self, request_id: str) -> None:
        self._futures.pop(request_id, None)
        self._unasked.pop(request_id, None)

    def _ask(self) -> None:
        self._is_about_to_ask = False
        while self._unasked and len(self._requests) < REQUESTS_AT_ONCE:
            asked = list(self._unasked)[:ASKED_AT_ONCE]
            for request_id in asked:
                del self._unasked[request_id]
            task = asyncio.create_task(self._request(asked))
            self._requests.add(task)
            task.add_done_callback(self._asked)

    def _asked(self, task: asyncio.Task[None]) -> None:
        self._requests.discard(task)
        self._ask()

    async def _request(self, asked: list[str]) -> None:
        try:
            answers = await self._client.answers(self._url, asked, WAIT_S)
        except (Unanswered, HeadraceError) as error:
            for request_id in asked:
                future = self._futures.get(request_id)
                if future is not None and not future.done():
                    future.set_exception(error)
            return
        for request_id in asked:
            future = self._futures.get(request_id)
            if future is None or future.done():
                continue
            if request_id in answers:
                future.set_result(answers[request_id])
            else:
                self._unasked[request_id] = None

    async def close(self) -> None:
        requests = list(self._requests)
        self._unasked.clear()
        for task in requests:
            task.cancel()
        await asyncio.gather(*requests, return_exceptions=True)
        for future in self._futures.values():
            future.cancel()
