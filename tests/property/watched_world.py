"""A world that looks at every event of every run, and whose worker may die at any write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import orjson

from headrace import events as e
from headrace.apply import apply
from headrace.blueprint import from_json
from headrace.commands import Command, RunNode
from headrace.execution import NO_ITEM, Execution, Outcome
from headrace.limits import Limits
from headrace.plan import compile_plan
from headrace.plans import Plans
from headrace.state import CHILD, OPEN, WAITING, RunState
from headrace.waits import open_waits
from headrace_adapters.base import Carrier, WorkerLoop
from headrace_adapters.local.carrier import append_jobs
from headrace_adapters.local.layout import EVENTS
from headrace_adapters.memory import Crash, Faults
from headrace_topics.events_record import decode_events
from headrace_topics.names import run_prefix
from tests.contract.job_logs import UnsteadyCarrier
from tests.scenarios.backends import Backend
from tests.scenarios.checks import FINAL, Checks, assert_same, snapshot
from tests.scenarios.scripted import Script, ScriptedExecutor
from tests.scenarios.world import World

from .flows import Case
from .run_watch import RunWatch

# What the longest of the flows here may need; one that turns round for ever is to be found soon.
SETTLE_STEPS_MAX = 20_000

# Longer than any flow here may take, so that a child is remembered as long as its parent goes on.
DEDUP_WINDOW_MS = 1_000 * 24 * 3_600_000


class Pace(NamedTuple):
    """How the worker works: all of it changes only the order in which things happen."""

    slots: int = 1_000
    outcomes_at_once: int = 1_000
    runs_cached_max: int = 10_000
    partitions: int = 3
    stubborn: bool = False
    """Whether executions that are no longer wanted come to their end all the same, and tell what they made of it."""


class WatchedScript(Script):
    """Behaviours that may be called by several runs, and by none that has ended."""

    def __init__(self, behaviours: dict[str, list[dict[str, Any]]]) -> None:
        super().__init__(behaviours)
        self.behaviours = behaviours
        self.ended_runs: set[str] = set()

    def next_entry(self, execution: Execution) -> dict[str, Any]:
        assert execution.run_id not in self.ended_runs, f"{execution.node_id} was executed after the end of its run"
        return super().next_entry(execution)


class PacedExecutor(ScriptedExecutor):
    """Gives back a few outcomes at a time, so that decisions and commits of different nodes interleave."""

    def __init__(self, script: Script, pace: Pace) -> None:
        super().__init__(script)
        self._at_once = pace.outcomes_at_once
        self._stubborn = pace.stubborn
        self._done: list[tuple[int, Outcome]] = []

    @property
    def in_progress(self) -> int:
        return super().in_progress + len(self._done)

    def cancel(self, tokens: Iterable[int]) -> None:
        if self._stubborn:
            for token in tokens:
                self._hanging.pop(token, None)
        else:
            super().cancel(tokens)

    def drain(self) -> list[tuple[int, Outcome]]:
        self._done += super().drain()
        given, self._done = self._done[: self._at_once], self._done[self._at_once :]
        return given


def check_executions(loop: WorkerLoop, executor: PacedExecutor) -> None:
    """At rest, nothing is executed that nobody wants: it would take the place of others for ever."""
    assert executor.in_progress == sum(partition.executing for partition in loop.partitions.values())


class WatchedChecks(Checks):
    """Tells *note* of every event, once what holds of any run was checked."""

    def __init__(self, note: Callable[[str, e.Event], None]) -> None:
        super().__init__()
        self._tell = note

    def _note(self, run_id: str, event: e.Event) -> None:
        super()._note(run_id, event)
        self._tell(run_id, event)


class WatchedWorld(World):
    """A worker on *backend* that is stepped, killed and asked, and watched in all that it records."""

    def __init__(self, backend: Backend, case: Case, pace: Pace, script: WatchedScript | None = None) -> None:
        self.pace = pace
        self.watches: dict[str, RunWatch] = {}
        self.plans = {blueprint["id"]: compile_plan(from_json(blueprint)) for blueprint in case.blueprints}
        self.script = script or WatchedScript(case.behaviours)
        self.crashes = 0
        self.lacking = ""
        super().__init__(backend, case.blueprints, self.script)
        self.checks = WatchedChecks(self.note)

    @property
    def folded(self) -> dict[str, RunState]:
        """Every run that ever was, folded from its events."""
        return self.checks.folded

    @property
    def faults(self) -> Faults | None:
        """The faults of the store, where it can be told to fail."""
        return getattr(self._backend.store, "faults", None)

    def _open(self) -> None:
        plans = Plans(self.script.behaviours.keys() - {self.lacking})
        for blueprint in self._blueprints:
            if blueprint["id"] != self.lacking:
                plans.add(from_json(blueprint))
        limits = Limits(runs_cached_max=self.pace.runs_cached_max, dedup_window_ms=DEDUP_WINDOW_MS)
        self._open_workers(plans, limits)

    def _open_workers(self, plans: Plans, limits: Limits) -> None:
        self.executor = PacedExecutor(self.script, self.pace)
        self.carrier = UnsteadyCarrier(self._backend.store, limits, self.pace.partitions)
        self.loop = self._loop(self.carrier, plans, self.executor, limits)
        self.loop.open()

    def _loop(self, carrier: Carrier, plans: Plans, executor: PacedExecutor, limits: Limits) -> WorkerLoop:
        loop = WorkerLoop(carrier, plans, executor, lambda: self.now_ms, limits, slots=self.pace.slots)
        loop.on_commit(self._committed)
        return loop

    # Driving, through deaths of the worker.

    def survive(self, act: Callable[[], Any]) -> Any:
        """Do *act*; where the worker dies of it, another one takes over, and None is the answer."""
        try:
            return act()
        except Crash:
            self.replace_worker()
            return None

    def replace_worker(self, *jobs: Command, lacking: str = "") -> None:
        """The worker is dead; *jobs* come before the next one begins, which may lack a blueprint or implementation."""
        self.lacking = lacking
        self.crashes += 1
        self.calm()
        self._append(jobs)
        self.crash()
        self._catch_up()

    def _append(self, jobs: Sequence[Command]) -> None:
        """Commands that nobody waits for, and that come while nobody works."""
        if jobs:
            append_jobs(self._backend.store, jobs)

    def undo(self, which: int) -> None:
        """Have the next commit undone (1), or one after it; 0 for none."""
        self.carrier.undo.left = which

    def calm(self) -> None:
        """No faults from here on."""
        self.undo(0)
        if self.faults is not None:
            self.faults.before = self.faults.after = 0

    def order(self, command: Command) -> None:
        """Hand a command over until it is answered, as a client does that heard nothing."""
        while True:
            answer = self.survive(lambda: self.submit(command))
            if answer is not None:
                assert answer.outcome in ("applied", "ignored", "duplicate", "unknown"), answer
                return

    def steps(self, number: int) -> None:
        for _ in range(number):
            self.survive(self.loop.step)

    def settle(self) -> None:
        """As in scenarios, but executions that hang may take all slots; then the work behind them waits too."""
        for _ in range(SETTLE_STEPS_MAX):
            if self.loop.step() or self.executor.pass_time():
                continue
            self.loop.commit_begun()
            if self.loop.idle or self.executor.in_progress >= self.pace.slots:
                check_executions(self.loop, self.executor)
                self._check_families()
                self._check_indexes()
                return
        raise AssertionError("the world does not come to rest")

    def rest(self) -> None:
        """Until nothing changes any more without the operator."""
        while self.survive(lambda: self.settle() or True) is None:
            pass

    def redeliver(self, run_id: str, choice: int) -> None:
        """Deliver one of the jobs of a run again, or one of an activation or attempt that is over."""
        run = self.folded[run_id]
        jobs = [
            RunNode(run_id, run.blueprint_id, node, item, work.activation, work.attempt)
            for node, state in run.nodes.items()
            for item, work in ((NO_ITEM, state), *enumerate(state.batch.items if state.batch is not None else ()))
            if work.attempt
        ]
        if jobs:
            job = jobs[choice % len(jobs)]
            self.deliver(job)
            self.deliver(job._replace(activation=max(0, job.activation - 1), attempt=max(1, job.attempt - 1)))

    # What holds after every commit.

    def _committed(self, batch: Any) -> None:
        super()._committed(batch)
        for letter in batch.dead_letters:
            raise AssertionError(f"a command could not be carried out: {letter}")
        for change in batch.runs.values():
            self._check_state(change.state)

    def note(self, run_id: str, event: e.Event) -> None:
        """One event of a run, which is folded already."""
        state = self.folded[run_id]
        self.watches.setdefault(run_id, RunWatch()).note(state, self.plans[state.blueprint_id], event)
        if isinstance(event, FINAL):
            self.script.ended_runs.add(run_id)
            self.watches[run_id].check_end(state, self.plans[state.blueprint_id], event)

    def _check_state(self, state: RunState) -> None:
        for node, join in state.joins.items():
            assert not join.arrived.keys() & join.dead.keys(), f"an edge into {node} is taken and dead"
            assert not join.failed.keys() & (join.arrived.keys() | join.dead.keys()), f"an edge into {node} has two fates"
        if not state.ended:
            works = [work for node in state.nodes.values() for work in (node, *(node.batch.items if node.batch else ()))]
            open_ones = [work for work in works if work.status in OPEN]
            waits = [w for w in open_ones if w.status == WAITING or (w.status == CHILD and w.child and w.child.awaiting)]
            assert open_ones or state.parked, f"run {state.run_id} has no work and has not ended"
            assert state.awaiting == (0 < len(open_ones) == len(waits))

    def _check_families(self) -> None:
        """At rest, every child that goes on has a parent that waits for it and knows what it awaits."""
        for child in [self.folded[run_id] for run_id in self.open_runs if self.folded[run_id].parent is not None]:
            assert child.parent is not None
            parent = self.folded[child.parent.run_id]
            assert not parent.ended, f"{child.run_id} goes on and its parent has ended"
            known = parent.nodes[child.parent.node_id].child
            assert known is not None
            assert known.run_id == child.run_id, f"nobody waits for {child.run_id}"
            assert known.awaiting == (child.awaiting and not child.paused)
            assert known.waits == open_waits(child)
        for run_id in self.open_runs:
            assert not self.folded[run_id].claims, f"{run_id} holds keys, and no resume is on its way"

    def _catch_up(self) -> None:
        """Read what the dead worker had made durable and could not tell, and compare it with the store."""
        for key, record in self._backend.store.scan(EVENTS):
            run_id = orjson.loads(record)["runId"]
            seq = int.from_bytes(key[len(EVENTS + run_prefix(run_id)) :], "big")
            if seq < 2**63:
                folded = self.folded.setdefault(run_id, RunState(run_id))
                if folded.seq < seq:
                    self._fold(run_id, folded, record)
        self._check_indexes()
        for run_id, folded in self.folded.items():
            stored = self.carrier.reader(self.carrier.partition_of(run_id)).load(run_id)
            if folded.ended:
                assert not isinstance(stored, RunState)
            else:
                assert isinstance(stored, RunState)
                assert_same(snapshot(stored), snapshot(folded), "store == folded events")

    def _check_indexes(self) -> None:
        """What the next owner finds by the indexes is what there is."""
        timers, active, parked = set(), set(), set()
        for number in range(self.carrier.partitions):
            reader = self.carrier.reader(number)
            timers |= {entry[:4] for entry in reader.timers(-1, 2**62, 2**31) if entry.node_id}
            active |= set(reader.active_runs())
            parked |= set(reader.parked_runs())
        going_on = [state for state in self.folded.values() if not state.ended]
        assert timers == {
            (work.due_ms, state.run_id, node_id, item)
            for state in going_on
            for node_id, node in state.nodes.items()
            for item, work in ((NO_ITEM, node), *enumerate(node.batch.items if node.batch is not None else ()))
            if work.due_ms is not None
        }
        assert active == {state.run_id for state in going_on if state.active}
        assert parked == {state.run_id for state in going_on if state.parked}

    def _fold(self, run_id: str, folded: RunState, record: bytes) -> None:
        for seq, _, event in decode_events(record):
            assert seq == folded.seq + 1, "events have no gap"
            assert not folded.ended, "nothing happens after the end"
            apply(folded, event)
            self.checks._note(run_id, event)

    # The end.

    @property
    def open_runs(self) -> list[str]:
        return [run_id for run_id, folded in self.folded.items() if not folded.ended]

    def event_types(self) -> dict[str, list[str]]:
        return {run_id: watch.types for run_id, watch in self.watches.items()}

    def results(self) -> dict[str, Any]:
        return {run_id: self.result(run_id) for run_id in self.folded}
