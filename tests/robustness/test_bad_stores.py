"""Stores that cannot be used as they are: held, full, written by a newer version, damaged. Nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sysconfig
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from headrace import App, Flow
from headrace import commands as c
from headrace.adapter import Client
from headrace.errors import RecordRefused, StoreError, StoreLocked, StoreTooNew
from headrace.limits import Limits
from headrace_adapters.embedded import open_adapter
from headrace_adapters.link import connect
from headrace_adapters.local.carrier import LocalCarrier
from headrace_adapters.local.layout import BLUEPRINT, DEAD_LETTER, Layout, number_key
from headrace_adapters.memory import MemoryStore
from headrace_adapters.rocks import RocksStore
from headrace_adapters.rocks.stamp import STAMP_KEY
from headrace_topics.dead_letters import decode_dead_letter
from headrace_topics.names import run_prefix
from headrace_topics.partitioning import partition_of
from tests.contract.driven import Driven
from tests.contract.waiting import RESULT_S, eventually

HEADRACE = Path(sysconfig.get_path("scripts"), "headrace")
PROGRAM = """
from headrace import App, Flow

app = App("filling").add(Flow("f").node("size", lambda ctx: len(ctx.input)))
app.add(Flow("ask").wait("w", event="e").node("size", lambda ctx: len(ctx.input), after="w"))
"""
PROCESS_S = 30


def filling() -> App:
    app = App("filling").add(Flow("f").node("size", lambda ctx: len(ctx.input)))
    return app.add(Flow("ask").wait("w", event="e").node("size", lambda ctx: len(ctx.input), after="w"))


@asynccontextmanager
async def working(folder: Path, app: App | None = None) -> AsyncIterator[Client]:
    worker = open_adapter(app or filling(), f"embedded:{folder}", {"sync": False}).worker()
    client = await worker.start()
    try:
        yield client
    finally:
        await worker.stop()
        await client.close()


class Program:
    """A real worker in a process of its own, with a limit on the size of the files that it may write."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "filling.py").write_text(PROGRAM, encoding="utf-8")
        self.folder = folder / "data"
        self._place = folder
        self.process: subprocess.Popen[str] | None = None

    def start(self, file_bytes_max: int) -> None:
        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes_max, file_bytes_max))

        env = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
        self.process = subprocess.Popen(
            [HEADRACE, "worker", "filling.py", "--url", f"embedded:{self.folder}"],
            cwd=self._place,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=limit,  # noqa: PLW1509 (the child of a test that has no other threads at this moment)
        )

    async def client(self) -> Client:
        async def look() -> Client | None:
            assert self.process is not None
            assert self.process.poll() is None, self.process.communicate()
            return await connect(self.folder)

        return await eventually(look)

    def end(self) -> tuple[int, str]:
        assert self.process is not None
        _, err = self.process.communicate(timeout=PROCESS_S)
        return self.process.returncode, err

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.communicate(timeout=PROCESS_S)


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    made = Program(tmp_path / "program")
    yield made
    made.close()


async def test_a_full_disk_stops_the_worker_with_what_to_do_and_loses_nothing_acknowledged(program: Program) -> None:
    program.start(file_bytes_max=3_000_000)
    client = await program.client()
    acknowledged: list[str] = []
    value = b'"' + b"x" * 100_000 + b'"'

    async def fill() -> None:
        for number in range(1_000):
            run_id = f"r{number}"
            answer = await client.submit(c.Start(run_id, "f" if number % 2 else "ask", input=value))
            assert answer.outcome == "applied"
            acknowledged.append(run_id)

    with pytest.raises(StoreError) as caught:
        await asyncio.wait_for(fill(), PROCESS_S)
    await client.close()
    code, err = await asyncio.to_thread(program.end)

    assert len(acknowledged) >= 5
    assert "again" in str(caught.value), "the client learns what to do as well"
    assert code == 5
    assert "the disk takes no more" in err
    assert "what was acknowledged is safe: free space, then start the worker again" in err
    assert "Traceback" not in err

    async with working(program.folder) as more_room:
        for number, run_id in enumerate(acknowledged):
            if number % 2 == 0:
                assert (await more_room.submit(c.Signal(run_id, "e", value))).outcome == "applied", run_id
            result = await more_room.result(run_id, RESULT_S)
            assert result is not None, run_id
            assert (result.status, result.output) == ("completed", 100_000)


async def test_a_worker_of_a_program_on_a_full_disk_dies_of_it_and_its_callers_learn_so(program: Program) -> None:
    """The limit is one of this process, so everything happens in a child that tells what it saw."""
    script = """
import asyncio, json, resource, sys
from headrace.errors import StoreFull
from filling import app

async def main():
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
    started = []
    try:
        async with app.work("embedded:data", sync=False):
            for number in range(1_000):
                await app.start("ask", "x" * 100_000, run_id=f"r{number}")
                started.append(f"r{number}")
    except StoreFull as error:
        print(json.dumps({"started": started, "error": str(error)}))

asyncio.run(main())
"""
    done = await asyncio.to_thread(
        subprocess.run,
        [Path(sysconfig.get_path("scripts"), "python"), "-c", script],
        cwd=program.folder.parent,
        capture_output=True,
        text=True,
        timeout=PROCESS_S,
        check=False,
    )
    told = json.loads(done.stdout)

    assert done.returncode == 0, done.stderr
    assert "free space, then start the worker again" in told["error"]
    async with working(program.folder) as client:
        for run_id in told["started"]:
            assert (await client.status(run_id) or {}).get("status") == "awaiting", run_id
    assert len(told["started"]) >= 5


