"""Mistakes to plant in the code of the product, as programs that keep state have made them; each has to be found.

A mutant is a function that replaces another one of the product. It gets that one, and what it gives takes its place.
"""

from __future__ import annotations

__all__ = ["MUTANTS", "Mutant"]

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, Final, NamedTuple

import orjson

from headrace.adapter import Answer
from headrace.apply import apply
from headrace.blueprint import Blueprint, to_json
from headrace.commands import Command
from headrace.events import ContextChanged, Event
from headrace.partition import Partition
from headrace.ports import Ended
from headrace.residents import Residents
from headrace.state import RUNNING, SCHEDULED, RunState
from headrace.timers import Timers
from headrace.turn import Turn
from headrace_adapters.base import WorkerLoop
from headrace_adapters.local import client as client_module
from headrace_adapters.local import dead_letters as dead_letters_module
from headrace_adapters.local import worker as worker_module
from headrace_adapters.local.carrier import LocalCarrier
from headrace_adapters.local.layout import BLUEPRINT, EVENTS, JOB, RESULT, KeyValueStore, number_key
from headrace_adapters.local.reader import LocalReader
from headrace_adapters.local.writer import BatchWriter
from headrace_topics.jobs_record import encode_command


class Mutant(NamedTuple):
    """What *owner* has under *name* becomes what *plant* makes of it; *says* tells what the mistake is."""

    says: str
    owner: Any
    name: str
    plant: Callable[[Any], Any]

    @contextmanager
    def planted(self) -> Iterator[None]:
        """The product with the mistake in it."""
        before = vars(self.owner)[self.name]
        setattr(self.owner, self.name, self.plant(before))
        try:
            yield
        finally:
            setattr(self.owner, self.name, before)


MUTANTS: Final[dict[str, Mutant]] = {}


def mutant(says: str, owner: Any, name: str) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    """The function below plants this mistake."""

    def add(plant: Callable[[Any], Any]) -> Callable[[Any], Any]:
        MUTANTS[plant.__name__] = Mutant(says, owner, name, plant)
        return plant

    return add


class Divided:
    """A store that writes what has one of the letters of *apart* in a batch of its own, before all else or after it."""

    def __init__(self, store: KeyValueStore, apart: bytes, *, first: bool) -> None:
        self._store = store
        self._apart = apart
        self._first = first

    def write(self, puts: Iterable[tuple[bytes, bytes]] = (), deletes: Iterable[bytes] = (), ranges: Any = ()) -> None:
        puts = list(puts)
        apart = [put for put in puts if put[0][:1] in self._apart]
        rest = [put for put in puts if put[0][:1] not in self._apart]
        if self._first:
            self._store.write(apart)
        self._store.write(rest, deletes, ranges)
        if not self._first:
            self._store.write(apart)


def _divided(commit: Any, apart: bytes, *, first: bool) -> Any:
    def divided(self: Any, batches: Any, taken: Any, now_ms: int) -> None:
        store = self._store
        self._store = Divided(store, apart, first=first)
        try:
            commit(self, batches, taken, now_ms)
        finally:
            self._store = store

    return divided


# The commit.


@mutant("the history is written after the state, in a batch of its own", LocalCarrier, "commit")
def history_after_state(commit: Any) -> Any:
    return _divided(commit, EVENTS, first=False)


@mutant("the result is written before everything else", LocalCarrier, "commit")
def result_before_commit(commit: Any) -> Any:
    return _divided(commit, RESULT, first=True)


@mutant("the index of timers is written when everything else is", LocalCarrier, "commit")
def timers_after_state(commit: Any) -> Any:
    return _divided(commit, b"T", first=False)


@mutant("whoever asked is told before what was decided is durable", WorkerLoop, "_commit")
def answer_before_commit(commit: Any) -> Any:
    def told_first(self: Any) -> bool:
        if self._carrier.delivers:
            self._deliver(self._now_ms)
        for partition in self.partitions.values():
            for reply in partition._growing.replies:
                on_answer = self._answers.pop(reply.request_id, None)
                if on_answer is not None:
                    on_answer(Answer(reply.outcome, reply.reason))
        done: bool = commit(self)
        return done

    return told_first


