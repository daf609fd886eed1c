"""Whether a run did what every run has to, and came to what was expected of it, by its events and its result alone.

A judge is told of every event that is durable, of every run, children included, in sequence; it folds them with ``apply``,
which says what an event means, and uses nothing else of the engine but compiled blueprints.
"""

from __future__ import annotations

__all__ = ["Judge"]

from collections import Counter
from collections.abc import Mapping
from typing import Any

from headrace import events as e
from headrace.adapter import RunResult
from headrace.apply import apply
from headrace.execution import NO_ITEM
from headrace.plan import FUNCTION, Plan
from headrace.state import RunState
from headrace.values import decode
from tests.property.run_watch import RunWatch

from .case_types import UNKNOWN, Case, Expectation
from .drawn_runs import COUNTED

FINAL = (e.RunCompleted, e.RunFailed, e.RunCancelled)


class Judged:
    """One run, as far as it was seen."""

    __slots__ = ("attempts", "begun_again", "completions", "counted", "final", "outputs", "state", "watch")

    def __init__(self, run_id: str) -> None:
        self.state = RunState(run_id)
        self.watch = RunWatch()
        self.completions: Counter[str] = Counter()
        self.counted = 0
        self.attempts: dict[str, set[tuple[int, int, int]]] = {}
        self.begun_again = 0
        self.outputs: dict[str, bytes] = {}
        self.final: e.Event | None = None


class Judge:
    """Judges the runs of one case. Everything raises AssertionError, which names the run, and the place in it.

    Without *once* a step that is decided twice may have changed the context twice (at least once: docs/kafka.md).
    """

    def __init__(self, case: Case, plans: Mapping[str, Plan], *, once: bool = True) -> None:
        self._case = case
        self._plans = plans
        self._once = once
        self._counting = {uses for uses, entries in case.behaviours.items() if all(map(_counts, entries))}
        self._started = [start.run_id for start in case.starts]
        self.runs: dict[str, Judged] = {}
        self.results: dict[str, RunResult] = {}

    # What happened.

    def event(self, run_id: str, seq: int, at_ms: int, event: e.Event) -> None:
        """The next event of a run is durable."""
        judged = self.runs.get(run_id)
        if judged is None:
            judged = self.runs[run_id] = Judged(run_id)
        state = judged.state
        assert seq == state.seq + 1, f"run {run_id}: event {seq} comes after event {state.seq}: {event}"
        assert not state.ended, f"run {run_id} is {state.ended}, and then comes {event}"
        assert isinstance(event, e.RunStarted) == (seq == 1), f"run {run_id}: event {seq} is {event}"
        apply(state, event)
        plan = self._plans.get(state.blueprint_id)
        assert plan is not None, f"run {run_id} is of flow {state.blueprint_id!r}, which nobody has"
        try:
            judged.watch.note(state, plan, event)
            self._note(judged, plan, event)
        except AssertionError as error:
            raise AssertionError(f"run {run_id} of {state.blueprint_id!r}, event {seq}, {event}: {error}") from error

    def _note(self, judged: Judged, plan: Plan, event: e.Event) -> None:
        if type(event) is e.NodeStarted:
            state = judged.state
            work = state.nodes[event.node]
            attempts = judged.attempts.setdefault(event.node, set())
            attempt = (event.item, work.activation, event.attempt)
            judged.begun_again += attempt in attempts
            attempts.add(attempt)
        elif type(event) is e.NodeCompleted:
            node = plan.nodes[event.node]
            if event.item == NO_ITEM:
                judged.completions[event.node] += 1
                judged.outputs[event.node] = event.output
                judged.counted += node.kind == FUNCTION and node.uses in self._counting
            else:
                judged.counted += node.params["workerUsesKey"] in self._counting
        elif isinstance(event, FINAL):
            judged.final = event
            judged.watch.check_end(judged.state, plan, event)

    def result(self, result: RunResult) -> None:
        """A run has a result, which is durable."""
        run_id = result.run_id
        first = self.results.get(run_id)
        assert first is None, f"run {run_id} has two results: {first} and {result}"
        self.results[run_id] = result

    # What it came to.

    @property
    def open(self) -> list[str]:
        """The runs that were to start, or have started, and have no result yet."""
        runs = dict.fromkeys((*self._started, *self.runs))
        return [run_id for run_id in runs if run_id not in self.results]

    def check_all(self) -> None:
        """Everything is over: every run that was started, and every child, has come to its one end, and nothing else ran."""
        for run_id, expected in self._case.expected.items():
            # A run that is cancelled may end before it starts a child.
            if run_id in self._started or not expected.cancelled:
                assert run_id in self.runs, f"run {run_id} was to start, and nothing has happened to it"
        wanted = {*self._started, *self._children()}
        for run_id in self.runs:
            assert run_id in wanted, f"nobody has started run {run_id}"
            self.check(run_id)
        for run_id in self.results:
            assert run_id in self.runs, f"run {run_id} has a result and no history: {self.results[run_id]}"

    def _children(self) -> list[str]:
        return [child for judged in self.runs.values() for child in judged.watch.children]

    def check(self, run_id: str) -> None:
        """One run is at its end: its result is what its events say, and what was expected."""
        judged, result = self.runs[run_id], self.results.get(run_id)
        state = judged.state
        assert state.ended, f"run {run_id} of {state.blueprint_id!r} has not ended; it is {state.status}"
        assert result is not None, f"run {run_id} is {state.ended}, and has no result"
        self._check_result(judged, result)
        counted = result.context.get(COUNTED, 0)
        assert counted == judged.counted or (counted > judged.counted and not self._once), (
            f"run {run_id} of {state.blueprint_id!r}: {judged.counted} nodes that count are recorded as completed, and the "
            f"context has counted {counted}"
        )
        expected = self._case.expected.get(run_id)
        if expected is not None:
            try:
                _check_expected(judged, result, expected, context=self._once)
            except AssertionError as error:
                raise AssertionError(f"run {run_id} of {expected.flow!r} is {result.status}: {error}") from error

    def _check_result(self, judged: Judged, result: RunResult) -> None:
        state = judged.state
        told: dict[str, Any] = {
            "flow": result.blueprint_id,
            "version": result.version,
            "status": result.status,
            "output": result.output,
            "context": result.context,
            "errors": [(error["nodeId"], error["code"]) for error in result.errors],
        }
        meant: dict[str, Any] = {
            "flow": state.blueprint_id,
            "version": state.version,
            "status": state.ended,
            "output": decode(state.output),
            "context": {key: decode(value) for key, value in state.context.items()},
            "errors": [(error.node, error.code) for error in state.errors],
        }
        if not self._once:
            del meant["context"]
        for name, value in meant.items():
            assert told[name] == value, f"run {state.run_id}: its events say {name} {value!r}, and its result {told[name]!r}"


