"""Blueprints as data: what a run is pinned to, and its JSON form with Flowcraft's field names.

A document is read in two steps that refuse for different reasons. :func:`from_json` refuses only what has not the shape
of a blueprint (a node without an id, params that are no object): there would be nothing to hold it in. Whatever has the
shape but cannot run (a duration "soon", no attempts at all, two nodes of one id) becomes a :class:`Blueprint` all the
same, so that :mod:`headrace.validation` can report all problems at once. Values of ``config`` that do not fit their
field are kept beside it, in :attr:`NodeConfig.unusable`, until then.

A blueprint read from JSON shares nothing with it. In its canonical form fields with default values are left out,
durations are milliseconds and fields that only an editor knows are gone; :func:`to_json` writes that form, and reading
it again gives the same blueprint.
"""

from __future__ import annotations

__all__ = [
    "BUILT_IN_USES",
    "ON_FAILURE",
    "AtLeast",
    "Blueprint",
    "EdgeSpec",
    "NodeConfig",
    "NodeSpec",
    "fingerprint",
    "from_json",
    "to_json",
]

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace.durations import parse_duration_ms
from headrace.errors import BlueprintInvalid
from headrace.fields import FieldReader, copied, kind_of
from headrace.values import decode, encode

BUILT_IN_USES = frozenset(("wait", "sleep", "subflow", "loop-controller", "batch-scatter", "batch-gather"))
"""Registry keys that the engine itself implements."""

ON_FAILURE = ("drain", "fail-fast")


