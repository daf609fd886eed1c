"""The state of one run, as :func:`headrace.apply.apply` makes it.

Everything that decides what happens next is here and nowhere else. A run's state is a set of parts (head, input, nodes,
batch items, context keys, keys of resumes, kept signals), each a record of its own in the store, so that a step
writes what it changed and not what the run has accumulated. What can be derived from the parts is not written: joins
come from the edges that each node has decided (the *giver* of an edge holds its outcome), counters from the nodes.

Node states:

    (absent)   nothing has been decided           scheduled  its job exists
    running    an execution is in progress        retrying   another attempt is due
    sleeping   until its timer                    waiting    until a resume, a signal or its timeout
    child      its child run works                looping    its body works
    scattering its items work                     completed, failed, skipped, poisoned, cancelled: decided
"""

from __future__ import annotations

__all__ = ["BatchState", "ChildState", "Claim", "EdgeOut", "Join", "LoopState", "NodeState", "RunState"]

from collections.abc import Iterator
from typing import Final, NamedTuple

from headrace.events import Holder, Parent
from headrace.execution import NO_ITEM
from headrace.values import NULL, Json

SCHEDULED: Final = "scheduled"
RUNNING: Final = "running"
RETRYING: Final = "retrying"
SLEEPING: Final = "sleeping"
WAITING: Final = "waiting"
CHILD: Final = "child"
LOOPING: Final = "looping"
SCATTERING: Final = "scattering"
COMPLETED: Final = "completed"
FAILED: Final = "failed"
SKIPPED: Final = "skipped"
POISONED: Final = "poisoned"
CANCELLED: Final = "cancelled"

# Work that is outstanding. A loop or a batch at work is not counted itself: its nodes and items are.
OPEN: Final = frozenset((SCHEDULED, RUNNING, RETRYING, SLEEPING, WAITING, CHILD))
# Work that the owner has to drive: it is in memory, or is begun again when the owner changes.
ACTIVE: Final = frozenset((SCHEDULED, RUNNING))

TAKEN: Final = "taken"
DEAD: Final = "dead"


class EdgeOut(NamedTuple):
    """The outcome of one edge: ``taken``, ``dead`` or ``failed``; *value* replaces the giver's output where given."""

    status: str
    source: str
    target: str
    value: Json | None


class Claim(NamedTuple):
    """The key of a resume that is on its way to a child: the number of the claim, and who holds the key further up."""

    number: int
    holders: tuple[Holder, ...]


class LoopState:
    """Of a loop controller: how many iterations began, and the activation of the present one."""

    __slots__ = ("activation", "iteration")

    def __init__(self) -> None:
        self.iteration = 0
        self.activation = 0


class ChildState:
    """Of a subflow node: its child run, whether that awaits somebody, and the waits that are open in it."""

    __slots__ = ("awaiting", "run_id", "waits")

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.awaiting = False
        self.waits: tuple[tuple[str, str | None], ...] = ()


class BatchState:
    """Of a scatter node: its items. *next* is the first that is not scheduled, *open* how many are outstanding."""

    __slots__ = ("failed", "items", "next", "open")

    def __init__(self) -> None:
        self.items: list[NodeState] = []
        self.next = 0
        self.open = 0
        self.failed = NO_ITEM


class NodeState:
    """One node (or one batch item) in its present activation."""

    __slots__ = (
        "action",
        "activation",
        "attempt",
        "batch",
        "child",
        "due_ms",
        "edges",
        "error",
        "event",
        "fallback",
        "input",
        "loop",
        "message",
        "out",
        "output",
        "prepared",
        "status",
        "token",
    )

    def __init__(self) -> None:
        self.status = ""
        self.activation = 0
        self.attempt = 0
        self.edges: tuple[int, ...] = ()
        self.input: Json | None = None
        self.output: Json | None = None
        self.action: str | None = None
        self.out: dict[int, EdgeOut] | None = None
        self.due_ms: int | None = None
        self.event: str | None = None  # what a wait asks for
        self.message: tuple[str, str] | None = None  # (code, text) of the last failure
        self.error: Json | None = None  # what a fallback finds under `_error`
        self.fallback: str | None = None  # the fallback that took over
        self.prepared: Json | None = None
        self.loop: LoopState | None = None
        self.child: ChildState | None = None
        self.batch: BatchState | None = None
        # The execution in progress in this process; not part of the state, so never written.
        self.token = 0


