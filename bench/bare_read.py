"""A plain consumer that reads topics to their ends, beside which restoring is measured: a program of its own."""

from __future__ import annotations

import time
from typing import Any

from common import quiet_collector
from kafka_places import ends, places, read_to_ends, reader
from programs import arguments, serve


class BareRead:
    """Reads *topics*, and looks at every key and value."""

    def __init__(self, servers: str, topics: list[str]) -> None:
        self._servers = servers
        self._topics = topics

    def read(self) -> dict[str, Any]:
        of = places(self._topics)
        at = ends(self._servers, of)
        consumer = reader(self._servers)
        began_s, began_cpu_s = time.monotonic(), time.process_time()
        records = size = 0
        for message in read_to_ends(consumer, of, at):
            records += 1
            size += len(message.key()) + len(message.value() or b"")
        seconds, cpu_s = time.monotonic() - began_s, time.process_time() - began_cpu_s
        consumer.close()
        return {"records": records, "bytes": size, "seconds": seconds, "cpu_s": cpu_s}


def main() -> None:
    quiet_collector()
    serve({"read": BareRead(**arguments()).read})


if __name__ == "__main__":
    main()
