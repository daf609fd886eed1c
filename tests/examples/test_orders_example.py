"""What becomes of each order, told apart from the flow that decides it."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from headrace import App, Flow

if TYPE_CHECKING:
    from conftest import Shell

# By hand, from orders.jsonl and the price list: amount, how it is paid, attempts at reserving and at charging.
SHIPPED = {
    "order-1001": (40, "card", 1, 1),
    "order-1002": (220, "card", 1, 1),
    "order-1003": (380, "card", 1, 1),
    "order-1004": (80, "card", 2, 1),
    "order-1005": (180, "card", 1, 1),
    "order-1006": (190, "transfer", 1, 0),
    "order-1007": (220, "invoice", 1, 2),
    "order-1009": (240, "card", 1, 1),
    "order-1010": (60, "card", 3, 1),
    "order-1012": (440, "transfer", 1, 0),
    "order-1013": (40, "card", 1, 2),
    "order-1015": (120, "invoice", 1, 2),
    "order-1016": (220, "card", 1, 1),
    "order-1017": (120, "transfer", 2, 0),
    "order-1018": (95, "card", 1, 1),
    "order-1019": (300, "card", 1, 1),
    "order-1020": (400, "card", 1, 1),
}
# Which nodes failed by themselves, and the attempts.
LOST = {
    "order-1008": ({"reserve"}, 1, 0),
    "order-1011": ({"charge", "invoice"}, 1, 2),
    "order-1014": ({"reserve"}, 3, 0),
}
BY_TRANSFER = [run_id for run_id, (_, by, _, _) in SHIPPED.items() if by == "transfer"]
COOLING_OFF_MS = 500


def check_result(result: dict[str, Any], references: dict[str, str]) -> None:
    run_id = result["runId"]
    if run_id in LOST:
        poisoned = {error["nodeId"] for error in result["errors"] if error["code"] == "POISONED"}
        assert result["status"] == "failed"
        assert result["output"] is None
        assert {error["nodeId"] for error in result["errors"]} - poisoned == LOST[run_id][0]
        return
    amount, by, _, _ = SHIPPED[run_id]
    assert (result["status"], result["errors"]) == ("completed", [])
    output = result["output"]
    assert (output["shipped"], output["amount"], output["parcel"]) == (True, amount, f"parcel-{run_id}")
    assert output["payment"]["by"] == by
    assert output["payment"].get("reference") == references.get(run_id)
    assert result["endedAt"] - result["startedAt"] >= COOLING_OFF_MS


def starts(events: list[dict[str, Any]], node: str) -> int:
    return sum(event["type"] == "nodeStarted" and event["node"] == node for event in events)


@pytest.fixture
def lines(examples: Path) -> list[dict[str, Any]]:
    text = (examples / "orders" / "orders.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


async def test_every_order_ends_as_it_should(
    example: Callable[[str], ModuleType], url: str, lines: list[dict[str, Any]]
) -> None:
    app = example("orders").app
    outcomes = []

    async with app.work(url):
        for line in lines:
            handle = await app.start(line["blueprintId"], line["input"], run_id=line["runId"], context=line.get("context"))
            outcomes.append(handle.answer.outcome)
        for run_id in BY_TRANSFER:
            # Some are not waiting yet: a signal that comes early is kept.
            assert (await app.handle(run_id).signal("paid", {"reference": f"T-{run_id}"})).outcome == "applied"
        references = {run_id: f"T-{run_id}" for run_id in BY_TRANSFER}
        for run_id in SHIPPED | LOST:
            check_result((await app.handle(run_id).result(30)).to_json(), references)
            events = [event async for event in app.handle(run_id).events()]
            attempts = (starts(events, "reserve"), starts(events, "charge"))
            assert attempts == (SHIPPED[run_id][2:] if run_id in SHIPPED else LOST[run_id][1:]), run_id

    assert len(lines) == len(SHIPPED) + len(LOST) + 1
    assert outcomes.count("applied") == len(SHIPPED) + len(LOST)
    assert outcomes.count("duplicate") == 1


async def test_an_order_that_is_not_paid_gives_back_what_it_reserved(example: Callable[[str], ModuleType]) -> None:
    """The timeout of two hours, made a short one in the blueprint."""
    orders = example("orders")
    document = orders.order.to_json()
    (payment,) = (node for node in document["nodes"] if node["id"] == "payment")
    payment["params"]["timeout"] = "50ms"
    app = App("orders", orders.app.dependencies).add(Flow.from_json(document, orders.order.registry))

    async with app.work("memory:"):
        handle = await app.start("order", {"item": "lamp", "quantity": 1, "pay": "transfer"})
        result = await handle.result(30)

    assert (result.status, result.context["reserved"]) == ("completed", 0)
    assert result.output == {"shipped": False, "because": "no payment within two hours"}


def test_a_worker_and_the_other_commands_do_it_from_a_shell(shell: Shell, examples: Path) -> None:
    folder = examples / "orders"
    worker = shell.begin("worker", folder / "orders.py")
    assert worker.stdout.readline().startswith("ready")

    counts = shell.json("start", "--from", folder / "orders.jsonl")
    assert (counts["started"], counts["duplicate"], counts["bad"]) == (20, 1, 0)
    again = shell.json("start", "--from", folder / "orders.jsonl")
    assert (again["started"], again["duplicate"]) == (0, 21)

    paid = shell.json("signal", "order-1006", "paid", "--payload", '{"reference": "T-1"}')
    assert paid["outcome"] == "applied"
    for run_id in ("order-1006", "order-1007"):
        check_result(shell.json("result", run_id, "--wait"), {"order-1006": "T-1"})
    check_result(shell.json("result", "order-1011", "--wait", exit_code=1), {})

    # The two that nobody has paid for still wait, in the folder too when the worker is gone.
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=30)
    assert worker.returncode == 0
    assert shell.json("status", "order-1012")["awaiting"] == ["payment"]


def test_a_malformed_line_is_named_and_keeps_no_other_from_starting(shell: Shell, examples: Path) -> None:
    orders = examples / "orders" / "orders.py"
    malformed = examples / "orders" / "orders-malformed.jsonl"
    process = shell.begin("start", "--app", orders, "--from", malformed, "--json")
    out, err = process.communicate(timeout=30)

    assert process.returncode == 2
    assert json.loads(err)["error"]["line"] == 2
    counts = json.loads(out)
    # Nobody works yet; whoever starts a worker finds them in its job log.
    assert (counts["lines"], counts["accepted"], counts["bad"]) == (3, 2, 1)
    worker = shell.begin("worker", orders)
    assert worker.stdout.readline().startswith("ready")
    assert shell.json("result", "order-2001", "--wait")["output"]["amount"] == 40
    assert shell.json("result", "order-2003", "--wait")["output"]["amount"] == 190
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=30)
    assert worker.returncode == 0
