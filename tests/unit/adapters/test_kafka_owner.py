from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest
from tests.contract.driven import START_MS, Driven
from tests.contract.waiting import eventually

from headrace import Flow
from headrace import commands as c
from headrace.adapter import Answer
from headrace.batch import Batch
from headrace.errors import StoreError
from headrace.limits import Limits
from headrace.turn import Reply
from headrace_adapters.http import NotOwned, Unanswered
from headrace_adapters.kafka import owner as owner_module
from headrace_adapters.kafka.owner import OwnerService
from headrace_adapters.local.carrier import LocalCarrier
from headrace_adapters.memory import MemoryStore

PARTITIONS = 3


class Worker:
    """A loop in a thread of its own, which a test may hold up."""

    def __init__(self) -> None:
        flow = Flow("f").wait("ask", event="go").node("after", lambda: 1, uses="one", after="ask")
        carrier = LocalCarrier(MemoryStore(), Limits(), PARTITIONS)
        self.driven = Driven(carrier, [flow.to_blueprint()], {"one": lambda: 1})
        self.loop, self.carrier = self.driven.loop, carrier
        for number in range(6):
            self.driven.submit(c.Start(f"r{number}", "f"))
        self.driven.submit(c.Signal("r1", "go"))
        self.driven.settle()
        self.restoring: list[int] = []
        self.service = OwnerService(
            self.loop,
            carrier,
            self.driven.plans,
            lambda: START_MS + 7,
            restoring=lambda: self.restoring,
            answers_kept=5,
            answer_s=0.3,
        )
        self._goes = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._work)
        self._thread.start()
        self.go()

    def _work(self) -> None:
        while not self._stopping:
            self._goes.wait(0.05)
            if self._goes.is_set():
                self.loop.answer()
                threading.Event().wait(0.001)

    def go(self) -> None:
        self._goes.set()

    def hold(self) -> None:
        self._goes.clear()

    def reply(self, *request_ids: str) -> None:
        """A batch was committed that answers these."""
        batch = Batch()
        batch.replies = [Reply(request_id, "applied", f"to {request_id}") for request_id in request_ids]
        for callback in self.loop._on_commit:
            callback(batch)

    def close(self) -> None:
        self._stopping = True
        self._thread.join()


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker()
    yield made
    made.close()


def applied(*request_ids: str) -> dict[str, Answer]:
    return {request_id: Answer("applied", f"to {request_id}") for request_id in request_ids}


# Runs.


async def test_a_run_is_shown_as_it_is_committed(worker: Worker) -> None:
    status = await worker.service.status("r0")

    assert status is not None
    assert (status["status"], status["awaiting"], status["at"]) == ("awaiting", ["ask"], START_MS + 7)
    assert [node["id"] for node in status["nodes"]] == ["ask", "after"]
    assert await worker.service.status("nobody") is None


async def test_of_a_run_that_has_ended_it_is_told_how_and_when(worker: Worker) -> None:
    assert await worker.service.status("r1") == {
        "runId": "r1", "flow": "f", "version": "1", "status": "completed", "startedAt": START_MS, "endedAt": START_MS,
    }  # fmt: skip


async def test_a_run_of_another_worker_is_not_told_of(worker: Worker) -> None:
    number = worker.carrier.partition_of("r0")
    del worker.loop.partitions[number]

    with pytest.raises(NotOwned, match=f"partition {number}"):
        await worker.service.status("r0")


async def test_runs_of_the_partitions_that_it_has_are_listed(worker: Worker) -> None:
    every = await worker.service.runs(None, None, 100)
    assert (every.partitions, len(every.runs)) == ([0, 1, 2], 6)
    assert [row["runId"] for row in (await worker.service.runs(frozenset(("completed",)), "f", 9)).runs] == ["r1"]
    assert (await worker.service.runs(None, "other", 9)).runs == []
    assert len((await worker.service.runs(None, None, 2)).runs) == 2

    number = worker.carrier.partition_of("r0")
    del worker.loop.partitions[number]
    fewer = await worker.service.runs(None, None, 100)
    assert number not in fewer.partitions
    assert "r0" not in {row["runId"] for row in fewer.runs}


