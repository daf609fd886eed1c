"""Events: what happened to a run, in the past tense. They are the only way in which a run's state changes.

Folding the events of a run with :func:`headrace.apply.apply` gives its state at every step; no node code, no clock and
no blueprint is needed for that. Sequence number and time belong to the record that carries an event
(``headrace_topics``), so an event holds its payload only. *item* is the index within a batch, or ``NO_ITEM``.
Edges are named by their index in the blueprint; source and target stand beside it for the reader of a history.
"""

from __future__ import annotations

__all__ = ["EVENT_TYPES", "Event", "Holder", "Parent"]

from collections.abc import Mapping
from typing import NamedTuple, get_args

from headrace.execution import NO_ITEM, Operation
from headrace.values import Json


class Parent(NamedTuple):
    """Which node of which run a child run works for. *outputs* are the child's names that the parent asks for."""

    run_id: str
    node_id: str
    activation: int
    attempt: int
    depth: int
    outputs: tuple[str, ...] = ()


class Holder(NamedTuple):
    """A run that passed a resume down to a child, and the number under which it holds the key meanwhile."""

    run_id: str
    claim: int


class Kept(NamedTuple):
    """An edge that leads out of a loop's body and was decided before the body began anew."""

    edge: int
    status: str
    source: str
    target: str
    value: Json | None


# Runs.


class RunStarted(NamedTuple):
    """The run exists. *version* is empty while no owner knows the blueprint."""

    blueprint_id: str
    version: str
    input: Json
    context: Mapping[str, Json]
    parent: Parent | None
    at_ms: int


class RunParked(NamedTuple):
    """The owner lacks the blueprint or an implementation; nothing starts until it has them."""

    reason: str


class RunUnparked(NamedTuple):
    """The owner has what it lacked; from now on the run is pinned to *version*."""

    version: str


class RunAwaiting(NamedTuple):
    """Every open node is a wait."""


class RunResumed(NamedTuple):
    """The run is no longer awaiting: something can advance again."""


class RunPaused(NamedTuple):
    """Nothing new starts from here on."""

    reason: str


class RunUnpaused(NamedTuple):
    """What is scheduled may start again."""


class RunCompleted(NamedTuple):
    """Final: no work is outstanding, and every failure was recovered."""

    output: Json


class RunFailed(NamedTuple):
    """Final: no work is outstanding, and some failure was not recovered (or the flow is fail-fast).

    *reason* and *code* are given where no node is to blame.
    """

    reason: str = ""
    code: str | None = None


class RunCancelled(NamedTuple):
    """Final: somebody cancelled the run."""

    reason: str


class RunDuplicate(NamedTuple):
    """A start of a run that exists; nothing was changed."""


class CommandIgnored(NamedTuple):
    """A resume, signal or other command that does not fit the run's state; nothing was changed."""

    command: str
    node: str
    reason: str


# Nodes.


class NodeScheduled(NamedTuple):
    """The node's job exists. *edges* are the arrivals that make its input; *input* is the value where it is pinned."""

    node: str
    item: int
    activation: int
    attempt: int
    edges: tuple[int, ...]
    input: Json | None


class NodeStarted(NamedTuple):
    """An execution of the node began; after a crash the same attempt begins once more."""

    node: str
    item: int
    attempt: int


class NodeCompleted(NamedTuple):
    """The node's result is recorded: from here on it never executes again in this activation."""

    node: str
    item: int
    output: Json
    action: str | None


class NodeFailed(NamedTuple):
    """The node failed for good. *recovered_by* is its fallback, which takes over.

    Where nothing takes over, *unrecovered* are the nodes whose failures it was to recover.
    """

    node: str
    item: int
    attempt: int
    code: str
    message: str
    recovered_by: str | None
    unrecovered: tuple[str, ...] = ()


class NodeRetrying(NamedTuple):
    """An attempt failed and another one is due at *due_ms*."""

    node: str
    item: int
    attempt: int
    due_ms: int
    code: str
    message: str
    prepared: Json | None


class NodeSkipped(NamedTuple):
    """No path leads to the node any more; it was not executed."""

    node: str


class NodePoisoned(NamedTuple):
    """A predecessor failed, so the node is not executed. *listed* where it is a join, which the errors name."""

    node: str
    predecessor: str
    listed: bool


class NodeCancelled(NamedTuple):
    """An ``any`` join lost a predecessor before it began (*predecessor*), or the run stopped its work (empty)."""

    node: str
    item: int
    predecessor: str


class NodeFallback(NamedTuple):
    """The fallback takes over from a failed node; *error* is what it finds under ``_error``."""

    node: str
    fallback: str
    error: Json


