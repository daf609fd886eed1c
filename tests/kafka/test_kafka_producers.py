"""What ``docs/producers.md`` shows is run as it stands there, against a broker and a worker."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace_adapters.devbroker.jars import MARK, default_folder
from tests.broker.fixtures import AppName
from tests.kafka.topic_log import read_log
from tests.kafka.workers import HANG_S, until

pytestmark = pytest.mark.broker

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "producers.md"
README = ROOT / "README.md"


class Orders:
    """The page's app, under a name of its own: its worker, and the programs of the page with its name and broker."""

    def __init__(self, folder: Path, broker: str, app: str) -> None:
        self.folder = folder
        self.broker = broker
        self.app = app
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
        self.env |= {"HEADRACE_URL": f"kafka://{broker}", "HEADRACE_APP": app, "HEADRACE_PARTITIONS": "4"}
        (flow,) = (block for block in blocks_of(README, "python") if "order = Flow(" in block)
        flow = flow.partition("\nif __name__")[0]
        program = f'{flow}\nfrom headrace import App\n\napp = App("{app}")\napp.add(order)\n'
        (folder / "order.py").write_text(program, encoding="utf-8")
        self._log = (folder / "worker.err").open("wb")
        self._worker = subprocess.Popen(
            [Path(sysconfig.get_path("scripts"), "headrace"), "worker", "order.py"],
            cwd=folder,
            env=self.env,
            stdout=subprocess.DEVNULL,
            stderr=self._log,
        )

    def block(self, language: str, having: str = "") -> str:
        """The page's one block of this language that has *having* in it, for this app and this broker."""
        (found,) = (block for block in blocks_of(PAGE, language) if having in block)
        assert "localhost:9092" in found
        return found.replace("localhost:9092", self.broker).replace("orders.", f"{self.app}.")

    def run(self, *command: str | Path) -> str:
        """What a program prints, which has to end well."""
        ran = subprocess.run(
            command, cwd=self.folder, env=self.env, check=False, capture_output=True, text=True, timeout=2 * HANG_S
        )
        assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
        return ran.stdout

    def python(self, program: str) -> str:
        """Run a program of the page."""
        (self.folder / "program.py").write_text(program, encoding="utf-8")
        return self.run(sys.executable, "program.py")

    def result(self, run_id: str) -> dict[str, Any]:
        """The result of a run, as soon as it has ended."""
        headrace = Path(sysconfig.get_path("scripts"), "headrace")
        return json.loads(self.run(headrace, "result", run_id, "--timeout", f"{HANG_S:.0f}s", "--json"))

    def said(self) -> str:
        """What the worker has logged."""
        return (self.folder / "worker.err").read_text(encoding="utf-8", errors="replace")

    def close(self) -> None:
        """End the worker."""
        self._worker.terminate()
        self._worker.wait(HANG_S)
        self._log.close()


def blocks_of(page: Path, language: str) -> list[str]:
    """The blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def orders(broker: str, app_name: AppName, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orders]:
    made = Orders(tmp_path_factory.mktemp("orders"), broker, app_name("orders"))
    try:
        until(lambda: "working on partitions" in made.said(), "working")
        yield made
    finally:
        made.close()


@pytest.fixture
def jars() -> Path:
    """Kafka's jars and a Java that compiles, where this machine has them already."""
    folder = default_folder()
    if not (folder / MARK).is_file() or shutil.which("javac") is None:
        pytest.skip("Kafka's jars, or a Java that compiles, are not on this machine: 'headrace dev broker' gets the jars")
    return folder


@pytest.fixture
def console() -> str:
    """Kafka's console producer, where this machine has it; it is not among the jars of a broker."""
    found = shutil.which("kafka-console-producer.sh")
    if found is None:
        pytest.skip(
            "kafka-console-producer.sh is not in PATH: it is in the bin folder of a Kafka of the project's downloads"
        )
    return found


def test_the_python_of_the_page_starts_runs_and_reads_their_results(orders: Orders) -> None:
    for _ in range(3):
        orders.python(orders.block("python", "Producer"))

    printed = orders.python(orders.block("python", "Consumer").replace("order-results", f"{orders.app}-results"))

    assert "order-4 completed shipped for 40\n" in printed
    assert orders.result("order-4")["output"] == "shipped for 40"
    log = read_log(orders.broker, orders.app)
    assert len([record for record in log.of("results") if record.key == b"order-4"]) == 1, "sent three times, run once"


def test_the_console_producer_starts_a_run_and_signals_another_one(orders: Orders, console: str) -> None:
    orders.python(orders.block("python", "Producer"))

    for having in ('"start"', '"signal"'):
        orders.run("sh", "-c", orders.block("sh", having).replace("kafka-console-producer.sh", console))

    assert orders.result("order-1")["output"] == "shipped for 40"
    assert orders.result("order-5")["output"] == "shipped for 400"


def test_the_java_of_the_page_starts_a_run(orders: Orders, jars: Path) -> None:
    (orders.folder / "StartOrder.java").write_text(orders.block("java"), encoding="utf-8")

    orders.run("java", "-cp", f"{jars}/*", "StartOrder.java")

    assert orders.result("order-2")["output"] == "shipped for 40"


def test_no_program_of_the_page_writes_to_a_partition_that_is_not_the_runs(orders: Orders) -> None:
    orders.python(orders.block("python", "Producer"))
    orders.result("order-4")

    assert "stood on partition" not in orders.said()
    assert read_log(orders.broker, orders.app).of("dead-letters") == []
