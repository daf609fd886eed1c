"""Flows, as they are written in Python: with decorators, in a chain, or taken over from JSON.

A :class:`Flow` collects two things: a *document*, the blueprint in its JSON form, which is all that a run depends on,
and a *registry* with the functions that the document's ``uses`` stand for. The key of a function is
``<flow id>.<node id>`` unless ``uses=`` says otherwise: the same in every process and for every version of the flow,
while two flows of one app may call their nodes alike.

Nodes are referred to by id, or by the function itself. An id may be used before its node is there, since a document
is put together only when it is asked for; what is missing then is for the validation to say. A batch is two nodes,
``<id>_scatter`` and ``<id>_gather``, and is referred to by its own id: edges to it lead to the first, edges and values
from it come from the second.
"""

# A node's `id` is called so here as everywhere, though Python has a function of that name.
# ruff: noqa: A002

from __future__ import annotations

__all__ = ["Flow"]

import copy
from collections.abc import Callable, Collection, Container, Mapping
from datetime import timedelta
from typing import Any, Literal, TypeVar, Unpack, cast, overload

from headrace.adapter import RunResult
from headrace.blueprint import Blueprint, from_json, to_json
from headrace.errors import BlueprintInvalid, DefinitionError, Problem
from headrace.options import (
    AttemptOptions,
    Duration,
    EdgeOptions,
    NodeFunction,
    NodeOptions,
    NodeRef,
    PlaceOptions,
    check_options,
)
from headrace.registry import Registry
from headrace.validation import validate

_Map = Mapping[str, str] | None  # Short, for a signature in one line.
F = TypeVar("F", bound=NodeFunction)


_EDGE = {"action": "action", "when": "condition", "transform": "transform"}
_CONFIG = {
    "max_retries": "maxRetries",
    "retry_delay": "retryDelay",
    "retry_backoff": "retryBackoff",
    "max_retry_delay": "maxRetryDelay",
    "retry_jitter": "retryJitter",
    "timeout": "timeout",
    "fallback": "fallback",
    "join": "joinStrategy",
    "run_ahead": "runAhead",
}


