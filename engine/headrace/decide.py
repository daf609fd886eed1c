"""decide: a command and a run's state become events, and things to do once these are durable.

``handle`` takes any command, ``settle`` carries a decision to its end: nodes whose incoming edges were decided are looked
at, batches and loops that are done go on, until nothing follows any more; then the run may end.
"""

from __future__ import annotations

__all__ = ["handle", "refuse_child", "settle", "taken_by_another"]

from headrace import commands as c
from headrace import events as e
from headrace.joins import look_at
from headrace.loops import advance_loops
from headrace.plan import LOOP
from headrace.results import settle_result
from headrace.runs import cancel, conclude, pause, unpause
from headrace.state import SCATTERING
from headrace.subflows import child_ended, child_news
from headrace.turn import Turn
from headrace.values import NULL
from headrace.waits import resume, resume_applied, resume_ignored, signal


def handle(turn: Turn, command: c.Command) -> None:
    """Carry out a command for a run that is known and has not ended."""
    state = turn.state
    assert not isinstance(command, c.RunNode), "work that is scheduled is part of the state"
    if isinstance(command, c.Start):
        if command.parent is None or command.parent != state.parent:
            turn.emit(e.RunDuplicate())
            turn.reply(command.request_id, "duplicate", f"run {state.run_id!r} exists")
            if command.parent is not None:
                turn.publish.append(refuse_child(command, taken_by_another(command)))
    elif isinstance(command, c.Resume):
        resume(turn, command)
    elif isinstance(command, c.Signal):
        signal(turn, command)
    elif isinstance(command, c.Cancel):
        cancel(turn, command)
    elif isinstance(command, c.Pause):
        pause(turn, command)
    elif isinstance(command, c.Unpause):
        unpause(turn, command)
    elif isinstance(command, c.ChildNews):
        child_news(turn, command)
    elif isinstance(command, c.ChildEnd):
        child_ended(turn, command)
    elif isinstance(command, c.ResumeApplied):
        resume_applied(turn, command)
    else:
        resume_ignored(turn, command)


def taken_by_another(command: c.Start) -> str:
    """Why a child cannot begin whose run id is another run's."""
    return f"its run id {command.run_id!r} is taken by another run"


def refuse_child(command: c.Start, text: str) -> c.ChildEnd:
    """A child cannot begin, as *text* says; its parent must not wait for it for ever."""
    parent = command.parent
    assert parent is not None
    return c.ChildEnd(parent.run_id, command.run_id, parent.node_id, "failed", NULL, {}, text)


def settle(turn: Turn) -> None:
    """Follow a decision to its end."""
    state, plan = turn.state, turn.plan
    look = turn.look
    while not state.ended:
        if look:
            node = plan.nodes[look.popleft()]
            if node.kind == LOOP:
                turn.loops[node.id] = None
            look_at(turn, node)
        elif turn.finished_batches:
            _finish_batch(turn, turn.finished_batches.pop())
        elif not (turn.loops and advance_loops(turn)):
            break
    turn.loops.clear()
    conclude(turn)


def _finish_batch(turn: Turn, node_id: str) -> None:
    work = turn.state.nodes.get(node_id)
    if work is None or work.status != SCATTERING:
        return
    assert work.batch is not None, f"{node_id} has no items"
    assert work.batch.open == 0, "items are outstanding"
    node = turn.plan.nodes[node_id]
    turn.emit(e.BatchFinished(node_id, work.batch.failed))
    settle_result(turn, node, work, NULL, None)
