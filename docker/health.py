"""Ends with 0 where the worker of this container is well, else with 1 and a line that says why: the image's health check.

It asks the worker's own ``/healthz``. A broker that is down does not make a worker ill: a restart would not help.
"""

from __future__ import annotations

__all__ = ["ask"]

import os
import sys
from http.client import HTTPConnection, HTTPException

# Less than the time that the image's HEALTHCHECK gives.
ANSWER_S = 4.0

# What stands for all addresses, and how it is reached from inside.
ANYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (nothing is bound here)


def ask(host: str, port: int) -> tuple[bool, str]:
    """Whether the worker says that it is well, and its words."""
    connection = HTTPConnection(ANYWHERE.get(host, host), port, timeout=ANSWER_S)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        return answer.status == 200, answer.read(1_000).decode(errors="replace")
    except (OSError, HTTPException) as error:
        return False, f"the worker does not answer at port {port}: {error}"
    finally:
        connection.close()


if __name__ == "__main__":
    well, said = ask(os.environ.get("HEADRACE_HTTP_HOST", ""), int(os.environ.get("HEADRACE_HTTP_PORT", "8080")))
    sys.stdout.write(said + "\n")
    sys.exit(0 if well else 1)