@dataclass(frozen=True, slots=True)
class AtLeast:
    """The join that runs at the *n*-th arrival."""

    n: int


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """How a node is tried, and how it joins; *max_retries* counts all attempts.

    *unusable* holds, by its JSON name, each value of the document that cannot be what its field needs; the field then
    has its default. Validation refuses a blueprint in which any is left.
    """

    max_retries: int = 1
    retry_delay_ms: int = 0
    retry_backoff: float = 2.0
    max_retry_delay_ms: int | None = None
    retry_jitter: float = 0.0
    timeout_ms: int | None = None
    fallback: str | None = None
    join_strategy: str | AtLeast = "all"
    run_ahead: bool = False
    unusable: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One node: *uses* is the key of its implementation, *inputs* a name, or names by key of the input object."""

    id: str
    uses: str
    params: Mapping[str, Any] = field(default_factory=dict)
    inputs: str | Mapping[str, str] | None = None
    config: NodeConfig = field(default_factory=NodeConfig)


@dataclass(frozen=True, slots=True)
class EdgeSpec:
    """One edge; *condition* and *transform* are the texts of expressions."""

    source: str
    target: str
    action: str | None = None
    condition: str | None = None
    transform: str | None = None


@dataclass(frozen=True, slots=True)
class Blueprint:
    """One version of a workflow; *metadata* is what its author noted beside version and failure mode."""

    id: str
    nodes: tuple[NodeSpec, ...]
    edges: tuple[EdgeSpec, ...]
    version: str = "1"
    on_failure: str = "drain"
    metadata: Mapping[str, Any] = field(default_factory=dict)


def from_json(data: object) -> Blueprint:
    """Read a decoded document.

    Raises :class:`BlueprintInvalid` with a problem of code ``BLUEPRINT_MALFORMED`` for every field of a wrong type,
    all at once; whether the blueprint can run is for :func:`headrace.validation.validate` to say.
    """
    reader = FieldReader()
    document = reader.object_at("blueprint", data)
    if reader.problems:
        raise BlueprintInvalid("", tuple(reader.problems))
    blueprint_id = reader.id_at("id", document.get("id"))
    if document.get("id") == "":
        reader.refuse("id", "must not be empty")
    nodes = tuple(
        _read_node(reader, f"nodes[{index}]", node)
        for index, node in enumerate(reader.list_at("nodes", document.get("nodes")))
    )
    edges = tuple(
        _read_edge(reader, f"edges[{index}]", edge)
        for index, edge in enumerate(reader.list_at("edges", document.get("edges", [])))
    )
    metadata = reader.json_object_at("metadata", document.get("metadata"))
    version = metadata.pop("version", None)
    if isinstance(version, int) and not isinstance(version, bool):
        version = str(version)
    version = reader.text_or_none_at("metadata.version", version)
    on_failure = reader.text_or_none_at("metadata.onFailure", metadata.pop("onFailure", None))
    if reader.problems:
        raise BlueprintInvalid(blueprint_id, tuple(reader.problems))
    return Blueprint(
        blueprint_id,
        nodes,
        edges,
        "1" if version is None else version,
        ON_FAILURE[0] if on_failure is None else on_failure,
        metadata,
    )


def to_json(blueprint: Blueprint) -> dict[str, Any]:
    """The canonical document of a blueprint, as an own copy."""
    metadata: dict[str, Any] = {}
    if blueprint.version != "1":
        metadata["version"] = blueprint.version
    if blueprint.on_failure != ON_FAILURE[0]:
        metadata["onFailure"] = blueprint.on_failure
    metadata |= copied(blueprint.metadata)
    document: dict[str, Any] = {
        "id": blueprint.id,
        "nodes": [_node_to_json(node) for node in blueprint.nodes],
        "edges": [_edge_to_json(edge) for edge in blueprint.edges],
    }
    return document | ({"metadata": metadata} if metadata else {})


def fingerprint(blueprint: Blueprint) -> str:
    """SHA-256, in hex, of the canonical document: equal for blueprints that say the same."""
    text = json.dumps(to_json(blueprint), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


_DEFAULTS = NodeConfig()

# Field of the document -> attribute of NodeConfig, for those whose value is taken as it is.
_PLAIN_FIELDS = {
    "maxRetries": "max_retries",
    "retryDelay": "retry_delay_ms",
    "retryBackoff": "retry_backoff",
    "maxRetryDelay": "max_retry_delay_ms",
    "retryJitter": "retry_jitter",
    "timeout": "timeout_ms",
    "fallback": "fallback",
    "runAhead": "run_ahead",
}


def _node_to_json(node: NodeSpec) -> dict[str, Any]:
    document: dict[str, Any] = {"id": node.id, "uses": node.uses}
    if node.params:
        document["params"] = copied(node.params)
    if node.inputs is not None:
        document["inputs"] = node.inputs if isinstance(node.inputs, str) else dict(node.inputs)
    config: dict[str, Any] = {}
    for name, attribute in _PLAIN_FIELDS.items():
        value = getattr(node.config, attribute)
        if value != getattr(_DEFAULTS, attribute):
            short = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
            config[name] = int(value) if short else value
    strategy = node.config.join_strategy
    if strategy != _DEFAULTS.join_strategy:
        config["joinStrategy"] = {"atLeast": strategy.n} if isinstance(strategy, AtLeast) else strategy
    config |= {name: decode(encode(value)) for name, value in node.config.unusable}
    return document | ({"config": config} if config else {})


def _edge_to_json(edge: EdgeSpec) -> dict[str, Any]:
    document = {"source": edge.source, "target": edge.target}
    for name in ("action", "condition", "transform"):
        value = getattr(edge, name)
        if value is not None:
            document[name] = value
    return document


def _read_node(reader: FieldReader, path: str, value: object) -> NodeSpec:
    known = len(reader.problems)
    document = reader.object_at(path, value)
    if len(reader.problems) > known:
        return NodeSpec("", "")
    inputs = document.get("inputs")
    if isinstance(inputs, Mapping):
        inputs = {
            reader.text_at(f"{path}.inputs", key): reader.text_at(f"{path}.inputs.{key}", name)
            for key, name in inputs.items()
        }
    elif inputs is not None and not isinstance(inputs, str):
        reader.refuse(f"{path}.inputs", f"must be text or an object of texts, not {kind_of(inputs)}")
    elif inputs is not None:
        inputs = reader.text_at(f"{path}.inputs", inputs)
    return NodeSpec(
        reader.id_at(f"{path}.id", document.get("id")),
        reader.text_at(f"{path}.uses", document.get("uses")),
        reader.json_object_at(f"{path}.params", document.get("params")),
        inputs,
        _read_config(reader, f"{path}.config", document.get("config")),
    )


def _read_edge(reader: FieldReader, path: str, value: object) -> EdgeSpec:
    known = len(reader.problems)
    document = reader.object_at(path, value)
    if len(reader.problems) > known:
        return EdgeSpec("", "")
    return EdgeSpec(
        reader.id_at(f"{path}.source", document.get("source")),
        reader.id_at(f"{path}.target", document.get("target")),
        reader.text_or_none_at(f"{path}.action", document.get("action")),
        reader.text_or_none_at(f"{path}.condition", document.get("condition")),
        reader.text_or_none_at(f"{path}.transform", document.get("transform")),
    )


def _read_config(reader: FieldReader, path: str, value: object) -> NodeConfig:
    document = reader.json_object_at(path, value)
    fields: dict[str, Any] = {}
    unusable: dict[str, Any] = {}
    for name, raw in document.items():
        if raw is None:
            continue
        if name == "fallback":
            fields["fallback"] = reader.text_at(f"{path}.fallback", raw)
        elif name == "runAhead":
            if isinstance(raw, bool):
                fields["run_ahead"] = raw
            else:
                reader.refuse(f"{path}.runAhead", f"must be true or false, not {kind_of(raw)}")
        elif name == "joinStrategy" or name in _PLAIN_FIELDS:
            try:
                fields[_PLAIN_FIELDS.get(name, "join_strategy")] = _read_value(name, raw)
            except ValueError:
                unusable[name] = raw
    return NodeConfig(**fields, unusable=tuple(sorted(unusable.items())))


def _read_value(name: str, raw: Any) -> Any:
    """The value of one field of ``config``; raises :class:`ValueError` where it is of no use at all."""
    if name in ("retryDelay", "maxRetryDelay", "timeout"):
        return parse_duration_ms(raw)
    if name == "maxRetries":
        return _whole(raw)
    if name in ("retryBackoff", "retryJitter"):
        if isinstance(raw, bool) or not isinstance(raw, int | float) or not math.isfinite(raw):
            raise ValueError(name)
        return float(raw)
    if isinstance(raw, str):
        return raw
    if isinstance(raw, Mapping) and raw.keys() == {"atLeast"}:
        return AtLeast(_whole(raw["atLeast"]))
    raise ValueError(name)


def _whole(raw: Any) -> int:
    if isinstance(raw, bool) or not isinstance(raw, int | float) or raw != int(raw):
        raise ValueError("not a whole number")
    return int(raw)
