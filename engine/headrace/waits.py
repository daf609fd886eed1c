"""Waits, resumes and signals (SEMANTICS section 8).

A wait is answered by a resume that names it, by a signal of its event, or by its timeout. A signal reaches every open
wait for its event in the run and its children; where there is none it is kept, in order, for the first wait that asks.
Waits of children are known from what the children tell (``ChildNews``), and are named by their path from here.

The key of a resume is applied once in a run and its children. A run that passes a resume down therefore *claims* its key,
and until it hears what became of it, no other resume has that key. The resume carries the runs that hold its key, and
whoever ends its way tells each of them, however many of those between have ended meanwhile: ``ResumeApplied``, or
``ResumeIgnored``, which frees the key again.
"""

from __future__ import annotations

__all__ = [
    "hand_out_kept",
    "open_wait",
    "open_waits",
    "resume",
    "resume_applied",
    "resume_ignored",
    "signal",
    "tell_holders",
]

from headrace import events as e
from headrace.commands import Command, Resume, ResumeApplied, ResumeIgnored, Signal
from headrace.events import Holder
from headrace.limits import SIGNALS_KEPT_MAX
from headrace.plan import PlanNode
from headrace.results import settle_result
from headrace.state import WAITING, NodeState, RunState
from headrace.turn import Turn


def open_wait(turn: Turn, node: PlanNode, work: NodeState) -> None:
    """Begin to wait; a signal that was kept for this event ends the wait at once."""
    turn.emit(e.WaitOpened(node.id, node.event))
    turn.news = True
    if node.event is not None:
        for number, (event, payload) in turn.state.signals.items():
            if event == node.event:
                turn.emit(e.SignalTaken(number, node.id))
                settle_result(turn, node, work, payload, None)
                return
    if node.timeout_ms is not None:
        turn.set_timer(node.id, turn.now_ms + node.timeout_ms)


def resume(turn: Turn, command: Resume) -> None:
    """Answer one wait, or pass the answer on to the child that its path leads to."""
    state = turn.state
    node_id, key = command.node_id, command.key
    if key is not None and key in state.keys:
        _ignore(turn, command, f"a resume with the key {key!r} was applied before")
        # Whoever holds the key for this resume may not have heard of the other one.
        turn.publish += [ResumeApplied(holder.run_id, key) for holder in command.holders]
        return
    if key is not None and key in state.claims:
        _ignore_second(turn, command, key)
        return
    node = turn.plan.nodes.get(node_id)
    if node is None:
        _forward_resume(turn, command)
        return
    work = state.nodes.get(node_id)
    if work is None or work.status != WAITING:
        _ignore_resume(turn, command, "the node does not wait")
        return
    turn.emit(e.WaitResumed(node_id, key))
    turn.news = True
    settle_result(turn, node, work, command.output, command.action)
    if key is not None:
        told = [state.parent.run_id] if state.parent is not None else []
        told += [holder.run_id for holder in command.holders]
        turn.publish += [ResumeApplied(run_id, key) for run_id in dict.fromkeys(told)]
    turn.reply(command.request_id, "applied")


def _forward_resume(turn: Turn, command: Resume) -> None:
    state, key = turn.state, command.key
    node_id, child, rest = _child_at(state, command.node_id)
    if child is None:
        _ignore_resume(turn, command, "there is no such node, and no open child run on that path")
        return
    holders = command.holders
    if key is not None:
        turn.emit(e.ResumeClaimed(node_id, key, holders))
        holders = (*holders, Holder(state.run_id, state.claims[key].number))
    turn.publish.append(command._replace(run_id=child, node_id=rest, holders=holders))


def _child_at(state: RunState, path: str) -> tuple[str, str | None, str]:
    """The node and the open child run that a path leads to, and the rest of it; the longest node id goes first."""
    head, slash, rest = path.rpartition("/")
    while slash:
        work = state.nodes.get(head)
        if work is not None and work.child is not None:
            return head, work.child.run_id, rest
        head, slash, last = head.rpartition("/")
        rest = f"{last}/{rest}"
    return "", None, ""


def _ignore_second(turn: Turn, command: Resume, key: str) -> None:
    """The key is held for a resume that is on its way to a child."""
    reason = f"a resume with the key {key!r} is on its way to a child run, and may be applied there"
    if command.holders and command.holders == turn.state.claims[key].holders:
        # It is that very resume, delivered again: whoever holds its key is told when it has come to its end.
        _ignore(turn, command, reason)
    else:
        _ignore_resume(turn, command, reason)


