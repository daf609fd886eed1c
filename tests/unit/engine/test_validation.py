from __future__ import annotations

import itertools
import time
from typing import Any

import pytest

from headrace.blueprint import AtLeast, Blueprint, NodeConfig, NodeSpec, from_json
from headrace.errors import BlueprintInvalid
from headrace.validation import check, validate


def node(node_id: str, uses: str = "x", params: dict[str, Any] | None = None, **config: Any) -> dict[str, Any]:
    return {"id": node_id, "uses": uses, "params": params or {}, "config": config}


def edge(source: str, target: str, **rest: str) -> dict[str, str]:
    return {"source": source, "target": target, **rest}


def document(nodes: list[dict[str, Any]], edges: list[dict[str, str]] | None = None, **metadata: Any) -> Blueprint:
    return from_json({"id": "f", "nodes": nodes, "edges": edges or [], "metadata": metadata})


def problems(
    nodes: list[dict[str, Any]], edges: list[dict[str, str]] | None = None, **known: set[str]
) -> list[tuple[str, str]]:
    """Code and place of each problem but the warnings."""
    found = validate(
        document(nodes, edges), implementations=known.get("implementations"), blueprints=known.get("blueprints")
    )
    return [(problem.code, problem.where) for problem in found if not problem.warning]


def loop(**params: Any) -> list[dict[str, Any]]:
    return [node("S"), node("L", "loop-controller", {"condition": "true", **params}), node("b"), node("z")]


LOOP_EDGES = [edge("S", "L"), edge("L", "b", action="continue"), edge("b", "L"), edge("L", "z", action="break")]


def scatter(**params: Any) -> list[dict[str, Any]]:
    wanted = {"workerUsesKey": "w", "gatherNodeId": "G"} | params
    return [node("X", "batch-scatter", {k: v for k, v in wanted.items() if v is not None}), node("G", "batch-gather")]


def test_a_blueprint_that_can_run_has_no_problems() -> None:
    blueprint = document(
        [*loop(maxIterations=5), *scatter(chunkSize=2, onItemError="collect"), node("w1", "wait", {"timeout": "2d"})],
        [*LOOP_EDGES, edge("z", "X"), edge("X", "G"), edge("G", "w1", condition="result.output != null")],
    )

    assert validate(blueprint, implementations={"x", "w"}, blueprints=set()) == ()
    check(blueprint)


def test_an_empty_blueprint_has_no_problems() -> None:
    assert problems([]) == []


def test_ids_must_be_given_and_be_unique() -> None:
    assert problems([node(""), node("A"), node("A"), node("A"), node("B")]) == [
        ("EMPTY_NODE_ID", "node ''"),
        ("DUPLICATE_NODE_ID", "node 'A'"),
    ]


def test_the_ends_of_an_edge_must_be_nodes() -> None:
    assert problems([node("A")], [edge("A", "B"), edge("C", "A"), edge("", "A")]) == [
        ("EDGE_TARGET_UNKNOWN", "edge 'A' -> 'B'"),
        ("EDGE_SOURCE_UNKNOWN", "edge 'C' -> 'A'"),
        ("EDGE_SOURCE_UNKNOWN", "edge '' -> 'A'"),
    ]


def test_an_implementation_is_missed_only_where_a_registry_is_at_hand() -> None:
    nodes = [node("A", "a"), node("B", "b"), node("W", "wait")]

    assert problems(nodes) == []
    assert problems(nodes, implementations={"a"}) == [("IMPLEMENTATION_MISSING", "node 'B'")]
    assert problems([node("A", "")]) == [("IMPLEMENTATION_MISSING", "node 'A'")]


def test_a_fallback_must_exist() -> None:
    assert problems([node("A", fallback="F"), node("B", fallback="")]) == [
        ("FALLBACK_UNKNOWN", "node 'A'"),
        ("FALLBACK_UNKNOWN", "node 'B'"),
    ]


