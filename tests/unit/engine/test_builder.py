from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from headrace.builder import Flow
from headrace.context import Context
from headrace.errors import BlueprintInvalid, DefinitionError
from headrace.node import Node
from headrace.registry import Registry


def fn(ctx: Context) -> Any:
    return ctx.input


def other(ctx: Context) -> Any:
    return ctx.input


def nodes_of(flow: Flow) -> dict[str, dict[str, Any]]:
    return {node["id"]: node for node in flow.to_json()["nodes"]}


def edges_of(flow: Flow) -> list[tuple[str, ...]]:
    """Edges as (source, target, then whatever else an edge says, as ``name=value``)."""
    return [
        (edge["source"], edge["target"], *(f"{name}={edge[name]}" for name in edge if name not in {"source", "target"}))
        for edge in flow.to_json()["edges"]
    ]


# The two styles.


def test_decorators_build_the_flow_and_leave_functions_as_they_are() -> None:
    order = Flow("order", version="3")

    @order.node
    async def reserve(ctx: Context) -> int:
        return 1

    @order.node(after=reserve, max_retries=3, retry_delay="2s", timeout="30s")
    def charge(ctx: Context) -> int:
        return 2

    order.wait("approval", event="approved", timeout="2d", after=charge)
    order.node("notify", fn).edge(charge, "notify", action="declined")

    assert (reserve.__name__, charge(None)) == ("reserve", 2)  # type: ignore[arg-type]
    assert order.to_json() == {
        "id": "order",
        "nodes": [
            {"id": "reserve", "uses": "order.reserve"},
            {
                "id": "charge",
                "uses": "order.charge",
                "config": {"maxRetries": 3, "retryDelay": "2s", "timeout": "30s"},
            },
            {"id": "approval", "uses": "wait", "params": {"event": "approved", "timeout": "2d"}},
            {"id": "notify", "uses": "order.notify"},
        ],
        "edges": [
            {"source": "reserve", "target": "charge"},
            {"source": "charge", "target": "approval"},
            {"source": "charge", "target": "notify", "action": "declined"},
        ],
        "metadata": {"version": "3", "onFailure": "drain"},
    }
    assert {key: order.registry.get(key).target for key in order.registry.keys()} == {  # type: ignore[union-attr]  # noqa: SIM118
        "order.reserve": reserve,
        "order.charge": charge,
        "order.notify": fn,
    }


def test_the_chained_form_says_the_same() -> None:
    flow = Flow("f").node("A", fn).node("B", other, join="any").edge("A", "B", when="result.output > 3")

    assert flow.to_json() == {
        "id": "f",
        "nodes": [{"id": "A", "uses": "f.A"}, {"id": "B", "uses": "f.B", "config": {"joinStrategy": "any"}}],
        "edges": [{"source": "A", "target": "B", "condition": "result.output > 3"}],
        "metadata": {"version": "1", "onFailure": "drain"},
    }


def test_a_decorator_may_name_its_node() -> None:
    flow = Flow("f")

    @flow.node("A")
    def one() -> None: ...

    @flow.node(id="B", after=one)
    def two() -> None: ...

    flow.node("C", lambda: 1, after=[one, "B"])

    assert list(nodes_of(flow)) == ["A", "B", "C"]
    assert edges_of(flow) == [("A", "B"), ("A", "C"), ("B", "C")]


def test_a_class_can_be_a_node() -> None:
    flow = Flow("f")

    @flow.node(max_retries=2)
    class Charge(Node):
        pass

    flow.wait("W", after=Charge)

    implementation = flow.registry.get("f.Charge")
    assert implementation is not None
    assert implementation.is_class
    assert edges_of(flow) == [("Charge", "W")]


def test_a_node_may_use_what_an_app_registers() -> None:
    flow = Flow("f").node("A", uses="shared").node("B", fn, uses="mine")

    assert [node["uses"] for node in flow.to_json()["nodes"]] == ["shared", "mine"]
    assert flow.registry.keys() == ("mine",)


def test_two_flows_may_call_their_nodes_alike() -> None:
    one, two = Flow("one").node("A", fn), Flow("two").node("A", other)
    registry = Registry()
    registry.merge(one.registry)
    registry.merge(two.registry)

    assert registry.keys() == ("one.A", "two.A")


def test_a_cpu_bound_node_is_registered_as_one() -> None:
    implementation = Flow("f").node("A", fn, cpu_bound=True).registry.get("f.A")

    assert implementation is not None
    assert implementation.kind == "process"


# Options.


