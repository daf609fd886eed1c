"""Cases of the simulation: a seed always gives the same one, it can be made smaller, and it comes to what it says."""

from __future__ import annotations

import hashlib
import os
import pickle
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace import events as e
from headrace.blueprint import BUILT_IN_USES, from_json
from headrace.execution import NO_ITEM, Operation
from headrace.validation import check
from tests.property.choices import RandomChoices

from .cases import Case, Judge, Order, OrderBook, RunStart, Size, keep_runs, make_case, start_of
from .compilation import plans_of
from .drawn_runs import Flow
from .executor import Haste
from .known_flow import KnownFlow, wait
from .known_flows import known_flows
from .quiet_world import QuietWorld
from .scenario_flows import MOMENTS, ScenarioFlow, scenario_flows

# So uneven that nodes which run side by side end in any order.
UNEVEN = Haste(most_us=60_000, slow=30)

EACH_KIND = ("wait", "sleep", "subflow", "loop-controller", "batch-scatter", "batch-gather")


def one_run(flow: Flow, draw: random.Random) -> Case:
    """One run of a flow, without anybody's whims."""
    run = flow.run(RandomChoices(draw), "run-0")
    start = RunStart("run-0", flow.blueprints[0]["id"], run.input, run.context)
    return Case(flow.blueprints, flow.behaviours, [start], run.orders, run.expected)


def run_case(case: Case, draw: random.Random, deaths: int = 0) -> QuietWorld:
    """The world after its end."""
    world = QuietWorld(case, draw, UNEVEN, deaths)
    world.run()
    return world


# What is drawn.


def test_one_seed_always_gives_one_case() -> None:
    for seed in range(20):
        case = make_case(random.Random(seed))
        assert case == make_case(random.Random(seed))
        assert case == pickle.loads(pickle.dumps(case))


def test_a_case_does_not_depend_on_the_order_of_sets() -> None:
    told = "import tests.simulation.test_cases as t; print(t.digest(range(30)))"
    digests = set()
    for hash_seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": hash_seed}
        root = Path(__file__).parents[2]
        digests.add(subprocess.run([sys.executable, "-c", told], env=env, cwd=root, check=True, capture_output=True).stdout)
    assert len(digests) == 1


def digest(seeds: range) -> str:
    """Something that differs where one of the cases differs."""
    text = "".join(repr(make_case(random.Random(seed))) for seed in seeds)
    return hashlib.sha256(text.encode()).hexdigest()


def test_every_kind_of_node_and_of_order_is_drawn_often() -> None:
    seen: Counter[str] = Counter()
    for seed in range(300):
        case = make_case(random.Random(seed))
        nodes = [node for blueprint in case.blueprints for node in blueprint["nodes"]]
        seen.update({node["uses"] for node in nodes if node["uses"] in BUILT_IN_USES})
        seen.update({name for node in nodes for name in node.get("config", {})})
        seen.update({f"{order.kind} {order.when}" for order in case.orders})
        seen.update({field for entries in case.behaviours.values() for entry in entries for field in entry})
    orders = ("resume open", "signal begun", "signal open", "cancel sent", "pause sent", "unpause paused", "start sent")
    settings = ("maxRetries", "retryDelay", "timeout", "fallback", "joinStrategy", "runAhead")
    fields = ("hang", "raise", "error", "append", "incr", "by_input")
    rare = {name: seen[name] for name in (*EACH_KIND, *settings, *orders, *fields) if seen[name] < 4}
    assert not rare


def test_every_flow_that_is_drawn_is_valid_and_its_children_are_there() -> None:
    for seed in range(60):
        case = make_case(random.Random(seed), Size(6, 10))
        known = {blueprint["id"] for blueprint in case.blueprints}
        assert len(known) == len(case.blueprints)
        for blueprint in case.blueprints:
            check(from_json(blueprint), implementations=case.behaviours, blueprints=known)


def test_runs_that_are_kept_do_the_same_without_the_others() -> None:
    for seed in range(12):
        case = make_case(random.Random(seed))
        kept = keep_runs(case, {"run-1"})
        assert [start.run_id for start in kept.starts] == ["run-1"]
        assert {order.run_id for order in kept.orders} <= {"run-1"}
        assert len(kept.blueprints) <= len(case.blueprints)
        run_case(kept, random.Random(seed))


# What it comes to.


@pytest.mark.parametrize("flow", known_flows(), ids=lambda flow: flow.id)
def test_a_known_flow_comes_to_what_is_known_of_it(flow: KnownFlow) -> None:
    for seed in range(6):
        draw = random.Random(seed)
        run_case(one_run(flow, draw), draw, deaths=seed % 3)


