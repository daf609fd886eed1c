"""What has finished when a worker stops is recorded, and not executed again by the next one."""

from __future__ import annotations

from typing import Any

from headrace.context import Context
from headrace.execution import NO_ITEM, Execution, Succeeded
from headrace.values import NULL
from headrace_adapters.execution import Outbox


class LiveDict(dict[int, Context]):
    """Looks whether something is in progress at the moment at which an execution leaves."""

    seen: list[int]
    outbox: Outbox

    def pop(self, *arguments: Any) -> Any:
        found = super().pop(*arguments)
        self.seen.append(self.outbox.in_progress)
        return found


def test_an_execution_is_in_progress_until_its_outcome_can_be_taken() -> None:
    """A worker that stops looks for outcomes a last time when nothing is in progress any more."""
    outbox = Outbox(lambda: None)
    live = LiveDict()
    live.seen, live.outbox, outbox.live = [], outbox, live
    ctx = Context(Execution(1, "run", "flow", "n", NO_ITEM, 0, 1, "n", NULL, NULL, {}, None, None), {})
    outbox.add(ctx)

    outbox.finish(ctx, Succeeded(NULL))

    assert live.seen == [1]
    assert outbox.in_progress == 0
    assert outbox.drain() == [(1, Succeeded(NULL))]
    assert outbox.in_progress == 0
