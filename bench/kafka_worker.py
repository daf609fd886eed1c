"""A worker of the product in a process of its own, for ``bench/kafka.py`` and ``bench/restore.py``.

Times that it tells are those of ``time.monotonic()``, which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import cProfile
import io
import logging
import pstats
import threading
import time
from collections.abc import Callable
from typing import Any

from kafka_places import make_app, settings_of
from programs import arguments, serve

from headrace_adapters.cli.collector import settle_collector
from headrace_adapters.kafka.worker import KafkaWorker

ANSWER_S = 60.0


class Times(logging.Handler):
    """When the worker said that it was given partitions, and that it works on them."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.assigned: dict[int, float] = {}
        self.working: dict[int, float] = {}
        self.restored = 0

    def emit(self, record: logging.LogRecord) -> None:
        now_s = time.monotonic()
        if record.msg == "partitions assigned: %s":
            self.assigned |= dict.fromkeys(record.args[0], now_s)
            self.working = {number: at_s for number, at_s in self.working.items() if number not in record.args[0]}
        elif record.msg == "working on partitions %s":
            self.working = dict.fromkeys(record.args[0], now_s) | self.working
        elif record.msg == "partition %d: restored, %d records in %.1f s":
            self.restored += record.args[1]


class Served:
    """What the benchmark may ask of a worker."""

    def __init__(self, worker: KafkaWorker, times: Times) -> None:
        self._worker = worker
        self._times = times
        self._profile: cProfile.Profile | None = None

    def _in_loop(self, question: Callable[[], Any]) -> Any:
        answers: list[Any] = []
        answered = threading.Event()

        def ask() -> None:
            answers.append(question())
            answered.set()

        self._worker._loop.ask(ask)
        if not answered.wait(ANSWER_S):
            raise RuntimeError("the worker's loop does not answer")
        return answers[0]

    def cpu(self) -> dict[str, float]:
        """CPU seconds of the process and of the loop's thread, and commits, so far."""
        loop = self._worker._loop
        loop_s, commits = self._in_loop(lambda: (time.thread_time(), loop.commits))
        return {"process_s": time.process_time(), "loop_s": loop_s, "commits": commits}

    def state(self) -> dict[str, Any]:
        """What it owns, and how far the copies are that it keeps warm."""
        carrier, loop = self._worker._carrier, self._worker._loop

        def look() -> dict[str, Any]:
            warm = {number: carrier._copy.progress(number) for number in carrier.warm}
            return {"owned": sorted(loop.partitions), "warm": warm, "restoring": dict(carrier.restoring)}

        return dict(self._in_loop(look))

    def times(self) -> dict[str, Any]:
        """When partitions came and when they were worked on, and how many records were read for it."""
        times = self._times
        return {"assigned": times.assigned, "working": times.working, "restored": times.restored}

    def profile(self) -> str:
        """The first call begins to profile the loop's thread, the second one tells what was found."""
        if self._profile is None:
            self._profile = cProfile.Profile()
            self._in_loop(self._profile.enable)
            return ""
        self._in_loop(self._profile.disable)
        text = io.StringIO()
        pstats.Stats(self._profile, stream=text).sort_stats("tottime").print_stats(45)
        self._profile = None
        return text.getvalue()


async def main(app: str, servers: str, settings: dict[str, Any]) -> None:
    times = Times()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    product = logging.getLogger("headrace_adapters")
    product.setLevel(logging.INFO)
    product.addHandler(times)
    for handler in logging.getLogger().handlers:
        handler.setLevel(logging.ERROR)
    worker = KafkaWorker(make_app(app), settings_of(app, servers, **settings))
    # As ``headrace worker`` does.
    settle_collector()
    await worker.start()
    served = Served(worker, times)
    answers = {"cpu": served.cpu, "state": served.state, "times": served.times, "profile": served.profile}
    serving = asyncio.ensure_future(asyncio.to_thread(serve, answers))
    failing = asyncio.ensure_future(worker.failed())
    await asyncio.wait((serving, failing), return_when=asyncio.FIRST_COMPLETED)
    await worker.stop()
    await failing
    await serving


if __name__ == "__main__":
    asyncio.run(main(**arguments()))
