"""What happens in one world of the embedded adapter, as plain data that a seed decides.

Only the fine grain is drawn while a world runs (how long each execution and each write takes, and what a loss of power
leaves), by a source of its own. So a plan can be made smaller, one fault or one run at a time, and stays the same otherwise.
"""

from __future__ import annotations

__all__ = ["Fault", "Plan", "make_plan", "smaller"]

import random
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from tests.simulation.case_types import Case, Size, fewer_runs
from tests.simulation.cases import make_case

LONG_MS: Final = 1_000 * 24 * 3_600_000
"""A dedup window in which nothing is forgotten while a world goes on."""

SHORT_MS: Final = 2_000

KINDS: Final = {
    "kill": 4,
    "kill_before": 4,
    "kill_written": 6,
    "kill_done": 4,
    "power": 3,
    "power_written": 4,
    "power_done": 3,
    "refuse": 2,
    "unsure": 2,
    "stop": 4,
    "lack": 2,
    "clock": 2,
    "bad": 2,
    "redrive": 1,
}
"""Kinds of faults (``faults.py``) with their weights."""


class Fault(NamedTuple):
    """One thing that goes wrong. *for_ms* is how long nobody works after it; *amount* means what the kind says."""

    kind: str
    at_ms: int
    for_ms: int = 0
    amount: int = 0


class Plan(NamedTuple):
    """One world.

    *first_ms* is when the first worker comes, *lacking* the blueprint that it lacks, where it lacks one, and *writes_us* how
    long a write takes, least and most.
    """

    seed: int
    case: Case
    sync: bool = True
    partitions: int = 1
    slots: int = 100
    backlog_max: int = 10_000
    batch_max: int = 2_000
    runs_cached_max: int = 1_000
    first_ms: int = 0
    lacking: int | None = None
    writes_us: tuple[int, int] = (100, 1_000)
    window_ms: int = LONG_MS
    faults: tuple[Fault, ...] = ()

    def __str__(self) -> str:
        case = self.case
        lines = [f"{name} {getattr(self, name)!r}" for name in self._fields if name not in ("case", "faults")]
        lines += [f"flow {blueprint['id']} of {len(blueprint['nodes'])} nodes" for blueprint in case.blueprints]
        lines += map(str, [*case.starts, *case.orders, *self.faults])
        return "\n".join(lines)


def make_plan(seed: int) -> Plan:
    """The world of a seed."""
    draw = random.Random(seed)
    case = make_case(draw, Size(draw.choice((1, 1, 2, 2, 3, 3, 4, 8)), draw.choice((2, 4, 4, 6))))
    return Plan(
        seed,
        case,
        sync=draw.random() < 0.7,
        partitions=draw.choice((1, 2, 3)),
        slots=draw.choice((1, 2, 100, 100)),
        backlog_max=draw.choice((1, 3, 10_000, 10_000)),
        batch_max=draw.choice((1, 2_000, 2_000)),
        runs_cached_max=draw.choice((1, 2, 1_000, 1_000)),
        first_ms=draw.choice((0, 0, 0, 20, 200)),
        lacking=draw.randrange(3) if draw.random() < 0.1 else None,
        writes_us=draw.choice(((0, 0), (50, 300), (200, 4_000), (2_000, 20_000))),
        window_ms=SHORT_MS if draw.random() < 0.2 and _may_be_forgotten(case) else LONG_MS,
        faults=_draw_faults(draw),
    )


def _may_be_forgotten(case: Case) -> bool:
    """Whether no run may ask for another one, or be started again, after that one was forgotten."""
    nodes = [node for blueprint in case.blueprints for node in blueprint["nodes"]]
    return not any(node["uses"] == "subflow" for node in nodes) and not any(order.kind == "start" for order in case.orders)


def _draw_faults(draw: random.Random) -> tuple[Fault, ...]:
    faults: list[Fault] = []
    middle_ms = draw.choice((5, 20, 100, 1_000))
    for kind in draw.choices([*KINDS], [*KINDS.values()], k=draw.choice((0, 1, 1, 2, 2, 3, 4, 6))):
        at_ms = min(4_000, int(draw.expovariate(1 / middle_ms)))
        for_ms = draw.choice((1, 5, 50, 300, 2_000))
        faults.append(Fault(kind, at_ms, for_ms, draw.choice((0, 0, 0, 1, 1, 2, 3, 5, 8, 13))))
        if kind == "bad" and draw.random() < 0.7:
            faults.append(Fault("redrive", at_ms + for_ms + draw.choice((1, 60, 400)), draw.choice((1, 50)), 0))
    return tuple(sorted(faults, key=lambda fault: fault.at_ms))


# Making a plan smaller.

MAY_BE_LEFT_OUT: Final = ("start", "pause")
LEAST: Final[dict[str, Any]] = {
    "partitions": 1,
    "slots": 100,
    "backlog_max": 10_000,
    "batch_max": 2_000,
    "runs_cached_max": 1_000,
    "first_ms": 0,
    "lacking": None,
    "writes_us": (0, 0),
    "window_ms": LONG_MS,
    "sync": True,
}


def smaller(plan: Plan) -> Iterator[Plan]:
    """Plans that do less, large steps first: without a fault, a run, an order or a setting."""
    half = len(plan.faults) // 2
    if half:
        yield plan._replace(faults=plan.faults[half:])
        yield plan._replace(faults=plan.faults[:half])
    for case in fewer_runs(plan.case):
        yield plan._replace(case=case)
    for at in range(len(plan.faults)):
        yield plan._replace(faults=plan.faults[:at] + plan.faults[at + 1 :])
    orders, starts = plan.case.orders, plan.case.starts
    for at, order in enumerate(orders):
        # Without an order that somebody waits for, a run hangs for a reason of its own.
        if order.kind in MAY_BE_LEFT_OUT:
            yield plan._replace(case=plan.case._replace(orders=orders[:at] + orders[at + 1 :]))
    for at, start in enumerate(starts):
        if start.copies > 1:
            fewer = [*starts[:at], start._replace(copies=1), *starts[at + 1 :]]
            yield plan._replace(case=plan.case._replace(starts=fewer))
    for name, least in LEAST.items():
        if getattr(plan, name) != least:
            yield plan._replace(**{name: least})
    for at, fault in enumerate(plan.faults):
        for simpler in (fault._replace(amount=fault.amount // 2), fault._replace(for_ms=1)):
            if simpler != fault:
                yield plan._replace(faults=(*plan.faults[:at], simpler, *plan.faults[at + 1 :]))
