"""Resumes with few keys for many waits of a family, on their way at once: each key is applied once, and none is lost."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from headrace import events as e
from headrace.commands import Cancel, Resume, Start
from headrace.values import encode

from .flows import Case
from .group_world import GroupWorld
from .operator_steps import RUNS
from .test_random_flows import check_runs, examples, memory, paces
from .watched_world import Pace


def wait(node_id: str, timeout_ms: int | None = None) -> dict[str, Any]:
    return {"id": node_id, "uses": "wait", "params": {} if timeout_ms is None else {"timeout": timeout_ms}}


def subflow(node_id: str, blueprint_id: str, **config: Any) -> dict[str, Any]:
    return {"id": node_id, "uses": "subflow", "params": {"blueprintId": blueprint_id}, "config": config}


def edges(*pairs: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"source": source, "target": target} for source, target in pairs]


FAMILY = [
    {
        "id": "a",
        "nodes": [wait("w"), wait("v"), subflow("s", "b"), subflow("t", "b", timeout=5_000, maxRetries=2)],
        "edges": edges(("w", "v")),
    },
    {
        "id": "b",
        "nodes": [wait("w"), wait("v"), subflow("s", "c"), subflow("t", "c")],
        "edges": edges(("w", "v"), ("s", "t")),
    },
    {"id": "c", "nodes": [wait("w"), wait("v", 1_000)], "edges": edges(("w", "v"))},
]
CASE = Case(FAMILY, {}, None, {})
OWN = ("w", "v")
IN_CHILDREN = tuple(f"{child}/{node}" for child in "st" for node in OWN)
IN_GRANDCHILDREN = tuple(f"{child}/{path}" for child in "st" for path in IN_CHILDREN)
PATHS = (*OWN, *IN_CHILDREN, *IN_GRANDCHILDREN, "s/nobody", "t/s/nobody")
KEYS = ("k1", "k2", "k3")


class Step(NamedTuple):
    kind: str
    which: int
    how: int


KINDS = (
    *("resume",) * 12,
    "step",
    "step",
    "advance",
    "crash",
    "die before",
    "die after",
    "undo",
    "move",
    "lose",
    *("cancel",) * 3,
)
STEPS = st.lists(st.builds(Step, st.sampled_from(KINDS), st.integers(0, 17), st.integers(0, 7)), min_size=3, max_size=30)


class KeyWorld(GroupWorld):
    """Counts how often each key was applied in the family."""

    def __init__(self, pace: Pace) -> None:
        self.applied: Counter[str] = Counter()
        super().__init__(memory(), CASE, pace)

    def note(self, run_id: str, event: e.Event) -> None:
        super().note(run_id, event)
        if isinstance(event, e.WaitResumed) and event.key is not None:
            self.applied[event.key] += 1
            assert self.applied[event.key] == 1, f"{event.key} is applied for the second time, in {run_id}"

    def do(self, step: Step) -> None:
        match step.kind:
            case "resume":
                self.send(Resume(RUNS[0], PATHS[step.which % len(PATHS)], None, encode(step.which), KEYS[step.how % 3]))
            case "step":
                self.steps(1 + step.how // 4)
            case "advance":
                self.advance((500, 1_000, 5_000)[step.how % 3])
            case "crash":
                self.replace_worker()
            case "die before" | "die after":
                assert self.faults is not None
                setattr(self.faults, step.kind.removeprefix("die "), 1 + step.how)
            case "undo":
                self.undo(1 + step.how)
            case "move":
                self.move(step.which % self.pace.partitions, step.how, gently=step.how < 4)
            case "lose":
                self.lose(step.which % self.pace.partitions, gently=step.how < 4)
            case "cancel":
                # The whole family only now and then: nothing comes after that.
                runs = [run_id for run_id in self.open_runs if run_id != RUNS[0] or step.how == 0]
                if runs and step.how < 4:
                    self.send(Cancel(runs[step.which % len(runs)]))


@examples(400)
@given(STEPS, paces)
def test_a_key_is_applied_once_in_a_family_and_free_where_it_was_not(what: list[Step], pace: Pace) -> None:
    world = KeyWorld(pace)
    world.order(Start(RUNS[0], "a"))
    world.rest()

    for step in what:
        world.do(step)
    world.calm()
    world.rest()

    sent = {f"q{number}" for number in range(1, next(world._requests))}
    if not world.crashes:
        assert sent == world.answers.keys(), "everybody is answered"
    for key in KEYS:
        awaited = world.awaited(RUNS[0])
        if awaited:
            expected = "ignored" if world.applied[key] else "applied"
            assert world.submit(Resume(RUNS[0], awaited[-1], key=key)).outcome == expected
            world.rest()
    world.order(Cancel(RUNS[0]))
    world.rest()
    check_runs(world)
