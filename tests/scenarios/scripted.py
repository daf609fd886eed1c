"""An executor that does what a scenario's ``behaviours`` say, on a clock of its own that moves by itself."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Any

from headrace.context import Context
from headrace.errors import FatalError
from headrace.execution import Execution, Failed, Outcome
from headrace.invoke import invoke_sync
from headrace.node import Result
from headrace.registry import Registry
from headrace.values import decode

Behaviours = dict[str, list[dict[str, Any]]]


class Script:
    """What the implementations of one scenario do, and what they were seen to do. Outlives the death of a worker."""

    def __init__(self, behaviours: Behaviours) -> None:
        self._behaviours = behaviours
        self.calls: Counter[str] = Counter()
        self.inputs: dict[str, Any] = {}
        self.timeline: list[tuple[str, str]] = []
        self.ended = False

    def next_entry(self, execution: Execution) -> dict[str, Any]:
        """The entry for this call of an implementation; the last one repeats."""
        assert not self.ended, f"{execution.node_id} was executed after the end of the run"
        name = self.name_of(execution)
        value = decode(execution.input)
        entries = self._behaviours[execution.uses]
        entry = entries[min(self.calls[execution.uses], len(entries) - 1)]
        self.calls[execution.uses] += 1
        if execution.uses != name:
            self.calls[name] += 1
        self.inputs[name] = value
        self.timeline.append(("start", name))
        return entry.get("by_input", {}).get(_json_text(value), entry)

    @staticmethod
    def name_of(execution: Execution) -> str:
        """Batch workers are counted under their worker key, nodes under their id."""
        return execution.uses if execution.item >= 0 else execution.node_id


def _json_text(value: Any) -> str:
    import json

    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def behave(entry: dict[str, Any]) -> Callable[[Context], Any]:
    """A node function that acts as the entry says, field by field in the order of the README."""

    def act(ctx: Context) -> Any:
        for key, value in entry.get("set", {}).items():
            ctx.set(key, value)
        for key, by in entry.get("incr", {}).items():
            ctx.increment(key, by)
        for key, value in entry.get("append", {}).items():
            ctx.append(key, value)
        for key in entry.get("delete", []):
            ctx.delete(key)
        if "raise" in entry:
            raise (FatalError if entry.get("fatal") else RuntimeError)(entry["raise"])
        if "error" in entry:
            return Result(error=entry["error"])
        return Result(output=_output(entry, ctx), action=entry.get("action"))

    return act


def _output(entry: dict[str, Any], ctx: Context) -> Any:
    if "output" in entry:
        return entry["output"]
    if entry.get("echo"):
        return ctx.input
    if "add" in entry:
        return ctx.input + entry["add"]
    if "concat" in entry:
        return str(ctx.input) + entry["concat"]
    if "field" in entry:
        value = ctx.input
        for step in entry["field"].split("."):
            value = value[int(step)] if isinstance(value, list) else value[step]
        return value
    if "read" in entry:
        return {key: ctx.get(key) for key in entry["read"]}
    return None


class ScriptedExecutor:
    """Runs scripted behaviours in one thread: what takes time finishes when nothing else is left to do."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._order = count()
        self._clock_ms = 0
        self._sleeping: list[tuple[int, int, Execution, dict[str, Any]]] = []
        self._hanging: dict[int, Execution] = {}

    @property
    def in_progress(self) -> int:
        """Executions without an outcome."""
        return len(self._sleeping) + len(self._hanging)

    def submit(self, executions: Sequence[Execution]) -> None:
        """Begin executions."""
        for execution in executions:
            entry = self._script.next_entry(execution)
            if entry.get("hang"):
                self._hanging[execution.token] = execution
            else:
                due_ms = self._clock_ms + entry.get("sleep_ms", 0)
                heapq.heappush(self._sleeping, (due_ms, next(self._order), execution, entry))

    def cancel(self, tokens: Iterable[int]) -> None:
        """Drop executions that are no longer wanted."""
        gone = set(tokens)
        for token in gone:
            self._hanging.pop(token, None)
        self._sleeping = [item for item in self._sleeping if item[2].token not in gone]
        heapq.heapify(self._sleeping)

    def drain(self) -> list[tuple[int, Outcome]]:
        """The outcomes of what is done by now."""
        outcomes: list[tuple[int, Outcome]] = []
        while self._sleeping and self._sleeping[0][0] <= self._clock_ms:
            _, _, execution, entry = heapq.heappop(self._sleeping)
            registry = Registry()
            implementation = registry.add(execution.uses, behave(entry))
            outcome = invoke_sync(implementation, Context(execution, {}))
            if not isinstance(outcome, Failed):
                self._script.timeline.append(("end", self._script.name_of(execution)))
            outcomes.append((execution.token, outcome))
        return outcomes

    def pass_time(self) -> bool:
        """Let the clock go on to the next behaviour that ends; False where none will by itself."""
        if self.next_ms is None:
            return False
        self.go_on_to(self.next_ms)
        return True

    @property
    def next_ms(self) -> int | None:
        """When the next behaviour ends, on the executor's clock; None where none will by itself."""
        return self._sleeping[0][0] if self._sleeping else None

    def go_on_to(self, clock_ms: int) -> None:
        """Let the clock go on, as far as it is not there already."""
        self._clock_ms = max(self._clock_ms, clock_ms)
