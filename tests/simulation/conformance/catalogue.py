"""All programs, by their names."""

from __future__ import annotations

__all__ = ["PROGRAMS"]

from collections.abc import Mapping
from functools import partial

from headrace_adapters.kafka.settings import GROUP_PROTOCOLS
from tests.simulation.conformance import fencing, groups, instances, offsets, producing, reading, transactions
from tests.simulation.conformance.program import Program

_SUBJECTS = (transactions, fencing, offsets, reading, producing)


def _programs() -> dict[str, Program]:
    found: dict[str, Program] = {}
    for subject in _SUBJECTS:
        for name in subject.__all__:
            found[f"{subject.__name__.rpartition('.')[2]}.{name}"] = getattr(subject, name)
    for protocol in GROUP_PROTOCOLS:
        for subject in (groups, instances):
            for name in subject.__all__:
                found[f"{subject.__name__.rpartition('.')[2]}_{protocol}.{name}"] = partial(
                    getattr(subject, name), protocol=protocol
                )
    return found


PROGRAMS: Mapping[str, Program] = _programs()
"""Each public function of the modules of programs; those about members of groups once for each protocol."""
