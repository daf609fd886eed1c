"""What is true in a world, by what stands on its disk alone: every batch is read as soon as it is written.

Events are folded by a judge, commands are counted from their sending to the record that says what became of them, and the
keys of the whole store follow from that: what else is there was left behind, and what is missing was lost.
"""

from __future__ import annotations

__all__ = ["Truth"]

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import orjson

from headrace import events as e
from headrace.commands import Command
from headrace.errors import RecordRefused
from headrace.execution import NO_ITEM, Execution
from headrace.ports import TimerEntry
from headrace.state import RUNNING, SCHEDULED, RunState
from headrace_adapters.local.layout import (
    BLUEPRINT,
    DEAD_LETTER,
    EVENTS,
    JOB,
    META_PARTITIONS,
    RESULT,
    KeyValueStore,
    Layout,
    number_key,
    timer_key,
)
from headrace_adapters.local.reader import LocalReader
from headrace_topics.dead_letters import RedrivenMark, decode_dead_letters_record
from headrace_topics.events_record import decode_events
from headrace_topics.jobs_record import decode_command
from headrace_topics.names import context_key, coordination_key, run_prefix
from headrace_topics.partitioning import partition_of
from headrace_topics.results_record import decode_result
from headrace_topics.state_records import run_parts
from tests.scenarios.checks import FINAL, assert_same, snapshot
from tests.simulation.case_types import Case, Expectation
from tests.simulation.compilation import plans_of
from tests.simulation.judging import Judge

Record = tuple[bytes, bytes]

# Rejections stand behind the events of their run.
REJECTED: Final = 2**63

# The event that says what became of a command, by the kind of the command.
KIND_OF: Final[dict[type[e.Event], str]] = {
    e.RunStarted: "start",
    e.RunDuplicate: "start",
    e.RunCancelled: "cancel",
    e.RunPaused: "pause",
    e.RunUnpaused: "unpause",
    e.SignalReceived: "signal",
    e.WaitResumed: "resume",
    e.ResumeClaimed: "resume",
}


def kind_of(command: Command) -> str:
    """The kind of a command, as rejections name it too."""
    return type(command).__name__.lower()


