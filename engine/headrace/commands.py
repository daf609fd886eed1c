"""Commands: what a run is asked to do, in the imperative. Every record of the jobs topic is one.

The first group comes from producers and operators, the second one from the engine itself: jobs of nodes, and what
runs of a family tell each other. A command is a request: it may be refused, and then nothing changes.
*request_id* names whoever waits for an answer; it is empty where nobody does.
"""

from __future__ import annotations

__all__ = [
    "Cancel",
    "ChildEnd",
    "ChildNews",
    "Command",
    "EngineCommand",
    "Pause",
    "Resume",
    "ResumeApplied",
    "ResumeIgnored",
    "RunNode",
    "Signal",
    "Start",
    "Unpause",
]

from collections.abc import Mapping
from typing import NamedTuple

from headrace.events import Holder, Parent
from headrace.execution import NO_ITEM
from headrace.values import NULL, Json


class Start(NamedTuple):
    """Begin a run; a run id that is known changes nothing. Without *version* the newest one is taken."""

    run_id: str
    blueprint_id: str
    version: str | None = None
    input: Json = NULL
    context: Mapping[str, Json] = {}
    parent: Parent | None = None
    request_id: str = ""


class Resume(NamedTuple):
    """Answer a wait, in the run itself or, by a path, in one of its children.

    *holders* are the runs that passed it down and hold its key until they hear what became of it.
    """

    run_id: str
    node_id: str
    action: str | None = None
    output: Json = NULL
    key: str | None = None
    request_id: str = ""
    holders: tuple[Holder, ...] = ()


class Signal(NamedTuple):
    """Tell a run that something happened. *path* limits it to one wait: how a parent hands a kept one to a child.

    *origin* is the run that hands it down, and gets it back where the wait was answered meanwhile.
    """

    run_id: str
    event: str
    payload: Json = NULL
    path: str | None = None
    request_id: str = ""
    origin: str | None = None


class Cancel(NamedTuple):
    """End the run as cancelled."""

    run_id: str
    reason: str = ""
    request_id: str = ""


class Pause(NamedTuple):
    """Start nothing new."""

    run_id: str
    reason: str = ""
    request_id: str = ""


class Unpause(NamedTuple):
    """Go on after a pause."""

    run_id: str
    request_id: str = ""


class RunNode(NamedTuple):
    """The job of a node that was scheduled; a second delivery is recognised by activation and attempt."""

    run_id: str
    blueprint_id: str
    node_id: str
    item: int = NO_ITEM
    activation: int = 0
    attempt: int = 1


class ChildNews(NamedTuple):
    """A child tells its parent whether it awaits somebody, and which waits are open in it."""

    run_id: str
    child_id: str
    node_id: str
    awaiting: bool
    waits: tuple[tuple[str, str | None], ...]


class ChildEnd(NamedTuple):
    """A child tells its parent how it ended; *values* are those of the names that the parent asked for."""

    run_id: str
    child_id: str
    node_id: str
    status: str
    output: Json
    values: Mapping[str, Json]
    error: str


class ResumeApplied(NamedTuple):
    """A run tells its parent, and whoever holds the key for it, that it applied a resume under this key."""

    run_id: str
    key: str


class ResumeIgnored(NamedTuple):
    """A run tells a holder of the key that it did not apply the resume, so the key is free again.

    *claim* is the number under which that run holds the key, so that what is delivered twice frees no later claim.
    """

    run_id: str
    key: str
    claim: int


EngineCommand = RunNode | ChildNews | ChildEnd | ResumeApplied | ResumeIgnored
"""What only the engine says, to itself: nobody waits for an answer to it, and no client may send it."""

Command = Start | Resume | Signal | Cancel | Pause | Unpause | EngineCommand
