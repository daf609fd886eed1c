"""Settings of local adapters."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.errors import DefinitionError
from headrace.limits import Limits
from headrace_adapters.local.settings import local_settings
from headrace_adapters.local.worker import Settings


def test_what_nobody_sets_has_its_default() -> None:
    assert local_settings({}) == Settings()
    assert Settings().limits == Limits()


def test_settings_and_limits_are_given_by_name_and_those_of_others_are_left_to_them() -> None:
    made = local_settings({"slots": 5, "partitions": 65_536, "value_bytes_max": 10, "sync": False, "url": "memory:"})

    assert (made.slots, made.partitions, made.limits.value_bytes_max) == (5, 65_536, 10)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"partitions": 0}, "'partitions' must be a whole number from 1 to 65536, not 0"),
        ({"partitions": 65_537}, "'partitions'"),
        ({"slots": 0}, "'slots' must be a whole number from 1, not 0"),
        ({"slots": True}, "'slots'"),
        ({"threads_max": 1.5}, "'threads_max'"),
        ({"processes_max": -1}, "'processes_max' must be a whole number from 0"),
        ({"runs_cached_max": 0}, "runs_cached_max must be at least 1"),
        ({"dedup_window_ms": "1d"}, "a setting cannot be"),
        ({"colour": 1, "brand": 2}, "unknown settings brand, colour: use some of .*partitions"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_by_its_name(values: dict[str, Any], named: str) -> None:
    with pytest.raises(DefinitionError, match=named):
        local_settings(values)