def test_every_option_has_its_place_in_the_document() -> None:
    flow = Flow("f", on_failure="fail-fast").node("A", fn).node("F", other)
    flow.node(
        "B",
        lambda: 1,
        after="A",
        action="go",
        when="true",
        transform="input.x",
        inputs={"a": fn, "b": "A.path.0", "c": "key"},
        params={"p": None, "q": 1},
        max_retries=4,
        retry_delay=timedelta(seconds=1.5),
        retry_backoff=1.5,
        max_retry_delay="1m",
        retry_jitter=0.5,
        timeout=250,
        fallback=other,
        join=2,
        run_ahead=True,
    )

    assert nodes_of(flow)["B"] == {
        "id": "B",
        "uses": "f.B",
        "params": {"p": None, "q": 1},
        "inputs": {"a": "A", "b": "A.path.0", "c": "key"},
        "config": {
            "maxRetries": 4,
            "retryDelay": 1500,
            "retryBackoff": 1.5,
            "maxRetryDelay": "1m",
            "retryJitter": 0.5,
            "timeout": 250,
            "fallback": "F",
            "joinStrategy": {"atLeast": 2},
            "runAhead": True,
        },
    }
    assert edges_of(flow) == [("A", "B", "action=go", "condition=true", "transform=input.x")]
    assert flow.to_json()["metadata"]["onFailure"] == "fail-fast"


def test_inputs_may_be_a_function() -> None:
    assert nodes_of(Flow("f").node("A", fn).node("B", other, inputs=fn))["B"]["inputs"] == "A"


def test_a_document_is_an_own_copy() -> None:
    flow = Flow("f").node("A", fn, params={"list": [1]})
    flow.to_json()["nodes"][0]["params"]["list"].append(2)

    assert nodes_of(flow)["A"]["params"] == {"list": [1]}


# Nodes of the engine's own.


def test_sleeps_and_waits() -> None:
    flow = Flow("f").sleep("Z", "5s").wait("W", after="Z", join="any").sleep("Y", timedelta(milliseconds=2))

    assert list(nodes_of(flow).values()) == [
        {"id": "Z", "uses": "sleep", "params": {"duration": "5s"}},
        {"id": "W", "uses": "wait", "config": {"joinStrategy": "any"}},
        {"id": "Y", "uses": "sleep", "params": {"duration": 2}},
    ]
    assert edges_of(flow) == [("Z", "W")]


def test_a_subflow_is_a_flow_or_its_id() -> None:
    child = Flow("child").node("c", fn)
    flow = Flow("f").subflow("one", child, inputs={"v": "a"}, outputs={"r": "c"}, max_retries=2)
    flow.subflow("two", "elsewhere", after="one").subflow("three", child)

    assert nodes_of(flow)["one"] == {
        "id": "one",
        "uses": "subflow",
        "params": {"blueprintId": "child", "inputs": {"v": "a"}, "outputs": {"r": "c"}},
        "config": {"maxRetries": 2},
    }
    assert nodes_of(flow)["two"]["params"] == {"blueprintId": "elsewhere"}
    assert flow.subflows == {"child": child}


def test_the_family_of_a_flow_is_all_below_it() -> None:
    grandchild = Flow("grandchild")
    grandchild.subflow("again", grandchild)
    child = Flow("child").subflow("g", grandchild)
    flow = Flow("f").subflow("c", child).subflow("g", grandchild)

    assert {member.id for member in flow.family()} == {"f", "child", "grandchild"}
    assert len(flow.family()) == 3


def test_two_flows_of_a_family_cannot_share_an_id() -> None:
    with pytest.raises(DefinitionError, match="two different subflows 'child'"):
        Flow("f").subflow("a", Flow("child")).subflow("b", Flow("child"))
    with pytest.raises(DefinitionError, match="are called 'f'"):
        Flow("f").subflow("a", Flow("child").subflow("b", Flow("f"))).family()


@pytest.mark.parametrize(
    "body",
    [{"body": ("b1", other)}, {"start": "b1", "end": "b2"}, {"start": "b1", "end": other}],
)
def test_a_loop_leads_into_its_body_and_back(body: dict[str, Any]) -> None:
    flow = Flow("f").node("S", fn).node("b1", lambda: 1).node("b2", other, after="b1")
    flow.loop("L", "context.n < 3", **body, max_iterations=5, after=fn)
    flow.node("E", lambda: 2, after="L").node("X", lambda: 3).edge("L", "X", action="break")

    assert nodes_of(flow)["L"] == {
        "id": "L",
        "uses": "loop-controller",
        "params": {"condition": "context.n < 3", "maxIterations": 5},
    }
    assert edges_of(flow) == [
        ("b1", "b2"),
        ("S", "L"),
        ("L", "b1", "action=continue"),
        ("b2", "L"),
        ("L", "E", "action=break"),
        ("L", "X", "action=break"),
    ]


