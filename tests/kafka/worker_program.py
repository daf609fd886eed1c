"""A worker in a process of its own, to be killed: ``python -m tests.kafka.worker_program APP URL SETTINGS``.

It prints ``started`` when it can be told to stop, ``ready`` when it works on partitions for the first time, and
``owns [...]`` whenever these change.
"""

from __future__ import annotations

__all__ = ["main"]

import asyncio
import faulthandler
import json
import logging
import signal
import sys
from typing import Any

from headrace_adapters.kafka.settings import kafka_settings
from headrace_adapters.kafka.worker import KafkaWorker
from tests.kafka.flows import make_app

LOOK_S = 0.02
GRACE_S = 10.0


def tell(line: str) -> None:
    """One line for the test that watches."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def main(app_name: str, url: str, values: dict[str, Any]) -> None:
    """Work until SIGTERM."""
    worker = KafkaWorker(make_app(app_name), kafka_settings(app_name, url, values))
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await worker.start()
    tell("started")
    tasks = [asyncio.ensure_future(worker.failed()), asyncio.ensure_future(stop.wait())]
    telling = asyncio.ensure_future(_tell(worker))
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    telling.cancel()
    tasks[1].cancel()
    await worker.stop(GRACE_S)
    await tasks[0]


async def _tell(worker: KafkaWorker) -> None:
    loop = worker._loop
    told: list[int] = []
    is_ready = False
    while True:
        owned = sorted(loop.partitions)
        if owned and not is_ready:
            is_ready = True
            tell("ready")
        if owned != told:
            told = owned
            tell(f"owns {owned}")
        await asyncio.sleep(LOOK_S)


if __name__ == "__main__":
    # Where a worker that hangs is, it says when it is asked by this signal.
    faulthandler.register(signal.SIGUSR1)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s.%(msecs)03d %(levelname)s %(name)s %(message)s", datefmt="%H:%M:%S"
    )
    logging.getLogger("headrace.node").setLevel(logging.CRITICAL)
    asyncio.run(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))
