"""Asks workers over HTTP what they know of the runs that they own."""

from __future__ import annotations

__all__ = ["WorkerClient"]

import asyncio
from collections.abc import Collection
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import orjson
from pydantic import SecretStr

from headrace.adapter import Answer
from headrace.errors import StoreError
from headrace_adapters.http.questions import NotOwned, OwnedRuns, Unanswered

# Workers are near: who takes longer than this is not there, and the topics know as much.
CONNECT_S: Final = 1.0
ANSWER_S: Final = 5.0
CONNECTIONS_MAX: Final = 64

# The longest list of runs takes a while, and more than this nobody has asked for.
RESPONSE_BYTES_MAX: Final = 64 * 1024 * 1024


class WorkerClient:
    """For one event loop. A worker is named by its URL, as ``HttpServer.url`` tells it."""

    def __init__(self, token: SecretStr | None = None) -> None:
        self._headers = {} if token is None else {"authorization": f"Bearer {token.get_secret_value()}"}
        self._by_scheme: dict[str, httpx.AsyncClient] = {}
        self._exchanges: set[asyncio.Task[tuple[int, bytes]]] = set()
        self._is_closed = False

    async def status(self, url: str, run_id: str) -> dict[str, Any] | None:
        """A run as its owner sees it, with ``endedAt`` where it has ended; None where that knows of none.

        Raises :class:`NotOwned` and :class:`Unanswered`.
        """
        return await self._ask("GET", url, "/v1/status", params={"run": run_id}, absent="unknown-run")

    async def runs(self, url: str, states: Collection[str] | None, flow: str | None, limit: int) -> OwnedRuns:
        """Runs of the partitions that a worker has. Raises :class:`Unanswered`."""
        params: dict[str, Any] = {"limit": limit}
        if states is not None:
            params["state"] = sorted(states)
        if flow is not None:
            params["flow"] = flow
        found = await self._ask("GET", url, "/v1/runs", params=params)
        assert found is not None
        return OwnedRuns(found["partitions"], found["runs"])

    async def answers(self, url: str, request_ids: Collection[str], wait_s: float) -> dict[str, Answer]:
        """The answers that a worker knows to these requests, as soon as there is one or *wait_s* is over.

        Raises :class:`Unanswered`.
        """
        asked = orjson.dumps({"requests": list(request_ids), "waitMs": int(wait_s * 1_000)})
        found = await self._ask("POST", url, "/v1/answers", content=asked, timeout_s=ANSWER_S + wait_s)
        assert found is not None
        return {request_id: Answer(answer["outcome"], answer["reason"]) for request_id, answer in found["answers"].items()}

    async def close(self) -> None:
        """Let go of all connections. Who waits for an answer is told."""
        self._is_closed = True
        # A connection that comes about after the others were closed would stay.
        exchanges = list(self._exchanges)
        for exchange in exchanges:
            exchange.cancel()
        await asyncio.gather(*exchanges, return_exceptions=True)
        clients, self._by_scheme = self._by_scheme, {}
        for client in clients.values():
            await client.aclose()

    async def _ask(
        self, method: str, url: str, path: str, *, absent: str = "", timeout_s: float = ANSWER_S, **request: Any
    ) -> dict[str, Any] | None:
        exchange = asyncio.create_task(self._exchange(method, url, path, timeout_s, request))
        self._exchanges.add(exchange)
        exchange.add_done_callback(self._exchanges.discard)
        try:
            status, body = await exchange
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._is_closed and task is not None and not task.cancelling():
                raise _closed() from None
            raise
        try:
            data = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise Unanswered(f"what answers at {url} is no worker of this version: it sends no JSON") from None
        return _answered(url, status, data, absent)

    async def _exchange(
        self, method: str, url: str, path: str, timeout_s: float, request: dict[str, Any]
    ) -> tuple[int, bytes]:
        client = self._client(url)
        timeout = httpx.Timeout(timeout_s, connect=CONNECT_S)
        try:
            async with client.stream(method, url + path, headers=self._headers, timeout=timeout, **request) as response:
                return response.status_code, await _whole(response)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise Unanswered(f"the worker at {url} does not answer ({type(error).__name__}: {error})") from None

    def _client(self, url: str) -> httpx.AsyncClient:
        if self._is_closed:
            raise _closed()
        scheme = urlsplit(url).scheme
        if scheme not in self._by_scheme:
            self._by_scheme[scheme] = httpx.AsyncClient(
                # Certificates are of no use without TLS, and reading them takes longer than everything else.
                verify=scheme == "https",
                limits=httpx.Limits(max_connections=CONNECTIONS_MAX, keepalive_expiry=30.0),
                follow_redirects=False,
                # A proxy for the internet is not one for the workers.
                trust_env=False,
            )
        return self._by_scheme[scheme]


def _closed() -> StoreError:
    return StoreError("this client was closed: ask another one")


async def _whole(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > RESPONSE_BYTES_MAX:
            raise httpx.ReadError(f"more than {RESPONSE_BYTES_MAX} bytes")
    return bytes(body)


def _answered(url: str, status: int, data: Any, absent: str) -> dict[str, Any] | None:
    if status == 200 and isinstance(data, dict):
        return data
    error = data.get("error") if isinstance(data, dict) else None
    code, message = (error.get("code"), error.get("message")) if isinstance(error, dict) else (None, "")
    if code == "not-owner":
        raise NotOwned(message)
    if absent and code == absent:
        return None
    if status == 401:
        raise StoreError(
            f"the worker at {url} wants another token: set 'http_token' (HEADRACE_HTTP_TOKEN) to that of the workers"
        )
    raise Unanswered(f"the worker at {url} answers {status} {code or ''}: {message or 'nothing that is known'}")
