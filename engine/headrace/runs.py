"""The life of a run (SEMANTICS section 2): start, pause, cancel, and its one end."""

from __future__ import annotations

__all__ = ["cancel", "conclude", "fail_run", "pause", "start", "unpark", "unpause"]

from headrace import events as e
from headrace.commands import Cancel, Pause, Start, Unpause
from headrace.execution import NO_ITEM
from headrace.failures import stop_all
from headrace.inputs import run_output
from headrace.routing import schedule
from headrace.state import RUNNING, SCHEDULED, NodeState
from headrace.subflows import tell_end, tell_news
from headrace.turn import Turn


def start(turn: Turn, command: Start, version: str, parked: str) -> None:
    """Begin a run that is not known yet; *parked* says what the owner lacks for it, if anything."""
    turn.emit(e.RunStarted(command.blueprint_id, version, command.input, command.context, command.parent, turn.now_ms))
    turn.reply(command.request_id, "applied")
    if parked:
        turn.emit(e.RunParked(parked))
    else:
        _schedule_starts(turn)


def _schedule_starts(turn: Turn) -> None:
    for node_id in turn.plan.starts:
        schedule(turn, turn.plan.nodes[node_id], ())


def unpark(turn: Turn) -> None:
    """The owner has what it lacked: go on, or begin where nothing had begun."""
    begun = bool(turn.state.nodes)
    turn.emit(e.RunUnparked(turn.plan.version))
    if begun:
        _ready_again(turn)
    else:
        _schedule_starts(turn)


def pause(turn: Turn, command: Pause) -> None:
    """Start nothing new, here and in the children."""
    if turn.state.paused:
        _ignore(turn, "pause", command.request_id, "the run is paused already")
        return
    turn.emit(e.RunPaused(command.reason))
    turn.news = True
    for _, work in turn.state.by_id():
        if work.child is not None:
            turn.publish.append(Pause(work.child.run_id, f"its parent run {turn.state.run_id} was paused"))
    turn.reply(command.request_id, "applied")


def unpause(turn: Turn, command: Unpause) -> None:
    """Go on; what is scheduled may start."""
    if not turn.state.paused:
        _ignore(turn, "unpause", command.request_id, "the run is not paused")
        return
    turn.emit(e.RunUnpaused())
    turn.news = True
    for _, work in turn.state.by_id():
        if work.child is not None:
            turn.publish.append(Unpause(work.child.run_id))
    _ready_again(turn)
    turn.reply(command.request_id, "applied")


def _ready_again(turn: Turn) -> None:
    """Everything that is scheduled may start now."""
    for node_id, work in turn.state.by_id():
        if _may_begin(work):
            turn.ready.append((node_id, NO_ITEM))
        for index, item in enumerate(work.batch.items if work.batch is not None else ()):
            if _may_begin(item):
                turn.ready.append((node_id, index))


def _may_begin(work: NodeState) -> bool:
    return work.status == SCHEDULED or (work.status == RUNNING and not work.token)


def cancel(turn: Turn, command: Cancel) -> None:
    """End the run: running nodes get the signal, timers go, children are cancelled; the context is kept."""
    stop_all(turn)
    turn.emit(e.RunCancelled(command.reason))
    turn.reply(command.request_id, "applied")


def fail_run(turn: Turn, code: str, reason: str) -> None:
    """End a run about which nothing can be decided any more: better failed with a reason than hanging."""
    stop_all(turn)
    turn.emit(e.RunFailed(reason, code))
    conclude(turn)


def _ignore(turn: Turn, name: str, request_id: str, reason: str) -> None:
    turn.emit(e.CommandIgnored(name, "", reason))
    turn.reply(request_id, "ignored", reason)


def conclude(turn: Turn) -> None:
    """At the end of every decision: the run ends when no work is outstanding, and is awaiting when only waits are."""
    state = turn.state
    if not state.ended and state.open == 0 and not state.parked:
        if state.errors:
            turn.emit(e.RunFailed())
        else:
            turn.emit(e.RunCompleted(run_output(state, turn.plan)))
    if state.ended:
        turn.ready.clear()
        if state.parent is not None:
            tell_end(turn)
        return
    awaiting = state.waiting == state.open and state.open > 0
    if awaiting != state.awaiting:
        turn.emit(e.RunAwaiting() if awaiting else e.RunResumed())
        turn.news = True
    if turn.news and state.parent is not None:
        tell_news(turn)
