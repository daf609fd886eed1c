"""How the leader of a classic group shares out partitions: sticky, by range, or in turn."""

from __future__ import annotations

__all__ = ["share_out"]

from collections.abc import Mapping

from tests.simulation.broker.messages import Assignment, Place, Subscription


def share_out(strategy: str, members: Mapping[str, Subscription], partitions: Mapping[str, int]) -> Assignment:
    """Who gets what. *partitions* has how many there are of each topic that somebody subscribes to."""
    if strategy == "range":
        return _by_range(members, partitions)
    if strategy == "roundrobin":
        return _in_turn(members, partitions)
    return _one_after_the_other(_sticky(members, partitions), members)


def _places(partitions: Mapping[str, int]) -> list[Place]:
    return [(topic, number) for topic in sorted(partitions) for number in range(partitions[topic])]


def _by_range(members: Mapping[str, Subscription], partitions: Mapping[str, int]) -> Assignment:
    shares: Assignment = {member: [] for member in sorted(members)}
    for topic in sorted(partitions):
        takers = [member for member in shares if topic in members[member].topics]
        number = 0
        for at, member in enumerate(takers):
            size = partitions[topic] // len(takers) + (at < partitions[topic] % len(takers))
            shares[member] += [(topic, each) for each in range(number, number + size)]
            number += size
    return shares


def _in_turn(members: Mapping[str, Subscription], partitions: Mapping[str, int]) -> Assignment:
    shares: Assignment = {member: [] for member in sorted(members)}
    order = list(shares)
    at = 0
    for place in _places(partitions):
        takers = [member for member in order[at:] + order[:at] if place[0] in members[member].topics]
        if takers:
            shares[takers[0]].append(place)
            at = (order.index(takers[0]) + 1) % len(order)
    return shares


def _sticky(members: Mapping[str, Subscription], partitions: Mapping[str, int]) -> Assignment:
    """Balanced, and of what is balanced that in which the fewest places move."""
    left = dict.fromkeys(_places(partitions))
    shares: Assignment = {member: [] for member in sorted(members)}
    # Where two say that a place is theirs, the one with the newer generation is right.
    for member in sorted(members, key=lambda member: (-members[member].generation, member)):
        subscription = members[member]
        for place in sorted(subscription.owned):
            if place in left and place[0] in subscription.topics:
                del left[place]
                shares[member].append(place)
    for place in left:
        takers = [member for member in shares if place[0] in members[member].topics]
        if takers:
            shares[min(takers, key=lambda member: len(shares[member]))].append(place)
    while _even_out(shares, members, partitions):
        pass
    return shares


def _even_out(shares: Assignment, members: Mapping[str, Subscription], partitions: Mapping[str, int]) -> bool:
    """Move each place, in order, from a member that has more to the one that has least; whether any has moved."""
    owners = {place: member for member, places in shares.items() for place in places}
    moved = False
    for place in _places(partitions):
        owner = owners.get(place)
        if owner is None:
            continue
        takers = [member for member in shares if place[0] in members[member].topics]
        least = min(takers, key=lambda member: len(shares[member]))
        if len(shares[owner]) > len(shares[least]) + 1:
            shares[owner].remove(place)
            shares[least].append(place)
            moved = True
    return moved


def _one_after_the_other(shares: Assignment, members: Mapping[str, Subscription]) -> Assignment:
    """Nobody gets a place that somebody else still has: that one gives it up first, and then all join again."""
    by_age = sorted(members, key=lambda member: (members[member].generation, member))
    owners = {place: member for member in by_age for place in members[member].owned}
    return {member: [place for place in places if owners.get(place, member) == member] for member, places in shares.items()}
