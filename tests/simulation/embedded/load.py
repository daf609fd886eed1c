"""Everybody outside: people and programs that start runs and answer what they ask, through a worker or past none.

A client has heard nothing of what was under way when the worker died. It looks at the history before it asks again, so a
command is carried out once; only where the history cannot tell (children pass commands on to each other) it may be twice.
"""

from __future__ import annotations

__all__ = ["Load", "Sent"]

from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from itertools import groupby
from typing import Any, Final, Protocol, TypeVar

from headrace.adapter import Answer
from headrace.commands import Command, Resume, Start, Unpause
from headrace.errors import StoreError, StoreLocked
from headrace.waits import open_waits
from headrace_adapters.base import WorkerLoop
from headrace_adapters.local.client import LocalClient
from tests.simulation.case_types import Case, children_of
from tests.simulation.disk import SimulatedDisk
from tests.simulation.kernel import Kernel, Killed, Process
from tests.simulation.orders import Due, OrderBook

from .truth import Truth, kind_of

T = TypeVar("T")

STORE: Final = "store"

# As EmbeddedAdapter looks again where somebody has the folder.
HELD_LOOK_US: Final = 50_000

# What a command that can be carried out is answered.
STARTED: Final = ("applied", "duplicate", "accepted")
HEARD: Final = ("applied", "ignored", "unknown", "accepted")


class Sent:
    """A command on its way. *write* is how many writes there were when it was handed over, and when it was answered.

    *told* is whether somebody was told that it is durable; what a dead worker has made of it may still be lost.
    """

    __slots__ = ("command", "key", "told", "write")

    def __init__(self, command: Command) -> None:
        self.command = command
        self.key = (command.run_id, kind_of(command))
        self.write = 0
        self.told = False


class Surroundings(Protocol):
    """What the load needs of its world."""

    kernel: Kernel
    disk: SimulatedDisk
    truth: Truth

    process: Process

    @property
    def loop(self) -> WorkerLoop | None: ...
    def open_client(self, process: Process) -> LocalClient: ...
    def run_command(self, run: Callable[[Process], None]) -> None: ...
    def lose_unconfirmed(self) -> None: ...