def test_a_fallback_is_of_one_node_and_no_edge_leads_to_it() -> None:
    nodes = [node("A", fallback="F"), node("B", fallback="F"), node("F")]

    assert problems(nodes) == [("FALLBACK_SHARED", "node 'F'")]
    assert problems([node("A", fallback="F"), node("F")], [edge("A", "F")]) == [("FALLBACK_HAS_EDGES", "node 'F'")]


def test_a_circle_of_fallbacks_is_named_once() -> None:
    nodes = [node("S", fallback="A"), node("A", fallback="F"), node("F", fallback="G"), node("G", fallback="A")]
    found = [p for p in validate(document(nodes)) if p.code == "FALLBACK_CYCLE"]

    assert len(found) == 1
    assert "'A' -> 'F' -> 'G' -> 'A'" in found[0].message
    assert "CYCLE_WITHOUT_LOOP" not in {problem.code for problem in validate(document(nodes))}
    assert ("FALLBACK_CYCLE", "node 'A'") in problems([node("A", fallback="A")])


@pytest.mark.parametrize("attempts", [0, -1, 1.5, "three", True])
def test_attempts_are_a_whole_number_from_one(attempts: object) -> None:
    assert problems([node("A", maxRetries=attempts)]) == [("ATTEMPTS_INVALID", "node 'A'")]


@pytest.mark.parametrize(
    "config",
    [
        *({"retryDelay": -1}, {"retryDelay": "soon"}, {"maxRetryDelay": -1}, {"timeout": "never"}, {"timeout": -0.5}),
        *({"retryBackoff": 0.5}, {"retryBackoff": "2"}, {"retryJitter": 1.5}, {"retryJitter": -0.1}),
        *({"retryJitter": True}, {"timeout": [5]}),
    ],
)
def test_times_and_factors_must_make_sense(config: dict[str, Any]) -> None:
    assert problems([node("A", **config)]) == [("DURATION_INVALID", "node 'A'")]


def test_a_config_that_was_built_in_python_is_checked_like_one_that_was_read() -> None:
    config = NodeConfig(0, -1, float("nan"), -2, 7.0, -3, None, AtLeast(1))
    found = validate(Blueprint("f", (NodeSpec("A", "x", config=config),), ()))

    assert [problem.code for problem in found] == [
        "ATTEMPTS_INVALID",
        *["DURATION_INVALID"] * 5,
        "JOIN_STRATEGY_INVALID",
    ]


@pytest.mark.parametrize("params", [{"duration": -1}, {"duration": "soon"}, {"duration": None}, {}])
def test_a_sleep_needs_a_duration(params: dict[str, Any]) -> None:
    assert problems([node("Z", "sleep", params)]) == [("DURATION_INVALID", "node 'Z'")]


def test_a_wait_may_have_a_timeout_and_an_event() -> None:
    assert problems([node("W", "wait"), node("V", "wait", {"timeout": "2d", "event": "paid"})]) == []
    assert problems([node("W", "wait", {"timeout": "later"})]) == [("DURATION_INVALID", "node 'W'")]
    assert problems([node("W", "wait", {"event": 5})]) == [("PARAMS_INVALID", "node 'W'")]


@pytest.mark.parametrize(("uses", "params"), [("wait", {}), ("sleep", {"duration": 1})])
def test_waits_and_sleeps_have_no_timeout_of_attempts(uses: str, params: dict[str, Any]) -> None:
    assert problems([node("W", uses, params, timeout=5)]) == [("DURATION_INVALID", "node 'W'")]


@pytest.mark.parametrize(
    ("strategy", "valid"),
    [
        *((name, True) for name in ("all", "any")),
        *(({"atLeast": n}, 1 <= n <= 2) for n in range(-1, 5)),
        *((strategy, False) for strategy in ("most", "", 5, {}, {"atLeast": "2"}, {"atLeast": True}, {"atMost": 1})),
    ],
)
def test_a_join_waits_for_edges_that_there_are(strategy: object, valid: bool) -> None:
    nodes = [node("A"), node("B"), node("J", joinStrategy=strategy)]
    found = problems(nodes, [edge("A", "J"), edge("B", "J")])

    assert found == ([] if valid else [("JOIN_STRATEGY_INVALID", "node 'J'")])


