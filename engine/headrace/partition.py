"""A partition of work: the one object through which a driver uses the engine.

It owns the runs whose ids fall into it, decides about them, and does no IO. A driver, single-threaded, uses it so:

    receive(command, now_ms)      a record of the jobs topic
    advance(now_ms)               timers and time-outs that are due; ``next_due_ms`` says when to come back
    begin(limit, now_ms)          work that may start: executions for an executor; built-in nodes are done on the way
    finished(token, outcome, ..)  an execution has ended
    take()                        what was decided since the last time, to be written in one transaction; or None
    committed() / aborted()       how that ended

Nothing that was decided may leave the engine before its batch is committed: replies and cancellations are in the batch,
and work becomes ready for ``begin`` only with ``committed`` (unless its node
is marked *run-ahead*). One batch may be under way while the next one grows. After
``aborted`` everything uncommitted is gone, and the driver delivers again what it had received since the last commit.
"""

from __future__ import annotations

__all__ = ["Partition"]

from collections import deque
from collections.abc import Callable, Iterator, Mapping

from headrace import commands as c
from headrace.apply import apply
from headrace.batch import Batch
from headrace.blueprint import Blueprint
from headrace.deadlines import Deadlines
from headrace.decide import handle, refuse_child, settle
from headrace.events import Event, NodeStarted, RunParked
from headrace.execution import NO_ITEM, Execution, Outcome
from headrace.limits import Limits
from headrace.plan import Plan
from headrace.plans import Plans
from headrace.ports import Ended, RunReader, TimerEntry
from headrace.rejections import answer, reject
from headrace.residents import Residents
from headrace.runs import fail_run, start, unpark
from headrace.starting import begin_built_in, execution_of, finish, fire_timer, runs_code, time_out
from headrace.state import RUNNING, SCHEDULED, NodeState, RunState
from headrace.timers import Timers
from headrace.turn import Turn
from headrace.waits import tell_holders

_Work = tuple[str, str, int]

# Stands in for the plan of a run whose blueprint nobody here has; nothing of such a run has begun.
_NO_PLAN = Plan(Blueprint(id="", nodes=(), edges=()))


