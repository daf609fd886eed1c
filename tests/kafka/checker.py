"""Whether everything that an app's topics hold fits together. It shares nothing with the code that wrote them.

What is looked at are records as anybody may read them (``topic_log.py``). Of the product only what is the meaning of a
record is used: the decoders of ``headrace_topics``, and ``apply``, which says what an event does to a run.

    runs         each start has one result, nothing else has one, and what a run came to is what its flow says
    histories    events are numbered without a gap or a repetition, each node is decided once, each join fires once
    changelogs   folded, they are the runs as their events make them; of runs that have ended a marker is left
    offsets      each job below the committed offset has been taken once; dead letters are of bad records, and only of them
    stores       the local copy of a stopped worker is the changelog up to where it says to be
"""

from __future__ import annotations

__all__ = ["Checked", "check"]

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from headrace import events as e
from headrace.apply import rebuild
from headrace.errors import RecordRefused
from headrace.limits import Limits
from headrace.ports import Ended
from headrace.state import RunState
from headrace_topics.dead_letters import DeadLetter, decode_dead_letter
from headrace_topics.events_record import decode_events
from headrace_topics.jobs_record import decode_command
from headrace_topics.partitioning import partition_of
from headrace_topics.state_records import decode_head, decode_part, encode_part, run_parts
from tests.kafka.load import Expected
from tests.kafka.topic_log import Record, TopicLog
from tests.process.histories import History

TOLD_MAX = 25

# What only somebody outside of the engine writes, and what becomes of it in a history.
OFFSET_KEY = b'["","offset"]'
_TAKEN_BY = {"signal": e.SignalReceived, "resume": e.WaitResumed}


@dataclass
class Checked:
    """What was found: the runs by their histories, and what is wrong."""

    log: TopicLog
    histories: dict[str, History] = field(default_factory=dict)
    rejections: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    letters: dict[tuple[int, int], DeadLetter] = field(default_factory=dict)
    """Dead letters by partition and offset of their source."""
    wrong: list[str] = field(default_factory=list)

    @property
    def begun_again(self) -> int:
        """How many attempts were cut short and began once more."""
        return sum(history.begun_again for history in self.histories.values())


def check(
    log: TopicLog,
    expected: Mapping[str, Expected] | None,
    *,
    executions: Mapping[tuple[str, str], int] | None = None,
    finished: bool = True,
) -> Checked:
    """Raises AssertionError with all that is wrong. *finished*: nothing is left to do, so nothing may be left.

    What runs come to is looked at where somebody knows what is *expected*.
    """
    found = Checked(log)
    _read_histories(found)
    _read_letters(found)
    _check_results(found)
    if expected is not None:
        _check_expected(found, expected, finished=finished)
    _check_changelogs(found)
    _check_jobs(found, finished=finished)
    if executions is not None:
        _check_executions(found, executions)
    if found.wrong:
        more = len(found.wrong) - TOLD_MAX
        told = found.wrong[:TOLD_MAX] + ([f"... and {more} more"] if more > 0 else [])
        raise AssertionError(f"{len(found.wrong)} violations in {log.app}:\n" + "\n".join(told))
    return found


# Histories.


def _read_histories(found: Checked) -> None:
    broken: set[str] = set()
    for record in found.log.of("events"):
        data = orjson.loads(record.value or b"{}")
        run_id = data["runId"]
        _check_place(found, record, run_id)
        if "rejected" in data:
            found.rejections[run_id].append(data["rejected"])
            continue
        history = found.histories.setdefault(run_id, History(run_id))
        if run_id in broken:
            continue
        try:
            for seq, at_ms, event in decode_events(record.value or b""):
                history.add(seq, at_ms, event)
        except AssertionError as error:
            broken.add(run_id)
            found.wrong.append(f"{error}; in {record}")


def _check_place(found: Checked, record: Record, run_id: str) -> None:
    home = partition_of(run_id, found.log.partitions)
    if record.partition != home or record.key is None or run_id.encode() not in record.key:
        found.wrong.append(f"run {run_id} belongs on partition {home} under its key: {record}")


# Results.


def _check_results(found: Checked) -> None:
    results: dict[str, list[Record]] = defaultdict(list)
    for record in found.log.of("results"):
        run_id = (record.key or b"").decode()
        _check_place(found, record, run_id)
        results[run_id].append(record)
    for run_id, records in results.items():
        if run_id not in found.histories:
            found.wrong.append(f"run {run_id} has a result and no event: {records[0]}")
        if len(records) > 1:
            found.wrong.append(f"run {run_id} has {len(records)} results: {records[0]} and {records[1]}")
    for run_id, history in found.histories.items():
        state = history.state
        if bool(state.ended) != (run_id in results):
            found.wrong.append(f"run {run_id} is {state.ended or 'not at its end'}, and has {len(results[run_id])} results")
        elif state.ended:
            told = orjson.loads(results[run_id][0].value or b"{}")
            if told != (meant := _result_of(history)):
                found.wrong.append(f"run {run_id}: its events say {meant}, and its result {told}")