def test_the_way_back_into_a_loop_is_no_edge_to_wait_for() -> None:
    nodes = loop()
    nodes[1]["config"] = {"joinStrategy": {"atLeast": 2}}

    assert problems(nodes, LOOP_EDGES) == [("JOIN_STRATEGY_INVALID", "node 'L'")]


def test_there_are_two_ways_to_treat_failures() -> None:
    assert [p.code for p in validate(document([], onFailure="explode"))] == ["ON_FAILURE_INVALID"]
    assert [p.code for p in validate(document([], onFailure=""))] == ["ON_FAILURE_INVALID"]
    assert validate(document([], onFailure="fail-fast")) == ()


def test_conditions_and_transforms_are_expressions() -> None:
    edges = [edge("A", "B", condition="1 +", transform="{"), edge("A", "B", condition="'x'", transform="input")]

    assert problems([node("A"), node("B")], edges) == [
        ("EXPRESSION_INVALID", "edge 'A' -> 'B'"),
        ("EXPRESSION_INVALID", "edge 'A' -> 'B'"),
    ]


@pytest.mark.parametrize("condition", [None, 5, "", "context.n <", "(" * 100 + "true" + ")" * 100, "x" * 3_000])
def test_a_loop_needs_a_condition(condition: object) -> None:
    assert problems(loop(condition=condition), LOOP_EDGES) == [("EXPRESSION_INVALID", "node 'L'")]


@pytest.mark.parametrize("iterations", [0, -1, "many", 1.5, True, None])
def test_a_limit_of_iterations_is_a_whole_number_from_one(iterations: object) -> None:
    assert problems(loop(maxIterations=iterations), LOOP_EDGES) == [("ATTEMPTS_INVALID", "node 'L'")]


def test_a_cycle_is_named() -> None:
    nodes = [node(name) for name in "SABC"]
    edges = [edge("S", "A"), edge("A", "B"), edge("B", "C"), edge("C", "A")]
    found = [problem for problem in validate(document(nodes, edges)) if not problem.warning]

    assert [problem.code for problem in found] == ["CYCLE_WITHOUT_LOOP"]
    assert "'A' -> 'B' -> 'C' -> 'A'" in found[0].message


@pytest.mark.parametrize(
    "edges",
    [
        [edge("A", "A")],
        [*LOOP_EDGES, edge("z", "S")],
        [*LOOP_EDGES, edge("z", "L")],
        [*LOOP_EDGES, edge("L", "L")],
        [*LOOP_EDGES, edge("z", "A"), edge("A", "z")],
    ],
)
def test_a_cycle_beside_or_around_a_loop_is_none_of_the_loop(edges: list[dict[str, str]]) -> None:
    assert "CYCLE_WITHOUT_LOOP" in {code for code, _ in problems([*loop(), node("A")], edges)}


def test_a_cycle_through_a_fallback_is_a_cycle() -> None:
    nodes = [node("S"), node("A"), node("B", fallback="F"), node("F")]

    assert problems(nodes, [edge("S", "A"), edge("A", "B"), edge("F", "A")]) == [("CYCLE_WITHOUT_LOOP", "node 'A'")]


def test_a_loop_needs_a_way_in_and_a_way_round() -> None:
    without = [[e for e in LOOP_EDGES if e != left_out] for left_out in LOOP_EDGES]

    assert ("LOOP_WITHOUT_ENTRY", "node 'L'") in problems(loop(), without[0])
    assert problems([n for n in loop() if n["id"] != "b"], [LOOP_EDGES[0], LOOP_EDGES[3]]) == [
        ("LOOP_WITHOUT_CONTINUE", "node 'L'")
    ]
    assert problems(loop(), without[2]) == [("LOOP_BACK_EDGES", "node 'L'")]
    assert problems(loop(), without[3]) == []


