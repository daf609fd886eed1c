"""A worker's HTTP server: an event loop in a thread of its own, on a socket that is bound before the worker is known.

    server = HttpServer(host, port, token)      binds: the address is known
    client_id = f"headrace|{server.url()}"      and told to the group before anybody can be sent here
    server.start(questions, metrics)            answers from now on
    server.stop()                               answers no more

Between binding and starting, those who connect wait in the socket's queue.
"""

from __future__ import annotations

__all__ = ["HttpServer"]

import asyncio
import logging
import socket
import threading

import uvicorn
from pydantic import SecretStr

from headrace.errors import StoreError
from headrace_adapters.http.questions import OwnerQuestions
from headrace_adapters.http.routes import MetricsText, make_routes

_LOGGER = logging.getLogger(__name__)

# How many may connect before somebody looks, and how many may ask at once.
BACKLOG = 512
CONCURRENT_MAX = 1_000

START_S = 10.0
STOP_S = 2

# What the name of a host is not, when it stands for all addresses of a machine.
_ANYWHERE = frozenset(("0.0.0.0", "::", ""))  # noqa: S104 (nothing is bound here)


class _Server(uvicorn.Server):
    """Tells when it answers."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.answers = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.answers.set()


class HttpServer:
    """Binds *host* and *port* at once (0: any free one). With a *token*, everything but health asks for it."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0, token: SecretStr | None = None) -> None:
        """Raises :class:`StoreError` when the address cannot be had."""
        self._host = host
        self._token = None if token is None else token.get_secret_value()
        self._socket = _bound(host, port)
        self.port: int = self._socket.getsockname()[1]
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def url(self, advertise: str | None = None) -> str:
        """How others reach this server: *advertise* where somebody has said so, else the host that was bound.

        A server that listens on all addresses of its machine is reached by the machine's name.
        """
        if advertise is not None:
            return advertise.rstrip("/")
        host = socket.gethostname() if self._host in _ANYWHERE else self._host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def start(self, questions: OwnerQuestions, metrics: MetricsText | None = None) -> None:
        """Answer from now on, from a thread of its own; returns when it does."""
        assert self._thread is None, "a server starts once"
        config = uvicorn.Config(
            make_routes(questions, self._token, metrics),
            access_log=False,
            backlog=BACKLOG,
            date_header=False,
            h11_max_incomplete_event_size=16 * 1024,
            http="h11",
            lifespan="off",
            limit_concurrency=CONCURRENT_MAX,
            log_config=None,
            log_level=logging.WARNING,
            loop="asyncio",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=STOP_S,
            ws="none",
        )
        self._server = _Server(config)
        self._thread = threading.Thread(target=self._serve, name="headrace-http", daemon=True)
        self._thread.start()
        if not self._server.answers.wait(START_S):
            raise StoreError(f"the HTTP server at {self.url()} does not start: look at the log for the reason")

    def _serve(self) -> None:
        assert self._server is not None
        try:
            asyncio.run(self._server.serve([self._socket]))
        except Exception:  # A worker without its HTTP side still works; its clients read the topics.
            _LOGGER.exception("the HTTP server of this worker has died; status and answers are not served any more")

    def stop(self) -> None:
        """Answer no more. Those who wait have to be told before, by whoever they wait for."""
        server, thread = self._server, self._thread
        if server is None or thread is None:
            self._socket.close()
            return
        server.should_exit = True
        thread.join(START_S)


def _bound(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        # The protocol is named because asyncio turns off Nagle's delay, of 40 ms an answer, for TCP by name only.
        bound = socket.socket(family, kind, protocol)
        try:
            # A worker that starts again takes the port of its predecessor, whose last connections may still be ending.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            bound.listen(BACKLOG)
        except BaseException:
            bound.close()
            raise
    except OSError as error:
        raise StoreError(
            f"the HTTP address {host}:{port} cannot be had ({error.strerror or error}): free it, or give another one "
            "(settings 'http_host' and 'http_port'; port 0 takes any free one)"
        ) from None
    return bound
