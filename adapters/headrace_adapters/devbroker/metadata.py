"""Kafka's metadata request, by hand: the one thing that says that a broker really takes requests.

An open port is not enough, because a broker opens it before it serves, and lists itself when its controller has let it
in. The request is 25 bytes and version 1 of it is understood by every Kafka since 0.10, so no client is needed for it.
"""

from __future__ import annotations

__all__ = ["brokers_at"]

import socket
import struct

METADATA, VERSION, CORRELATION = 3, 1, 0x48_52
CLIENT = b"headrace"
ANSWER_BYTES_MAX = 1_000_000


def brokers_at(host: str, port: int, timeout_s: float = 1.0) -> frozenset[int]:
    """The ids of the brokers that the one at this address knows to be alive.

    Raises ``OSError`` when nothing listens there, nothing answers in time, or what answers is no broker.
    """
    no_topics = struct.pack(">i", 0)
    request = struct.pack(f">hhih{len(CLIENT)}s", METADATA, VERSION, CORRELATION, len(CLIENT), CLIENT) + no_topics
    with socket.create_connection((host, port), timeout_s) as connection:
        connection.settimeout(timeout_s)
        connection.sendall(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", _read(connection, 4))
        if not 0 < size <= ANSWER_BYTES_MAX:
            raise ConnectionError(f"{host}:{port} does not speak Kafka's protocol")
        return _ids(_read(connection, size), f"{host}:{port}")


def _read(connection: socket.socket, size: int) -> bytes:
    read = bytearray()
    while len(read) < size:
        part = connection.recv(size - len(read))
        if not part:
            raise ConnectionError("the connection was closed in the middle of an answer")
        read += part
    return bytes(read)


def _ids(answer: bytes, address: str) -> frozenset[int]:
    """Of an answer: a correlation id, then the brokers as id, host, port and rack (-1: no text)."""
    try:
        correlation, count = struct.unpack_from(">ii", answer)
        at, ids = 8, set()
        for _ in range(count):
            number, host_size = struct.unpack_from(">ih", answer, at)
            at += 6 + host_size + 4
            (rack_size,) = struct.unpack_from(">h", answer, at)
            at += 2 + max(rack_size, 0)
            ids.add(number)
    except struct.error:
        raise ConnectionError(f"{address} does not speak Kafka's protocol") from None
    if correlation != CORRELATION:
        raise ConnectionError(f"{address} answered another request")
    return frozenset(ids)