class Load:
    """Sends what a case says, in the order in which it is due."""

    def __init__(self, world: Surroundings, case: Case) -> None:
        self._world = world
        self._book = OrderBook(case)
        self._expected = 0
        self._outbox: deque[Sent] = deque()
        self._unanswered: dict[Sent, Process] = {}
        self._answered: list[Sent] = []
        self._acknowledged: Counter[tuple[str, str]] = Counter()
        self._sent: Counter[tuple[str, str]] = Counter()
        self._started: set[str] = set()
        # How far somebody has seen a run.
        self._told: dict[str, int] = {}
        self._visiting = False
        self._ordered = {order.run_id for order in case.orders}
        families = {blueprint["id"] for blueprint in case.blueprints if children_of(blueprint)}
        # Runs whose history says what became of each command.
        self._plain = {start.run_id for start in case.starts if start.flow not in families}
        self.unsure: set[str] = set()
        """Runs that lost an order, or may have got one twice: nobody knows what they come to, but they come to an end."""
        self._expect(self._book.begin())

    @property
    def done(self) -> bool:
        """Whether nothing is due, on its way, or unanswered."""
        return not (self._expected or self._outbox or self._unanswered)

    def _expect(self, dues: Iterable[Due]) -> None:
        for due in dues:
            self._expected += 1
            self._world.kernel.call_in(due.after_ms * 1_000, lambda due=due: self._send_due(due))  # type: ignore[misc]

    def _send_due(self, due: Due) -> None:
        self._expected -= 1
        for _ in range(due.copies):
            self.send(due.command)

    def send(self, command: Command) -> None:
        """Hand a command over, now or as soon as somebody takes it."""
        self._outbox.append(Sent(command))
        self.hand_over()

    # Handing over.

    def hand_over(self) -> None:
        """Everything that is to be sent goes to the worker, or into the job log where there is none."""
        loop = self._world.loop
        if loop is None:
            self._visit()
        else:
            while self._outbox:
                sent = self._outbox.popleft()
                self._note_sent(sent)
                self._unanswered[sent] = self._world.process
                loop.submit(sent.command, lambda answer, sent=sent: self._tell(sent, answer))  # type: ignore[misc]

    def _note_sent(self, sent: Sent) -> None:
        self._sent[sent.key] += 1
        sent.write = self._world.truth.writes
        run_id = sent.command.run_id
        if isinstance(sent.command, Start) and run_id not in self._started:
            self._started.add(run_id)
            self._expect(self._book.started(run_id))

    def _tell(self, sent: Sent, answer: Answer) -> None:
        """The answer to a command, which must be true by now, and stay so."""
        world = self._world
        del self._unanswered[sent]
        sent.told = True
        outcomes = STARTED if isinstance(sent.command, Start) else HEARD
        assert answer.outcome in outcomes, f"{sent.command} is {answer}"
        assert world.truth.writes > sent.write, f"{sent.command} is {answer}, and nothing was written since it came"
        self._acknowledge(sent)

    def _acknowledge(self, sent: Sent) -> None:
        world, key = self._world, sent.key
        sent.write = world.disk.writes(STORE)
        self._acknowledged[key] += 1
        self._answered.append(sent)
        if self._tells(sent.command.run_id):
            known = world.truth.seen[key] + world.truth.waiting[key]
            assert known >= self._acknowledged[key], f"{self._acknowledged[key]} of {key} are answered, and {known} recorded"
            assert known <= self._sent[key], f"{self._sent[key]} of {key} were sent, and {known} recorded"

    def _tells(self, run_id: str) -> bool:
        """Whether the history of a run says what became of each command."""
        return run_id in self._plain and not self._world.truth.is_forgotten(run_id)

    # Where nobody works.

    def _visit(self) -> None:
        """A command line takes the folder for a moment, and appends all that is to be sent."""
        if self._outbox and not self._visiting:
            self._visiting = True
            self._world.run_command(self._append)

    def _append(self, process: Process) -> None:
        try:
            client = self._world.open_client(process)
            while self._outbox:
                sent = self._outbox.popleft()
                self._note_sent(sent)
                self._unanswered[sent] = process
                self._tell(sent, _done(client.submit(sent.command)))
            self._look(client)
            _done(client.close())
        except StoreLocked:
            pass
        except StoreError:
            process.alive = False
            self._world.lose_unconfirmed()
        except Killed:
            self.hear_of_death(process)
            raise
        finally:
            self._visiting = False
            if self._outbox:
                self._world.kernel.call_in(HELD_LOOK_US, self.hand_over)

    def _look(self, client: LocalClient) -> None:
        """Somebody wants to know how it stands."""
        truth = self._world.truth
        rows = {row["runId"]: row["status"] for row in _done(client.runs())}
        known = {run_id: truth.judge.runs[run_id].state.status for run_id in truth.remembered()}
        assert rows == known, f"the runs that are shown are {rows}, and there are {known}"
        for run_id in [*known][:1]:
            status = _done(client.status(run_id))
            assert status is not None, f"run {run_id} is not shown"
            assert status["status"] == known[run_id], f"run {run_id} is {known[run_id]}, and is shown as {status}"

    # What is heard.

    def tell_events(self) -> None:
        """What is durable can be seen."""
        untold, self._world.truth.untold = self._world.truth.untold, []
        for run_id, seq, event in untold:
            self._told[run_id] = seq
            dues = self._book.seen(run_id, seq, event)
            if dues:
                self._expect(dues)

    def hear_of_death(self, process: Process | None) -> None:
        """Whoever had the folder is dead (all are, where none is named): ask again for what nothing has become of."""
        truth = self._world.truth
        lost = [sent for sent, holder in self._unanswered.items() if process is None or holder is process]
        for sent in lost:
            del self._unanswered[sent]
        again: list[Sent] = []
        for key, group in groupby(sorted(lost, key=lambda sent: sent.key), lambda sent: sent.key):
            doubtful = list(group)
            if self._tells(key[0]):
                happened = truth.seen[key] + truth.waiting[key] - self._acknowledged[key]
                assert 0 <= happened <= len(doubtful), f"{happened} of {key} happened, and {len(doubtful)} were under way"
                for sent in doubtful[:happened]:
                    self._acknowledge(sent)
                again += doubtful[happened:]
            else:
                again += [sent for sent in doubtful if self._may_be_sent_again(sent.command)]
        order = {sent: number for number, sent in enumerate(lost)}
        self._outbox.extendleft(sorted(again, key=lambda sent: -order[sent]))
        if self._outbox:
            self._world.kernel.call_in(HELD_LOOK_US, self.hand_over)

    def _may_be_sent_again(self, command: Command) -> bool:
        """What children pass on is not to be told from what was sent: then the course of the run is not known either."""
        if isinstance(command, Start):
            return True
        self.make_unsure(command.run_id)
        if isinstance(command, Resume):
            state = self._world.truth.state(command.run_id)
            return state is not None and not state.ended and command.node_id in [path for path, _ in open_waits(state)]
        return True

    def hear_of_loss(self, rolled_back: Mapping[str, int], *, sync: bool) -> None:
        """The machine lost writes, and with them answers: what they were about is sent again. With *sync* it has none."""
        writes = self._world.disk.writes(STORE)
        gone = [sent for sent in self._answered if sent.write > writes]
        self._answered = [sent for sent in self._answered if sent.write <= writes]
        rolled_back = {run_id: seq for run_id, seq in rolled_back.items() if self._told.get(run_id, 0) > seq}
        told = [sent.command for sent in gone if sent.told]
        assert not (sync and told), f"what was answered is lost: {told}"
        assert not (sync and rolled_back), f"what was seen is lost; these runs are back at an earlier event: {rolled_back}"
        for sent in gone:
            self._acknowledged[sent.key] -= 1
            self._sent[sent.key] -= 1
            if sent.told:
                self.make_unsure(sent.command.run_id)
                sent.told = False
        for run_id in rolled_back:
            self.make_unsure(run_id)
        self._outbox.extendleft(reversed(gone))

    def make_unsure(self, run_id: str) -> None:
        """Nobody knows what the run comes to, nor the one that it works for, unless nobody asks anything of them."""
        root = run_id if run_id in self._started else next((r for r in self._started if run_id.startswith(f"{r}/")), run_id)
        if root in self._ordered:
            self.unsure.add(root)
            self._world.truth.expect_nothing(root)

    # The end.

    def help_on(self) -> None:
        """Answer what runs ask that lost an order."""
        for run_id in list(self._world.truth.open_runs):
            state = self._world.truth.state(run_id)
            if state is not None and any(run_id == root or run_id.startswith(f"{root}/") for root in self.unsure):
                if state.paused:
                    self.send(Unpause(run_id))
                for path, _ in open_waits(state):
                    self.send(Resume(run_id, path))

    def what_hangs(self) -> str:
        """What is left to do, where that should be nothing."""
        truth = self._world.truth
        states = {run_id: truth.state(run_id) for run_id in truth.open_runs}
        told = {run_id: "not there" if state is None else state.status for run_id, state in states.items()}
        unsaid = [sent.command for sent in (*self._outbox, *self._unanswered)]
        return f"these do not end: {told}; left in the job log: {[*truth.jobs.values()]}; not sent or answered: {unsaid}"


def _done(work: Coroutine[Any, Any, T]) -> T:
    """What a client without a worker gives; it waits for nothing."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("a client waits, and no worker works")