class Join:
    """What has come in at a node, by edge, with the giver that holds it: derived from the givers' edges."""

    __slots__ = ("arrived", "dead", "failed")

    def __init__(self) -> None:
        self.arrived: dict[int, str] = {}
        self.dead: dict[int, str] = {}
        self.failed: dict[int, str] = {}

    def forget(self, givers: set[str]) -> None:
        """Drop what these givers gave."""
        for edges in (self.arrived, self.dead, self.failed):
            for edge in [edge for edge, giver in edges.items() if giver in givers]:
                del edges[edge]


class Indexed:
    """The entries of the store's indexes that belong to a run: is it active, is it parked, which timers it has."""

    __slots__ = ("active", "parked", "timers")

    def __init__(self) -> None:
        self.active = False
        self.parked = False
        self.timers: dict[tuple[str, int], int] = {}


class RunError(NamedTuple):
    """One entry of the run's errors."""

    node: str
    code: str
    message: str
    predecessor: str = ""


class RunState:
    """One run. Changed by ``apply`` only; everybody else reads."""

    __slots__ = (
        "active",
        "awaiting",
        "blueprint_id",
        "changed",
        "claims",
        "context",
        "ended",
        "errors",
        "indexed",
        "input",
        "joins",
        "keys",
        "nodes",
        "open",
        "output",
        "parent",
        "parked",
        "paused",
        "reason",
        "run_id",
        "seq",
        "signals",
        "signals_seq",
        "started_at_ms",
        "version",
        "waiting",
    )

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.blueprint_id = ""
        self.version = ""
        self.seq = 0
        self.started_at_ms = 0
        self.input: Json = NULL
        self.parent: Parent | None = None
        self.awaiting = False
        self.paused = False
        self.parked = ""
        self.ended = ""  # the final state
        self.reason = ""
        self.output: Json = NULL
        self.errors: list[RunError] = []
        self.context: dict[str, Json] = {}
        self.nodes: dict[str, NodeState] = {}
        self.keys: set[str] = set()
        self.claims: dict[str, Claim] = {}  # by key; never one that is in *keys* too
        self.signals: dict[int, tuple[str, Json]] = {}
        self.signals_seq = 0
        # Derived from the nodes.
        self.joins: dict[str, Join] = {}
        self.open = 0
        self.waiting = 0
        self.active = 0
        # The parts that changed since the last batch was taken: (kind, id), or (kind, id, index) of items.
        self.changed: set[tuple[str, ...]] = set()
        # What the store's indexes hold of this run; None while the store holds nothing of it.
        self.indexed: Indexed | None = None

    @property
    def status(self) -> str:
        """The visible state: a final one, else ``parked``, ``paused``, ``awaiting`` or ``running``."""
        if self.ended:
            return self.ended
        if self.parked:
            return "parked"
        if self.paused:
            return "paused"
        return "awaiting" if self.awaiting else "running"

    def by_id(self) -> list[tuple[str, NodeState]]:
        """The nodes in the order of their ids, for decisions about several of them.

        ``nodes`` is in the order in which they were touched, which a store does not keep: what is decided must not differ
        between an owner that has had the run all the time and one that has just read it.
        """
        return sorted(self.nodes.items(), key=_id_of)

    def active_work(self) -> Iterator[tuple[str, int]]:
        """The nodes and items that their owner has to drive: those that are scheduled or running."""
        for node_id, node in self.by_id():
            if node.status in ACTIVE:
                yield node_id, NO_ITEM
            for index, item in enumerate(node.batch.items if node.batch is not None else ()):
                if item.status in ACTIVE:
                    yield node_id, index

    def work(self, node_id: str, item: int = NO_ITEM) -> NodeState | None:
        """The state of a node, or of one item of a batch; None where there is none."""
        node = self.nodes.get(node_id)
        if node is None or item == NO_ITEM:
            return node
        if node.batch is None or not 0 <= item < len(node.batch.items):
            return None
        return node.batch.items[item]


def _id_of(entry: tuple[str, NodeState]) -> str:
    return entry[0]
