"""The loop of a worker: takes in what has come, lets the partitions decide, commits, and hands out executions.

One step does, in this order: outcomes of executions, commands, timers; commands that runs send to other runs; one commit
for all partitions; and then, because only now everything is durable, replies, results and new executions. A batch is
greedy: whatever has come while the last one was committed goes into the next one, so an idle worker commits at once and
a busy one in big groups. Executions that have merely begun wait a moment for their outcome before they are committed.

Everything is bounded: executions by *slots*, work that is ready by *backlog_max* (no runs are started above it),
one step by *batch_max*. Threads other than the loop's own use ``submit``, ``ask`` and ``stop`` only.
"""

from __future__ import annotations

__all__ = ["AnswerCallback", "Executing", "WorkerLoop"]

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from secrets import token_hex

from headrace.adapter import Answer
from headrace.batch import Batch
from headrace.commands import Command, EngineCommand, Start
from headrace.errors import StoreError
from headrace.execution import Execution
from headrace.limits import Limits
from headrace.partition import Partition
from headrace.plans import Plans
from headrace_adapters.base.carrier import Carrier, CommitUndone, Job
from headrace_adapters.base.executing import Executing
from headrace_adapters.base.host import THIS_HOST, Host
from headrace_adapters.base.intake import AnswerCallback, Intake

BatchCallback = Callable[[Batch], None]

_LOGGER = logging.getLogger(__name__)

# How long executions that have begun may wait for their outcome before their beginning is committed, and jobs that
# changed nothing for something that is worth a commit.
LINGER_MS = 20

# How often it is looked for outcomes before a commit.
BEAT_S = 0.0005

# What is waited for at most where nothing is due.
IDLE_MS = 60_000

# The code of a run's error where no record can hold what was decided about it.
TOO_LARGE = "STATE_TOO_LARGE"


