"""What an operator, time and bad luck do to runs: drawn as plain steps, which find their targets when they are done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis import strategies as st

from headrace.commands import Cancel, Pause, Resume, Signal, Start, Unpause
from headrace.values import encode

from .flows import EVENTS, Case
from .group_world import GroupWorld
from .watched_world import WatchedWorld

RUNS = ("run-1", "run-2")
DAY_MS = 24 * 3_600_000
# Enough for waits one after the other in loops within loops; a run that needs more than this hangs.
ROUNDS_MAX = 400


class Step(NamedTuple):
    """One step: what is done, with numbers that choose to whom and how."""

    kind: str
    which: int = 0
    how: int = 0


GENTLE = ("settle", "settle", "step", "step", "advance", "advance", "resume", "resume", "signal", "redeliver", "redeliver")
STERN = ("pause", "unpause", "unpause", "start again", "start other", "cancel", "unknown")
FAULTY = ("crash", "crash", "die before", "die after", "undo", "undo", "jobs", "park")

KINDS_OF_STEPS = (*GENTLE, *STERN, *FAULTY)

# Where several workers share the partitions.
OF_GROUPS = ("move", "move", "move", "lose", "lose")


def steps(kinds: tuple[str, ...] = KINDS_OF_STEPS) -> st.SearchStrategy[list[Step]]:
    """Some steps, of which most leave the runs going on."""
    step = st.builds(Step, st.sampled_from(kinds), st.integers(0, 40), st.integers(0, 7))
    return st.sampled_from((1, 4, 8, 14)).flatmap(lambda least: st.lists(step, min_size=least, max_size=2 * least))


class Operator:
    """Does steps in a world."""

    def __init__(self, world: WatchedWorld, case: Case) -> None:
        self._world = world
        self._case = case

    def start(self, run_id: str) -> Start:
        context = {key: encode(value) for key, value in self._case.context.items()}
        return Start(run_id, self._case.flow_id, input=encode(self._case.input), context=context)

    def do(self, step: Step) -> None:
        DOERS[step.kind](self, step)

    def _run(self, which: int) -> str:
        """A run that goes on, children included; else any."""
        runs = self._world.open_runs or sorted(self._world.folded) or [RUNS[0]]
        return runs[which % len(runs)]

    def resume_of(self, step: Step) -> Resume:
        run_id = self._run(step.which)
        awaited = self._world.awaited(run_id)
        node = awaited[step.which % len(awaited)] if awaited else "nobody"
        action = (None, "x", "timeout", None)[step.how % 4]
        key = (None, "key-1", "key-1", "key-2")[step.how // 2]
        return Resume(run_id, node, action, encode(step.how), key)

    def signal_of(self, step: Step) -> Signal:
        return Signal(self._run(step.which), EVENTS[step.how % 2], encode({"payload": step.how}))

    def finish(self) -> None:
        """Stop disturbing: answer every wait and let time pass until every run has ended."""
        world = self._world
        world.calm()
        if world.lacking:
            world.replace_worker()
        for _ in range(ROUNDS_MAX):
            world.settle()
            if not world.open_runs:
                return
            for run_id in world.open_runs:
                if world.folded[run_id].paused:
                    world.order(Unpause(run_id))
            for run_id in world.open_runs:
                for path in world.awaited(run_id):
                    if run_id in world.open_runs:
                        world.order(Resume(run_id, path))
            world.advance(DAY_MS)
        states = {run_id: world.status(run_id) for run_id in world.open_runs}
        raise AssertionError(f"runs do not end: {states}")


def _advance(operator: Operator, step: Step) -> None:
    operator._world.advance((0, 1, 30, 50, 1_000, 5_000, 60_000, 2 * 3_600_000)[step.how])


def _die(operator: Operator, step: Step) -> None:
    """The worker is to die at one of its next writes; without faults it dies at once."""
    faults = operator._world.faults
    if faults is None:
        operator._world.replace_worker()
    elif step.kind == "die before":
        faults.before = 1 + step.how
    else:
        faults.after = 1 + step.how


def _undo(operator: Operator, step: Step) -> None:
    """One of the next commits is undone: often the very one in which time brings something."""
    world = operator._world
    world.undo(1 + (step.which % 4) // 2)
    if step.which % 4:
        _advance(operator, step)
        world.steps(1)


def _jobs(operator: Operator, step: Step) -> None:
    """Commands that come while nobody works are in the job log when the next worker begins."""
    operator._world.replace_worker(operator.start(RUNS[step.how % 2]), operator.resume_of(step), operator.signal_of(step))


def _park(operator: Operator, step: Step) -> None:
    """The next worker lacks something that runs may need; the one after it has it again.

    Definitions of runs that have begun are kept beside them, so only those that nothing has begun with may be unknown.
    """
    world, case = operator._world, operator._case
    begun = {world.folded[run_id].blueprint_id for run_id in world.open_runs}
    unknown = [blueprint["id"] for blueprint in case.blueprints if blueprint["id"] not in begun]
    names = [*unknown, *unknown, *case.behaviours] or ["nothing"]
    world.replace_worker(lacking=names[step.which % len(names)])


def _group_of(operator: Operator) -> GroupWorld:
    world = operator._world
    assert isinstance(world, GroupWorld), "partitions go to and fro in groups only"
    return world


def _move(operator: Operator, step: Step) -> None:
    world = _group_of(operator)
    world.move(step.which % world.pace.partitions, step.how, gently=step.how < 4)


def _lose(operator: Operator, step: Step) -> None:
    world = _group_of(operator)
    world.lose(step.which % world.pace.partitions, gently=step.how < 4)


DOERS: dict[str, Callable[[Operator, Step], Any]] = {
    "settle": lambda operator, _: operator._world.rest(),
    "step": lambda operator, step: operator._world.steps(1 + step.how),
    "advance": _advance,
    "resume": lambda operator, step: operator._world.order(operator.resume_of(step)),
    "signal": lambda operator, step: operator._world.order(operator.signal_of(step)),
    "redeliver": lambda operator, step: (
        operator._world.redeliver(operator._run(step.which), step.how) if operator._world.folded else None
    ),
    "pause": lambda operator, step: operator._world.order(Pause(operator._run(step.which))),
    "unpause": lambda operator, step: operator._world.order(Unpause(operator._run(step.which))),
    "start again": lambda operator, _: operator._world.order(operator.start(RUNS[0])),
    "start other": lambda operator, _: operator._world.order(operator.start(RUNS[1])),
    "cancel": lambda operator, step: operator._world.order(Cancel(operator._run(step.which), "on a whim")),
    "unknown": lambda operator, _: operator._world.order(Cancel("no-such-run")),
    "crash": lambda operator, _: operator._world.replace_worker(),
    "die before": _die,
    "die after": _die,
    "undo": _undo,
    "jobs": _jobs,
    "park": _park,
    "move": _move,
    "lose": _lose,
}
