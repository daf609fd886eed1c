"""What stands in the requests and answers between clients and brokers."""

from __future__ import annotations

__all__ = [
    "NO_OFFSET",
    "Assignment",
    "CallIn",
    "Cancel",
    "Described",
    "Fetched",
    "GroupMember",
    "JoinReply",
    "JoinRequest",
    "Joined",
    "Place",
    "Stored",
    "Subscription",
    "SyncReply",
]

from collections.abc import Callable
from typing import NamedTuple, Protocol

from tests.simulation.broker.refused import Refused

NO_OFFSET = -1001
"""No offset was committed (librdkafka's OFFSET_INVALID)."""

Place = tuple[str, int]
"""A partition of a topic."""

Assignment = dict[str, list[Place]]
"""The places of each member id."""


class Cancel(Protocol):
    """Something that will happen, unless it is cancelled; to cancel it twice, or too late, does nothing."""

    def cancel(self) -> None: ...


CallIn = Callable[[int, Callable[[], None]], Cancel]
"""Calls something after so many milliseconds."""


class Stored(NamedTuple):
    """A record of a log, as readers see it."""

    offset: int
    key: bytes | None
    value: bytes | None
    at_ms: int


class Fetched(NamedTuple):
    """What a fetch gives. *next_offset* is behind everything that was looked at, records or not."""

    records: list[Stored]
    next_offset: int
    high_watermark: int
    last_stable_offset: int


class Subscription(NamedTuple):
    """What a member of a classic group tells the member that shares out: *generation* is that of the *owned* places."""

    topics: tuple[str, ...]
    owned: tuple[Place, ...] = ()
    generation: int = -1


class Joined(NamedTuple):
    """Answer to a join. *members* is for the leader alone; the others get an empty one.

    A static member that comes back to a stable group as its leader gets the old id as *leader_id*, so it does not share out.
    """

    member_id: str
    generation: int
    leader_id: str
    members: dict[str, Subscription]


class JoinRequest(NamedTuple):
    """What a member of a classic group says of itself when it joins."""

    instance_id: str | None
    client_id: str
    session_ms: int
    rebalance_ms: int
    subscription: Subscription
    protocol: str


class GroupMember(NamedTuple):
    """A member in the description of a group."""

    member_id: str
    client_id: str
    instance_id: str | None
    places: list[Place]


class Described(NamedTuple):
    """Kafka's name of a group's state (``Stable``, ``Dead``, ...), and its members."""

    state: str
    members: list[GroupMember]


JoinReply = Callable[[Joined | Refused], None]
SyncReply = Callable[[list[Place] | Refused], None]