class WorkerLoop:
    """The partitions of one worker, driven step by step. *clock* gives ms since 1970."""

    def __init__(
        self,
        carrier: Carrier,
        plans: Plans,
        executor: Executing,
        clock: Callable[[], int],
        limits: Limits,
        *,
        slots: int = 1_000,
        backlog_max: int = 10_000,
        batch_max: int = 2_000,
        host: Host = THIS_HOST,
    ) -> None:
        self._carrier = carrier
        self._plans = plans
        self._limits = limits
        self._executor = executor
        self._clock = clock
        self._slots = slots
        self._backlog_max = backlog_max
        self._batch_max = batch_max
        self.partitions: dict[int, Partition] = {}
        """The partitions that this worker owns now, by number."""
        # Tokens tell their partition: the remainder of their division by the number of partitions. A partition that comes
        # back goes on counting, since executions from before may still end.
        self._tokens: dict[int, Iterator[int]] = {}
        self._commands = Intake()
        self._questions: deque[Callable[[], None]] = deque()
        self._answers: dict[str, AnswerCallback] = {}
        # Records carry request ids of their senders' choice, so those of this loop begin with a name that nobody else has.
        self._name = token_hex(8)
        self._request_numbers = count(1)
        # What was taken since the last commit: jobs, and commands of clients.
        self._taken: list[Job] = []
        self._asked: list[Command] = []
        # Runs that no record could hold when they had just begun, with the reason: they come again.
        self._unwritable: dict[str, str] = {}
        self._undone = 0
        self._on_commit: list[BatchCallback] = []
        self._now_ms = 0
        self._due_ms = 0
        self._begun_ms: int | None = None
        self._urgent = False
        self._next_partition = 0
        self._host = host
        self._wake = host.event()
        self._stopping = False
        self.stopped: StoreError | None = None
        """What it died of, once it has."""
        self.commits = 0

    # From any thread.

    def submit(self, command: Command, on_answer: AnswerCallback | None = None) -> None:
        """Take a command over; *on_answer* is called from the loop's thread when what it did is durable.

        Only where the carrier delivers: commands for partitions that may be another worker's go into the job log.
        """
        assert self._carrier.delivers, "commands for partitions that come and go belong into the job log"
        self._commands.put(command, on_answer)
        self.wake()

    def ask(self, question: Callable[[], None]) -> None:
        """Have *question* called in the loop's thread, between two steps."""
        self._questions.append(question)
        self.wake()

    def on_commit(self, callback: BatchCallback) -> None:
        """Call *callback* with every batch once it is durable, from the loop's thread."""
        self._on_commit = [*self._on_commit, callback]

    def off_commit(self, callback: BatchCallback) -> None:
        """Call *callback* no longer."""
        self._on_commit = [known for known in self._on_commit if known != callback]

    def wake(self) -> None:
        """Something has come: look for it at once."""
        if not self._wake.is_set():
            self._wake.set()

    def stop(self) -> None:
        """Take nothing new and begin nothing; :meth:`run` returns when what runs has finished."""
        self._stopping = True
        self.wake()

    # In the loop's thread.

    def open(self) -> None:
        """Take up what was in progress when the last owner stopped, in the partitions that are owned by now."""
        self._now_ms = max(self._now_ms, self._clock())
        self._carrier.bind(self)

    def take_over(self, number: int) -> None:
        """The partition is this worker's from now on (``headrace_adapters.base.carrier.Owner``)."""
        assert number not in self.partitions, f"partition {number} is this worker's already"
        every = self._carrier.partitions
        tokens = self._tokens.setdefault(number, count(number + every, every))
        reader = self._carrier.reader(number)
        partition = Partition(number, reader, self._plans, self._limits, tokens, eager=self._carrier.logs_first)
        partition.open()
        self.partitions[number] = partition
        self._begin_anew(partition)

    def hand_over(self, numbers: Sequence[int]) -> None:
        """Commit what is done, and let the partitions go."""
        # A loop that died may have left a decision half-way.
        if self.stopped is None:
            self._take_outcomes(self._now_ms)
            if self._growing():
                self._commit()
        self.drop(numbers)

    def drop(self, numbers: Sequence[int]) -> None:
        """Let the partitions go as they are: what was not committed is the next owner's to do again."""
        for number in numbers:
            partition = self.partitions.pop(number, None)
            if partition is not None:
                self._executor.cancel(partition.close())
        # Their jobs were taken into a state that is forgotten: no later commit may call them done.
        self._taken = [job for job in self._taken if job.partition not in numbers]

    def plans_changed(self) -> None:
        """Blueprints were added: runs that were parked may go on, and so may timers that were held."""
        for partition in self.partitions.values():
            partition.plans_changed(self._now_ms)
        self._look_anew()

    def _begin_anew(self, partition: Partition) -> None:
        """After its state was read: look at everything that may be due or possible by now."""
        partition.plans_changed(self._now_ms)
        for reason in partition.unreadable.values():
            _LOGGER.error("%s; the run is left as it is, and all others go on", reason)
        self._look_anew()

    def _look_anew(self) -> None:
        """Have the next step look at what is due, and commit what was decided."""
        self._due_ms = 0
        self._urgent = True
        self.wake()

    def run(self, grace: Callable[[], bool] = lambda: True) -> None:
        """Step until stopped; then until nothing is in progress any more, or *grace* says that it was long enough."""
        while not (self._stopping and (not self._executor.in_progress or not grace())):
            if not self.step():
                self._carrier.wait(self._wake, self._wait_s(), self._executor.in_progress)
        # What finished since the last look need not be executed again by the next owner.
        self._take_outcomes(self._now_ms)
        while self._growing():
            self._commit()

    def step(self) -> bool:
        """Do what there is to do; whether there was anything."""
        # Cleared first: what comes from now on wakes the loop again.
        self._wake.clear()
        self._now_ms = now_ms = max(self._now_ms, self._clock())
        self.answer()
        busy = self._urgent = self._take_outcomes(now_ms) or self._urgent
        if self._stopping:
            self._carrier.poll(0)
        else:
            busy = self._take_commands(now_ms) or busy
            if now_ms >= self._due_ms:
                for partition in self.partitions.values():
                    partition.advance(now_ms)
                self._due_ms = self._next_due_ms()
                self._urgent = busy = True
        if self._urgent or self._lingered(now_ms):
            self._gather(now_ms)
            busy = self._commit() or busy
            self._urgent = False
        if not self._stopping:
            busy = self._begin(now_ms) or busy
        return busy

    def answer(self) -> bool:
        """Answer what was asked; whether there was anything."""
        asked = bool(self._questions)
        while self._questions:
            self._questions.popleft()()
        return asked

    def commit_begun(self) -> None:
        """Commit what has merely begun, without waiting for outcomes any longer."""
        self._commit()

    @property
    def idle(self) -> bool:
        """Whether nothing is left to do but what executors, timers and people will bring."""
        return (
            not self._commands
            and not self._taken
            and not self._wake.is_set()
            and all(not partition.backlog for partition in self.partitions.values())
            and not self._growing()
        )

    def _growing(self) -> bool:
        return bool(self._taken) or any(partition.growing for partition in self.partitions.values())

    def _next_due_ms(self) -> int:
        return min((partition.next_due_ms() for partition in self.partitions.values()), default=self._now_ms + IDLE_MS)

    def _wait_s(self) -> float:
        if self._stopping:
            # What is due is the next owner's affair, and the grace has to be looked at.
            return LINGER_MS / 1_000
        wait_ms = max(0, self._due_ms - self._clock())
        if self._begun_ms is not None:
            wait_ms = min(wait_ms, LINGER_MS)
        return min(wait_ms, IDLE_MS) / 1_000

    def _lingered(self, now_ms: int) -> bool:
        return self._begun_ms is not None and now_ms - self._begun_ms >= LINGER_MS

    def _take_outcomes(self, now_ms: int) -> bool:
        outcomes = self._executor.drain()
        every = self._carrier.partitions
        for token, outcome in outcomes:
            partition = self.partitions.get(token % every)
            if partition is not None:
                partition.finished(token, outcome, now_ms)
        return bool(outcomes)

    def _gather(self, now_ms: int) -> None:
        """Let outcomes come that are about to, as long as some do, so that they need no commit of their own."""
        beats = int(self._carrier.gather_s / BEAT_S)
        while beats and self._executor.in_progress:
            beats -= 1
            # What goes on here is in other threads, and waking up for each of their outcomes would keep them from it.
            self._host.sleep(BEAT_S)
            if not self._take_outcomes(now_ms):
                break

    def _take_commands(self, now_ms: int) -> bool:
        backlog = sum(partition.backlog for partition in self.partitions.values())
        room = min(self._batch_max, self._backlog_max - backlog)
        taken = 0
        take, most = (self._commands.take, room) if room > 0 else (self._commands.take_urgent, self._batch_max)
        while taken < most and (entry := take()) is not None:
            command, on_answer = entry
            if on_answer is not None and not isinstance(command, EngineCommand):
                request_id = f"{self._name}-{next(self._request_numbers)}"
                self._answers[request_id] = on_answer
                command = command._replace(request_id=request_id)
            self._receive(command, now_ms)
            self._asked.append(command)
            self._urgent = True
            taken += 1
        undone = self._undone
        jobs = self._carrier.poll(max(0, room - taken))
        assert not jobs or self._undone == undone, "jobs came from behind those of a commit that was just undone"
        for job in jobs:
            if job.command is not None:
                self._receive(job.command, now_ms)
                # A run whose first nodes begin at once is committed with their outcomes, unless somebody waits for it.
                self._urgent |= not (self._carrier.logs_first and _may_wait(job.command))
            self._taken.append(job)
            taken += 1
        if self._taken and self._begun_ms is None:
            self._begun_ms = now_ms
        return taken > 0

    def _receive(self, command: Command, now_ms: int) -> None:
        partition = self.partitions[self._carrier.partition_of(command.run_id)]
        partition.receive(command, now_ms)
        if command.run_id in self._unwritable and isinstance(command, Start):
            partition.give_up_run(command.run_id, now_ms, TOO_LARGE, self._unwritable.pop(command.run_id))

    def _begin(self, now_ms: int) -> bool:
        executions: list[Execution] = []
        begun = 0
        owned = list(self.partitions.values())
        self._next_partition += 1
        for offset in range(len(owned)):
            room = self._slots - self._executor.in_progress - len(executions)
            partition = owned[(self._next_partition + offset) % len(owned)]
            if room > 0 and partition.backlog:
                decisions, backlog = partition.decisions, partition.backlog
                executions += partition.begin(room, now_ms)
                begun += backlog - partition.backlog
                # Built-in nodes are done already: what they decided need not wait.
                self._urgent |= partition.decisions != decisions
        if executions:
            self._executor.submit(executions)
            if self._begun_ms is None:
                self._begun_ms = now_ms
        self._due_ms = min(self._due_ms, self._next_due_ms())
        return begun > 0

    def _commit(self) -> bool:
        """Make everything that was decided durable, and only then tell of it."""
        now_ms = self._now_ms
        if self._carrier.delivers:
            self._deliver(now_ms)
        batches: list[tuple[int, Batch]] = []
        for partition in self.partitions.values():
            batch = partition.take()
            if batch is not None:
                batches.append((partition.number, batch))
        self._begun_ms = None
        if not batches and not self._taken:
            self._asked = []
            return False
        taken = [job.position for job in self._taken]
        self._taken = []
        try:
            self._carrier.commit(batches, taken, now_ms)
        except CommitUndone as error:
            self._go_back()
            for number, run_id, reason in error.unwritable:
                if not self.partitions[number].give_up_run(run_id, now_ms, TOO_LARGE, reason):
                    self._unwritable[run_id] = reason
            return True
        self.commits += 1
        self._asked = []
        for number, batch in batches:
            self.partitions[number].committed()
            for reply in batch.replies:
                on_answer = self._answers.pop(reply.request_id, None)
                if on_answer is not None:
                    on_answer(Answer(reply.outcome, reply.reason))
            if batch.cancels:
                self._executor.cancel(batch.cancels)
            for callback in self._on_commit:
                callback(batch)
        self._due_ms = self._next_due_ms()
        return True

    def _go_back(self) -> None:
        """Nothing since the last commit has happened: the carrier gives jobs again, commands of clients are kept here."""
        self._undone += 1
        self._commands.put_back(self._asked)
        self._asked = []
        for partition in self.partitions.values():
            self._executor.cancel(partition.aborted())
            self._begin_anew(partition)

    def _deliver(self, now_ms: int) -> None:
        """Hand over what runs say to other runs, until nobody says anything more: all of it is one commit."""
        delivered = True
        while delivered:
            delivered = False
            for partition in self.partitions.values():
                for command in partition.published():
                    delivered = True
                    self._receive(command, now_ms)


def _may_wait(command: Command) -> bool:
    """Whether nobody waits for what becomes of a command but the nodes that begin with it."""
    return isinstance(command, Start) and not command.request_id
