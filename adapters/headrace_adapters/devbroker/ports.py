"""Ports of 127.0.0.1 that a broker can keep, also while it is down.

Systems hand out ports from about 32 768 upwards to whoever connects to something. A broker that comes back to such a
port may find it taken; it may even be taken by a client that tried to reach the broker and was connected to itself.
So free ports are looked for below that range.
"""

from __future__ import annotations

__all__ = ["HOST", "free_ports", "is_free"]

import random
import socket

from headrace.errors import StoreError

HOST = "127.0.0.1"
LOWEST, HIGHEST = 20_000, 32_000
ATTEMPTS_MAX = 1_000

_given: set[int] = set()


def is_free(port: int) -> bool:
    """Whether a broker could listen there now."""
    with socket.socket() as attempt:
        # As Java does it: what is left of closed connections does not keep a server from its port.
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((HOST, port))
            attempt.listen(1)
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """Ports that are free and that this process has not been given before.

    They are drawn, because other processes look for ports at the same time.
    """
    found: list[int] = []
    drawn = random.SystemRandom()
    for _ in range(ATTEMPTS_MAX):
        if len(found) == count:
            break
        port = drawn.randrange(LOWEST, HIGHEST)
        if port not in _given and is_free(port):
            _given.add(port)
            found.append(port)
    if len(found) < count:
        raise StoreError(f"no {count} free ports between {LOWEST} and {HIGHEST} on {HOST}; stop what holds them")
    return found
