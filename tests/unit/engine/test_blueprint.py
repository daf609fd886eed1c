from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.blueprint import (
    AtLeast,
    Blueprint,
    EdgeSpec,
    NodeConfig,
    NodeSpec,
    fingerprint,
    from_json,
    to_json,
)
from headrace.durations import DURATION_MS_MAX
from headrace.errors import BlueprintInvalid
from headrace.limits import ID_BYTES_MAX

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
NAME = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
DURATION = st.integers(0, DURATION_MS_MAX)


def without_defaults(document: dict[str, Any], **defaults: Any) -> dict[str, Any]:
    return {key: value for key, value in document.items() if value is not None and value != defaults.get(key)}


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    """The canonical form of a config: usable values other than the defaults, and unusable ones."""
    usable = {
        "maxRetries": st.integers(-3, 100),
        "retryDelay": DURATION,
        "retryBackoff": st.floats(-5, 1e6),
        "maxRetryDelay": DURATION,
        "retryJitter": st.floats(-1, 2),
        "timeout": DURATION,
        "fallback": TEXT,
        "runAhead": st.just(True),
        "joinStrategy": TEXT | st.builds(lambda n: {"atLeast": n}, st.integers(-2, 9)),
    }
    unusable = {
        "maxRetries": st.sampled_from(["three", 1.5, True, []]),
        "retryDelay": st.sampled_from([-1, "soon", [], True]),
        "retryBackoff": st.sampled_from(["2", True, {}]),
        "timeout": st.sampled_from([-1, "soon", {"a": [1]}]),
        "joinStrategy": st.sampled_from([5, [], {}, {"atLeast": "x"}, {"atLeast": 1, "of": 2}, {"atLeast": True}]),
    }
    names = draw(st.lists(st.sampled_from(sorted(usable)), unique=True))
    config = {name: draw(usable[name]) for name in names}
    for name in draw(st.lists(st.sampled_from(sorted(unusable)), unique=True, max_size=2)):
        config[name] = draw(unusable[name])
    return without_defaults(config, maxRetries=1, retryDelay=0, retryBackoff=2.0, retryJitter=0.0, joinStrategy="all")


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """A document in its canonical form, with all kinds of ids and of problems."""
    nodes = []
    for _ in range(draw(st.integers(0, 4))):
        node: dict[str, Any] = {"id": draw(TEXT), "uses": draw(TEXT)}
        if params := draw(st.dictionaries(TEXT, JSON, max_size=2)):
            node["params"] = params
        inputs = draw(st.none() | TEXT | st.dictionaries(TEXT, TEXT, max_size=2))
        if inputs is not None:
            node["inputs"] = inputs
        if config := draw(configs()):
            node["config"] = config
        nodes.append(node)
    edges = [
        without_defaults(
            {"source": draw(TEXT), "target": draw(TEXT)}
            | {name: draw(st.none() | TEXT) for name in ("action", "condition", "transform")}
        )
        for _ in range(draw(st.integers(0, 3)))
    ]
    metadata = draw(st.dictionaries(NAME, JSON, max_size=2))
    metadata |= without_defaults(
        {"version": draw(st.none() | TEXT), "onFailure": draw(st.none() | TEXT)}, version="1", onFailure="drain"
    )
    document = {"id": draw(NAME), "nodes": nodes, "edges": edges}
    return document | ({"metadata": metadata} if metadata else {})


@given(documents())
def test_a_canonical_document_is_the_same_after_reading_and_writing(document: dict[str, Any]) -> None:
    assert document == to_json(from_json(document))


@given(documents())
def test_a_blueprint_is_the_same_after_writing_and_reading(document: dict[str, Any]) -> None:
    blueprint = from_json(document)
    written = json.loads(json.dumps(to_json(blueprint)))

    assert blueprint == from_json(written)
    assert fingerprint(blueprint) == fingerprint(from_json(written))


def test_every_field_has_its_place() -> None:
    blueprint = from_json(
        {
            "id": "order",
            "nodes": [
                {"id": "A", "uses": "charge", "params": {"n": [1]}, "inputs": {"x": "S.y"}, "label": "Charge"},
                {
                    "id": "B",
                    "uses": "B",
                    "inputs": "A",
                    "config": {
                        "maxRetries": 3,
                        "retryDelay": "2s",
                        "retryBackoff": 3,
                        "maxRetryDelay": "1m",
                        "retryJitter": 0.5,
                        "timeout": "PT30S",
                        "fallback": "F",
                        "joinStrategy": {"atLeast": 2},
                        "runAhead": True,
                        "color": "red",
                    },
                },
            ],
            "edges": [{"id": "e", "source": "A", "target": "B", "action": "a", "condition": "true", "transform": "input"}],
            "metadata": {"version": "7", "onFailure": "fail-fast", "owner": "me"},
            "viewport": {"zoom": 2},
        }
    )

    assert blueprint == Blueprint(
        id="order",
        nodes=(
            NodeSpec("A", "charge", {"n": [1]}, {"x": "S.y"}),
            NodeSpec("B", "B", {}, "A", NodeConfig(3, 2_000, 3.0, 60_000, 0.5, 30_000, "F", AtLeast(2), run_ahead=True)),
        ),
        edges=(EdgeSpec("A", "B", "a", "true", "input"),),
        version="7",
        on_failure="fail-fast",
        metadata={"owner": "me"},
    )
    assert to_json(blueprint)["nodes"][1]["config"]["retryDelay"] == 2_000