async def test_a_folder_that_another_worker_holds_is_refused_and_reached_through_that_worker(program: Program) -> None:
    program.start(file_bytes_max=2**40)
    await (await program.client()).close()

    with pytest.raises(StoreLocked, match=r"held by process \d+; reach that worker"):
        async with working(program.folder):
            pass
    with pytest.raises(StoreLocked):
        RocksStore(program.folder / "store")

    reached = await open_adapter(App("filling"), f"embedded:{program.folder}", {}).client()
    assert (await reached.submit(c.Start("r", "f", input=b'"four"'))).outcome == "applied"
    result = await reached.result("r", RESULT_S)
    assert result is not None
    assert result.output == 4
    await reached.close()


@pytest.mark.parametrize(
    "arguments", [["status", "r"], ["list"], ["worker", "filling.py"], ["start", "f", "--app", "filling"]]
)
async def test_a_store_of_a_newer_version_is_refused_by_every_command_and_left_as_it_is(
    program: Program, arguments: list[str]
) -> None:
    async with working(program.folder) as client:
        await client.submit(c.Start("r", "ask"))
    stamp = json.dumps({"format": 99, "createdBy": "9.9"}).encode()
    _write(program.folder, [(STAMP_KEY, stamp)])

    done = await asyncio.to_thread(
        subprocess.run,
        [HEADRACE, *arguments, "--url", "embedded:data", "--json"],
        cwd=program.folder.parent,
        capture_output=True,
        text=True,
        timeout=PROCESS_S,
        check=False,
    )

    assert done.returncode == 5, done.stderr
    message = json.loads(done.stderr.splitlines()[-1])["error"]["message"]
    assert "has format 99 (made by Headrace 9.9)" in message
    assert "install that version of Headrace or a later one, or give another folder" in message
    with pytest.raises(StoreTooNew):
        RocksStore(program.folder / "store")


def _write(folder: Path, records: list[tuple[bytes, bytes]]) -> None:
    """Write past the stamp, as a damaged or newer program would."""
    with RocksStore(folder / "store") as store:
        store.write(records)


async def test_a_run_whose_state_cannot_be_read_is_named_left_as_it_is_and_holds_up_no_other(tmp_path: Path) -> None:
    async with working(tmp_path) as client:
        for run_id in ("good", "bad", "worse"):
            await client.submit(c.Start(run_id, "ask"))
    damaged = {
        Layout(partition_of("bad", 4)).head + run_prefix("bad"): b'{"v":7,"seq":1}',
        Layout(partition_of("worse", 4)).head + run_prefix("worse"): b"\xff\xfe{",
    }
    _write(tmp_path, list(damaged.items()))

    async with working(tmp_path) as client:
        rows = {row["runId"]: row["status"] for row in await client.runs()}
        assert {run_id: rows[run_id] for run_id in ("bad", "worse")} == {"bad": "unreadable", "worse": "unreadable"}
        for command in (c.Start("bad", "f"), c.Signal("bad", "e"), c.Cancel("worse")):
            answer = await client.submit(command)
            assert answer.outcome == "refused"
            assert answer.reason
        with pytest.raises(RecordRefused, match=r"state of run 'bad' has version 7 .* use the version that wrote it"):
            await client.status("bad")
        assert (await client.submit(c.Signal("good", "e", b'"four"'))).outcome == "applied"
        result = await client.result("good", RESULT_S)
        assert result is not None
        assert result.output == 4

    with RocksStore(tmp_path / "store") as store:
        assert {key: store.get(key) for key in damaged} == damaged
        letters = [decode_dead_letter(record) for _, record in store.scan(DEAD_LETTER)]
    assert ["version 7" in letter.reason for letter in letters[:2]] == [True, True]


def test_a_run_that_cannot_be_read_when_a_worker_takes_it_up_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    hanging = {"id": "hang", "nodes": [{"id": "h", "uses": "hang"}], "edges": []}

    def opened() -> Driven:
        return Driven(LocalCarrier(store, Limits(), 1), [hanging], {"hang": lambda: 1}, hanging=["hang"])

    first = opened()
    for run_id in ("good", "bad"):
        first.submit(c.Start(run_id, "hang"))
    first.settle()
    store.write([(Layout(0).head + run_prefix("bad"), b'{"v":7,"seq":1}')])

    second = opened()
    second.settle()

    assert "the state of run 'bad' has version 7" in caplog.text
    assert "all others go on" in caplog.text
    assert [execution.run_id for execution in second.executor.begun] == ["good"]


async def test_a_blueprint_record_that_cannot_be_read_keeps_the_worker_from_starting_and_says_why(tmp_path: Path) -> None:
    async with working(tmp_path) as client:
        await client.submit(c.Start("r", "ask"))
    _write(tmp_path, [(number_key(BLUEPRINT, 7), b"{not json")])

    with pytest.raises(StoreError, match=r"blueprint 7 of the store cannot be read.*go on from a backup"):
        async with working(tmp_path):
            pass

    with RocksStore(tmp_path / "store") as store:
        store.write([], [number_key(BLUEPRINT, 7)])
    async with working(tmp_path) as client:
        assert (await client.status("r") or {})["status"] == "awaiting"
