"""What runs in a world, as plain data: it can be pickled, printed, compared and made smaller.

Values stand here decoded (whatever JSON knows), and texts decide what is done: nothing in a case is code.
"""

from __future__ import annotations

__all__ = ["UNKNOWN", "Case", "Entry", "Expectation", "Order", "RunStart", "Size", "Unknown", "fewer_runs", "keep_runs"]

from collections.abc import Container, Iterator, Mapping
from enum import Enum
from typing import Any, Final, NamedTuple

from headrace.blueprint import BUILT_IN_USES

Entry = dict[str, Any]
"""What one attempt of a node does, with the fields of ``tests/scenarios/README.md``. Of several entries of a node the first
is for the first attempt, and so on; the last one repeats. So an attempt that is begun again does the same again."""

FINAL: Final = ("completed", "failed", "cancelled")


class Unknown(Enum):
    """The one value that says that there is no opinion; unlike ``object()`` it is the same after pickling."""

    UNKNOWN = "unknown"

    def __repr__(self) -> str:
        """As it is written, so that a plan is printed as what makes it."""
        return "UNKNOWN"


UNKNOWN: Final = Unknown.UNKNOWN


class Size(NamedTuple):
    """How large a case is: *runs* that are started, and *units* that a drawn flow has at most (about so many nodes)."""

    runs: int = 4
    units: int = 6


class RunStart(NamedTuple):
    """A run that is started, *at_ms* after the load began, by *copies* records of which all but one are duplicates."""

    run_id: str
    flow: str
    input: Any = None
    context: Mapping[str, Any] = {}
    at_ms: int = 0
    copies: int = 1


class Order(NamedTuple):
    """What somebody asks of a run, and when (``orders.py`` says when that is).

    *when* says since when *after_ms* counts; what is seen are durable events, so nothing depends on two records coming in
    the order in which they were sent:

        time      the load began
        sent      the start was handed over; the run may not know of itself yet
        begun     the run was seen to have begun
        open      all waits of *nodes*, by their paths, were seen open, for the *opening*-th time; ``*`` among them stands
                  for every wait that opens in the run or in its children, each time that it does
        resumed   all waits of *nodes* were seen resumed, for the *opening*-th time
        paused    the run was seen paused, each time

    *kind* is ``resume`` (of *target*, or of the wait that opened, with *action*, *value* and *key*), ``signal`` (of *event*
    with *value*), ``cancel``, ``pause``, ``unpause`` or ``start`` (the run's own start once more). It is sent *copies*
    times; more than once only where that must change nothing.
    """

    run_id: str
    kind: str
    when: str = "sent"
    after_ms: int = 0
    nodes: tuple[str, ...] = ()
    opening: int = 1
    target: str = ""
    action: str | None = None
    value: Any = None
    event: str = ""
    key: str | None = None
    copies: int = 1


class Expectation(NamedTuple):
    """What a run must come to; what there is no opinion about is left as it is here.

    *completions* are recorded completions by node, *attempts* those that were begun (one that a crash cut short and that
    was begun again counts once; those of a batch stand under its scatter node). *errors* are nodes that the result names,
    all of them with *whole*; *context* is what is in the context, all of it with *whole*. *unordered* are keys that hold
    lists whose order depends on the moment. Where *cancelled*, the run may also end cancelled, having done no more than
    what stands here.
    """

    flow: str
    statuses: tuple[str, ...] = FINAL
    output: Any = UNKNOWN
    context: Mapping[str, Any] = {}
    absent: tuple[str, ...] = ()
    outputs: Mapping[str, Any] = {}
    completions: Mapping[str, int] = {}
    attempts: Mapping[str, int] = {}
    skipped: tuple[str, ...] = ()
    errors: tuple[str, ...] | None = None
    whole: bool = False
    unordered: tuple[str, ...] = ()
    cancelled: bool = False


class Case(NamedTuple):
    """All that runs in one world. The keys of *behaviours* are those of implementations (``uses``); *expected* is by run id.

    Children have an expectation where there is an opinion about them; what holds for all runs holds for them too.
    """

    blueprints: list[dict[str, Any]]
    behaviours: dict[str, list[Entry]]
    starts: list[RunStart]
    orders: list[Order]
    expected: dict[str, Expectation]


def keep_runs(case: Case, run_ids: Container[str]) -> Case:
    """The same case with these runs only, and with the flows that they need."""
    starts = [start for start in case.starts if start.run_id in run_ids]
    by_id = {blueprint["id"]: blueprint for blueprint in case.blueprints}
    needed = _with_children([start.flow for start in starts], by_id)
    blueprints = [blueprint for blueprint in case.blueprints if blueprint["id"] in needed]
    uses = {key: None for blueprint in blueprints for key in implementations_of(blueprint)}
    return Case(
        blueprints,
        {key: entries for key, entries in case.behaviours.items() if key in uses},
        starts,
        [order for order in case.orders if order.run_id in run_ids],
        # The id of a child begins with that of the run that was started.
        {run_id: expected for run_id, expected in case.expected.items() if run_id.partition("/")[0] in run_ids},
    )


def fewer_runs(case: Case) -> Iterator[Case]:
    """The case with one of its runs only, and without one of them."""
    run_ids = [start.run_id for start in case.starts]
    if len(run_ids) > 1:
        for run_id in run_ids:
            yield keep_runs(case, [run_id])
        for run_id in run_ids:
            yield keep_runs(case, [other for other in run_ids if other != run_id])


def implementations_of(blueprint: dict[str, Any]) -> list[str]:
    """The keys under which its implementations are registered."""
    keys = [node["uses"] for node in blueprint["nodes"] if node["uses"] not in BUILT_IN_USES]
    return keys + [node["params"]["workerUsesKey"] for node in blueprint["nodes"] if node["uses"] == "batch-scatter"]


def children_of(blueprint: dict[str, Any]) -> list[str]:
    """The blueprints that it starts."""
    return [node["params"]["blueprintId"] for node in blueprint["nodes"] if node["uses"] == "subflow"]


def _with_children(flows: list[str], by_id: dict[str, dict[str, Any]]) -> dict[str, None]:
    needed: dict[str, None] = {}
    while flows:
        flow = flows.pop()
        if flow not in needed:
            needed[flow] = None
            flows += children_of(by_id[flow])
    return needed