def test_absent_fields_have_their_defaults_and_null_is_absent() -> None:
    node = {"id": "A", "uses": "a", "params": None, "inputs": None, "config": {"timeout": None, "fallback": None}}
    blueprint = from_json({"id": "f", "nodes": [node], "edges": [], "metadata": None})

    assert blueprint == Blueprint("f", (NodeSpec("A", "a"),), ())
    assert (blueprint.version, blueprint.on_failure) == ("1", "drain")
    assert blueprint.nodes[0].config == NodeConfig()


def test_a_version_may_be_written_as_a_number() -> None:
    assert from_json({"id": "f", "nodes": [], "edges": [], "metadata": {"version": 3}}).version == "3"


def test_values_that_cannot_be_used_are_kept_for_the_validation() -> None:
    config = {"maxRetries": "many", "retryDelay": "soon", "timeout": -1, "joinStrategy": {"atLeast": 1.5}}
    blueprint = from_json({"id": "f", "nodes": [{"id": "A", "uses": "a", "config": config}], "edges": []})

    assert dict(blueprint.nodes[0].config.unusable) == config
    assert blueprint.nodes[0].config.max_retries == 1
    assert to_json(blueprint)["nodes"][0]["config"] == config


def test_every_wrong_field_is_named_at_once() -> None:
    document = {
        "id": 5,
        "nodes": [
            {"uses": "a"},
            "B",
            {"id": ["C"], "uses": 7, "params": [], "inputs": 1, "config": "fast"},
            {"id": "D", "uses": "d", "inputs": {"x": 5}, "config": {"fallback": 5, "runAhead": "yes"}},
            {"id": "E", "uses": "e", "params": {"x": float("nan")}},
        ],
        "edges": [{"source": "A"}, None, {"source": "A", "target": "B", "condition": True}],
        "metadata": {"version": 1.5, "onFailure": []},
    }

    with pytest.raises(BlueprintInvalid) as refused:
        from_json(document)

    problems = refused.value.problems
    assert {problem.code for problem in problems} == {"BLUEPRINT_MALFORMED"}
    assert [problem.where for problem in problems] == [
        "id",
        "nodes[0].id",
        "nodes[1]",
        "nodes[2].inputs",
        "nodes[2].id",
        "nodes[2].uses",
        "nodes[2].params",
        "nodes[2].config",
        "nodes[3].inputs.x",
        "nodes[3].config.fallback",
        "nodes[3].config.runAhead",
        "nodes[4].params",
        "edges[0].target",
        "edges[1]",
        "edges[2].condition",
        "metadata.version",
        "metadata.onFailure",
    ]
    assert "nodes[2].uses must be text, not a number" in str(refused.value)


@pytest.mark.parametrize("document", [None, [], "x", 5, {}, {"id": "f"}, {"id": "f", "nodes": {}, "edges": []}])
def test_what_is_no_blueprint_at_all_is_refused(document: object) -> None:
    with pytest.raises(BlueprintInvalid, match="BLUEPRINT_MALFORMED"):
        from_json(document)


def test_a_blueprint_without_a_name_is_refused() -> None:
    with pytest.raises(BlueprintInvalid, match="id must not be empty"):
        from_json({"id": "", "nodes": [], "edges": []})


@pytest.mark.parametrize("node_id", ["a b", "a.b/c", "\0", "\n", "é", "日本", "🦆", "'\"\\", "x" * ID_BYTES_MAX])
def test_an_id_is_any_text(node_id: str) -> None:
    assert node_id == from_json({"id": "f", "nodes": [{"id": node_id, "uses": "a"}], "edges": []}).nodes[0].id


@pytest.mark.parametrize(("node_id", "reason"), [("\ud800", "UTF-8"), ("é" * 513, "has 1026 bytes")])
def test_an_id_that_cannot_be_a_key_is_refused(node_id: str, reason: str) -> None:
    with pytest.raises(BlueprintInvalid, match=rf"nodes\[0\]\.id .*{reason}"):
        from_json({"id": "f", "nodes": [{"id": node_id, "uses": "a"}], "edges": []})


def test_params_that_are_nested_without_end_are_refused() -> None:
    params: dict[str, Any] = {}
    params["self"] = params

    with pytest.raises(BlueprintInvalid, match=r"nodes\[0\]\.params must be JSON"):
        from_json({"id": "f", "nodes": [{"id": "A", "uses": "a", "params": params}], "edges": []})


def test_a_blueprint_shares_nothing_with_its_document() -> None:
    document = {
        "id": "f",
        "nodes": [{"id": "A", "uses": "a", "params": {"list": [1]}}],
        "edges": [],
        "metadata": {"m": [1]},
    }
    kept = copy.deepcopy(document)
    blueprint = from_json(document)
    document["nodes"][0]["params"]["list"].append(2)  # type: ignore[index]
    to_json(blueprint)["nodes"][0]["params"]["list"].append(3)
    to_json(blueprint)["metadata"]["m"].append(4)

    assert kept == to_json(blueprint)


def test_the_fingerprint_is_of_what_is_said_and_not_of_how() -> None:
    one = {
        "id": "f",
        "nodes": [{"id": "A", "uses": "a", "params": {"x": 1, "y": 2}, "config": {"timeout": "1s"}}],
        "edges": [],
    }
    same = {
        "edges": [],
        "id": "f",
        "metadata": {"version": "1"},
        "nodes": [
            {"uses": "a", "config": {"timeout": 1000, "maxRetries": 1}, "params": {"y": 2, "x": 1}, "id": "A", "x": 5}
        ],
    }
    other = {**one, "metadata": {"version": "2"}}

    assert fingerprint(from_json(one)) == fingerprint(from_json(same))
    assert fingerprint(from_json(one)) != fingerprint(from_json(other))
    assert len(fingerprint(from_json(one))) == 64
