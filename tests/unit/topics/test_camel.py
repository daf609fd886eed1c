"""Names on the wire are those of Python in camelCase, without units."""

from __future__ import annotations

import pytest

from headrace_topics.camel import camel


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("node", "node"),
        ("blueprint_id", "blueprintId"),
        ("recovered_by", "recoveredBy"),
        ("started_at_ms", "startedAt"),
        ("at_ms", "at"),
        ("due_ms", "due"),
    ],
)
def test_a_name_is_written_in_camel_case(name: str, expected: str) -> None:
    assert camel(name) == expected