@mutant("what runs tell each other is delivered with the next commit", WorkerLoop, "_deliver")
def delivered_later(deliver: Any) -> Any:
    def later(self: Any, now_ms: int) -> None:
        late: list[Command] = getattr(self, "_late", [])
        self._late = [command for partition in self.partitions.values() for command in partition.published()]
        for command in late:
            self._receive(command, now_ms)
        if self._late:
            self._urgent = True
            self.wake()

    return later


@mutant("nodes begin before their job is durable", Partition, "_absorb")
def begun_before_commit(absorb: Any) -> Any:
    def eager(self: Any, turn: Turn, first_seq: int) -> None:
        absorb(self, turn, first_seq)
        self._ready.extend((turn.state.run_id, node_id, item) for node_id, item in turn.ready)

    return eager


# The job log.


@mutant("a job stays in the log when it is taken", LocalCarrier, "commit")
def job_not_removed(commit: Any) -> Any:
    return lambda self, batches, taken, now_ms: commit(self, batches, (), now_ms)


@mutant("a job goes when it is read, and not when what it asks for is durable", LocalCarrier, "poll")
def job_removed_when_read(poll: Any) -> Any:
    def removing(self: Any, limit: int) -> Any:
        jobs = poll(self, limit)
        self._store.write([], [job.position for job in jobs])
        return jobs

    return removing


@mutant("whoever appends begins at the first number", client_module, "append_jobs")
def append_overwrites(_: Any) -> Any:
    def overwriting(store: KeyValueStore, commands: Iterable[Command], start: int = 0) -> int:
        puts = [(number_key(JOB, start + offset), encode_command(command)) for offset, command in enumerate(commands)]
        store.write(puts)
        return start + len(puts)

    return overwriting


@mutant("a command line says 'accepted' and does not wait for the write of the last command", client_module, "append_jobs")
def append_writes_behind(append: Any) -> Any:
    behind: list[Command] = []

    def lazy(store: KeyValueStore, commands: Iterable[Command], start: int = 0) -> int:
        due, behind[:] = [*behind], [*commands]
        number: int = append(store, due, start)
        return number

    return lazy


# Dead letters.


@mutant("a record that cannot be read goes without a trace", LocalCarrier, "poll")
def bad_record_dropped(poll: Any) -> Any:
    def dropping(self: Any, limit: int) -> Any:
        store = self._store

        class Dropping:
            scan = store.scan

            @staticmethod
            def write(puts: Any, deletes: Any) -> None:
                store.write([], deletes)

        self._store = Dropping
        try:
            return poll(self, limit)
        finally:
            self._store = store

    return dropping


@mutant("dead letters are numbered from the first one again by every worker", LocalCarrier, "__init__")
def letters_numbered_anew(init: Any) -> Any:
    def anew(self: Any, *given: Any) -> None:
        init(self, *given)
        self._dead_letters = count(0)

    return anew


@mutant("a dead letter is written again, and nobody remembers it", dead_letters_module, "encode_redriven")
def redriven_without_mark(_: Any) -> Any:
    from headrace_topics.dead_letters import encode_dead_letter

    return lambda mark: encode_dead_letter(b"", None, "", source_topic="jobs", partition=0, offset=0, at_ms=0)


# What is left, and what is kept.