def test_a_body_ends_in_one_node() -> None:
    nodes, edges = [*loop(), node("c")], [*LOOP_EDGES, edge("L", "c", action="continue"), edge("c", "L")]

    assert problems(nodes, edges) == [("LOOP_BACK_EDGES", "node 'L'")]
    assert problems(loop(), [*LOOP_EDGES, edge("b", "L", action="again")]) == []


def test_a_loop_may_hold_another_loop() -> None:
    nodes = [
        node("S"),
        node("O", "loop-controller", {"condition": "true"}),
        node("I", "loop-controller", {"condition": "true"}),
        *(node(name) for name in "bcz"),
    ]
    edges = [
        *(edge("S", "O"), edge("O", "I", action="continue"), edge("I", "b", action="continue"), edge("b", "I")),
        *(edge("I", "c", action="break"), edge("c", "O"), edge("O", "z", action="break")),
    ]

    assert problems(nodes, edges) == []


def test_a_subflow_names_a_blueprint() -> None:
    assert problems([node("C", "subflow", {"blueprintId": "child"})]) == []
    assert problems([node("C", "subflow", {"blueprintId": "child"})], blueprints={"child"}) == []
    assert problems([node("C", "subflow", {"blueprintId": "child"})], blueprints=set()) == [("SUBFLOW_UNKNOWN", "node 'C'")]
    for unusable in (None, "", 5):
        assert problems([node("C", "subflow", {"blueprintId": unusable})]) == [("SUBFLOW_UNKNOWN", "node 'C'")]


@pytest.mark.parametrize("mapping", [{"outputs": []}, {"inputs": {"a": 5}}, {"inputs": "a"}])
def test_a_subflow_maps_names_to_names(mapping: dict[str, Any]) -> None:
    assert problems([node("C", "subflow", {"blueprintId": "c", **mapping})]) == [("PARAMS_INVALID", "node 'C'")]


def test_a_batch_needs_a_worker() -> None:
    edges = [edge("X", "G")]

    assert problems(scatter(), edges) == []
    assert problems(scatter(), edges, implementations={"x"}) == [("BATCH_WORKER_UNKNOWN", "node 'X'")]
    for unusable in (None, "", 5, "wait"):
        assert problems(scatter(workerUsesKey=unusable), edges) == [("BATCH_WORKER_UNKNOWN", "node 'X'")]


@pytest.mark.parametrize("gather", [None, "ghost", "X", 5])
def test_a_batch_names_its_gather_node(gather: object) -> None:
    assert ("BATCH_GATHER_UNKNOWN", "node 'X'") in problems(scatter(gatherNodeId=gather), [edge("X", "G")])


def test_a_batch_leads_to_its_gather_node_which_has_no_other() -> None:
    other = node("Y", "batch-scatter", {"workerUsesKey": "w", "gatherNodeId": "G"})

    assert problems(scatter(), []) == [("BATCH_GATHER_UNKNOWN", "node 'X'")]
    assert problems([*scatter(), other], [edge("X", "G"), edge("Y", "G")]) == [("BATCH_GATHER_UNKNOWN", "node 'G'")]
    assert problems([node("G", "batch-gather")]) == [("BATCH_GATHER_UNKNOWN", "node 'G'")]


@pytest.mark.parametrize(
    ("params", "code"),
    [
        *(({"chunkSize": size}, "BATCH_OPTIONS_INVALID") for size in (0, -1, "2", 1.5, True)),
        *(({"onItemError": way}, "BATCH_OPTIONS_INVALID") for way in ("ignore", 5, False)),
        ({"outputKey": 5}, "PARAMS_INVALID"),
    ],
)
def test_options_of_a_batch_are_checked(params: dict[str, Any], code: str) -> None:
    assert problems(scatter(**params), [edge("X", "G")]) == [(code, "node 'X'")]


