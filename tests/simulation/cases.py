"""What runs in a simulated world, as the seed decides it: flows from the generators and the scenarios, and their load.

    case_types.py      a case as data: blueprints, behaviours, starts, orders, and what each run must come to
    drawn_runs.py      what a source of flows gives to a case
    random_flows.py    drawn flows: plain ones, of which the reference knows what becomes, and any
    scenario_flows.py  scenarios whose course does not depend on the moment
    known_flows.py     a few that were written for worlds (known_flow.py): their counters show what is recorded twice
    orders.py          when an order is due, and the command that it is
    judging.py         what every run has to keep to, and whether it came to what was expected
    compilation.py     blueprints and plans, made once where the same one comes again
    executor.py        node functions in virtual time
    quiet_world.py     the smallest world in which a case runs

A seed always gives the same case, in every process.
"""

from __future__ import annotations

__all__ = [
    "UNKNOWN",
    "Case",
    "Expectation",
    "Judge",
    "Order",
    "OrderBook",
    "RunStart",
    "Size",
    "command_of",
    "keep_runs",
    "make_case",
    "start_of",
]

import random
from collections.abc import Sequence
from typing import Any

from tests.property.choices import Choices, RandomChoices

from .case_types import UNKNOWN, Case, Entry, Expectation, Order, RunStart, Size, keep_runs
from .drawn_runs import Flow
from .judging import Judge
from .known_flow import KnownFlow
from .known_flows import known_flows
from .orders import OrderBook, command_of, start_of
from .random_flows import draw_any_flow, draw_plain_flow
from .scenario_flows import ScenarioFlow, scenario_flows

SIZE = Size()

# A fixed flow may be so many times as large as a drawn one.
WEIGHT_MAX = 3


def make_case(draw: random.Random, size: Size = SIZE) -> Case:
    """Draw what runs in a world: some flows, and so many runs of them."""
    choices = RandomChoices(draw)
    flows = [_draw_flow(choices, number, size) for number in range(choices.number(1, max(1, min(3, size.runs // 2))))]
    blueprints: dict[str, dict[str, Any]] = {}
    behaviours: dict[str, list[Entry]] = {}
    for flow in flows:
        blueprints |= {blueprint["id"]: blueprint for blueprint in flow.blueprints}
        behaviours |= flow.behaviours
    starts: list[RunStart] = []
    orders: list[Order] = []
    expected: dict[str, Expectation] = {}
    for number in range(size.runs):
        run_id = f"run-{number}"
        flow = choices.one_of(flows)
        run = flow.run(choices, run_id)
        start = RunStart(run_id, flow.blueprints[0]["id"], run.input, run.context, _start_ms(choices))
        starts.append(start._replace(copies=3) if choices.chance(15) else start)
        orders += run.orders
        cancelled, whims = _draw_whims(choices, run_id)
        orders += whims
        expected |= {name: _cancellable(one) if cancelled else one for name, one in run.expected.items()}
    return Case(list(blueprints.values()), behaviours, starts, orders, expected)


def _draw_flow(choices: Choices, number: int, size: Size) -> Flow:
    source = choices.one_of(("plain", "plain", "any", "any", "any", "scenario", "scenario", "known", "known", "known"))
    if source == "plain":
        return draw_plain_flow(choices, f"p{number}.", size.units)
    if source == "any":
        return draw_any_flow(choices, f"f{number}.", size.units)
    fixed: Sequence[ScenarioFlow | KnownFlow] = scenario_flows() if source == "scenario" else known_flows()
    light = [flow for flow in fixed if flow.weight <= WEIGHT_MAX * size.units]
    return choices.one_of(light)


def _start_ms(choices: Choices) -> int:
    """Most runs start at the beginning, so that they are in each other's way."""
    return choices.one_of((0, 0, 0, 5, 100, 700))


def _draw_whims(choices: Choices, run_id: str) -> tuple[bool, list[Order]]:
    """What somebody asks of any run: to start once more, to pause for a while, to end. Whether the last of them."""
    whims: list[Order] = []
    if choices.chance(12):
        whims.append(Order(run_id, "start", after_ms=choices.number(0, 600)))
    if choices.chance(12):
        whims.append(Order(run_id, "pause", after_ms=choices.number(0, 300)))
        # Whenever it is seen paused: a pause may come once more, from a record that was sent twice.
        whims.append(Order(run_id, "unpause", "paused", after_ms=choices.number(0, 400)))
    cancelled = choices.chance(6)
    if cancelled:
        whims.append(Order(run_id, "cancel", after_ms=choices.number(0, 500)))
    return cancelled, whims


def _cancellable(expected: Expectation) -> Expectation:
    return expected._replace(cancelled=True)
