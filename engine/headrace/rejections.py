"""Commands that meet no run: it has ended, or nobody knows of it. They change nothing, are recorded and answered."""

from __future__ import annotations

__all__ = ["answer", "reject"]

from headrace import commands as c
from headrace.batch import Batch, Rejection
from headrace.decide import refuse_child, taken_by_another
from headrace.ports import Ended
from headrace.turn import Reply
from headrace.waits import tell_holders


def reject(batch: Batch, command: c.Command, ended: object, now_ms: int) -> None:
    """Note in *batch* what becomes of the command; *ended* is the run's dedup marker, if there is one."""
    if isinstance(command, c.EngineCommand):
        return  # What runs of a family tell each other, and jobs delivered again, may come late.
    if isinstance(command, c.Signal) and command.origin is not None:
        # The wait that was meant is gone with its run: the signal goes back, for whoever asks next.
        batch.publish.append(command._replace(run_id=command.origin, path=None, origin=None))
        return
    tell_holders(batch.publish, command)
    reason = f"there is no run {command.run_id!r}"
    outcome = "unknown"
    if isinstance(ended, Ended):
        reason = f"run {command.run_id!r} has ended: {ended.status}"
        outcome = "duplicate" if isinstance(command, c.Start) else "ignored"
        if isinstance(command, c.Start) and command.parent is not None:
            # A parent that was told of the child's end waits no more, and one that begins anew would wait for ever.
            batch.publish.append(refuse_child(command, taken_by_another(command)))
            if command.parent == ended.parent:
                return  # The child's start again.
    batch.rejections.append(Rejection(command.run_id, type(command).__name__.lower(), reason, now_ms))
    answer(batch, command, outcome, reason)


def answer(batch: Batch, command: c.Command, outcome: str, reason: str) -> None:
    """Answer whoever sent the command, once the batch is durable; nobody does where it has no request id."""
    request_id: str = getattr(command, "request_id", "")
    if request_id:
        batch.replies.append(Reply(request_id, outcome, reason))
