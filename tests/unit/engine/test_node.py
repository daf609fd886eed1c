from __future__ import annotations

import dataclasses

import pytest

from headrace.context import Context
from headrace.execution import Execution
from headrace.node import Node, Result

CTX = Context(Execution(1, "r", "b", "n", -1, 0, 1, "n", b"{}", b"null", {}, None, None))


def test_a_result_says_nothing_unless_told() -> None:
    assert Result() == Result(output=None, action=None, error=None)


def test_a_result_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Result(output=1).output = 2  # type: ignore[misc]


def test_a_node_does_nothing_by_itself_but_pass_on_what_was_executed() -> None:
    node = Node()

    assert node.prep(CTX) is None
    assert node.exec(CTX, 1) is None
    assert node.post(CTX, 1, {"executed": 2}) == {"executed": 2}
    assert node.recover(CTX, OSError()) is None


def test_a_node_without_a_fallback_raises_the_error_again() -> None:
    error = OSError("disk")
    with pytest.raises(OSError, match="disk") as raised:
        Node().fallback(CTX, None, error)

    assert raised.value is error
