"""A flow that was written for worlds, of which it is known what it comes to.

Each implementation adds one to the context value ``counted`` and its name to the list ``trail`` there, and nothing else
does. So a result, or writes, that are recorded twice or not at all show in the result of the run, and by name.
"""

from __future__ import annotations

__all__ = ["KnownFlow", "Special", "answer", "batch", "config", "sleep", "sub", "wait"]

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from tests.property.choices import Choices

from .case_types import Entry, Expectation, Order
from .drawn_runs import COUNTED, Run, asked_again, counting

# What may stand in the place of a node's name: a built-in node, with its params.
Special = dict[str, Any]


def answer(path: str, value: Any, opening: int = 1, key: str = "key") -> Order:
    """A resume of a wait that was seen open."""
    name = f"{key} {path} {opening}"
    return Order("", "resume", "open", nodes=(path,), opening=opening, target=path, value=value, key=name)


class KnownFlow:
    """One flow and its children. *done* is how often each implementation's result is recorded in a run.

    *edges* are written ``a>b>c, a>d``; a node that is not among *special* is a function, which does *does* (by name) or adds
    one to its input. *output* is the run's by its input; *orders* are what people may do, without the run's id.
    *children* are nodes that start a run, with its flow, and how much more than that of the run its input is. A flow that
    is *cancelled* is a child whose time is over before it has done all this.
    """

    def __init__(
        self,
        flow_id: str,
        edges: str,
        output: Callable[[int], Any],
        *,
        special: dict[str, Special] | None = None,
        does: dict[str, list[Entry]] | None = None,
        on_edges: dict[str, dict[str, Any]] | None = None,
        done: dict[str, int] | None = None,
        attempts: dict[str, int] | None = None,
        failed: tuple[str, ...] = (),
        orders: tuple[tuple[Order, ...], ...] = ((),),
        children: tuple[tuple[str, KnownFlow, int], ...] = (),
        metadata: dict[str, Any] | None = None,
        cancelled: bool = False,
    ) -> None:
        self.id = flow_id
        self._special = special or {}
        chains = [chain.strip().split(">") for chain in edges.split(",")]
        links = [link for chain in chains for link in pairwise(chain)]
        names = dict.fromkeys([*(name for chain in chains for name in chain), *self._special])
        blueprint = {
            "id": flow_id,
            "nodes": [self._node(name) for name in names],
            "edges": [{"source": a, "target": b, **(on_edges or {}).get(f"{a}>{b}", {})} for a, b in links],
            "metadata": {"version": "1", **(metadata or {})},
        }
        self.blueprints = [blueprint]
        self.behaviours = self._behaviours(list(names), does or {})
        self._output = output
        functions = [name for name in names if "uses" not in self._special.get(name, {})]
        self._done = dict.fromkeys(functions, 1) | (done or {})
        self._functions = functions
        self._attempts = attempts or {}
        self._failed = failed
        self._cancelled = cancelled
        self._orders = orders
        self._children = children
        for _, child, _ in children:
            for one in child.blueprints:
                if one not in self.blueprints:
                    self.blueprints.append(one)
            self.behaviours |= child.behaviours
        self.weight: int = sum(self._done.values()) + len(self._special) + sum(child.weight for _, child, _ in children)

    def _node(self, name: str) -> dict[str, Any]:
        node: dict[str, Any] = {"id": name, "uses": f"{self.id} {name}", **self._special.get(name, {})}
        worker = node.get("params", {}).get("workerUsesKey")
        return node if worker is None else {**node, "params": {**node["params"], "workerUsesKey": f"{self.id} {worker}"}}

    def _behaviours(self, names: list[str], does: dict[str, list[Entry]]) -> dict[str, list[Entry]]:
        workers = [node["params"]["workerUsesKey"] for node in self._special.values() if node.get("uses") == "batch-scatter"]
        functions = [name for name in names if "uses" not in self._special.get(name, {})] + workers
        return {
            f"{self.id} {name}": [_counting(name, entry) for entry in does.get(name, [{"add": 1}])] for name in functions
        }

    def run(self, choices: Choices, run_id: str) -> Run:
        """A run with a number as its input."""
        given = choices.number(1, 9)
        orders = [asked_again(order._replace(run_id=run_id), choices) for order in choices.one_of(self._orders)]
        return Run(given, {}, orders, self.expected(run_id, given))

    def expected(self, run_id: str, given: int) -> dict[str, Expectation]:
        """What the run and its children come to."""
        trail = [name for name, times in self._done.items() for _ in range(times)]
        own = Expectation(
            self.id,
            ("cancelled",) if self._cancelled else ("failed",) if self._failed else ("completed",),
            output=None if self._failed else self._output(given),
            context={COUNTED: len(trail), "trail": trail} if trail else {},
            completions={name: self._done[name] for name in self._functions},
            attempts=self._attempts,
            errors=self._failed,
            whole=True,
            unordered=("trail",),
            cancelled=self._cancelled,
        )
        found = {run_id: own}
        for node, child, more in self._children:
            found |= child.expected(f"{run_id}/{node}", given + more)
        return found


def _counting(name: str, entry: Entry) -> Entry:
    return counting({"append": {"trail": name}, **entry})


def config(**config: Any) -> Special:
    """A function with this config."""
    return {"config": config}


def wait(**params: Any) -> Special:
    """A wait."""
    return {"uses": "wait", "params": params}


def sleep(duration: int) -> Special:
    """A sleep of so many milliseconds."""
    return {"uses": "sleep", "params": {"duration": duration}}


def sub(flow: KnownFlow, **config: Any) -> Special:
    """A child of this flow."""
    return {"uses": "subflow", "params": {"blueprintId": flow.id}, "config": config}


def batch(name: str, **params: Any) -> dict[str, Special]:
    """A batch whose worker is *name*: its nodes are *name* with ``split`` and ``gather`` behind it."""
    split, gather = f"{name} split", f"{name} gather"
    return {
        split: {"uses": "batch-scatter", "params": {"gatherNodeId": gather, "workerUsesKey": name, **params}},
        gather: {"uses": "batch-gather"},
    }
