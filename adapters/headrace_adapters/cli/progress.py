"""The live progress of one run: a table of its nodes on a terminal, plain lines elsewhere."""

from __future__ import annotations

__all__ = ["choose_rows", "follow", "node_table"]

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from headrace_adapters.cli.output import STATUS_STYLES, Output, clock_text, duration_text, one_line
from headrace_adapters.cli.rows import DECIDED, Row, Rows
from headrace_adapters.cli.sentences import sentence_of

MARKS = {
    "completed": "✔",
    "failed": "✘",
    "poisoned": "✘",
    "cancelled": "⊘",
    "skipped": "-",
    "pending": "·",
    "waiting": "?",
    "sleeping": "z",
    "retrying": "↻",
}
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
REFRESHES_PER_S = 10


async def follow(output: Output, events: AsyncIterator[dict[str, Any]], rows: Rows, flow_id: str, run_id: str) -> None:
    """Show what *events* say until they end."""
    if output.err.is_terminal:
        await _follow_live(output, events, rows, Text.assemble((flow_id, "bold"), f"  run {run_id}"), run_id)
    else:
        await _follow_plainly(output, events, rows, run_id)


async def _follow_live(output: Output, events: AsyncIterator[dict[str, Any]], rows: Rows, title: Text, run_id: str) -> None:
    live = Live(console=output.err, auto_refresh=False, transient=True)
    room = max(5, output.err.height - 4)

    async def refresh() -> None:
        while True:
            live.update(Group(_picture(rows, title, room), *_advice(rows, run_id)), refresh=True)
            await asyncio.sleep(1 / REFRESHES_PER_S)

    try:
        with live:
            drawing = asyncio.create_task(refresh())
            try:
                async for event in events:
                    rows.apply(event)
            finally:
                drawing.cancel()
    finally:
        # What scrolls away stays whole, as far as anybody reads it.
        output.err.print(_picture(rows, title, max(room, 60)))


async def _follow_plainly(output: Output, events: AsyncIterator[dict[str, Any]], rows: Rows, run_id: str) -> None:
    async for event in events:
        rows.apply(event)
        sentence = sentence_of(event)
        if not sentence.detail:
            subject = f"{sentence.subject}: " if sentence.subject else ""
            output.note(f"{clock_text(event['at'])}  {subject}{sentence.text}")
        if event["type"] == "runAwaiting":
            for line in _advice(rows, run_id):
                output.note(line.plain)


def _advice(rows: Rows, run_id: str) -> list[Text]:
    """How somebody can answer a run that waits for just that."""
    if rows.run_state != "awaiting":
        return []
    waiting = [path for row in rows.by_id.values() for path in row.paths]
    return [
        Text(f"  answer it with: headrace resume {run_id} {path} [--action NAME] [--output JSON]", "magenta")
        for path in waiting
    ]


def _picture(rows: Rows, title: Text, room: int) -> RenderableType:
    now_ms = time.time_ns() // 1_000_000
    taken = duration_text((rows.ended_ms or now_ms) - (rows.started_ms or now_ms))
    style = STATUS_STYLES.get(rows.run_state, "")
    head = Text.assemble(title, "  ", (rows.run_state, style), (f"  {taken}", "dim"))
    if rows.reason:
        head.append(f"  {rows.reason}", "yellow")
    shown, left = choose_rows(list(rows.by_id.values()), room)
    picture: list[RenderableType] = [head, node_table(shown, now_ms)]
    if left:
        counts: dict[str, int] = {}
        for row in left:
            counts[row.state] = counts.get(row.state, 0) + 1
        named = ", ".join(f"{count} {state}" for state, count in counts.items())
        picture.append(Text(f"  and {len(left)} others: {named}", "dim"))
    return Group(*picture)


def choose_rows(rows: list[Row], room: int) -> tuple[list[Row], list[Row]]:
    """The rows that are shown where there is room for some only: what goes on or went wrong, then the latest."""
    if len(rows) <= room:
        return rows, []

    def importance(row: Row) -> tuple[int, int]:
        if row.state in ("failed", "poisoned"):
            return (1, 0)
        if row.state in DECIDED:
            return (2, -(row.until_ms or 0))
        return (3, 0) if row.state == "pending" else (0, 0)

    chosen = {row.id for row in sorted(rows, key=importance)[: room - 1]}
    return [row for row in rows if row.id in chosen], [row for row in rows if row.id not in chosen]


def node_table(rows: Sequence[Row], now_ms: int) -> Table:
    """One line for each node: its state, what it took, and what else is to be known."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(width=3, justify="right")
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=40)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for row in rows:
        style = STATUS_STYLES.get(row.state, "cyan")
        mark = MARKS.get(row.state) or _SPINNER[now_ms // 100 % len(_SPINNER)]
        taken_ms = row.taken_ms(now_ms)
        taken = Text("" if taken_ms is None or row.state == "skipped" else duration_text(taken_ms), "dim")
        table.add_row(
            Text(mark, style),
            Text(row.id, "dim" if row.state in ("pending", "skipped") else ""),
            Text(row.state, style),
            taken,
            Text(_detail(row, now_ms), "red" if row.state in ("failed", "poisoned") else "dim"),
        )
    return table


def _detail(row: Row, now_ms: int) -> str:
    parts = []
    if row.total is not None:
        counts = f"{row.done + row.failed} of {row.total}"
        parts.append(counts + (f", {row.failed} failed" if row.failed else ""))
    if row.iteration:
        parts.append(f"iteration {row.iteration}")
    if row.attempt > 1:
        parts.append(f"attempt {row.attempt}" + (" is next" if row.state == "retrying" else ""))
    if row.due_ms is not None and row.state not in DECIDED:
        until = {"waiting": "gives up in", "child": "gives up in"}.get(row.state, "in")
        parts.append(f"{until} {duration_text(row.due_ms - now_ms)}")
    if row.detail:
        parts.append(one_line(row.detail))
    return ", ".join(parts)