def test_nodes_that_nothing_leads_to_are_warned_of_and_run_all_the_same() -> None:
    blueprint = document(
        [node("S"), node("A", fallback="F"), node("F"), *loop()[1:]],
        [edge("S", "A"), *LOOP_EDGES[1:]],
    )
    warned = [problem for problem in validate(blueprint) if problem.warning]

    assert [(problem.code, problem.where) for problem in warned] == [
        ("UNREACHABLE_NODE", "node 'L'"),
        ("UNREACHABLE_NODE", "node 'b'"),
        ("UNREACHABLE_NODE", "node 'z'"),
    ]


def test_all_problems_are_reported_at_once_with_their_place() -> None:
    nodes = [
        node("A", maxRetries=0, timeout=-1),
        node("B", joinStrategy="most", fallback="ghost"),
        node("B", "gone"),
        node("Z", "sleep", {"duration": "soon"}),
    ]
    edges = [edge("A", "B", condition="1 +"), edge("C", "A"), edge("A", "phantom"), edge("B", "B")]
    with pytest.raises(BlueprintInvalid) as refused:
        check(document(nodes, edges, onFailure="explode"), implementations={"x"})

    assert {(problem.code, problem.where) for problem in refused.value.problems if not problem.warning} == {
        ("ON_FAILURE_INVALID", "blueprint"),
        ("DUPLICATE_NODE_ID", "node 'B'"),
        ("ATTEMPTS_INVALID", "node 'A'"),
        ("DURATION_INVALID", "node 'A'"),
        ("JOIN_STRATEGY_INVALID", "node 'B'"),
        ("FALLBACK_UNKNOWN", "node 'B'"),
        ("IMPLEMENTATION_MISSING", "node 'B'"),
        ("DURATION_INVALID", "node 'Z'"),
        ("EXPRESSION_INVALID", "edge 'A' -> 'B'"),
        ("EDGE_SOURCE_UNKNOWN", "edge 'C' -> 'A'"),
        ("EDGE_TARGET_UNKNOWN", "edge 'A' -> 'phantom'"),
        ("CYCLE_WITHOUT_LOOP", "node 'B'"),
    }


def chain(length: int) -> Blueprint:
    ids = [f"n{i}" for i in range(length)]
    return document([node(n) for n in ids], [edge(a, b) for a, b in itertools.pairwise(ids)])


def circle(length: int) -> Blueprint:
    ids = [f"n{i}" for i in range(length)]
    return document([node(n) for n in ids], [edge(a, b) for a, b in zip(ids, [*ids[1:], "n0"], strict=True)])


def fan(width: int) -> Blueprint:
    ids = [f"n{i}" for i in range(width)]
    edges = [edge("S", n) for n in ids] + [edge(n, "J") for n in ids]
    return document([node("S"), *map(node, ids), node("J")], edges)


def row_of_loops(length: int) -> Blueprint:
    nodes, edges, last = [node("S")], [], "S"
    for i in range(length):
        nodes += [node(f"L{i}", "loop-controller", {"condition": "true"}), node(f"b{i}")]
        edges += [
            edge(last, f"L{i}", action="break"),
            edge(f"L{i}", f"b{i}", action="continue"),
            edge(f"b{i}", f"L{i}"),
        ]
        last = f"L{i}"
    return document(nodes, edges)


def chain_of_fallbacks(length: int) -> Blueprint:
    return document([node(f"n{i}", fallback=f"n{i + 1}") for i in range(length)] + [node(f"n{length}")])


@pytest.mark.parametrize(
    ("blueprint", "codes"),
    [
        (chain(10_000), set()),
        (fan(10_000), set()),
        (row_of_loops(3_000), set()),
        (chain_of_fallbacks(10_000), set()),
        (circle(10_000), {"CYCLE_WITHOUT_LOOP", "UNREACHABLE_NODE"}),
    ],
    ids=["chain", "fan", "loops", "fallbacks", "circle"],
)
def test_ten_thousand_nodes_are_validated_in_linear_time(blueprint: Blueprint, codes: set[str]) -> None:
    """Nothing recurses, and nothing is quadratic: that would take minutes; the bound leaves room for a slow machine."""
    started = time.perf_counter()
    found = validate(blueprint)

    assert codes == {problem.code for problem in found}
    assert time.perf_counter() - started < 5