@pytest.mark.parametrize("body", [{"body": "b"}, {"start": "b"}])
def test_a_body_may_be_one_node(body: dict[str, Any]) -> None:
    flow = Flow("f").node("b", fn).loop("L", "true", **body)

    assert edges_of(flow) == [("L", "b", "action=continue"), ("b", "L")]


def test_after_a_loop_means_its_end_though_the_loop_comes_later() -> None:
    flow = Flow("f").node("E", fn, after="L").node("C", other, after="L", when="context.done")
    flow.node("b", lambda: 1).loop("L", "true", "b")

    assert edges_of(flow)[:2] == [("L", "E", "action=break"), ("L", "C", "condition=context.done")]


def test_a_batch_is_two_nodes_and_one_name() -> None:
    flow = Flow("f").node("S", fn)
    flow.batch("X", other, items="files", chunk_size=2, after=fn, max_retries=3, timeout="1s", fallback="R", join="any")
    flow.node("B", lambda: 1, after="X", inputs={"all": "X", "first": "X.0", "own": "X_scatter"})
    flow.node("R", lambda: 2).edge("B", "X").node("C", lambda: 3, inputs="X.1", fallback="X")

    assert nodes_of(flow)["X_scatter"] == {
        "id": "X_scatter",
        "uses": "batch-scatter",
        "params": {"workerUsesKey": "f.X", "gatherNodeId": "X_gather", "chunkSize": 2, "onItemError": "fail"},
        "inputs": "files",
        "config": {"maxRetries": 3, "timeout": "1s", "joinStrategy": "any"},
    }
    assert nodes_of(flow)["X_gather"] == {"id": "X_gather", "uses": "batch-gather", "config": {"fallback": "R"}}
    assert nodes_of(flow)["B"]["inputs"] == {"all": "X_gather", "first": "X_gather.0", "own": "X_scatter"}
    assert nodes_of(flow)["C"]["inputs"] == "X_gather.1"
    assert nodes_of(flow)["C"]["config"] == {"fallback": "X_scatter"}
    assert edges_of(flow) == [("S", "X_scatter"), ("X_scatter", "X_gather"), ("X_gather", "B"), ("B", "X_scatter")]
    assert flow.registry.get("f.X").target is other  # type: ignore[union-attr]


def test_a_batch_may_collect_errors_and_use_a_shared_worker() -> None:
    flow = Flow("f").batch("X", "work", on_item_error="collect", output_key="results")

    assert nodes_of(flow)["X_scatter"]["params"] == {
        "workerUsesKey": "work",
        "gatherNodeId": "X_gather",
        "onItemError": "collect",
        "outputKey": "results",
    }
    assert len(flow.registry) == 0


def test_a_longer_node_id_goes_before_a_batch() -> None:
    flow = Flow("f").batch("X", fn).node("X.0", other).node("B", lambda: 1, inputs={"node": "X.0", "item": "X.1"})

    assert nodes_of(flow)["B"]["inputs"] == {"node": "X.0", "item": "X_gather.1"}


# JSON.


def test_a_flow_from_json_says_what_the_document_said() -> None:
    document = {
        "id": "f",
        "nodes": [{"id": "A", "uses": "a", "params": {"p": 1}}, {"id": "B", "uses": "b"}],
        "edges": [{"source": "A", "target": "B", "action": "go"}],
        "metadata": {"version": "7", "onFailure": "fail-fast"},
    }
    flow = Flow.from_json(document, {"a": fn, "b": other})
    again = Flow.from_json(flow.to_json(), flow.registry)

    assert (flow.id, flow.version, flow.on_failure) == ("f", "7", "fail-fast")
    assert flow.registry.keys() == again.registry.keys() == ("a", "b")
    assert nodes_of(flow)["A"]["params"] == {"p": 1}
    assert edges_of(flow) == [("A", "B", "action=go")]
    assert again.to_json() == flow.to_json()


def test_a_flow_from_json_can_be_built_on() -> None:
    flow = Flow.from_json({"id": "f", "nodes": [{"id": "A", "uses": "a"}], "edges": []})
    flow.node("B", fn, after="A")

    assert edges_of(flow) == [("A", "B")]
    with pytest.raises(DefinitionError, match="'A' of flow 'f' is defined twice"):
        flow.node("A", fn)


def test_a_blueprint_comes_from_the_document() -> None:
    blueprint = Flow("f", version="2").node("A", fn).to_blueprint()

    assert (blueprint.id, blueprint.version, [node.uses for node in blueprint.nodes]) == ("f", "2", ["f.A"])


# Checks.


def test_a_flow_that_can_run_passes_the_check() -> None:
    flow = Flow("f").node("A", fn, timeout="30s").batch("X", other, after="A").subflow("s", Flow("child"), after="X")
    flow.node("b", lambda: 1).loop("L", "context.n < 3", "b", after="s").wait("W", after="L")

    assert flow.check() == ()