def _result_of(history: History) -> dict[str, Any]:
    """The result that the events of a run come to."""
    state = history.state
    result: dict[str, Any] = {
        "runId": state.run_id,
        "blueprintId": state.blueprint_id,
        "version": state.version,
        "status": state.ended,
        "output": orjson.loads(state.output),
        "context": {key: orjson.loads(value) for key, value in state.context.items()},
        "errors": [
            {"nodeId": error.node, "code": error.code, "message": error.message}
            | ({"predecessor": error.predecessor} if error.predecessor else {})
            for error in state.errors
        ],
        "startedAt": state.started_at_ms,
        "endedAt": history.times_ms[-1],
    }
    return result if state.parent is None else {**result, "parentRunId": state.parent.run_id}


def _check_expected(found: Checked, expected: Mapping[str, Expected], *, finished: bool) -> None:
    children = {event.child for history in found.histories.values() for event in history.of_type(e.ChildStarted)}
    for run_id in found.histories.keys() - expected.keys() - children:
        found.wrong.append(f"nobody has started run {run_id}")
    for run_id, wanted in expected.items():
        history = found.histories.get(run_id)
        if history is None or not history.state.ended:
            if finished:
                last = history.events[-1] if history is not None and history.events else "no event"
                found.wrong.append(f"run {run_id} of {wanted.flow} has not ended; its last event is {last}")
            continue
        state = history.state
        output = orjson.loads(state.output)
        if (state.ended, output) != (wanted.status, wanted.output):
            found.wrong.append(f"run {run_id} of {wanted.flow} is {state.ended} with {output!r}, not {wanted[1:3]}")
        counted = int(state.context.get("counted", b"0"))
        if not counted == history.counted == wanted.counted:
            found.wrong.append(
                f"run {run_id} of {wanted.flow} has {history.counted} completions of {wanted.counted}, and counted {counted}"
            )


# Changelogs.


def _check_changelogs(found: Checked) -> None:
    folded: dict[str, dict[tuple[str, ...], bytes]] = defaultdict(dict)
    offsets: dict[int, list[int]] = defaultdict(list)
    for topic in ("coordination-changelog", "context-changelog"):
        for record in found.log.of(topic):
            if record.key == OFFSET_KEY:
                offsets[record.partition].append(orjson.loads(record.value or b"{}")["next"])
                continue
            run_id, *part = orjson.loads(record.key or b"[]")
            _check_place(found, record, run_id)
            key = tuple(part) if topic.startswith("coord") else ("x", *part)
            if record.value is None:
                folded[run_id].pop(key, None)
            else:
                folded[run_id][key] = record.value
    for number, told in offsets.items():
        committed = found.log.committed[number]
        if told != sorted(told) or told[-1] > committed:
            found.wrong.append(
                f"partition {number}: the changelog tells of offsets {told[-5:]}, and {committed} is committed"
            )
    for run_id in folded.keys() - found.histories.keys():
        if folded[run_id]:
            found.wrong.append(f"run {run_id} has state and no events: {folded[run_id]}")
    for run_id, history in found.histories.items():
        _check_run(found, history.state, folded[run_id])


def _check_run(found: Checked, state: RunState, parts: dict[tuple[str, ...], bytes]) -> None:
    """The parts in the changelogs are the state that the events make."""
    head = parts.pop(("r",), None)
    if head is None:
        found.wrong.append(f"run {state.run_id} has events and no head in the changelog")
        return
    kept = decode_head(state.run_id, head)
    if isinstance(kept, Ended):
        if kept.status != state.ended or parts:
            found.wrong.append(
                f"run {state.run_id} is {state.ended or 'alive'}: the marker says {kept.status}, left: {parts}"
            )
        return
    for part, value in parts.items():
        if part[0] == "x":
            kept.context[part[1]] = value
        else:
            decode_part(kept, [*part], value)
    rebuild(kept)
    if (there := _parts_of(kept)) != (meant := _parts_of(state)):
        differing = sorted(part for part in there.keys() | meant.keys() if there.get(part) != meant.get(part))
        shown = [(part, there.get(part), meant.get(part)) for part in differing[:3]]
        found.wrong.append(f"run {state.run_id}: the changelog and the events differ: {shown}")


def _parts_of(state: RunState) -> dict[tuple[str, ...], bytes | None]:
    parts = {part: encode_part(state, part) for part in run_parts(state)}
    return parts | {("x", key): value for key, value in state.context.items()} | {("seq",): b"%d" % state.seq}


# Offsets.