class Flow:
    """One workflow: its nodes, its edges and the functions behind them."""

    def __init__(self, id: str, version: str = "1", on_failure: Literal["drain", "fail-fast"] = "drain") -> None:
        """*on_failure* says whether work that does not depend on a failure goes on (``drain``) or stops."""
        if not id or not isinstance(id, str):
            raise DefinitionError(f"the id of a flow is a text that is not empty, not {id!r}")
        self.id = id
        self.version = version
        self.on_failure: str = _choice(f"flow {id!r}: on_failure", on_failure, ("drain", "fail-fast"))
        self.registry = Registry()
        """The functions of this flow's nodes, by key; not those of its subflows."""
        self.subflows: dict[str, Flow] = {}
        """The flows that were given to :meth:`subflow` as such, by id."""
        self._metadata: dict[str, Any] = {}
        self._nodes: list[dict[str, Any]] = []
        self._edges: list[dict[str, Any]] = []
        self._ids: set[str] = set()
        self._batches: set[str] = set()
        self._by_function: dict[int, list[str]] = {}
        # Edges that `after=` made, by their place: behind a loop they wait for its end.
        self._following: set[int] = set()

    # Nodes.

    @overload
    def node(self, target: F, /, **options: Unpack[NodeOptions]) -> F: ...
    @overload
    def node(
        self, name: str, fn: NodeFunction, /, *, uses: str = ..., cpu_bound: bool = ..., **options: Unpack[NodeOptions]
    ) -> Flow: ...
    @overload
    def node(self, name: str, /, *, uses: str, **options: Unpack[NodeOptions]) -> Flow: ...
    @overload
    def node(
        self, name: str = ..., /, *, id: str = ..., uses: str = ..., cpu_bound: bool = ...,
        **options: Unpack[NodeOptions],
    ) -> Callable[[F], F]: ...  # fmt: skip
    def node(
        self,
        target: str | NodeFunction | None = None,
        function: NodeFunction | None = None,
        /,
        *,
        id: str | None = None,
        uses: str | None = None,
        cpu_bound: bool = False,
        **options: Unpack[NodeOptions],
    ) -> Any:
        """Define a node that runs a function or a class derived from ``Node``.

        ``@flow.node`` and ``@flow.node(after=..., ...)`` decorate, and give the function back unchanged; the node's id
        is its name, or *id*. ``flow.node("A", function, ...)`` gives the flow back, for chains, as does
        ``flow.node("A", uses="key")``, which runs what the app has registered under that key. For the other options
        see :class:`NodeOptions`. What is *cpu_bound* runs in a process of its own, where the worker has any.
        """

        def define(decorated: F) -> F:
            name = id or (target if isinstance(target, str) else _name_of(decorated))
            self._add(name, uses or f"{self.id}.{name}", options, target=decorated, cpu_bound=cpu_bound)
            return decorated

        if isinstance(target, str) and function is not None:
            define(function)
        elif isinstance(target, str) and uses is not None:
            self._add(target, uses, options)
        else:
            return define(target) if callable(target) else define
        return self

    def wait(
        self, id: str, event: str | None = None, timeout: Duration | None = None, **options: Unpack[PlaceOptions]
    ) -> Flow:
        """Define a wait: a resume ends it, or a signal of that *event*, or its *timeout* (action ``timeout``)."""
        self._add(id, "wait", options, PlaceOptions, {"event": event, "timeout": timeout})
        return self

    def sleep(self, id: str, duration: Duration, **options: Unpack[PlaceOptions]) -> Flow:
        """Define a sleep of *duration*, which passes its input on."""
        self._add(id, "sleep", options, PlaceOptions, {"duration": duration})
        return self

    def subflow(
        self, id: str, flow: Flow | str, inputs: _Map = None, outputs: _Map = None, **options: Unpack[AttemptOptions]
    ) -> Flow:
        """Define a node that is a run of another *flow* (the flow, or its id).

        *inputs* maps the child's context keys to those here, and *outputs* context keys here to the child's nodes or
        keys.
        """
        if isinstance(flow, Flow):
            if self.subflows.setdefault(flow.id, flow) is not flow:
                raise DefinitionError(f"flow {self.id!r} has two different subflows {flow.id!r}: rename one of them")
            flow = flow.id
        mapped = {"inputs": inputs and dict(inputs), "outputs": outputs and dict(outputs)}
        self._add(id, "subflow", options, AttemptOptions, {"blueprintId": flow, **mapped})
        return self

    def loop(
        self,
        id: str,
        condition: str,
        body: NodeRef | tuple[NodeRef, NodeRef] | None = None,
        *,
        start: NodeRef | None = None,
        end: NodeRef | None = None,
        max_iterations: int | None = None,
        **options: Unpack[PlaceOptions],
    ) -> Flow:
        """Define a loop while *condition* holds over *body*: its first and its last node, or one that is both.

        ``after=`` a loop means after its end (action ``break``); an edge to there says so itself.
        """
        first, last = body if isinstance(body, tuple) else (body or start, body or end or start)
        if first is None or last is None:
            raise DefinitionError(f"loop {id!r} of flow {self.id!r} has no body: say body=(first node, last node)")
        params = {"condition": condition, "maxIterations": max_iterations}
        self._add(id, "loop-controller", options, PlaceOptions, params)
        return self.edge(id, first, action="continue").edge(last, id)

    def batch(
        self,
        id: str,
        worker: NodeFunction | str,
        items: NodeRef | None = None,
        *,
        chunk_size: int | None = None,
        on_item_error: Literal["fail", "collect"] = "fail",
        output_key: str | None = None,
        cpu_bound: bool = False,
        **options: Unpack[AttemptOptions],
    ) -> Flow:
        """Define a batch: *worker* (a function or a key) runs for each of *items*, *chunk_size* of them at a time.

        Without *items* the list is what comes over the edge. Attempts and timeout are those of each worker, the
        fallback is that of the batch. Its output is the list of outputs in the order of the items, which the context
        key *output_key* gets too. With ``on_item_error="collect"`` an item that fails leaves its error in the list.
        """
        what = f"batch {id!r} of flow {self.id!r}"
        on_error = _choice(f"{what}: on_item_error", on_item_error, ("fail", "collect"))
        check_options(what, options, AttemptOptions)
        scatter, gather = f"{id}_scatter", f"{id}_gather"
        self._check_new(id, scatter, gather)
        key = worker if isinstance(worker, str) else self.registry.add(f"{self.id}.{id}", worker, cpu_bound=cpu_bound).key
        self._ids.add(id)
        self._batches.add(id)
        params = {"workerUsesKey": key, "gatherNodeId": gather, "chunkSize": chunk_size, "onItemError": on_error}
        # The scatter node is what is tried again and where edges arrive; the gather node is what fails.
        said = _without_none({**options, "inputs": items, "fallback": None})
        self._add(scatter, "batch-scatter", said, NodeOptions, params | {"outputKey": output_key})
        self._add(gather, "batch-gather", {"fallback": options["fallback"]} if "fallback" in options else {})
        return self.edge(scatter, gather)

    def edge(self, source: NodeRef, target: NodeRef, **options: Unpack[EdgeOptions]) -> Flow:
        """Lead from *source* to *target*; see :class:`EdgeOptions` for when, and with what."""
        check_options(f"edge {source!r} -> {target!r} of flow {self.id!r}", options, EdgeOptions)
        said = _without_none({_EDGE[name]: value for name, value in options.items()})
        self._edges.append({"source": self._id_of(source), "target": self._id_of(target), **said})
        return self

    # Documents.

    @classmethod
    def from_json(cls, data: Any, implementations: Mapping[str, NodeFunction] | Registry | None = None) -> Flow:
        """A flow from a blueprint in its JSON form, with the functions that its ``uses`` stand for.

        Raises :class:`~headrace.errors.DefinitionError` when *data* is no blueprint at all; whether it can run is for
        :meth:`check` to say.
        """
        blueprint = from_json(data)
        document = to_json(blueprint)
        flow = cls(blueprint.id, blueprint.version)
        # Any text: a mode that there is not is one of the problems that the validation lists.
        flow.on_failure = blueprint.on_failure
        flow._metadata = document.get("metadata", {})
        flow._nodes, flow._edges = document["nodes"], document["edges"]
        flow._ids = {node.id for node in blueprint.nodes}
        flow.registry.merge(Registry.of(implementations or {}))
        return flow

    def to_json(self) -> dict[str, Any]:
        """The blueprint as a document, with Flowcraft's field names; an own copy."""
        nodes, edges = copy.deepcopy(self._nodes), copy.deepcopy(self._edges)
        loops = {node["id"] for node in nodes if node["uses"] == "loop-controller"}
        for place, edge in enumerate(edges):
            if place in self._following and edge["source"] in loops and not edge.keys() & {"action", "condition"}:
                edge["action"] = "break"
            edge["source"] = self._half(edge["source"], "_gather")
            edge["target"] = self._half(edge["target"], "_scatter")
        for node in nodes:
            if "inputs" in node:
                node["inputs"] = _each(node["inputs"], self._read)
            config = node.get("config", {})
            if "fallback" in config:
                config["fallback"] = self._half(config["fallback"], "_scatter")
        metadata = {**self._metadata, "version": self.version, "onFailure": self.on_failure}
        return {"id": self.id, "nodes": nodes, "edges": edges, "metadata": metadata}

    def to_blueprint(self) -> Blueprint:
        """The blueprint as the engine takes it; whether it can run is for :meth:`check` to say."""
        return from_json(self.to_json())

    def check(
        self, *, implementations: Container[str] | None = None, blueprints: Container[str] | None = None
    ) -> tuple[Problem, ...]:
        """Raise :class:`~headrace.errors.BlueprintInvalid` with all that keeps this flow from running.

        *implementations* are the keys and *blueprints* the ids of flows that are known where it is to run; without
        them, those that the flow brings along. Gives the warnings back.
        """
        keys = self.registry if implementations is None else implementations
        flows = {self.id, *self.subflows} if blueprints is None else blueprints
        problems = validate(self.to_blueprint(), implementations=keys, blueprints=flows)
        if not all(problem.warning for problem in problems):
            raise BlueprintInvalid(self.id, problems)
        return problems

    async def run(
        self,
        input: Any = None,
        *,
        context: Mapping[str, Any] | None = None,
        dependencies: Mapping[str, Any] | None = None,
        run_id: str | None = None,
        timeout_s: float | None = None,
    ) -> RunResult:
        """Run the flow in memory, to its end; see :func:`headrace.app.run_in_memory`."""
        # An app is made of flows, so the module of flows cannot import it at its top.
        from headrace.app import run_in_memory

        return await run_in_memory(
            self, input, context=context, dependencies=dependencies, run_id=run_id, timeout_s=timeout_s
        )

    def family(self) -> tuple[Flow, ...]:
        """This flow and all below it, each once; raises DefinitionError where two different ones share an id."""
        found: dict[str, Flow] = {}
        flows = [self]
        for flow in flows:
            if found.setdefault(flow.id, flow) is not flow:
                raise DefinitionError(f"two different flows below {self.id!r} are called {flow.id!r}: rename one")
            flows += [child for child in flow.subflows.values() if child not in flows]
        return tuple(found.values())

    def __repr__(self) -> str:
        return f"<Flow {self.id!r} version {self.version!r}, {len(self._nodes)} nodes>"

    # How it is put together.

    def _add(
        self,
        node_id: str,
        uses: str,
        said: Mapping[str, object],
        allowed: type[EdgeOptions] = NodeOptions,
        params: Mapping[str, Any] | None = None,
        *,
        target: NodeFunction | None = None,
        cpu_bound: bool = False,
    ) -> None:
        """Add one node and the edges to it; *said* are its options, *params* those of a built-in node."""
        what = f"node {node_id!r} of flow {self.id!r}"
        check_options(what, said, allowed)
        options = cast("NodeOptions", said)
        # What can be refused comes before what is kept, so a definition that raises leaves nothing behind.
        after = options.get("after", ())
        sources = [self._id_of(ref) for ref in ([after] if callable(after) or isinstance(after, str) else after)]
        node: dict[str, Any] = {"id": node_id, "uses": uses}
        given = options.get("params", {}) if params is None else _without_none(params)
        params = {name: _plain(value) for name, value in given.items()}
        config = {_CONFIG[name]: self._config(what, name, value) for name, value in options.items() if name in _CONFIG}
        inputs = _each(options.get("inputs"), self._id_of)
        of_edge = cast("EdgeOptions", {name: said[name] for name in _EDGE if name in said})
        if of_edge and not sources:
            raise DefinitionError(f"{what}: {', '.join(of_edge)} belong to the edge from after=, which is missing")
        self._check_new(node_id)
        if target is not None:
            self.registry.add(uses, target, cpu_bound=cpu_bound)
            self._by_function.setdefault(id(target), []).append(node_id)
        self._ids.add(node_id)
        self._nodes.append(node | _without_none({"params": params or None, "inputs": inputs, "config": config or None}))
        for source in sources:
            self._following.add(len(self._edges))
            self.edge(source, node_id, **of_edge)

    def _check_new(self, *ids: str) -> None:
        twice = [node_id for node_id in ids if node_id in self._ids]
        if twice:
            raise DefinitionError(f"node {twice[0]!r} of flow {self.id!r} is defined twice: give one another id")

    def _config(self, what: str, name: str, value: Any) -> Any:
        if name == "fallback":
            return self._id_of(value)
        if name != "join" or value in ("all", "any"):
            return _plain(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise DefinitionError(f"{what}: join is 'all', 'any' or a number of arrivals, not {value!r}")
        return {"atLeast": value}

    def _id_of(self, ref: NodeRef) -> str:
        if isinstance(ref, str):
            return ref
        ids = self._by_function.get(id(ref), [])
        if len(ids) != 1:
            name = getattr(ref, "__qualname__", repr(ref))
            found = f"several nodes ({', '.join(ids)}): name the one by its id" if ids else "no node: define it before"
            raise DefinitionError(f"{name} is {found}, in flow {self.id!r}")
        return ids[0]

    def _half(self, node_id: str, suffix: str) -> str:
        """The half of a batch that is meant by its id; other ids stay as they are."""
        return node_id + suffix if node_id in self._batches else node_id

    def _read(self, name: str) -> str:
        """A name of ``inputs`` with a batch's id, which may begin a path, replaced by that of its gather node."""
        known = [it for it in self._ids if name == it or name.startswith(it + ".")]
        longest = max(known, key=len, default="")
        return f"{longest}_gather{name[len(longest) :]}" if longest in self._batches else name


def _each(inputs: Any, change: Callable[[Any], str]) -> Any:
    """The same inputs, one name or an object of names, with each name changed; None stays."""
    if isinstance(inputs, Mapping):
        return {key: change(name) for key, name in inputs.items()}
    return None if inputs is None else change(inputs)


def _name_of(target: NodeFunction) -> str:
    name = getattr(target, "__name__", "<")
    if not isinstance(name, str) or "<" in name:
        raise DefinitionError(f"{target!r} has no name that could be a node's id: say id=...")
    return name


def _choice(what: str, value: str, choices: Collection[str]) -> Any:
    if value not in choices:
        raise DefinitionError(f"{what} is one of {', '.join(map(repr, choices))}, not {value!r}")
    return value


def _plain(value: Any) -> Any:
    """JSON for what Python may say better: a timedelta in milliseconds."""
    return round(value / timedelta(milliseconds=1)) if isinstance(value, timedelta) else value


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