@mutant("a run that has ended is remembered for half of the time", BatchWriter, "_end_run")
def marker_dropped_early(end_run: Any) -> Any:
    return lambda self, layout, prefix, change, window_ms: end_run(self, layout, prefix, change, window_ms // 2)


@mutant("a start after the end of its run begins it anew", Residents, "find")
def marker_not_looked_at(find: Any) -> Any:
    def forgetful(self: Any, run_id: str) -> Any:
        found = find(self, run_id)
        return None if isinstance(found, Ended) and run_id not in self._ended else found

    return forgetful


@mutant("what a run had in its context stays when it has ended", BatchWriter, "_end_run")
def context_left_behind(end_run: Any) -> Any:
    def leaving(self: Any, layout: Any, *given: Any) -> None:
        end_run(self, layout, *given)
        self.deletes = [key for key in self.deletes if not key.startswith(layout.context)]

    return leaving


@mutant("timers are in memory only", BatchWriter, "_set_timer")
def timer_not_written(_: Any) -> Any:
    return lambda self, *given: None


@mutant("a timer that was set anew leaves its old entry in the index", BatchWriter, "_set_timer")
def old_timer_left(set_timer: Any) -> Any:
    def leaving(self: Any, *given: Any) -> None:
        deletes = len(self.deletes)
        set_timer(self, *given)
        del self.deletes[deletes:]

    return leaving


@mutant("a run that has begun to work is not in the index of active runs", BatchWriter, "_flag")
def active_not_written(flag: Any) -> Any:
    def forgetful(self: Any, key: bytes, on: bool) -> None:
        if key[:1] != b"A" or not on:
            flag(self, key, on)

    return forgetful


@mutant("what was running when its worker died is not begun again", Partition, "_may_begin")
def running_not_begun_again(may_begin: Any) -> Any:
    return lambda self, run, work: work.status == SCHEDULED and may_begin(self, run, work)


# Decisions.


@mutant("a write to the context is recorded, and not applied", Turn, "emit")
def event_not_applied(_: Any) -> Any:
    def emit(self: Turn, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, ContextChanged):
            self.state.seq += 1
        else:
            apply(self.state, event)

    return emit


@mutant("a write to the context is applied, and not recorded", Turn, "emit")
def event_not_recorded(emit: Any) -> Any:
    def forgetful(self: Turn, event: Event) -> None:
        emit(self, event)
        if isinstance(event, ContextChanged):
            self.events.pop()

    return forgetful


# What a worker finds that comes after another one.


@mutant("timers that became due while nobody worked are passed over", Timers, "_load")
def missed_timers_passed_over(load: Any) -> Any:
    def passing(self: Any, now_ms: int) -> Any:
        if self._horizon_ms == -1:
            self._horizon_ms = now_ms - 1
        return load(self, now_ms)

    return passing


@mutant("runs that are parked are not looked for when a partition is opened", LocalReader, "parked_runs")
def parked_not_read(_: Any) -> Any:
    return lambda self: []


@mutant("a run is dropped from memory while something was decided about it", Residents, "evict")
def evicted_while_changing(_: Any) -> Any:
    def evict(self: Any, runs_max: int, in_use: Any) -> None:
        for run_id in list(self._runs)[: max(0, len(self._runs) - runs_max)]:
            del self._runs[run_id]

    return evict


@mutant("blueprints are numbered from the first one again", worker_module, "save_blueprints")
def blueprints_numbered_anew(_: Any) -> Any:
    def save(store: KeyValueStore, blueprints: Iterable[Blueprint]) -> None:
        records = [(number_key(BLUEPRINT, n), orjson.dumps(to_json(b))) for n, b in enumerate(blueprints)]
        if records:
            store.write(records)

    return save


@mutant("of jobs that are read together, the last one is passed over", LocalCarrier, "poll")
def last_job_passed_over(poll: Any) -> Any:
    def passing(self: Any, limit: int) -> Any:
        jobs = poll(self, limit)
        return jobs[:-1] if len(jobs) > 1 else jobs

    return passing


@mutant("a worker that begins anew counts what was running as a further attempt", Partition, "_begin")
def crash_uses_up_an_attempt(begin: Any) -> Any:
    def counting(self: Any, key: Any, now_ms: int) -> Any:
        run = self._residents.find(key[0])
        work = run.work(*key[1:]) if isinstance(run, RunState) else None
        if work is not None and work.status == RUNNING and work.token not in self._tokens:
            work.attempt += 1
        return begin(self, key, now_ms)

    return counting
