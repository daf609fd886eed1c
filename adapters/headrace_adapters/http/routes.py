"""The endpoints of a worker. Everything is JSON but ``/metrics``, errors too: ``{"error": {"code", "message"}}``.

    GET  /v1/status?run=ID                              a run; 404 unknown, 421 another worker has it
    GET  /v1/runs?state=S&flow=F&limit=N                runs of this worker's partitions
    GET  /v1/answer?request=ID&wait_ms=N                the answer to one request; 404 when there is none in time
    POST /v1/answers  {"requests": [..], "waitMs": N}   the answers that are known, as soon as there is one
    GET  /healthz, /readyz                              200 or 503; without a token, for those who only look after processes
    GET  /metrics                                       for Prometheus

Everything is bounded: bodies, numbers of ids, times, and how many may wait at once.
"""

from __future__ import annotations

__all__ = ["make_routes"]

import hmac
from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from headrace.adapter import Answer
from headrace_adapters.http.questions import Health, NotOwned, OwnerQuestions, Unanswered

# A thousand request ids of this project, or some of the longest that a record may hold.
BODY_BYTES_MAX: Final = 256 * 1024
REQUESTS_MAX: Final = 1_000
WAIT_MS_MAX: Final = 10_000
RUNS_MAX: Final = 100_000
WAITING_MAX: Final = 512

MetricsText = Callable[[], tuple[bytes, str]]
_Endpoint = Callable[[Request], Awaitable[Response]]

_CODES: Final = {400: "bad-request", 401: "unauthorized", 404: "not-found", 405: "method-not-allowed", 413: "too-large"}


def make_routes(questions: OwnerQuestions, token: str | None, metrics: MetricsText | None) -> Starlette:
    """The application; *metrics* gives the text for Prometheus and its content type."""
    owner = _Owner(questions)
    guarded = _Guard(token)

    async def show_metrics(_: Request) -> Response:
        if metrics is None:
            raise HTTPException(404, "this worker has no metrics")
        text, content_type = metrics()
        return Response(text, headers={"content-type": content_type})

    return Starlette(
        routes=[
            Route("/v1/status", guarded(owner.status)),
            Route("/v1/runs", guarded(owner.runs)),
            Route("/v1/answer", guarded(owner.answer)),
            Route("/v1/answers", guarded(owner.answers), methods=["POST"]),
            Route("/metrics", guarded(show_metrics)),
            Route("/healthz", owner.health),
            Route("/readyz", owner.readiness),
        ],
        exception_handlers={
            HTTPException: _tell_http,
            NotOwned: lambda _, error: _error(421, "not-owner", str(error)),
            Unanswered: lambda _, error: _error(503, "unanswered", str(error)),
            # The server logs it with its traceback.
            Exception: lambda _, error: _error(500, "defect", f"please report this: {type(error).__name__}"),
        },
    )


class _Guard:
    """Lets nobody pass who does not say the token, where there is one."""

    def __init__(self, token: str | None) -> None:
        self._expected = None if token is None else f"Bearer {token}".encode()

    def __call__(self, endpoint: _Endpoint) -> _Endpoint:
        expected = self._expected
        if expected is None:
            return endpoint

        async def check(request: Request) -> Response:
            said = request.headers.get("authorization", "").encode("latin-1", "replace")
            # Takes as long for a token that is nearly right as for one that is not at all.
            if not hmac.compare_digest(said, expected):
                response = _error(401, "unauthorized", "say the token of the workers: Authorization: Bearer ...")
                response.headers["www-authenticate"] = "Bearer"
                return response
            return await endpoint(request)

        return check


class _Owner:
    """The endpoints that ask the worker."""

    def __init__(self, questions: OwnerQuestions) -> None:
        self._questions = questions
        self._waiting = 0

    async def status(self, request: Request) -> Response:
        run_id = _parameter(request, "run")
        view = await self._questions.status(run_id)
        if view is None:
            return _error(404, "unknown-run", f"nothing is known of run {run_id!r}")
        return _json(view)

    async def runs(self, request: Request) -> Response:
        states = frozenset(request.query_params.getlist("state")) or None
        limit = _number(request.query_params.get("limit", "100"), "limit", 1, RUNS_MAX)
        partitions, rows = await self._questions.runs(states, request.query_params.get("flow"), limit)
        return _json({"partitions": partitions, "runs": rows})

    async def answer(self, request: Request) -> Response:
        request_id = _parameter(request, "request")
        wait_ms = _number(request.query_params.get("wait_ms", "0"), "wait_ms", 0, None)
        answers = await self._wait([request_id], wait_ms)
        if request_id not in answers:
            return _error(404, "no-answer", "no answer to this request is known here (yet)")
        return _json(_answer_view(answers[request_id]))

    async def answers(self, request: Request) -> Response:
        asked = await _body(request)
        ids = asked.get("requests")
        if not isinstance(ids, list) or not all(isinstance(it, str) for it in ids) or len(ids) > REQUESTS_MAX:
            raise HTTPException(400, f"'requests': expected at most {REQUESTS_MAX} request ids")
        wait_ms = _number(asked.get("waitMs", 0), "waitMs", 0, None)
        answers = await self._wait(ids, wait_ms)
        return _json({"answers": {request_id: _answer_view(answer) for request_id, answer in answers.items()}})

    async def _wait(self, ids: list[str], wait_ms: int) -> dict[str, Answer]:
        if self._waiting >= WAITING_MAX:
            # Looking costs nothing, so it is not refused.
            wait_ms = 0
        self._waiting += 1
        try:
            return await self._questions.answers(ids, min(wait_ms, WAIT_MS_MAX) / 1_000)
        finally:
            self._waiting -= 1

    async def health(self, _: Request) -> Response:
        return _health(await self._questions.health())

    async def readiness(self, _: Request) -> Response:
        return _health(await self._questions.readiness())


def _health(health: Health) -> Response:
    return _json({"ok": health.ok, **health.details}, 200 if health.ok else 503)


def _answer_view(answer: Answer) -> dict[str, str]:
    return {"outcome": answer.outcome, "reason": answer.reason}


def _parameter(request: Request, name: str) -> str:
    value = request.query_params.get(name)
    if not value:
        raise HTTPException(400, f"{name!r}: expected in the query, as in ?{name}=...")
    return value


def _number(value: Any, name: str, least: int, most: int | None) -> int:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 16:
        value = int(value)
    if type(value) is not int or value < least or (most is not None and value > most):
        upto = "" if most is None else f" to {most}"
        raise HTTPException(400, f"{name!r}: expected a whole number from {least}{upto}")
    return value


async def _body(request: Request) -> dict[str, Any]:
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY_BYTES_MAX:
                raise HTTPException(413, f"expected a body of at most {BODY_BYTES_MAX} bytes")
    except ClientDisconnect:
        raise HTTPException(400, "the body ended too soon") from None
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise HTTPException(400, f"expected a JSON object: {error}") from None
    if not isinstance(data, dict):
        raise HTTPException(400, "expected a JSON object")
    return data


def _json(data: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(data), status, media_type="application/json")


def _error(status: int, code: str, message: str) -> Response:
    return _json({"error": {"code": code, "message": message}}, status)


def _tell_http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = _error(error.status_code, _CODES.get(error.status_code, "error"), error.detail)
    response.headers.update(error.headers or {})
    return response