def _read_letters(found: Checked) -> None:
    for record in found.log.of("dead-letters"):
        letter = decode_dead_letter(record.value or b"")
        place = (letter.partition, letter.offset)
        if place in found.letters:
            found.wrong.append(f"two dead letters are of the same record: {record}")
        found.letters[place] = letter


def _check_jobs(found: Checked, *, finished: bool) -> None:
    """Below the committed offset each record was taken, once: as a job, by a move, or as a dead letter."""
    taken: Counter[tuple[str, str]] = Counter()
    moved: Counter[tuple[bytes | None, str]] = Counter()
    arrived: Counter[tuple[bytes | None, str]] = Counter()
    bad: set[tuple[int, int]] = set()
    for record in found.log.of("jobs"):
        committed = found.log.committed.get(record.partition, 0)
        try:
            command = _command_of(record)
        except RecordRefused:
            run_id = None
        else:
            run_id = command.run_id
            name = (record.value, run_id)
            home = partition_of(run_id, found.log.partitions)
            (arrived if home == record.partition else moved)[name] += home == record.partition or record.offset < committed
        if record.offset >= committed:
            if finished:
                found.wrong.append(f"everything is done, and this is not taken ({committed} is committed): {record}")
        elif run_id is None:
            bad.add((record.partition, record.offset))
            _check_letter(found, record)
        elif home == record.partition:
            _count_public(taken, run_id, orjson.loads(record.value or b"{}"))
    for (value, run_id), times in moved.items():
        if times > arrived[value, run_id]:
            found.wrong.append(f"run {run_id}: {value!r} was taken from wrong partitions {times} times and did not arrive")
    for place in found.letters.keys() - bad:
        found.wrong.append(f"a dead letter is of no bad record: {found.letters[place]}")
    for (kind, run_id), times in taken.items():
        if kind != "passed on":
            passed_on = taken["passed on", run_id] if kind == "resume" else 0
            _check_taken(found, kind, run_id, range(times - passed_on, times + 1))


def _command_of(record: Record) -> Any:
    if record.value is None:
        raise RecordRefused("no value")
    try:
        key = None if record.key is None else record.key.decode()
    except UnicodeDecodeError:
        raise RecordRefused("no key") from None
    return decode_command(record.value, key, value_bytes_max=Limits().value_bytes_max)


def _count_public(taken: Counter[tuple[str, str]], run_id: str, data: dict[str, Any]) -> None:
    """Count what came from outside; what the engine says to itself may be said twice."""
    kind = data["type"]
    if (kind == "start" and not data.get("parent")) or (
        kind in _TAKEN_BY and not data.get("path") and not data.get("origin")
    ):
        taken[kind, run_id] += 1
        if kind == "resume" and "/" in data["nodeId"] and data.get("idempotencyKey") is None:
            # Passed on to a child, it leaves no event of its own.
            taken["passed on", run_id] += 1


def _check_taken(found: Checked, kind: str, run_id: str, times: range) -> None:
    """Each start, signal and resume that was taken stands in the history, or among the rejections, once."""
    history = found.histories.get(run_id)
    told = sum(rejected["command"] == kind for rejected in found.rejections[run_id])
    if history is not None:
        told += sum(event.command == kind for event in history.of_type(e.CommandIgnored))
        if kind == "start":
            told += len(history.of_type(e.RunStarted)) + len(history.of_type(e.RunDuplicate))
        else:
            told += len(history.of_type(_TAKEN_BY[kind]))
        if kind == "resume":
            told += len(history.of_type(e.ResumeClaimed))
    if told not in times:
        found.wrong.append(
            f"run {run_id}: {times[-1]} records of type {kind} lie below the committed offset, {told} were taken"
        )


def _check_letter(found: Checked, record: Record) -> None:
    letter = found.letters.get((record.partition, record.offset))
    if letter is None:
        found.wrong.append(f"a bad record was passed and is no dead letter: {record}")
    elif (letter.record, letter.key, letter.source_topic) != (record.value, record.key, f"{found.log.app}.jobs"):
        found.wrong.append(f"a dead letter is not its source: {letter} of {record}")
    elif not letter.reason:
        found.wrong.append(f"a dead letter has no reason: {letter}")


# Executions.


def _check_executions(found: Checked, executions: Mapping[tuple[str, str], int]) -> None:
    """What is recorded as completed was executed, as the node itself wrote down."""
    for run_id, history in found.histories.items():
        completed = Counter(
            event.node.removesuffix("_scatter")
            for event in history.of_type(e.NodeCompleted)
            if event.node.startswith("count") and not event.node.endswith("_gather")
        )
        for node_id, times in completed.items():
            names = [name for name in (node_id, f"{node_id}_scatter") if (run_id, name) in executions]
            done = sum(executions[run_id, name] for name in names)
            needed = times - 1 if node_id == "count" else times
            if done < needed:
                found.wrong.append(f"run {run_id}: {node_id} is completed {needed} times and was executed {done} times")
