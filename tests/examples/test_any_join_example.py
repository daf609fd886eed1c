"""A fails, C is an ``any`` join and is cancelled, and the run fails without B running C alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conftest import Shell


def check_result(result: dict[str, Any]) -> None:
    assert result["status"] == "failed"
    assert result["output"] is None
    errors = {error["nodeId"]: error for error in result["errors"]}
    assert errors.keys() == {"A", "C"}
    assert (errors["A"]["code"], errors["A"]["message"]) == ("NODE_ERROR", "A failed")
    assert errors["C"]["code"] == "CANCELLED"
    assert "'A'" in errors["C"]["message"]


def check_events(events: list[dict[str, Any]]) -> None:
    def nodes(kind: str) -> list[str]:
        return [event["node"] for event in events if event["type"] == kind]

    assert sorted(nodes("nodeStarted")) == ["A", "B"]
    assert nodes("nodeCompleted") == ["B"]
    assert nodes("nodeCancelled") == ["C"]
    assert [event["type"] for event in events][-1] == "runFailed"


async def test_c_is_cancelled_and_never_runs_on_b_alone(example: Callable[[str], ModuleType], url: str) -> None:
    app = example("any_join").app

    async with app.work(url):
        handle = await app.start("any-join")
        result = await handle.result(30)
        events = [event async for event in handle.events()]

    check_result(result.to_json())
    check_events(events)


def test_the_command_line_says_the_same(shell: Shell, examples: Path) -> None:
    check_result(shell.json("run", examples / "any_join" / "any_join.py", "--run-id", "r1", exit_code=1))
    check_result(shell.json("result", "r1", exit_code=1))
