from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import httpx
import pytest
from pydantic import SecretStr
from tests.contract.waiting import eventually
from tests.kafka.stub_owner import StubOwner

from headrace.adapter import Answer
from headrace.errors import StoreError
from headrace_adapters.http import Health, HttpServer, NotOwned, OwnedRuns, Unanswered
from headrace_adapters.http.routes import BODY_BYTES_MAX, REQUESTS_MAX

TOKEN = "s3cret-token"
ODD = "run/../ä?&=#%2F \n"


@pytest.fixture
def owner() -> StubOwner:
    return StubOwner()


@pytest.fixture
def server(owner: StubOwner) -> Iterator[HttpServer]:
    made = HttpServer()
    made.start(owner, lambda: (b"headrace_x 1\n", "text/plain; version=0.0.4"))
    yield made
    made.stop()


@pytest.fixture
def web(server: HttpServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url(), trust_env=False) as client:
        yield client


def error_of(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/json"
    return response.status_code, response.json()["error"]["code"]


# Where it is.


def test_the_port_is_known_before_it_answers_and_those_who_come_early_wait(owner: StubOwner) -> None:
    server = HttpServer()
    try:
        assert server.port > 0
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as early:
            early.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            server.start(owner)
            assert early.recv(100).startswith(b"HTTP/1.1 200")
    finally:
        server.stop()


def test_its_url_is_what_others_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "worker-7")
    here, anywhere = HttpServer("127.0.0.1"), HttpServer("0.0.0.0")
    try:
        assert here.url() == f"http://127.0.0.1:{here.port}"
        assert anywhere.url() == f"http://worker-7:{anywhere.port}"
        assert here.url("https://outside/") == "https://outside"
    finally:
        here.stop()
        anywhere.stop()


def test_an_address_that_cannot_be_had_says_what_to_do(server: HttpServer) -> None:
    with pytest.raises(StoreError, match="settings 'http_host' and 'http_port'"):
        HttpServer("127.0.0.1", server.port)
    with pytest.raises(StoreError, match="cannot be had"):
        HttpServer("256.256.256.256")


def test_when_it_is_stopped_nobody_listens_and_no_thread_is_left(owner: StubOwner) -> None:
    server = HttpServer()
    server.start(owner)
    server.stop()

    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url() + "/healthz", trust_env=False)
    assert not [thread for thread in threading.enumerate() if thread.name == "headrace-http"]


def test_answers_do_not_wait_for_acknowledgements_of_the_network(web: httpx.Client) -> None:
    """With Nagle's delay an answer takes 40 ms, because head and body are two packets."""
    web.get("/healthz")
    took_s = sorted(web.get("/healthz").elapsed.total_seconds() for _ in range(20))

    assert took_s[5] < 0.03


# What is asked.


def test_a_status_is_given_whatever_the_id_holds(owner: StubOwner, web: httpx.Client) -> None:
    owner.statuses[ODD] = {"runId": ODD, "status": "running"}

    assert web.get("/v1/status", params={"run": ODD}).json() == {"runId": ODD, "status": "running"}
    assert error_of(web.get("/v1/status", params={"run": "x"})) == (404, "unknown-run")
    assert error_of(web.get("/v1/status")) == (400, "bad-request")


def test_a_run_that_another_worker_has_is_misdirected(owner: StubOwner, web: httpx.Client) -> None:
    owner.error = NotOwned("partition 3 is not this worker's")

    assert error_of(web.get("/v1/status?run=r")) == (421, "not-owner")


def test_a_worker_that_does_not_answer_in_time_is_unavailable(owner: StubOwner, web: httpx.Client) -> None:
    owner.error = Unanswered("busy")

    assert error_of(web.get("/v1/status?run=r")) == (503, "unanswered")
    assert error_of(web.get("/v1/runs")) == (503, "unanswered")


async def test_a_defect_is_told_without_its_details_and_logged_with_them(
    owner: StubOwner, web: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    owner.error = KeyError("inside")
    response = await asyncio.to_thread(web.get, "/v1/status?run=r")

    assert error_of(response) == (500, "defect")
    assert "inside" not in response.text
    await eventually(lambda: "inside" in caplog.text)


def test_runs_are_listed_with_the_partitions_that_were_looked_at(owner: StubOwner, web: httpx.Client) -> None:
    rows = [{"runId": f"r{n}", "flow": "f", "status": "running" if n % 2 else "failed"} for n in range(6)]
    owner.rows = OwnedRuns([1, 4], rows)

    assert web.get("/v1/runs").json() == {"partitions": [1, 4], "runs": rows}
    assert len(web.get("/v1/runs?state=failed&flow=f&limit=2").json()["runs"]) == 2
    assert len(web.get("/v1/runs?state=failed&state=running").json()["runs"]) == 6
    assert web.get("/v1/runs?flow=g").json()["runs"] == []


@pytest.mark.parametrize("query", ["limit=0", "limit=-1", "limit=x", "limit=1e3", "limit=99999999999999999999", "limit="])
def test_a_limit_that_is_none_is_refused(web: httpx.Client, query: str) -> None:
    assert error_of(web.get(f"/v1/runs?{query}")) == (400, "bad-request")


def test_an_answer_is_given_when_it_is_known(owner: StubOwner, web: httpx.Client) -> None:
    owner.known["a-1"] = Answer("ignored", "it has ended")

    assert web.get("/v1/answer?request=a-1").json() == {"outcome": "ignored", "reason": "it has ended"}
    assert error_of(web.get("/v1/answer?request=a-2&wait_ms=5")) == (404, "no-answer")
    assert error_of(web.get("/v1/answer?request=a-2&wait_ms=-5")) == (400, "bad-request")


def test_many_are_answered_at_once(owner: StubOwner, web: httpx.Client) -> None:
    owner.known = {"a": Answer("applied"), "b": Answer("duplicate", "it exists")}
    answers = web.post("/v1/answers", json={"requests": ["a", "b", "c"], "waitMs": 5}).json()["answers"]

    assert answers == {"a": {"outcome": "applied", "reason": ""}, "b": {"outcome": "duplicate", "reason": "it exists"}}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", (400, "bad-request")),
        (b"[]", (400, "bad-request")),
        (b"{}", (400, "bad-request")),
        (b'{"requests": [1]}', (400, "bad-request")),
        (b'{"requests": "a"}', (400, "bad-request")),
        (b'{"requests": [], "waitMs": "soon"}', (400, "bad-request")),
        (b'{"requests": [' + b",".join([b'"a"'] * (REQUESTS_MAX + 1)) + b"]}", (400, "bad-request")),
        (b'{"requests": ["' + b"x" * BODY_BYTES_MAX + b'"]}', (413, "too-large")),
    ],
)
def test_a_body_that_cannot_be_is_refused(web: httpx.Client, body: bytes, expected: tuple[int, str]) -> None:
    assert error_of(web.post("/v1/answers", content=body)) == expected