class Partition:
    """The runs of one partition. *tokens* gives numbers that are unique among the partitions of a worker.

    *eager*: commands are read from a log that has them for good, so the first nodes of a run depend on nothing
    that is not durable yet, and may begin before the run is committed.
    """

    def __init__(
        self, number: int, reader: RunReader, plans: Plans, limits: Limits, tokens: Iterator[int], *, eager: bool = False
    ) -> None:
        self.number = number
        self._eager = eager
        self._reader = reader
        self._plans = plans
        self._limits = limits
        self._token = tokens
        self._residents = Residents(reader)
        self._timers = Timers(reader)
        self._tokens: dict[int, tuple[_Work, int, int]] = {}
        self._deadlines = Deadlines(self._tokens)
        self._ready: deque[_Work] = deque()
        # In the order in which they were parked, which is that of going on.
        self._parked: dict[str, None] = {}
        self._held_timers: list[TimerEntry] = []
        self._growing = Batch()
        self._under_way: Batch | None = None
        self.decisions = 0
        """How many decisions were made; that an execution has begun is none."""

    # What a driver calls.

    def open(self) -> None:
        """Take up what was in progress when the last owner stopped, from the committed state."""
        for run_id in self._reader.active_runs():
            self._queue_active(run_id)
        self._parked = dict.fromkeys(self._reader.parked_runs())

    def receive(self, command: c.Command, now_ms: int) -> None:
        """Carry out one command. What cannot be carried out is a rejection or a dead letter, never an error."""
        run = self._residents.find(command.run_id)
        if isinstance(command, c.RunNode) and isinstance(run, RunState):
            # Work that is scheduled is part of the state, so its owner has it already and the job says nothing new.
            return
        if command.run_id in self.unreadable:
            self._give_up(command.run_id, now_ms, self.unreadable[command.run_id], command)
        elif isinstance(run, RunState):
            self._decide(run, now_ms, lambda turn: handle(turn, command), command)
        elif isinstance(command, c.Start) and run is None:
            self._start(command, now_ms)
        else:
            reject(self._growing, command, run, now_ms)

    def advance(self, now_ms: int) -> None:
        """Let everything happen that is due."""
        while (entry := self._timers.due(now_ms)) is not None:
            self._fire(entry, now_ms)
        while (token := self._deadlines.due(now_ms)) is not None:
            self._time_out(token, now_ms)

    def next_due_ms(self) -> int:
        """The time at which :meth:`advance` is to be called again at the latest."""
        return self._deadlines.next_due_ms(self._timers.next_due_ms())

    def begin(self, limit: int, now_ms: int) -> list[Execution]:
        """Begin work that is ready, in the order in which it became so; at most *limit* executions come back."""
        executions: list[Execution] = []
        while self._ready and len(executions) < limit:
            execution = self._begin(self._ready.popleft(), now_ms)
            if execution is not None:
                executions.append(execution)
        return executions

    def finished(self, token: int, outcome: Outcome, now_ms: int) -> None:
        """An execution has ended; one that is no longer wanted changes nothing."""
        entry = self._tokens.pop(token, None)
        if entry is None:
            return
        (run_id, node_id, item), activation, attempt = entry
        run = self._residents.find(run_id)
        work = run.work(node_id, item) if isinstance(run, RunState) else None
        if work is not None and work.status == RUNNING and (work.activation, work.attempt) == (activation, attempt):
            assert isinstance(run, RunState)
            running = work
            self._decide(run, now_ms, lambda turn: finish(turn, turn.plan.nodes[node_id], running, item, outcome))

    def published(self) -> list[c.Command]:
        """Take the commands for other runs out of the batch that grows: for a driver that delivers them within it."""
        commands, self._growing.publish = self._growing.publish, []
        return commands

    def take(self) -> Batch | None:
        """What was decided since the last time; None where that is nothing."""
        assert self._under_way is None, "a batch is under way already"
        if not self._growing:
            return None
        batch = self._under_way = self._growing
        self._growing = Batch()
        for change in batch.runs.values():
            change.parts = change.state.changed
            change.state.changed = set()
        self._timers.taken()
        return batch

    def committed(self) -> None:
        """The batch that was taken is durable: what it made ready may begin."""
        batch = self._under_way
        assert batch is not None, "no batch is under way"
        self._under_way = None
        self._timers.committed()
        self._ready.extend(batch.ready)
        for run_id, change in batch.runs.items():
            if change.state.ended:
                assert run_id not in self._growing.runs, "something happened after the end"
                self._residents.drop(run_id)
        if len(self._residents) > self._limits.runs_cached_max:
            self._residents.evict(self._limits.runs_cached_max, self._growing.runs)

    def aborted(self) -> list[int]:
        """Nothing since the last commit has happened; gives the executions that are no longer wanted."""
        unwanted = self._unwanted()
        self._under_way = None
        self._growing = Batch()
        self._residents.clear()
        self._tokens.clear()
        self._deadlines.clear()
        self._ready.clear()
        self._held_timers.clear()
        self._timers.forget()
        self.open()
        return unwanted

    def close(self) -> list[int]:
        """The partition goes to another owner; gives the executions that are no longer wanted."""
        unwanted = self._unwanted()
        self._tokens.clear()
        return unwanted

    def _unwanted(self) -> list[int]:
        """All executions in progress, those too that a decision has cancelled which nobody was told of."""
        cancelled = [] if self._under_way is None else self._under_way.cancels
        return [*self._tokens, *cancelled, *self._growing.cancels]

    def plans_changed(self, now_ms: int) -> None:
        """Blueprints or implementations were added: runs that were parked may go on."""
        held, self._held_timers = self._held_timers, []
        for entry in held:
            self._timers.set(entry)
        for run_id in list(self._parked):
            run = self._residents.find(run_id)
            if not isinstance(run, RunState) or not run.parked:
                self._parked.pop(run_id, None)
            elif not self._plans.lacks(run.blueprint_id, run.version):
                self._parked.pop(run_id, None)
                self._decide(run, now_ms, unpark)

    @property
    def unreadable(self) -> Mapping[str, str]:
        """The runs that somebody asked for and whose records cannot be read, with the reason."""
        return self._residents.unreadable

    @property
    def growing(self) -> bool:
        """Whether something was decided that is not taken yet."""
        return bool(self._growing)

    @property
    def backlog(self) -> int:
        """How much work is ready and has not begun."""
        return len(self._ready)

    @property
    def executing(self) -> int:
        """How many executions are in progress."""
        return len(self._tokens)

    @property
    def idle(self) -> bool:
        """Whether nothing is to be written, begun or executed."""
        return not self._growing and self._under_way is None and not self._ready and not self._tokens

    def run(self, run_id: str) -> RunState | Ended | None:
        """A run as it is decided so far, for reading only."""
        return self._residents.find(run_id)

    # How decisions are made.

    def _queue_active(self, run_id: str) -> None:
        run = self._residents.find(run_id)
        if isinstance(run, RunState):
            self._ready.extend((run_id, node_id, item) for node_id, item in run.active_work())

    def _begin(self, key: _Work, now_ms: int) -> Execution | None:
        run_id, node_id, item = key
        run = self._residents.find(run_id)
        work = run.work(node_id, item) if isinstance(run, RunState) else None
        if work is None or not self._may_begin(run, work):
            return None
        assert isinstance(run, RunState)
        lacking = self._plans.lacks(run.blueprint_id, run.version)
        if lacking:
            self._parked[run_id] = None
            self._decide(run, now_ms, lambda turn: turn.emit(RunParked(lacking)))
            return None
        plan = self._plans.get(run.blueprint_id, run.version)
        assert plan is not None, f"run {run_id!r} goes on without its plan"
        node = plan.nodes[node_id]
        if not runs_code(node, item):
            self._decide(run, now_ms, lambda turn: begin_built_in(turn, node, work))
            return None
        # Beginning an execution decides nothing more, so it needs no turn: this is the most frequent path of all.
        token = next(self._token)
        try:
            execution = execution_of(run, plan, node, work, item, token)
        except Exception as error:  # noqa: BLE001 (whatever it is, the partition goes on)
            self.give_up_run(run_id, now_ms, "INTERNAL_ERROR", _internal_error(error))
            return None
        work.token = token
        started: Event = NodeStarted(node_id, item, work.attempt)
        apply(run, started)
        self._growing.record(run, run.seq, now_ms, [started])
        self._tokens[token] = (key, work.activation, work.attempt)
        if node.timeout_ms is not None:
            self._deadlines.set(now_ms + node.timeout_ms, token)
        return execution

    def _may_begin(self, run: RunState | Ended | None, work: NodeState) -> bool:
        """What is scheduled may begin; what was running when its owner stopped may begin again, also in a pause."""
        if not isinstance(run, RunState) or run.parked:
            return False
        if work.status == SCHEDULED:
            return not run.paused
        return work.status == RUNNING and work.token not in self._tokens

    def _fire(self, entry: TimerEntry, now_ms: int) -> None:
        run = self._residents.find(entry.run_id)
        if not entry.node_id:
            if isinstance(run, Ended) and run.until_ms == entry.due_ms:
                self._growing.expired.append(run)
            else:
                self._growing.stale_timers.append(entry)
            return
        work = run.work(entry.node_id, entry.item) if isinstance(run, RunState) else None
        if work is not None and work.due_ms == entry.due_ms:
            assert isinstance(run, RunState)
            if self._plans.get(run.blueprint_id, run.version) is None:
                # It fires when the blueprint is here: a run is not to fail because its owner lacks something.
                self._held_timers.append(entry)
                return
            due = work
            self._decide(run, now_ms, lambda turn: fire_timer(turn, turn.plan.nodes[entry.node_id], due, entry.item))
        else:
            self._growing.stale_timers.append(entry)

    def _time_out(self, token: int, now_ms: int) -> None:
        entry = self._tokens.get(token)
        if entry is None:
            return
        (run_id, node_id, item), _, _ = entry
        run = self._residents.find(run_id)
        work = run.work(node_id, item) if isinstance(run, RunState) else None
        if work is not None and work.token == token and work.status == RUNNING:
            assert isinstance(run, RunState)
            running = work
            self._decide(run, now_ms, lambda turn: time_out(turn, turn.plan.nodes[node_id], running, item))

    def _decide(self, run: RunState, now_ms: int, verb: Callable[[Turn], None], command: c.Command | None = None) -> None:
        """Make one decision. Where that meets a defect of our own, the run is put back to where it was."""
        plan = self._plans.get(run.blueprint_id, run.version) or _NO_PLAN
        self.decisions += 1
        turn = Turn(run, plan, now_ms, self._limits)
        first_seq = run.seq + 1
        try:
            verb(turn)
            settle(turn)
        except Exception as error:  # noqa: BLE001 (whatever it is, the partition goes on)
            self._put_back(run.run_id)
            self._give_up(run.run_id, now_ms, _internal_error(error), command)
            return
        self._absorb(turn, first_seq)

    def _give_up(self, run_id: str, now_ms: int, reason: str, command: c.Command | None) -> None:
        """Nothing could be decided about *command*, or about what happened to the run: nobody may wait for it."""
        if command is not None:
            self._growing.dead_letters.append((command, reason))
            answer(self._growing, command, "refused", reason)
            tell_holders(self._growing.publish, command)
            if isinstance(command, c.Start) and command.parent is not None:
                self._growing.publish.append(refuse_child(command, reason))
        if command is None or isinstance(command, c.ChildEnd):
            self.give_up_run(run_id, now_ms, "INTERNAL_ERROR", reason)

    def _absorb(self, turn: Turn, first_seq: int) -> None:
        """Put a decision into the batch that is growing."""
        run, batch, run_id = turn.state, self._growing, turn.state.run_id
        if turn.events:
            self._growing.record(run, first_seq, turn.now_ms, turn.events)
        for node_id, item in turn.ready:
            batch.ready.append((run_id, node_id, item))
            node = turn.plan.nodes.get(node_id)
            if node is not None and (node.run_ahead or (first_seq == 1 and self._eager)):
                # It need not wait until what it depends on is durable, or that is so; its job is written all the same.
                self._ready.append((run_id, node_id, item))
        for due_ms, node_id, item in turn.timers:
            self._timers.set(TimerEntry(due_ms, run_id, node_id, item))
        batch.publish += turn.publish
        batch.replies += turn.replies
        for token in turn.cancels:
            batch.cancels.append(token)
            self._tokens.pop(token, None)
        if run.ended:
            until_ms = turn.now_ms + self._limits.dedup_window_ms
            self._residents.end(run_id, Ended(run_id, run.ended, until_ms, run.parent))
            self._timers.set(TimerEntry(until_ms, run_id, "", NO_ITEM))

    def _put_back(self, run_id: str) -> None:
        under_way = None if self._under_way is None else self._under_way.runs.get(run_id)
        run = self._residents.put_back(run_id, under_way, self._growing.runs.get(run_id))
        for token, ((owner, node_id, item), _, _) in self._tokens.items():
            work = run.work(node_id, item) if run is not None and owner == run_id else None
            if work is not None:
                work.token = token

    def give_up_run(self, run_id: str, now_ms: int, code: str, reason: str) -> bool:
        """A run about which nothing can be decided or written must not hang: it fails, with an error. False for no run."""
        run = self._residents.find(run_id)
        if isinstance(run, RunState):
            turn = Turn(run, _NO_PLAN, now_ms, self._limits)
            first_seq = run.seq + 1
            fail_run(turn, code, reason)
            self._absorb(turn, first_seq)
        return isinstance(run, RunState)

    def _start(self, command: c.Start, now_ms: int) -> None:
        parked = self._plans.lacks(command.blueprint_id, command.version)
        plan = self._plans.get(command.blueprint_id, command.version)
        version = plan.version if plan is not None else command.version or ""
        run = self._residents.create(command.run_id, command.blueprint_id, version)
        self._decide(run, now_ms, lambda turn: start(turn, command, version, parked), command)
        if parked:
            self._parked[command.run_id] = None


def _internal_error(error: Exception) -> str:
    return f"internal error, please report it: {type(error).__name__}: {error}"