def _counts(entry: dict[str, Any]) -> bool:
    if "by_input" in entry and not all(map(_counts, entry["by_input"].values())):
        return False
    # An attempt that fails records nothing, so it does not matter whether it counts.
    return bool(entry.get("incr", {}).get(COUNTED) == 1 or entry.keys() & {"raise", "error", "hang"})


def _check_expected(judged: Judged, result: RunResult, expected: Expectation, *, context: bool) -> None:
    assert result.blueprint_id == expected.flow, f"it is of flow {result.blueprint_id!r}"
    if expected.cancelled and result.status == "cancelled":
        for node, number in expected.completions.items():
            done = judged.completions[node]
            assert done <= number, f"{node} has {done} completions, and may have {number} at most"
        return
    assert result.status in expected.statuses, f"it must be {' or '.join(expected.statuses)}; errors: {result.errors}"
    if not context:
        return  # What depends on a context that may have been changed twice is not known.
    if expected.output is not UNKNOWN:
        assert result.output == expected.output, f"its output is {result.output!r}, and must be {expected.output!r}"
    _check_context(result.context, expected)
    for node, value in expected.outputs.items():
        assert node in judged.outputs, f"{node} has no output, and must have {value!r}"
        output = decode(judged.outputs[node])
        assert output == value, f"the output of {node} is {output!r}, and must be {value!r}"
    for node, number in expected.completions.items():
        done = judged.completions[node]
        assert done == number, f"{node} has {done} completions, and must have {number}"
    for node, number in expected.attempts.items():
        begun = len(judged.attempts.get(node, ()))
        assert begun == number, f"{begun} attempts of {node} were begun, and must be {number}"
    for node in expected.skipped:
        decided = judged.watch.decided.get((node, NO_ITEM))
        assert decided == "NodeSkipped", f"{node} must be skipped, and what became of it is {decided}"
    if expected.errors is not None:
        named = {error["nodeId"] for error in result.errors}
        wanted = set(expected.errors)
        assert (named == wanted) if expected.whole else (named >= wanted), (
            f"its errors name {sorted(named)}, and must name {sorted(wanted)}"
        )


def _check_context(context: dict[str, Any], expected: Expectation) -> None:
    for key, value in expected.context.items():
        there = context.get(key, UNKNOWN)
        same = there == value
        if key in expected.unordered and isinstance(there, list):
            same = sorted(there, key=repr) == sorted(value, key=repr)
        assert same, f"its context has {key} {there!r}, and must have {value!r}"
    further = sorted(context.keys() - expected.context.keys()) if expected.whole else []
    assert not further, f"its context has {further}, which nothing writes"
    for key in expected.absent:
        assert key not in context, f"its context has {key}, and must not"