async def test_a_loop_that_is_held_up_is_not_waited_for_long(worker: Worker) -> None:
    worker.hold()
    await asyncio.sleep(0.06)

    with pytest.raises(Unanswered, match="busy"):
        await worker.service.status("r0")
    worker.go()
    assert await worker.service.status("r0") is not None


async def test_what_goes_wrong_is_for_whoever_asked(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: int) -> None:
        raise KeyError("defect")

    monkeypatch.setattr(worker.carrier, "reader", broken)
    with pytest.raises(KeyError, match="defect"):
        await worker.service.status("r0")


# Answers.


async def test_answers_are_kept_for_those_who_ask_later_and_only_the_last_ones(worker: Worker) -> None:
    worker.reply("a", "b")
    assert await worker.service.answers(["a", "b", "c"], 5) == applied("a", "b")

    worker.reply("d", "e", "f", "g")
    assert await worker.service.answers(["a", "b", "g"], 0) == applied("b", "g")


async def test_who_waits_is_woken_by_the_first_answer(worker: Worker) -> None:
    first = asyncio.create_task(worker.service.answers(["a", "b"], 5))
    second = asyncio.create_task(worker.service.answers(["b"], 5))
    other = asyncio.create_task(worker.service.answers(["c"], 0.05))
    await asyncio.sleep(0.01)
    await asyncio.to_thread(worker.reply, "b")

    assert await asyncio.wait_for(asyncio.gather(first, second), 2) == [applied("b"), applied("b")]
    assert await other == {}
    assert worker.service._replies._waiting == {}


async def test_many_wait_in_several_event_loops(worker: Worker) -> None:
    async def wait() -> dict[str, Answer]:
        return await worker.service.answers(["a"], 5)

    here = asyncio.create_task(wait())
    elsewhere = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(wait())))
    await eventually(lambda: len(worker.service._replies._waiting.get("a", ())) == 2)
    worker.reply("a")

    assert await asyncio.wait_for(asyncio.gather(here, elsewhere), 5) == [applied("a")] * 2


async def test_when_it_is_closed_nobody_waits_and_nothing_is_told(worker: Worker) -> None:
    waiting = asyncio.create_task(worker.service.answers(["a"], 60))
    await asyncio.sleep(0.01)
    worker.service.close()

    assert await asyncio.wait_for(waiting, 2) == {}
    with pytest.raises(Unanswered, match="stopping"):
        await worker.service.status("r0")
    assert not worker.loop._on_commit
    assert not (await worker.service.health()).ok


# Health.


async def test_a_worker_whose_loop_goes_round_is_well(worker: Worker) -> None:
    health = await worker.service.health()

    assert health.ok
    assert health.details["partitions"] == PARTITIONS


async def test_a_loop_that_waits_for_a_broker_is_well_and_one_that_hangs_is_not(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner_module, "PROBE_S", 0.05)
    worker.hold()
    await asyncio.sleep(0.06)
    assert (await worker.service.health()).ok

    monkeypatch.setattr(owner_module, "STALLED_S", 0.05)
    hangs = await worker.service.health()
    assert not hangs.ok
    assert "hangs" in hangs.details["reason"]

    worker.go()
    monkeypatch.setattr(owner_module, "STALLED_S", 60)
    assert (await worker.service.health()).ok


async def test_a_worker_that_has_stopped_is_not_well(worker: Worker) -> None:
    worker.loop.stopped = StoreError("the disk is full")

    assert not (await worker.service.health()).ok
    assert not (await worker.service.readiness()).ok


async def test_a_worker_is_ready_when_nothing_is_to_be_restored(worker: Worker) -> None:
    assert (await worker.service.readiness()).ok
    worker.restoring = [2, 1]
    readiness = await worker.service.readiness()

    assert not readiness.ok
    assert readiness.details == {"partitions": [0, 1, 2], "restoring": [1, 2]}


def test_the_default_is_that_nothing_is_restored() -> None:
    worker = Worker()
    restoring: Callable[[], object] = OwnerService(worker.loop, worker.carrier, worker.driven.plans, lambda: 0)._restoring
    worker.close()

    assert not restoring()