def test_what_is_not_there_is_told_in_json_too(web: httpx.Client) -> None:
    assert error_of(web.get("/v2/status")) == (404, "not-found")
    assert error_of(web.post("/v1/status")) == (405, "method-not-allowed")


async def test_those_who_wait_at_once_have_a_bound(
    owner: StubOwner, server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace_adapters.http.routes.WAITING_MAX", 3)
    async with httpx.AsyncClient(base_url=server.url(), trust_env=False) as web:
        waiting = [asyncio.create_task(web.get("/v1/answer?request=x&wait_ms=2000")) for _ in range(3)]
        await eventually(lambda: len(owner.asked) == 3)
        further = await asyncio.wait_for(web.get("/v1/answer?request=x&wait_ms=2000"), 1)
        assert error_of(further) == (404, "no-answer")

        owner.says = Answer("applied")
        assert {response.status_code for response in await asyncio.gather(*waiting)} == {200}


def test_health_and_readiness_are_for_those_who_look_after_processes(owner: StubOwner, web: httpx.Client) -> None:
    assert web.get("/healthz").json() == {"ok": True, "partitions": 2}
    owner.healthy, owner.ready = Health(False, {"reason": "it hangs"}), Health(False, {"restoring": [3]})

    assert (web.get("/healthz").status_code, web.get("/readyz").status_code) == (503, 503)
    assert web.get("/readyz").json() == {"ok": False, "restoring": [3]}


def test_metrics_are_text(owner: StubOwner, web: httpx.Client) -> None:
    response = web.get("/metrics")

    assert response.text == "headrace_x 1\n"
    assert response.headers["content-type"] == "text/plain; version=0.0.4"
    bare = HttpServer()
    bare.start(owner)
    assert httpx.get(bare.url() + "/metrics", trust_env=False).status_code == 404
    bare.stop()


# Who may ask.


@pytest.fixture
def guarded(owner: StubOwner) -> Iterator[str]:
    made = HttpServer(token=SecretStr(TOKEN))
    made.start(owner, lambda: (b"", "text/plain"))
    yield made.url()
    made.stop()


PATHS = ["/v1/status?run=r", "/v1/runs", "/v1/answer?request=r", "/metrics"]


@pytest.mark.parametrize("said", [None, "Bearer wrong", TOKEN, f"Basic {TOKEN}", "Bearer", f"Bearer {TOKEN}x", "Bearer ö"])
def test_without_the_token_nothing_is_told(guarded: str, said: str | None) -> None:
    headers = {} if said is None else {"authorization": said.encode("latin-1")}
    for path in PATHS:
        response = httpx.get(guarded + path, headers=headers, trust_env=False)
        assert error_of(response) == (401, "unauthorized")
        assert response.headers["www-authenticate"] == "Bearer"
    assert httpx.post(guarded + "/v1/answers", headers=headers, trust_env=False).status_code == 401


def test_with_the_token_everything_is_and_health_asks_for_none(
    guarded: str, owner: StubOwner, caplog: pytest.LogCaptureFixture
) -> None:
    owner.statuses["r"] = {"runId": "r"}
    headers = {"authorization": f"Bearer {TOKEN}"}
    with caplog.at_level(logging.DEBUG):
        codes = [httpx.get(guarded + path, headers=headers, trust_env=False).status_code for path in PATHS]
        assert httpx.get(guarded + "/healthz", trust_env=False).status_code == 200

    assert codes == [200, 200, 404, 200]
    assert TOKEN not in "".join(record.getMessage() for record in caplog.records if "httpcore" not in record.name)


def test_a_server_that_does_not_start_is_an_error(monkeypatch: pytest.MonkeyPatch, owner: StubOwner) -> None:
    monkeypatch.setattr("headrace_adapters.http.server.START_S", 0.05)
    monkeypatch.setattr("headrace_adapters.http.server.asyncio", SimpleNamespace(run=lambda serving: serving.close()))
    server = HttpServer()

    with pytest.raises(StoreError, match="does not start"):
        server.start(owner)
    server.stop()
    server._socket.close()