class EdgeTaken(NamedTuple):
    """The edge leads on. *giver* is the node whose output goes over it; *value* replaces that output where given."""

    edge: int
    source: str
    target: str
    giver: str
    value: Json | None


class EdgeDead(NamedTuple):
    """The edge was not taken in this activation."""

    edge: int
    source: str
    target: str
    giver: str


class EdgeFailed(NamedTuple):
    """The edge's source failed, or was not executed behind a failure."""

    edge: int
    source: str
    target: str
    giver: str


class ActionUnheard(NamedTuple):
    """The node gave an action that no edge listens to, and has no plain edge that holds: the branch ends here."""

    node: str
    action: str


class JoinFired(NamedTuple):
    """A join has what it waited for; later arrivals of this activation do nothing."""

    node: str
    edges: tuple[int, ...]


# Time and people.


class TimerSet(NamedTuple):
    """Something is due: the end of a sleep, the timeout of a wait or of a child."""

    node: str
    item: int
    due_ms: int


class TimerFired(NamedTuple):
    """The timer was due and did its work."""

    node: str
    item: int
    due_ms: int


class WaitOpened(NamedTuple):
    """The node waits for a resume, or for a signal of *event*."""

    node: str
    event: str | None


class SignalReceived(NamedTuple):
    """A signal came. *kept* where no wait asked for it yet."""

    event: str
    payload: Json
    kept: bool


class SignalTaken(NamedTuple):
    """A kept signal went to the first wait that asked for its event (*child* where that is in a child run)."""

    number: int
    node: str


class WaitResumed(NamedTuple):
    """A resume was applied at a wait; its *key* is remembered, so that it is applied once."""

    node: str
    key: str | None


class ResumeClaimed(NamedTuple):
    """A resume went on to the child of *node*; until it is known whether it is applied, its *key* is held.

    The number of the claim is that of this event. *holders* are the runs that hold the key further up.
    """

    node: str
    key: str
    holders: tuple[Holder, ...] = ()


class ResumeForwarded(NamedTuple):
    """A child applied a resume that came through this run; its *key* is remembered here too."""

    key: str


class ResumeReleased(NamedTuple):
    """The resume that went on to a child was not applied; its *key* is free again."""

    key: str


# Subflows, loops, batches, context.


class ChildStarted(NamedTuple):
    """The node's child run was started under an id of its own."""

    node: str
    child: str


class ChildChanged(NamedTuple):
    """The child tells whether it awaits somebody, and its open waits as (path, event) pairs."""

    node: str
    awaiting: bool
    waits: tuple[tuple[str, str | None], ...]


class ChildEnded(NamedTuple):
    """The child run has ended."""

    node: str
    child: str
    status: str


class LoopIteration(NamedTuple):
    """A loop's body begins anew: the state of the nodes in *reset* is gone, *kept* edges stay decided."""

    node: str
    iteration: int
    activation: int
    value: Json
    reset: tuple[str, ...]
    kept: tuple[Kept, ...]


class LoopEnded(NamedTuple):
    """The loop is over; *value* goes over its exits."""

    node: str
    iterations: int
    value: Json


class BatchStarted(NamedTuple):
    """The items of a batch, each to be worked on once."""

    node: str
    items: tuple[Json, ...]


class BatchFinished(NamedTuple):
    """No item is outstanding; with *failed* the index of the item that fails the gather node, else ``NO_ITEM``."""

    node: str
    failed: int = NO_ITEM


class ContextChanged(NamedTuple):
    """Context writes of a node (or those that a child handed back), as operations, in order."""

    node: str
    operations: tuple[Operation, ...]


Event = (
    RunStarted
    | RunParked
    | RunUnparked
    | RunAwaiting
    | RunResumed
    | RunPaused
    | RunUnpaused
    | RunCompleted
    | RunFailed
    | RunCancelled
    | RunDuplicate
    | CommandIgnored
    | NodeScheduled
    | NodeStarted
    | NodeCompleted
    | NodeFailed
    | NodeRetrying
    | NodeSkipped
    | NodePoisoned
    | NodeCancelled
    | NodeFallback
    | EdgeTaken
    | EdgeDead
    | EdgeFailed
    | ActionUnheard
    | JoinFired
    | TimerSet
    | TimerFired
    | WaitOpened
    | SignalReceived
    | SignalTaken
    | WaitResumed
    | ResumeClaimed
    | ResumeForwarded
    | ResumeReleased
    | ChildStarted
    | ChildChanged
    | ChildEnded
    | LoopIteration
    | LoopEnded
    | BatchStarted
    | BatchFinished
    | ContextChanged
)

EVENT_TYPES: tuple[type[Event], ...] = get_args(Event)