class Truth:
    """Everything raises AssertionError.

    *now_ms* is the latest time that any clock has shown, and *position* the number of writes that the disk has by now.
    """

    def __init__(
        self, case: Case, partitions: int, window_ms: int, now_ms: Callable[[], int], position: Callable[[], int]
    ) -> None:
        # Runs of which something was lost that somebody had been told of come to an end of their own.
        self._case = case._replace(expected={**case.expected})
        self._plans = plans_of(case)
        self._layouts = [Layout(number) for number in range(partitions)]
        self._window_ms = window_ms
        self._now_ms = now_ms
        self._position = position
        self.bad: set[bytes] = set()
        """Records that nobody can read at first."""
        self.writes = 0
        self._begin()

    def _begin(self) -> None:
        self.judge = Judge(self._case, self._plans)
        self.seen: Counter[tuple[str, str]] = Counter()
        """Commands of which a record says what became of them, by run and kind."""
        self.waiting: Counter[tuple[str, str]] = Counter()
        """Commands in the job log, by run and kind."""
        self.untold: list[tuple[str, int, e.Event]] = []
        """Events that were not told to anybody yet."""
        self.jobs: dict[bytes, bytes] = {}
        self.letters: dict[bytes, bool] = {}
        self.open_runs: dict[str, None] = dict.fromkeys(start.run_id for start in self._case.starts)
        """Runs that were to start, or have started, and have not ended."""
        self._history: dict[str, list[bytes]] = {}
        self._rejections: dict[str, list[bytes]] = {}
        self._blueprints: list[bytes] = []
        self._ended_ms: dict[str, int] = {}
        # Runs of which nothing is left, with the write that took it.
        self._forgotten: dict[str, int] = {}
        self._keys: dict[str, tuple[int, list[bytes]]] = {}

    # Reading.

    def written(self, puts: Iterable[Record], deletes: Iterable[bytes], ranges: Iterable[Record]) -> None:
        """A batch was written."""
        self.writes += 1
        for lower, _ in ranges:
            self._forget(_run_of(lower[1:]))
        told: set[str] = set()
        ended: set[str] = set()
        results: set[str] = set()
        letters: list[bytes] = []
        for key, record in puts:
            space = key[:1]
            if space == EVENTS:
                run_id = _run_of(key[1:-8])
                told.add(run_id)
                if self._read_events(run_id, key, record):
                    ended.add(run_id)
            elif space == RESULT:
                results.add(_run_of(key[1:]))
                self.judge.result(decode_result(record))
            elif space == JOB:
                self._read_job(key, record)
            elif space == DEAD_LETTER:
                letters += self._read_letter(key, record)
            elif space == BLUEPRINT:
                assert key not in self._blueprints, "a blueprint takes the place of another one"
                self._blueprints.append(key)
        assert ended == results, f"runs {sorted(ended)} end in this write, and {sorted(results)} get a result"
        for key in deletes:
            if key[:1] == JOB:
                self._take_job(key, told, letters)

    def _read_events(self, run_id: str, key: bytes, record: bytes) -> bool:
        """Take in the record of some events, or of a rejection; whether the run ends in it."""
        number = int.from_bytes(key[-8:], "big")
        if number >= REJECTED:
            kept = self._rejections.setdefault(run_id, [])
            assert key not in kept, f"a rejection of run {run_id} takes the place of another one"
            kept.append(key)
            self.seen[run_id, orjson.loads(record)["rejected"]["command"]] += 1
            return False
        self._history.setdefault(run_id, []).append(key)
        self.open_runs.setdefault(run_id)
        event: e.Event | None = None
        for seq, at_ms, event in decode_events(record):
            assert seq >= number, f"run {run_id}: a record under {number} begins with event {seq}"
            number = seq + 1
            self.judge.event(run_id, seq, at_ms, event)
            self.untold.append((run_id, seq, event))
            if isinstance(event, FINAL):
                self._ended_ms[run_id] = at_ms
            kind = event.command if isinstance(event, e.CommandIgnored) else KIND_OF.get(type(event))
            if kind is not None:
                self.seen[run_id, kind] += 1
        if not isinstance(event, FINAL):
            return False
        self.open_runs.pop(run_id)
        return True

    def _read_job(self, key: bytes, record: bytes) -> None:
        assert key not in self.jobs, f"a record of the job log takes the place of another one: {self.jobs.get(key)!r}"
        self.jobs[key] = record
        command = _command(record)
        if command is not None:
            self.waiting[command.run_id, kind_of(command)] += 1

    def _take_job(self, key: bytes, told: set[str], letters: list[bytes]) -> None:
        record = self.jobs.pop(key, None)
        assert record is not None, f"{key!r} is taken out of the job log and was not in it"
        command = _command(record)
        if command is not None:
            self.waiting[command.run_id, kind_of(command)] -= 1
        if record in self.bad and record in letters:
            letters.remove(record)
            return
        assert command is not None, f"a record that nobody can read is gone, and no dead letter holds it: {record!r}"
        assert command.run_id in told, f"{command} is gone from the job log, and nothing has become of it"

    def _read_letter(self, key: bytes, record: bytes) -> list[bytes]:
        """Take in a dead letter, and give the record in it; or the mark of one that was redriven."""
        assert key not in self.letters, "a dead letter takes the place of another one"
        found = decode_dead_letters_record(record)
        if isinstance(found, RedrivenMark):
            letter = number_key(DEAD_LETTER, found.offset)
            assert self.letters.get(letter) is False, f"{found} is about no dead letter, or one that was redriven before"
            self.letters[letter] = self.letters[key] = True
            return []
        assert found.record in self.bad, f"a record that can be carried out is a dead letter: {found}"
        self.letters[key] = False
        return [found.record]

    def _forget(self, run_id: str) -> None:
        """The history of a run goes, and all that is left of it."""
        ended_ms = self._ended_ms.get(run_id)
        assert ended_ms is not None, f"the history of run {run_id} goes, and it has not ended"
        until_ms = ended_ms + self._window_ms
        assert self._now_ms() >= until_ms, f"run {run_id} is forgotten {until_ms - self._now_ms()} ms too early"
        self._forgotten[run_id] = self._position()
        self._rejections.pop(run_id, None)

    # What was lost.

    def read_again(self, image: Mapping[bytes, bytes]) -> dict[str, int]:
        """Some of the last writes never happened. Gives the runs that were further on, with where they are now."""
        before, results, forgotten = self.judge.runs, self.judge.results, self._forgotten
        self._begin()
        records = sorted(image.items())
        for key, record in records:
            if key[:1] == EVENTS:
                self._read_events(_run_of(key[1:-8]), key, record)
            elif key[:1] == RESULT:
                self.judge.result(decode_result(record))
            elif key[:1] == JOB:
                self._read_job(key, record)
            elif key[:1] == BLUEPRINT:
                self._blueprints.append(key)
            elif key[:1] == DEAD_LETTER:
                self._read_letter(key, record)
        for run_id, position in forgotten.items():
            if position > self._position():
                continue
            self._forgotten[run_id] = position
            self.open_runs.pop(run_id, None)
            self.judge.runs[run_id] = before[run_id]
            if run_id in results:
                self.judge.results[run_id] = results[run_id]
        now = {run_id: judged.state.seq for run_id, judged in self.judge.runs.items()}
        return {run_id: now.get(run_id, 0) for run_id, was in before.items() if now.get(run_id, 0) < was.state.seq}

    def expect_nothing(self, run_id: str) -> None:
        """The run lost something that somebody had been told of, so that it need not come to what was expected."""
        for known, expected in [*self._case.expected.items()]:
            if known == run_id:
                self._case.expected[known] = Expectation(expected.flow)
            elif known.startswith(f"{run_id}/"):
                del self._case.expected[known]

    # What holds.

    def remembered(self) -> list[str]:
        """Runs of which anything is left."""
        return [run_id for run_id in self.judge.runs if run_id not in self._forgotten]

    def is_forgotten(self, run_id: str) -> bool:
        """Whether nothing is left of a run that has ended."""
        return run_id in self._forgotten

    def state(self, run_id: str) -> RunState | None:
        """A run by its events; None where there are none."""
        judged = self.judge.runs.get(run_id)
        return None if judged is None else judged.state

    def check_begun(self, execution: Execution) -> None:
        """What begins has been scheduled for good, and nothing was recorded of this attempt."""
        state = self.state(execution.run_id)
        assert state is not None, f"{execution.node_id} begins in run {execution.run_id}, which is not recorded"
        assert not state.ended, f"{execution.node_id} begins after the end of run {execution.run_id}"
        work = state.work(execution.node_id, execution.item)
        at = (execution.activation, execution.attempt)
        if work is not None and (work.activation, work.attempt) >= at:
            assert (work.activation, work.attempt) == at, f"attempt {at} of {execution.node_id} begins again"
            assert work.status in (SCHEDULED, RUNNING), f"{execution.node_id} begins, and is {work.status}"
        else:
            node = self._plans[execution.blueprint_id].nodes[execution.node_id]
            assert node.run_ahead, f"{execution.node_id} begins before its job is recorded"

    def check_keys(self, image: Mapping[bytes, bytes]) -> None:
        """The store holds the parts of the runs that go on, what is to be left of the others, the indexes, and no more."""
        expected: set[bytes] = {META_PARTITIONS, *self._blueprints, *self.jobs, *self.letters}
        for kept in self._rejections.values():
            expected.update(kept)
        for run_id, judged in self.judge.runs.items():
            if run_id not in self._forgotten:
                cached = self._keys.get(run_id)
                if cached is None or cached[0] != judged.state.seq:
                    cached = self._keys[run_id] = (judged.state.seq, self._keys_of(judged.state))
                expected.update(cached[1])
                expected.update(self._history[run_id])
        if image.keys() != expected and image:
            missing, left = sorted(expected - image.keys()), sorted(image.keys() - expected)
            if missing != [META_PARTITIONS]:
                raise AssertionError(f"the store lacks {missing[:5]}, and holds {left[:5]}, which nothing accounts for")

    def _keys_of(self, state: RunState) -> list[bytes]:
        run_id = state.run_id
        prefix, layout = run_prefix(run_id), self._layouts[partition_of(run_id, len(self._layouts))]
        keys = [layout.head + prefix]
        if state.ended:
            until_ms = self._ended_ms[run_id] + self._window_ms
            return [*keys, RESULT + prefix, timer_key(layout.timer, TimerEntry(until_ms, run_id, "", NO_ITEM))]
        keys += [layout.coordination + coordination_key(prefix, part) for part in run_parts(state) if part[0] != "r"]
        keys += [layout.context + context_key(prefix, key) for key in state.context]
        keys += [timer_key(layout.timer, entry) for entry in timers_of(state)]
        if state.active:
            keys.append(layout.active + prefix)
        if state.parked:
            keys.append(layout.parked + prefix)
        return keys

    def check_values(self, store: KeyValueStore, run_ids: Iterable[str]) -> None:
        """What is stored of these runs is what their events make."""
        for run_id in run_ids:
            judged = self.judge.runs.get(run_id)
            if judged is not None and run_id not in self._forgotten:
                stored = LocalReader(store, partition_of(run_id, len(self._layouts))).load(run_id)
                if judged.state.ended:
                    assert stored is not None, f"nothing is left of run {run_id}"
                    assert not isinstance(stored, RunState), f"run {run_id} goes on after its end"
                    assert stored.until_ms == self._ended_ms[run_id] + self._window_ms
                    assert stored.status == judged.state.ended
                else:
                    assert isinstance(stored, RunState), f"run {run_id} goes on, and is not stored"
                    self.check_same(stored, "the stored state")

    def check_same(self, found: RunState, what: str) -> None:
        """A state of a run is the one that its events make."""
        state = self.state(found.run_id)
        assert state is not None, f"there are no events of run {found.run_id}"
        assert_same(snapshot(found), snapshot(state), f"{what} == folded events of {found.run_id}")

    def check_end(self) -> None:
        """Everything is over."""
        assert not self.jobs, f"left in the job log: {self.jobs}"
        self.judge.check_all()


def timers_of(state: RunState) -> list[TimerEntry]:
    """The timers of a run that goes on."""
    return [
        TimerEntry(work.due_ms, state.run_id, node_id, item)
        for node_id, node in state.nodes.items()
        for item, work in ((NO_ITEM, node), *enumerate(node.batch.items if node.batch is not None else ()))
        if work.due_ms is not None
    ]


_run_ids: dict[bytes, str] = {}


def _run_of(prefix: bytes) -> str:
    """The run whose keys begin with this."""
    run_id = _run_ids.get(prefix)
    if run_id is None:
        if len(_run_ids) > 10_000:
            _run_ids.clear()
        run_id = _run_ids[prefix] = orjson.loads(prefix[:-1] + b"]")[0]
    return run_id


def _command(record: bytes) -> Command | None:
    try:
        return decode_command(record, value_bytes_max=2**30)
    except RecordRefused:
        return None
