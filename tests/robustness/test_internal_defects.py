"""A defect of our own in a decision: the command is put aside or the run fails, with the reason, and all others go on.

Defects are brought about from outside, by values that no door would let in: an expression over one of them cannot be
evaluated, and not for a reason that an expression may fail for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from headrace import commands as c
from headrace.events import Parent
from headrace.execution import Execution, Outcome, Succeeded
from headrace.limits import Limits
from headrace_adapters.local.carrier import LocalCarrier
from headrace_adapters.local.layout import DEAD_LETTER
from headrace_topics.dead_letters import decode_dead_letter
from tests.contract.driven import Driven, InlineExecutor, history_of, result_of
from tests.scenarios.backends import Backend

NO_JSON = b'{"broken'
ROUTED = {
    "id": "routed",
    "nodes": [{"id": "ask", "uses": "wait", "params": {"event": "e"}}, {"id": "then", "uses": "echo"}],
    "edges": [{"source": "ask", "target": "then", "condition": "result.output > 0"}],
}
WORKING = {
    "id": "working",
    "nodes": [{"id": "do", "uses": "echo"}, {"id": "then", "uses": "echo"}],
    "edges": [{"source": "do", "target": "then", "condition": "result.output > 0"}],
}
PARENT = {
    "id": "parent",
    "nodes": [{"id": "kid", "uses": "subflow", "params": {"blueprintId": "routed"}}, {"id": "then", "uses": "echo"}],
    "edges": [{"source": "kid", "target": "then", "condition": "result.output == 7"}],
}
FUNCTIONS: dict[str, Any] = {"echo": lambda ctx: ctx.input}


class BrokenExecutor(InlineExecutor):
    """Gives an outcome that no executor would."""

    def __init__(self) -> None:
        super().__init__(FUNCTIONS)
        self.broken_runs: set[str] = set()
        self._broken: list[tuple[int, Outcome]] = []

    def submit(self, executions: Sequence[Execution]) -> None:
        for execution in executions:
            if execution.run_id in self.broken_runs:
                self._broken.append((execution.token, Succeeded(NO_JSON)))
            else:
                super().submit([execution])

    def drain(self) -> list[tuple[int, Outcome]]:
        broken, self._broken = self._broken, []
        return broken + super().drain()


@pytest.fixture
def driven(backend: Backend) -> Driven:
    """One partition, so that all runs share it."""
    return Driven(LocalCarrier(backend.store, Limits(), 1), [ROUTED, WORKING, PARENT], FUNCTIONS)


def letters_of(backend: Backend) -> list[tuple[bytes | None, str]]:
    letters = [decode_dead_letter(record) for _, record in backend.store.scan(DEAD_LETTER)]
    return [(letter.record, letter.reason) for letter in letters]


def goes_on(driven: Driven, backend: Backend, run_id: str) -> None:
    """Another run of the same partition comes to its end."""
    assert driven.submit(c.Start(run_id, "working", input=b"5")).outcome == "applied"
    driven.settle()
    result = result_of(backend.store, run_id)
    assert result is not None
    assert result.output == 5


def test_a_command_that_cannot_be_decided_is_put_aside_and_its_run_is_as_it_was(backend: Backend, driven: Driven) -> None:
    driven.submit(c.Start("r", "routed"))
    driven.settle()
    before = history_of(backend.store, "r")

    answer = driven.submit(c.Signal("r", "e", NO_JSON))

    assert answer.outcome == "refused"
    assert "internal error, please report it: " in answer.reason
    ((record, reason),) = letters_of(backend)
    assert record is not None
    assert b'"signal"' in record
    assert reason == answer.reason
    assert history_of(backend.store, "r") == before, "not a part of the decision was kept"
    assert driven.status("r") == "awaiting"
    goes_on(driven, backend, "other")
    assert driven.submit(c.Signal("r", "e", b"3")).outcome == "applied"
    driven.settle()
    result = result_of(backend.store, "r")
    assert result is not None
    assert result.output == 3


def test_the_state_is_put_back_also_to_what_is_not_committed_yet(backend: Backend, driven: Driven) -> None:
    """Start, pause and the bad signal come in one batch: the first two must survive the third."""
    partition = driven.loop.partitions[0]
    partition.receive(c.Start("r", "routed", context={"k": b"1"}), driven.now_ms)
    partition.begin(10, driven.now_ms)
    driven.settle()
    partition.receive(c.Pause("r", "a while"), driven.now_ms)
    partition.receive(c.Signal("r", "other", b"1"), driven.now_ms)
    partition.receive(c.Signal("r", "e", NO_JSON), driven.now_ms)
    partition.receive(c.Unpause("r"), driven.now_ms)
    driven.settle()

    assert history_of(backend.store, "r")[-3:] == ["RunPaused", "SignalReceived", "RunUnpaused"]
    assert len(letters_of(backend)) == 1
    backend.die()
    reopened = Driven(LocalCarrier(backend.store, Limits(), 1), [ROUTED, WORKING, PARENT], FUNCTIONS)
    assert reopened.submit(c.Signal("r", "e", b"4")).outcome == "applied"


def test_an_outcome_that_cannot_be_decided_fails_its_run_with_the_reason(backend: Backend) -> None:
    driven = Driven(LocalCarrier(backend.store, Limits(), 1), [ROUTED, WORKING, PARENT], FUNCTIONS)
    executor = BrokenExecutor()
    executor.broken_runs.add("r")
    driven.executor = driven.loop._executor = executor

    driven.submit(c.Start("r", "working", input=b"1"))
    goes_on(driven, backend, "other")

    result = result_of(backend.store, "r")
    assert result is not None
    assert result.status == "failed"
    assert [error["code"] for error in result.errors] == ["INTERNAL_ERROR"]
    assert "please report it" in result.errors[0]["message"]
    assert history_of(backend.store, "r").count("RunFailed") == 1
    assert driven.executor.in_progress == 0


def test_a_parent_about_whose_child_nothing_can_be_decided_fails_instead_of_waiting(
    backend: Backend, driven: Driven
) -> None:
    driven.submit(c.Start("r", "parent"))
    driven.settle()
    assert driven.status("r") == "awaiting"

    driven.loop.submit(c.ChildEnd("r", "r/kid", "kid", "completed", NO_JSON, {}, ""))
    driven.settle()

    result = result_of(backend.store, "r")
    assert result is not None
    assert result.status == "failed"
    assert len(letters_of(backend)) == 1
    assert driven.status("r/kid") == "cancelled", "its child goes with it"
    goes_on(driven, backend, "other")


def test_a_child_that_cannot_begin_fails_its_parents_node(backend: Backend, driven: Driven) -> None:
    partition = driven.loop.partitions[0]
    partition.receive(c.Start("r", "parent"), driven.now_ms)
    driven.loop._commit()
    partition.begin(10, driven.now_ms)
    (start,) = partition.published()
    assert isinstance(start, c.Start)
    # Nothing that maps keys to values: applying it is a defect.
    partition.receive(start._replace(context=7), driven.now_ms)  # type: ignore[arg-type]
    (end,) = partition.published()
    assert isinstance(end, c.ChildEnd)
    assert end.status == "failed"
    assert start.parent == Parent("r", "kid", 0, 1, 1)
    partition.receive(end, driven.now_ms)
    (_, reason) = partition._growing.dead_letters.pop()
    driven.settle()

    result = result_of(backend.store, "r")
    assert result is not None
    assert (result.status, result.errors[0]["nodeId"]) == ("failed", "kid")
    assert "internal error" in result.errors[0]["message"]
    assert "internal error" in reason
    assert driven.run("r/kid") is None, "nothing of the child is left"
    goes_on(driven, backend, "other")


def test_a_start_that_cannot_be_decided_leaves_nothing_and_may_be_sent_again(backend: Backend, driven: Driven) -> None:
    partition = driven.loop.partitions[0]
    partition.receive(c.Start("r", "routed", context=7), driven.now_ms)  # type: ignore[arg-type]
    assert partition.run("r") is None
    partition._growing.dead_letters.clear()

    assert driven.submit(c.Start("r", "routed")).outcome == "applied"
    driven.settle()
    assert driven.status("r") == "awaiting"
