"""A resume key that a family of runs has applied, wherever in it, is applied once."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.contract.driven import Driven
from tests.contract.job_logs import Countdown, JobLogs, LogCarrier
from tests.scenarios.backends import BACKENDS
from tests.scenarios.scripted import Script
from tests.scenarios.world import World

from headrace.adapter import Answer
from headrace.commands import Cancel, Command, Resume, ResumeIgnored, Start
from headrace.limits import Limits
from headrace.state import RunState
from headrace.turn import Reply
from headrace_adapters.local.layout import JOB
from headrace_adapters.memory import MemoryStore
from headrace_topics.jobs_record import decode_command

CHILD = {"id": "asking", "nodes": [{"id": "wait", "uses": "wait"}], "edges": []}
PARENT = {
    "id": "parent",
    "nodes": [{"id": name, "uses": "subflow", "params": {"blueprintId": "asking"}} for name in ("one", "two")],
    "edges": [],
}
# Two more nodes wait in a run whose child has a child.
MIDDLE = {
    "id": "middle",
    "nodes": [{"id": "low", "uses": "subflow", "params": {"blueprintId": "asking"}}, {"id": "wait", "uses": "wait"}],
    "edges": [],
}
GRANDPARENT = {
    "id": "grandparent",
    "nodes": [{"id": "middle", "uses": "subflow", "params": {"blueprintId": "middle"}}, {"id": "wait", "uses": "wait"}],
    "edges": [],
}


def test_two_resumes_with_one_key_for_two_children_at_once_are_applied_once(tmp_path: Path) -> None:
    world = World(BACKENDS["memory"](tmp_path), [CHILD, PARENT], Script({}))
    world.submit(Start("run", "parent"))
    world.settle()

    answers: list[Answer] = []
    for path in ("one/wait", "two/wait"):
        world.loop.submit(Resume("run", path, key="once"), answers.append)
    world.settle()

    assert [answer.outcome for answer in answers] == ["applied", "ignored"]
    assert world.awaited("run") == ["two/wait"]


class Family:
    """A worker on job logs, so that what a run says to another one comes a step later."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.logs = JobLogs(self.store, 2)
        carrier = LogCarrier(self.store, self.logs, Limits(), Countdown())
        self.made = Driven(carrier, [CHILD, MIDDLE, PARENT, GRANDPARENT], {})
        self.answers: dict[str, Reply] = {}
        self.made.loop.on_commit(lambda batch: self.answers.update({reply.request_id: reply for reply in batch.replies}))
        for number in range(2):
            carrier.gain(number)

    def say(self, *commands: Command) -> None:
        self.logs.append(commands)
        self.made.settle()

    def outcomes(self, *names: str) -> list[str]:
        return [self.answers[name].outcome for name in names]

    @property
    def state(self) -> RunState:
        state = self.made.run("run")
        assert isinstance(state, RunState)
        return state

    def until_passed_down(self) -> bytes:
        """Step until a resume is in the log of a child; gives its record."""
        for _ in range(10):
            self.made.loop.step()
            for _, record in self.store.scan(JOB):
                if b'"holders"' in record:
                    return record
        raise AssertionError("no resume was passed down")


def test_a_key_that_is_on_its_way_to_a_child_is_held() -> None:
    family = Family()
    family.say(Start("run", "parent"))
    family.say(Resume("run", "one/wait", key="once", request_id="1"), Resume("run", "two/wait", key="once", request_id="2"))
    family.say(Resume("run", "two/wait", key="once", request_id="3"))

    assert family.outcomes("1", "2", "3") == ["applied", "ignored", "ignored"]
    assert "on its way to a child run" in family.answers["2"].reason
    assert "was applied before" in family.answers["3"].reason
    assert (family.state.keys, family.state.claims) == ({"once"}, {})


@pytest.mark.parametrize("path", ["one/nobody", "one/wait/deeper"])
def test_a_key_is_free_again_where_the_child_did_not_apply_the_resume(path: str) -> None:
    family = Family()
    family.say(Start("run", "parent"))
    family.say(Resume("run", path, key="once", request_id="1"))
    assert (family.state.keys, family.state.claims) == (set(), {})
    family.say(Resume("run", "two/wait", key="once", request_id="2"))

    assert family.outcomes("1", "2") == ["ignored", "applied"]


def test_a_key_is_free_again_where_the_child_had_ended() -> None:
    family = Family()
    family.say(Start("run", "parent"))
    family.say(Cancel("run/one"), Resume("run", "one/wait", key="once", request_id="1"))
    assert family.outcomes("1") == ["ignored"]
    family.say(Resume("run", "two/wait", key="once", request_id="2"))

    assert family.outcomes("2") == ["applied"]


def test_a_key_is_settled_though_the_run_between_has_ended() -> None:
    family = Family()
    family.say(Start("run", "grandparent"))
    family.logs.append([Resume("run", "middle/low/wait", key="once", request_id="1")])
    while b"middle/low" not in family.until_passed_down():
        pass  # It is in the log of the lowest run now.
    family.say(Cancel("run/middle"))

    assert family.state.claims == {}
    assert family.outcomes("1") in (["applied"], ["ignored"])
    assert family.state.keys == ({"once"} if family.outcomes("1") == ["applied"] else set())


def test_a_resume_that_is_passed_down_twice_is_applied_once_and_its_key_stays_held_meanwhile() -> None:
    family = Family()
    family.say(Start("run", "grandparent"))
    family.logs.append([Resume("run", "middle/low/wait", key="once", request_id="1")])
    passed = decode_command(family.until_passed_down(), value_bytes_max=1_000)
    family.say(passed, Resume("run", "wait", key="once", request_id="2"))

    assert family.outcomes("2") == ["ignored"]
    assert (family.state.keys, family.state.claims) == ({"once"}, {})


def test_an_answer_to_an_earlier_resume_does_not_free_the_key_of_a_later_one() -> None:
    family = Family()
    family.say(Start("run", "parent"))
    family.say(Resume("run", "one/nobody", key="once"))
    family.logs.append([Resume("run", "one/wait", key="once", request_id="1")])
    family.until_passed_down()
    (claim,) = family.state.claims.values()
    family.say(ResumeIgnored("run", "once", claim.number - 1), Resume("run", "two/wait", key="once", request_id="2"))

    assert family.outcomes("1", "2") == ["applied", "ignored"]


def test_a_key_that_a_child_had_applied_for_somebody_else_counts_as_applied() -> None:
    family = Family()
    family.say(Start("run", "grandparent"))
    family.say(Resume("run/middle/low", "wait", key="once"), Resume("run", "middle/low/wait", key="once", request_id="1"))

    assert family.outcomes("1") == ["ignored"]
    assert (family.state.keys, family.state.claims) == ({"once"}, {})
