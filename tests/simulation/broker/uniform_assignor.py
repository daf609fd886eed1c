"""The assignor of the broker: as many places for each member as for any other, and as few as possible change hands."""

from __future__ import annotations

__all__ = ["assigned"]

from collections.abc import Mapping, Sequence

from tests.simulation.broker.messages import Place


def assigned(
    subscriptions: Mapping[str, Sequence[str]],
    partitions: Mapping[str, int],
    before: Mapping[str, Mapping[Place, None]],
) -> dict[str, dict[Place, None]]:
    """The places of each member id, from the topics that each subscribes to, and what each was to have *before*."""
    places = [(topic, number) for topic in sorted(partitions) for number in range(partitions[topic])]
    result: dict[str, dict[Place, None]] = {member_id: {} for member_id in subscriptions}
    owner_before = {place: member_id for member_id in subscriptions for place in before.get(member_id, ())}
    quota, more = divmod(len(places), max(1, len(subscriptions)))
    open_places = []
    for place in places:
        member_id = owner_before.get(place)
        if member_id is None or place[0] not in subscriptions[member_id]:
            open_places.append(place)
            continue
        held = result[member_id]
        if len(held) < quota:
            held[place] = None
        elif len(held) == quota and more:
            # Some members have one more, as long as there are more places than quotas.
            more -= 1
            held[place] = None
        else:
            open_places.append(place)
    for place in open_places:
        takers = [member_id for member_id, topics in subscriptions.items() if place[0] in topics]
        if takers:
            result[min(takers, key=lambda member_id: len(result[member_id]))][place] = None
    return result