@pytest.mark.parametrize("flow", scenario_flows(), ids=lambda flow: flow.name)
def test_a_scenario_comes_to_what_it_says(flow: ScenarioFlow) -> None:
    for seed in range(2):
        draw = random.Random(seed)
        run_case(one_run(flow, draw), draw, deaths=2 * seed)


def test_most_scenarios_are_taken_and_none_that_is_about_a_moment() -> None:
    names = [flow.name for flow in scenario_flows()]
    assert len(names) > 180
    assert not MOMENTS.keys() & set(names)


@pytest.mark.parametrize("first", range(0, 100, 10))
def test_cases_come_to_what_they_say_though_their_worker_dies(first: int) -> None:
    for seed in range(first, first + 10):
        draw = random.Random(seed)
        run_case(make_case(draw), draw, deaths=seed % 4)


# What a judge sees.


def told_again(world: QuietWorld, case: Case, history: list[tuple[str, int, int, e.Event]]) -> Judge:
    """Another judge, who is told of this history, numbered anew."""
    judge = Judge(case, plans_of(case))
    numbers: Counter[str] = Counter()
    for run_id, _, at_ms, event in history:
        numbers[run_id] += 1
        judge.event(run_id, numbers[run_id], at_ms, event)
    for result in world.judge.results.values():
        judge.result(result)
    judge.check_all()
    return judge


def flow_named(name: str) -> KnownFlow:
    return next(flow for flow in known_flows() if flow.id == name)


def with_changes(name: str) -> tuple[QuietWorld, Case, list[tuple[str, int, int, e.Event]]]:
    case = one_run(flow_named(name), random.Random(1))
    world = run_case(case, random.Random(1))
    return world, case, list(world.history)


def places(history: list[tuple[str, int, int, e.Event]], kind: type[Any]) -> Iterator[int]:
    return (at for at, entry in enumerate(history) if isinstance(entry[3], kind))


def test_a_judge_who_is_told_the_same_again_is_content() -> None:
    world, case, history = with_changes("fanned")
    assert told_again(world, case, history).runs["run-0"].counted == 5


@pytest.mark.parametrize("kind", [e.NodeCompleted, e.JoinFired, e.RunCompleted])
def test_what_is_recorded_twice_is_seen(kind: type[Any]) -> None:
    world, case, history = with_changes("fanned")
    at = next(places(history, kind))
    history.insert(at + 1, history[at])
    with pytest.raises(AssertionError, match="run-0"):
        told_again(world, case, history)


def test_writes_that_are_recorded_twice_are_seen() -> None:
    world, case, history = with_changes("chained")
    at = next(places(history, e.ContextChanged))
    history.insert(at + 1, history[at])
    with pytest.raises(AssertionError, match="its events say context"):
        told_again(world, case, history)
    # Also where the result was made of the same wrong state.
    result = world.judge.results["run-0"]
    result.context["counted"] += 1
    result.context["trail"].insert(0, "a")
    with pytest.raises(AssertionError, match="4 nodes that count are recorded as completed, and the context has counted 5"):
        told_again(world, case, history)


def test_writes_that_are_lost_are_seen_by_their_key() -> None:
    world, case, history = with_changes("chained")
    at = next(places(history, e.ContextChanged))
    run_id, seq, at_ms, event = history[at]
    assert isinstance(event, e.ContextChanged)
    kept = tuple(operation for operation in event.operations if operation.kind != "append")
    assert kept == (Operation("increment", "counted", b"1"),)
    history[at] = (run_id, seq, at_ms, event._replace(operations=kept))
    world.judge.results["run-0"].context["trail"].remove("a")
    with pytest.raises(AssertionError, match="its context has trail"):
        told_again(world, case, history)


def test_an_output_other_than_expected_is_told_with_both() -> None:
    world, case, history = with_changes("chained")
    expected = case.expected["run-0"]
    other = case._replace(expected={"run-0": expected._replace(output=99)})
    with pytest.raises(AssertionError, match=r"of 'chained' is completed: its output is \d+, and must be 99"):
        told_again(world, other, history)


def test_an_attempt_that_is_begun_again_counts_once() -> None:
    world, case, history = with_changes("mended")
    at = [at for at in places(history, e.NodeStarted) if history[at][3].node == "flaky"][1]  # type: ignore[union-attr]
    history.insert(at + 1, history[at])
    judge = told_again(world, case, history)
    assert judge.runs["run-0"].begun_again == 1


