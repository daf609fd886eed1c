"""What happens in one world, as plain data that a seed decides: the case, the cluster, the machines, and what goes wrong.

Only the fine grain is drawn while a world runs (the delay of each request, the time of each execution), by a source of its
own (:attr:`Plan.seed`). So a plan can be made smaller, one fault or one run at a time, and stays the same otherwise.
"""

from __future__ import annotations

__all__ = ["Fault", "Plan", "make_plan", "smaller"]

import random
from collections.abc import Iterator
from typing import NamedTuple

from .case_types import Case, Size, children_of, fewer_runs, keep_runs
from .cases import make_case

FAULTY_MS = 4_000
"""How long after the load began the last fault has begun at the latest."""

SETTLED_MS_MAX = 4_000
"""When the load begins at the latest: where nothing is asked of them, workers come to an agreement first."""

CALM_MS = SETTLED_MS_MAX + FAULTY_MS
"""When the last fault has begun at the latest."""

HOLD_MS_MAX = 12_000
"""How long a fault lasts at most."""


# How many of the worlds are about partitions that are handed over in good order.
HANDED_OVER = 0.1


class Fault(NamedTuple):
    """One thing that goes wrong (``faults.py`` has each *kind*, and what *amount* means there)."""

    kind: str
    at_ms: int
    machine: int = 0
    for_ms: int = 0
    amount: int = 0


class Plan(NamedTuple):
    """One world. Delays are of one way between a client and the brokers."""

    seed: int
    case: Case
    partitions: int = 2
    machines: int = 2
    guarantee: str = "exactly_once"
    protocol: str = "classic"
    static: bool = False
    standby: int = 0
    slots: int = 100
    sluggish: bool = False
    """Whether executions take long, and go on when they are cancelled."""
    runs_cached_max: int = 1_000
    delays_us: tuple[int, int] = (100, 1_000)
    markers_ms: tuple[int, int] = (1, 4)
    leaders: int = 3
    slow_leader: int = -1
    sync: bool = False
    faults: tuple[Fault, ...] = ()
    strays: tuple[tuple[int, int], ...] = ()
    """Records that nobody can carry out, or that stand on a wrong partition: when, and which one of ``strays.py``."""


def make_plan(seed: int) -> Plan:
    """The world of a seed."""
    draw = random.Random(seed)
    machines = draw.choice((1, 2, 2, 2, 3))
    runs = draw.choice((1, 1, 2, 2, 3, 4, 6))
    case = make_case(draw, Size(runs=runs, units=draw.choice((2, 4, 6))))
    standby = draw.choice((0, 0, 1))
    # Copies are kept warm when the workers have been together for a while.
    settled_ms = SETTLED_MS_MAX if standby and machines > 1 else draw.choice((0, 0, 0, 500, SETTLED_MS_MAX))
    steady = _without_answers(case)
    exactly_once = draw.random() < 0.9 or not steady.starts
    faults = _draw_faults(draw, machines, EXACTLY_ONCE if exactly_once else AT_LEAST_ONCE)
    slow = draw.random() < 0.15
    plan = Plan(
        seed=seed,
        case=_later(case if exactly_once else steady, settled_ms),
        partitions=draw.choice((1, 2, 2, 3)),
        machines=machines,
        guarantee="exactly_once" if exactly_once else "at_least_once",
        protocol=draw.choice(("classic", "classic", "consumer")),
        static=draw.random() < 0.15,
        standby=standby,
        slots=draw.choice((1, 2, 100, 100)),
        sluggish=draw.random() < 0.25,
        runs_cached_max=draw.choice((1, 2, 1_000, 1_000)),
        delays_us=(500, 20_000) if slow else (50, draw.choice((300, 1_000, 4_000))),
        markers_ms=draw.choice(((0, 1), (1, 4), (5, 60), (0, 900))),
        leaders=draw.choice((1, 3, 3)),
        slow_leader=draw.choice((-1, 0, 1, 2)),
        faults=tuple(fault._replace(at_ms=fault.at_ms + settled_ms) for fault in faults),
        strays=tuple(
            (settled_ms + draw.randrange(FAULTY_MS), draw.randrange(1_000)) for _ in range(draw.choice((0, 0, 0, 1, 2)))
        ),
    )
    return _handed_over(plan, draw) if machines > 1 and draw.random() < HANDED_OVER else plan


def _handed_over(plan: Plan, draw: random.Random) -> Plan:
    """The same with workers that go in good order, so that a partition has its next owner soon after its last commit.

    One broker takes long to write its markers, so what was committed can be read later than the offsets of it.
    """
    begun_ms = min(start.at_ms for start in plan.case.starts)
    later_ms = max(0, SETTLED_MS_MAX - begun_ms)
    stops = [
        Fault(
            draw.choice(("stop", "stop_in_commit")),
            begun_ms + later_ms + draw.randrange(600),
            draw.randrange(plan.machines),
            draw.choice((20, 200, 1_000)),
            draw.randrange(1, 1_000),
        )
        for _ in range(draw.choice((1, 2, 3)))
    ]
    return plan._replace(
        case=_later(plan.case, later_ms),
        static=False,
        standby=1,
        leaders=3,
        slow_leader=draw.choice((1, 2)),
        markers_ms=(0, 900),
        faults=tuple(sorted(stops, key=lambda fault: fault.at_ms)),
    )


