"""The metadata request against a socket that answers what the test says."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from headrace_adapters.devbroker.metadata import ANSWER_BYTES_MAX, CORRELATION, brokers_at

HOST = "127.0.0.1"
REQUEST = bytes.fromhex("0003 0001 00004852 0008") + b"headrace" + bytes(4)

Answers = Callable[[bytes], int]


@pytest.fixture
def answers() -> Iterator[Answers]:
    """A server on a port that gives *answer* to whoever sends the request, and closes."""
    threads: list[threading.Thread] = []

    def serve(answer: bytes) -> int:
        server = socket.create_server((HOST, 0))

        def once() -> None:
            with server, server.accept()[0] as connection:
                asked = connection.recv(4 + len(REQUEST), socket.MSG_WAITALL)
                if asked == struct.pack(">i", len(REQUEST)) + REQUEST:
                    connection.sendall(answer)

        threads.append(threading.Thread(target=once))
        threads[-1].start()
        return int(server.getsockname()[1])

    yield serve
    for thread in threads:
        thread.join()


def answer_of(*brokers: bytes, correlation: int = CORRELATION, count: int | None = None) -> bytes:
    """An answer with its size in front; behind the brokers are the controller and no topics."""
    body = struct.pack(">ii", correlation, len(brokers) if count is None else count) + b"".join(brokers)
    body += struct.pack(">ii", 1, 0)
    return struct.pack(">i", len(body)) + body


def broker(number: int, rack: str | None = None) -> bytes:
    host = b"some.host"
    text = struct.pack(">h", -1) if rack is None else struct.pack(f">h{len(rack)}s", len(rack), rack.encode())
    return struct.pack(f">ih{len(host)}si", number, len(host), host, 9092) + text


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (answer_of(), set()),
        (answer_of(broker(1)), {1}),
        (answer_of(broker(7, rack="north"), broker(2), broker(300_000)), {7, 2, 300_000}),
    ],
)
def test_the_brokers_that_are_alive_are_read(answers: Answers, answer: bytes, expected: set[int]) -> None:
    assert brokers_at(HOST, answers(answer)) == expected


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "closed"),
        (answer_of(broker(1))[:20], "closed"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak"),
        (struct.pack(">i", ANSWER_BYTES_MAX + 1), "does not speak"),
        (struct.pack(">i", 3) + b"abc", "does not speak"),
        (answer_of(broker(1), count=9), "does not speak"),
        (answer_of(broker(1), correlation=1), "another request"),
    ],
)
def test_what_is_no_answer_is_an_error_of_the_connection(answers: Answers, answer: bytes, reason: str) -> None:
    with pytest.raises(ConnectionError, match=reason):
        brokers_at(HOST, answers(answer))


def test_nobody_there_is_an_error_too() -> None:
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]

    with pytest.raises(ConnectionRefusedError):
        brokers_at(HOST, port)


def test_silence_ends_with_the_time() -> None:
    with socket.create_server((HOST, 0)) as server, pytest.raises(TimeoutError):
        brokers_at(HOST, server.getsockname()[1], 0.05)