def test_a_second_result_a_missing_one_and_a_run_of_nobody_are_seen() -> None:
    world, _, history = with_changes("chained")
    with pytest.raises(AssertionError, match="two results"):
        world.judge.result(world.judge.results["run-0"])
    result = world.judge.results.pop("run-0")
    with pytest.raises(AssertionError, match="has no result"):
        world.judge.check_all()
    world.judge.results["run-0"] = result
    started = history[0][3]
    world.judge.event("run-9", 1, 0, started)
    with pytest.raises(AssertionError, match="nobody has started run run-9"):
        world.judge.check_all()


def test_a_result_before_all_work_is_done_is_seen() -> None:
    world, case, history = with_changes("fanned")
    last = [at for at in places(history, e.NodeCompleted) if history[at][3].item == NO_ITEM][-1]  # type: ignore[union-attr]
    early = [entry for entry in history[:last] if entry[0] == "run-0"] + [history[-1]]
    with pytest.raises(AssertionError, match="run-0"):
        told_again(world, case, early)


# Orders.


def test_an_order_is_due_when_all_its_waits_are_open_in_the_run_or_its_children() -> None:
    case = Case([], {}, [RunStart("r", "f")], [Order("r", "signal", "open", nodes=("w", "sub/v"), event="paid")], {})
    book = OrderBook(case)
    parent = e.Parent("r", "sub", 0, 1, 1)
    assert book.seen("r", 1, started()) == []
    assert book.seen("r/sub", 1, started(parent)) == []
    assert book.seen("r/sub", 2, e.WaitOpened("v", "paid")) == []
    due = book.seen("r", 2, e.WaitOpened("w", "paid"))
    assert [one.command.run_id for one in due] == ["r"]
    assert book.seen("r", 2, e.WaitOpened("w", "paid")) == [], "what is seen again changes nothing more"


def test_whoever_answers_all_waits_answers_each_where_it_is_and_each_time() -> None:
    orders = [Order("r", "resume", "open", nodes=("*",), key="k")]
    book = OrderBook(Case([], {}, [RunStart("r", "f")], orders, {}))
    book.seen("r", 1, started())
    book.seen("r/sub", 1, started(e.Parent("r", "sub", 0, 1, 1)))
    first = book.seen("r/sub", 2, e.WaitOpened("v", None))[0].command
    second = book.seen("r/sub", 9, e.WaitOpened("v", None))[0].command
    assert (first.run_id, first.node_id, first.key) == ("r/sub", "v", "k/sub/v/2")  # type: ignore[union-attr]
    assert second == first._replace(key="k/sub/v/9")  # type: ignore[call-arg]


def test_what_follows_on_a_start_a_pause_or_an_answer_waits_for_it() -> None:
    orders = [
        Order("r", "cancel", "time", after_ms=70),
        Order("r", "start", "sent", after_ms=5),
        Order("r", "signal", "begun", event="paid"),
        Order("r", "unpause", "paused", after_ms=9),
        Order("r", "resume", "resumed", nodes=("w",), key="late"),
    ]
    start = RunStart("r", "f", 1, {"a": 2}, at_ms=3, copies=2)
    book = OrderBook(Case([], {}, [start], orders, {}))
    assert [(one.after_ms, type(one.command).__name__, one.copies) for one in book.begin()] == [
        (3, "Start", 2),
        (70, "Cancel", 1),
    ]
    assert [one.command for one in book.started("r")] == [start_of(start)]
    assert [type(one.command).__name__ for one in book.seen("r", 1, started())] == ["Signal"]
    assert [one.after_ms for one in book.seen("r", 2, e.RunPaused(""))] == [9]
    assert book.seen("r", 3, e.WaitOpened("w", None)) == []
    assert [one.command.node_id for one in book.seen("r", 4, e.WaitResumed("w", "k"))] == ["w"]  # type: ignore[union-attr]


def started(parent: e.Parent | None = None) -> e.Event:
    return e.RunStarted("f", "1", b"null", {}, parent, 0)


def test_a_flow_whose_wait_nobody_answers_is_said_to_hang() -> None:
    flow = KnownFlow("unanswered", "a>asks", lambda given: None, special={"asks": wait()})
    case = one_run(flow, random.Random(0))
    world = QuietWorld(case, random.Random(0))
    with pytest.raises(AssertionError, match=r"these have not ended: \['run-0'\]"):
        world.run(within_ms=5_000)