def _without_answers(case: Case) -> Case:
    """The case without runs that somebody answers who has read in the history that they ask, and without families.

    Where a step may be decided twice, history tells of waits that are not open any more, and then open again; and a parent
    that starts its child once more may be refused (docs/kafka.md).
    """
    asked = {order.run_id for order in case.orders if order.when in ("open", "resumed", "begun", "paused")}
    parents = {blueprint["id"] for blueprint in case.blueprints if children_of(blueprint)}
    alone = [start.run_id for start in case.starts if start.flow not in parents and start.run_id not in asked]
    return keep_runs(case, alone)


def _later(case: Case, after_ms: int) -> Case:
    """The case, begun so long after the world began."""
    starts = [start._replace(at_ms=start.at_ms + after_ms) for start in case.starts]
    orders = [order._replace(after_ms=order.after_ms + after_ms) if order.when == "time" else order for order in case.orders]
    return case._replace(starts=starts, orders=orders)


# Kinds of faults with their weights, and by guarantee those that are survived.

ON_MACHINES = {
    "kill": 10,
    "kill_in_commit": 6,
    "freeze_in_commit": 6,
    "freeze_in_rebalance": 4,
    "cut_off_in_commit": 6,
    "crash_before_write": 4,
    "crash_after_write": 4,
    "freeze": 6,
    "freeze_short": 4,
    "stop": 5,
    "stop_in_commit": 5,
    "cut_off": 5,
    "power_loss": 4,
    "disk_lost": 3,
    "disk_stale": 3,
    "disk_foreign": 1,
    "clock_jump": 2,
    "work_slowly": 2,
}
ON_BROKERS = {
    "outage": 4,
    "outage_in_commit": 6,
    "brokers_move": 4,
    "lose_answers": 6,
    "lose_requests": 4,
    "be_slow": 4,
    "hold_markers": 3,
    "compact": 5,
    "expire_jobs": 2,
    "forget_offsets": 2,
}
# How long faults last, more or less. The longest are longer than transactions may take, and than anybody's patience.
HELD_MS = (20, 20, 200, 200, 1_000, 1_000, 3_000, 3_000, 9_000)
IN_COMMIT_MS = (20, 200, 1_000, 3_000, 12_000, 12_000)

EXACTLY_ONCE = {**ON_MACHINES, **ON_BROKERS}
# Where nobody fences a worker that was left behind, its records may still come (docs/kafka.md).
AT_LEAST_ONCE = {
    kind: weight
    for kind, weight in EXACTLY_ONCE.items()
    if kind not in ("freeze", "cut_off", "outage", "be_slow", "lose_answers", "hold_markers")
    and not (kind.endswith(("_in_commit", "_in_rebalance")) and kind != "kill_in_commit")
}


def _draw_faults(draw: random.Random, machines: int, kinds: dict[str, int]) -> tuple[Fault, ...]:
    number = draw.choice((0, 1, 1, 2, 2, 3, 4, 6))
    chosen = draw.choices([*kinds], [*kinds.values()], k=number)
    # Most work is in the first second, and a fault hits best where another one is being dealt with.
    middle_ms = draw.choice((100, 300, 800, 2_000))
    faults = []
    for kind in chosen:
        at_ms = min(FAULTY_MS, int(draw.expovariate(1 / middle_ms)))
        middles_ms = IN_COMMIT_MS if kind.endswith("_in_commit") else HELD_MS
        for_ms = int(draw.choice(middles_ms) * (0.5 + draw.random()))
        faults.append(Fault(kind, at_ms, draw.randrange(machines), min(HOLD_MS_MAX, for_ms), draw.randrange(1, 1_000)))
    return tuple(sorted(faults, key=lambda fault: fault.at_ms))


def smaller(plan: Plan) -> Iterator[Plan]:
    """Plans that do less, the smallest steps last: without a fault, a run, an order, a machine, or a setting."""
    half = len(plan.faults) // 2
    if half:
        yield plan._replace(faults=plan.faults[half:])
        yield plan._replace(faults=plan.faults[:half])
    for case in fewer_runs(plan.case):
        yield plan._replace(case=case)
    yield from _without_one(plan)
    for name, least in LEAST.items():
        if getattr(plan, name) != least:
            yield plan._replace(**{name: least})  # type: ignore[arg-type]
    if plan.machines > 1:
        fewer = plan.machines - 1
        yield plan._replace(machines=fewer, faults=tuple(fault for fault in plan.faults if fault.machine < fewer))


def _without_one(plan: Plan) -> Iterator[Plan]:
    for at in range(len(plan.faults)):
        yield plan._replace(faults=plan.faults[:at] + plan.faults[at + 1 :])
    for at in range(len(plan.strays)):
        yield plan._replace(strays=plan.strays[:at] + plan.strays[at + 1 :])
    orders = plan.case.orders
    for at in range(len(orders)):
        # Without an order that somebody waits for, a run hangs for a reason of its own.
        if orders[at].kind in MAY_BE_LEFT_OUT:
            yield plan._replace(case=plan.case._replace(orders=orders[:at] + orders[at + 1 :]))
    for at, start in enumerate(plan.case.starts):
        if start.copies > 1:
            starts = [*plan.case.starts]
            starts[at] = start._replace(copies=1)
            yield plan._replace(case=plan.case._replace(starts=starts))


MAY_BE_LEFT_OUT = ("start", "pause")
LEAST = {
    "partitions": 1,
    "protocol": "classic",
    "static": False,
    "standby": 0,
    "slots": 100,
    "sluggish": False,
    "runs_cached_max": 1_000,
    "delays_us": (100, 100),
    "markers_ms": (1, 1),
    "leaders": 1,
    "slow_leader": -1,
}
