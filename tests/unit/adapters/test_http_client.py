from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr
from tests.kafka.stub_owner import StubOwner

from headrace.adapter import Answer
from headrace.errors import StoreError
from headrace_adapters.http import HttpServer, NotOwned, OwnedRuns, Unanswered, WorkerClient


@pytest.fixture
def owner() -> StubOwner:
    return StubOwner()


@pytest.fixture
async def url(owner: StubOwner) -> AsyncIterator[str]:
    server = HttpServer(token=SecretStr("secret"))
    server.start(owner)
    yield server.url()
    await asyncio.to_thread(server.stop)


@pytest.fixture
async def client() -> AsyncIterator[WorkerClient]:
    made = WorkerClient(SecretStr("secret"))
    yield made
    await made.close()


@contextlib.asynccontextmanager
async def raw_server(answer: bytes) -> AsyncIterator[str]:
    """Something that listens and is no worker."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if answer:
            writer.write(answer)
            writer.close()
        else:
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_what_a_worker_says_is_what_comes_back(owner: StubOwner, url: str, client: WorkerClient) -> None:
    odd = "a/b?c=d&e#ö\n"
    owner.statuses[odd] = {"runId": odd}
    owner.rows = OwnedRuns([2], [{"runId": "r", "flow": "f", "status": "failed"}])
    owner.known = {"1": Answer("applied"), "2": Answer("ignored", "so")}

    assert await client.status(url, odd) == {"runId": odd}
    assert await client.status(url, "unknown") is None
    assert await client.runs(url, {"failed"}, "f", 5) == OwnedRuns([2], owner.rows.runs)
    assert await client.runs(url, {"running"}, None, 5) == OwnedRuns([2], [])
    assert await client.answers(url, ["1", "2", "3"], 0) == owner.known


async def test_who_is_not_the_owner_is_told_from_who_is_not_there(owner: StubOwner, url: str, client: WorkerClient) -> None:
    owner.error = NotOwned("not mine")
    with pytest.raises(NotOwned, match="not mine"):
        await client.status(url, "r")
    owner.error = Unanswered("busy")
    with pytest.raises(Unanswered, match="answers 503 unanswered: busy"):
        await client.status(url, "r")
    with pytest.raises(Unanswered, match="does not answer"):
        await client.status("http://127.0.0.1:1", "r")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<xml>",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{",
        b"nothing of the kind\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
async def test_what_is_no_worker_is_taken_for_none(client: WorkerClient, answer: bytes) -> None:
    async with raw_server(answer) as url:
        with pytest.raises(Unanswered):
            await client.status(url, "r")


async def test_who_listens_and_says_nothing_is_not_waited_for_long(
    client: WorkerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace_adapters.http.client.ANSWER_S", 0.1)
    async with raw_server(b"") as url:
        with pytest.raises(Unanswered, match="Timeout"):
            await client.answers(url, ["1"], 0)


async def test_an_answer_without_end_is_cut(client: WorkerClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace_adapters.http.client.RESPONSE_BYTES_MAX", 10)
    async with raw_server(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n" + b"{" * 20) as url:
        with pytest.raises(Unanswered, match="more than 10 bytes"):
            await client.status(url, "r")


async def test_a_wrong_token_says_which_setting_is_wrong(url: str) -> None:
    client = WorkerClient(SecretStr("my-0wn"))
    with pytest.raises(StoreError, match="HEADRACE_HTTP_TOKEN") as raised:
        await client.status(url, "r")
    await client.close()

    assert "my-0wn" not in str(raised.value)


async def test_a_client_that_was_closed_says_so(url: str) -> None:
    client = WorkerClient()
    await client.close()

    with pytest.raises(StoreError, match="closed"):
        await client.status(url, "r")


async def test_who_waits_for_an_answer_when_it_is_closed_is_told(client: WorkerClient) -> None:
    async with raw_server(b"") as url:
        waiting = asyncio.create_task(client.status(url, "r"))
        await asyncio.sleep(0.05)
        await client.close()

        with pytest.raises(StoreError, match="closed"):
            await waiting


async def test_who_gives_up_is_not_told_anything_else(client: WorkerClient) -> None:
    async with raw_server(b"") as url:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.status(url, "r"), 0.05)
    assert client._exchanges == set()