def _ignore_resume(turn: Turn, command: Resume, reason: str) -> None:
    _ignore(turn, command, reason)
    tell_holders(turn.publish, command)


def tell_holders(publish: list[Command], command: Command) -> None:
    """*command* changes nothing: if it is a resume that was passed down, its key is free again."""
    if isinstance(command, Resume) and command.key is not None:
        publish += [ResumeIgnored(holder.run_id, command.key, holder.claim) for holder in command.holders]


def resume_applied(turn: Turn, command: ResumeApplied) -> None:
    """A child applied a resume under this key, so it counts as applied here and further up."""
    state, key = turn.state, command.key
    if key not in state.keys:
        turn.emit(e.ResumeForwarded(key))
        if state.parent is not None:
            turn.publish.append(ResumeApplied(state.parent.run_id, key))


def resume_ignored(turn: Turn, command: ResumeIgnored) -> None:
    """The resume for which the key is held was not applied; an earlier one that had the key changes nothing."""
    claim = turn.state.claims.get(command.key)
    if claim is not None and claim.number == command.claim:
        turn.emit(e.ResumeReleased(command.key))


def _ignore(turn: Turn, command: Resume | Signal, reason: str) -> None:
    name = "resume" if isinstance(command, Resume) else "signal"
    node = command.node_id if isinstance(command, Resume) else ""
    turn.emit(e.CommandIgnored(name, node, reason))
    turn.reply(command.request_id, "ignored", reason)


def signal(turn: Turn, command: Signal) -> None:
    """Give the payload to every open wait for the event, or keep it."""
    state, event, payload = turn.state, command.event, command.payload
    if command.path is not None:
        _signal_one(turn, command, command.path)
        return
    nodes = state.by_id()
    own = [node_id for node_id, work in nodes if work.status == WAITING and turn.plan.nodes[node_id].event == event]
    children = [
        (work.child.run_id, path)
        for _, work in nodes
        if work.child is not None
        for path, awaited in work.child.waits
        if awaited == event
    ]
    if not own and not children:
        if len(state.signals) >= SIGNALS_KEPT_MAX:
            _ignore(turn, command, f"the run keeps {SIGNALS_KEPT_MAX} signals already, and no wait asked for one")
            return
        turn.emit(e.SignalReceived(event, payload, True))
        turn.reply(command.request_id, "applied", "kept for the first wait that asks")
        return
    turn.emit(e.SignalReceived(event, payload, False))
    turn.news = True
    for node_id in own:
        work = state.nodes[node_id]
        if work.status == WAITING:
            settle_result(turn, turn.plan.nodes[node_id], work, payload, None)
    for child, path in children:
        turn.publish.append(Signal(child, event, payload, path, origin=state.run_id))
    turn.reply(command.request_id, "applied")


def _signal_one(turn: Turn, command: Signal, path: str) -> None:
    """A parent hands a signal to one wait; where that was answered meanwhile, the signal goes back."""
    state = turn.state
    work = state.nodes.get(path)
    if work is not None and work.status == WAITING:
        turn.emit(e.SignalReceived(command.event, command.payload, False))
        turn.news = True
        settle_result(turn, turn.plan.nodes[path], work, command.payload, None)
        turn.reply(command.request_id, "applied")
        return
    _, child, rest = _child_at(state, path)
    if child is not None:
        turn.publish.append(command._replace(run_id=child, path=rest))
    elif command.origin is not None:
        turn.publish.append(command._replace(run_id=command.origin, path=None, origin=None))
    else:
        signal(turn, command._replace(path=None))


def hand_out_kept(turn: Turn, node_id: str, opened: tuple[tuple[str, str | None], ...]) -> None:
    """Give kept signals to the waits that a child has just opened, one to each."""
    for path, event in opened:
        for number, (kept, payload) in turn.state.signals.items():
            if kept == event:
                child = turn.state.nodes[node_id].child
                assert child is not None
                turn.emit(e.SignalTaken(number, node_id))
                turn.publish.append(Signal(child.run_id, kept, payload, path, origin=turn.state.run_id))
                break


def open_waits(state: RunState) -> tuple[tuple[str, str | None], ...]:
    """The open waits of a run and its children, as (path, event), in an order that does not depend on who asks."""
    waits: list[tuple[str, str | None]] = []
    for node_id, work in state.by_id():
        if work.status == WAITING:
            waits.append((node_id, work.event))
        elif work.child is not None:
            waits += [(f"{node_id}/{path}", event) for path, event in work.child.waits]
    return tuple(waits)