def test_the_check_names_all_problems() -> None:
    flow = Flow("f").node("A", uses="shared", max_retries=0).subflow("s", "elsewhere", after="nobody")
    with pytest.raises(BlueprintInvalid) as refused:
        flow.check()

    codes = {problem.code for problem in refused.value.problems}
    assert codes >= {"IMPLEMENTATION_MISSING", "ATTEMPTS_INVALID", "SUBFLOW_UNKNOWN", "EDGE_SOURCE_UNKNOWN"}


def test_the_check_can_be_told_what_else_is_known() -> None:
    flow = Flow("f").node("A", uses="shared").subflow("s", "elsewhere", after="A")

    assert flow.check(implementations={"shared"}, blueprints={"elsewhere"}) == ()


# Misuse.


def two_with_one_function() -> Flow:
    return Flow("f").node("A", fn).node("B", fn)


@pytest.mark.parametrize(
    ("misuse", "told"),
    [
        (lambda: Flow(""), "the id of a flow"),
        (lambda: Flow("f", on_failure="stop"), "on_failure is one of 'drain', 'fail-fast', not 'stop'"),
        (lambda: Flow("f").node("A", fn).node("A", other), "node 'A' of flow 'f' is defined twice"),
        (lambda: Flow("f").batch("A", fn).node("A", other), "'A' of flow 'f' is defined twice"),
        (lambda: Flow("f").batch("A", fn).node("A_gather", other), "'A_gather' of flow 'f' is defined twice"),
        (lambda: Flow("f").node("A", fn, retries=3), "node 'A' .* no option 'retries' here, only action, "),
        (lambda: Flow("f").wait("W", max_retries=3), "node 'W' .* no option 'max_retries'"),
        (lambda: Flow("f").sleep("W", 1, params={}), "node 'W' .* no option 'params'"),
        (lambda: Flow("f").batch("X", fn, inputs="a"), "batch 'X' .* no option 'inputs'"),
        (lambda: Flow("f").node("A", fn, join="some"), "join is 'all', 'any' or a number of arrivals, not 'some'"),
        (lambda: Flow("f").node("A", fn, join=True), "join is"),
        (lambda: Flow("f").node("A", fn, action="go"), "action belong to the edge from after="),
        (
            lambda: Flow("f").edge("A", "B", condition="true"),
            "edge 'A' -> 'B' .* no option 'condition' here, only action",
        ),
        (lambda: Flow("f").batch("X", fn, on_item_error="skip"), "on_item_error is one of"),
        (lambda: Flow("f").node("A", fn).edge("A", other), "other is no node: define it before, in flow 'f'"),
        (lambda: Flow("f").node("A", fn, after=other), "other is no node"),
        (lambda: two_with_one_function().edge(fn, "A"), r"fn is several nodes \(A, B\)"),
        (lambda: Flow("f").loop("L", "true"), "loop 'L' of flow 'f' has no body"),
        (lambda: Flow("f").node(lambda: 1), "no name that could be a node's id: say id="),
        (lambda: Flow("f").node("A", 5), "cannot be called"),
    ],
)
def test_misuse_is_named(misuse: Any, told: str) -> None:
    with pytest.raises(DefinitionError, match=told):
        misuse()


def test_what_is_refused_leaves_nothing_behind() -> None:
    flow = Flow("f").node("A", fn)
    before = flow.to_json()
    for refused in ({"join": "some"}, {"after": other}, {"retries": 1}):
        with pytest.raises(DefinitionError):
            flow.node("B", lambda: 1, **refused)
    with pytest.raises(DefinitionError):
        flow.node("B", 5)  # type: ignore[call-overload]

    assert flow.to_json() == before
    assert "f.B" not in flow.registry
    flow.node("B", other)


def test_a_batch_that_is_refused_leaves_nothing_behind() -> None:
    flow = Flow("f").node("X_gather", fn)
    with pytest.raises(DefinitionError, match="'X_gather' of flow 'f' is defined twice"):
        flow.batch("X", other)

    assert list(nodes_of(flow)) == ["X_gather"]
    assert "f.X" not in flow.registry


def test_what_an_editor_noted_stays_with_the_flow() -> None:
    flow = Flow.from_json({"id": "f", "nodes": [], "edges": [], "metadata": {"owner": "me", "onFailure": "whatever"}})

    assert flow.to_json()["metadata"] == {"owner": "me", "version": "1", "onFailure": "whatever"}


def test_what_is_no_blueprint_is_refused() -> None:
    with pytest.raises(DefinitionError, match="nodes must be a list"):
        Flow.from_json({"id": "f", "nodes": 5})


def test_a_flow_says_what_it_is() -> None:
    assert repr(Flow("f", version="2").node("A", fn)) == "<Flow 'f' version '2', 1 nodes>"
