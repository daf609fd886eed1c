"""Decisions about runs: joins, timers, events, and what is said a second time."""

from __future__ import annotations

__all__ = ["MUTANTS"]

from headrace import apply_families, apply_waits, apply_work, joins, subflows
from headrace.partition import Partition
from headrace.residents import Residents
from headrace.turn import Turn

from .mutant import Change, Mutant

JOINS = (
    Mutant(
        "joins-count-arrivals",
        "A join counts what arrives, and not over which edges: what comes over one of them once more counts once more.",
        (
            Change(
                apply_work.arrive,
                "join.arrived[edge] = giver",
                "if edge in join.arrived:\n    join.dead[-1 - len(join.dead)] = giver\njoin.arrived[edge] = giver",
            ),
        ),
    ),
    Mutant(
        "any-join-fires-again",
        "A join of any edge fires at every arrival.",
        (
            Change(
                joins.look_at,
                "if work is not None and work.status:",
                "if node.join == ANY and len(join.arrived) > 1 and not join.failed:\n"
                "    _look_at_any(turn, node, join)\n"
                "    return\n"
                "if work is not None and work.status:",
            ),
        ),
    ),
    Mutant(
        "join-fires-too-early",
        "A join of all edges fires when all but one of them are decided.",
        (
            Change(
                joins._look_at_all,
                "len(join.arrived) + len(join.dead) >= len(node.entries)",
                "len(join.arrived) + len(join.dead) >= max(2, len(node.entries) - 1)",
            ),
        ),
    ),
    Mutant(
        "arrivals-of-another-turn",
        "What has arrived at a loop's controller stays there when an iteration begins.",
        (Change(apply_families.loop_iteration, "join.forget({*event.reset})", "pass"),),
    ),
    Mutant(
        "join-of-some-waits-for-more",
        "A join of at least n edges waits for one more.",
        (Change(joins._look_at_least, "len(join.arrived) >= node.join", "len(join.arrived) > node.join"),),
    ),
)

TIMERS = (
    Mutant(
        "stale-timers-fire",
        "A timer acts on its node whatever attempt that is at by now.",
        (
            Change(
                Partition._fire,
                "if work is not None and work.due_ms == entry.due_ms:",
                "if work is not None and work.due_ms is not None:",
            ),
        ),
    ),
    Mutant(
        "timers-set-in-memory-only",
        "Timers are kept in memory only: whoever takes a partition over does not read the index.",
        (
            Change(
                Partition.open,
                "self._parked = dict.fromkeys(self._reader.parked_runs())",
                "self._parked = dict.fromkeys(self._reader.parked_runs())\nself._timers._horizon_ms = 2**62",
            ),
        ),
    ),
)

EVENTS = (
    Mutant(
        "emitted-not-applied",
        "A change of the context is told, and not made.",
        (
            Change(
                Turn.emit,
                "apply(self.state, event)",
                "if type(event).__name__ == 'ContextChanged':\n    self.state.seq += 1\nelse:\n    apply(self.state, event)",
            ),
        ),
    ),
    Mutant(
        "applied-not-emitted",
        "A change of the context is made, and not told.",
        (
            Change(
                Turn.emit,
                "self.events.append(event)\napply(self.state, event)",
                "apply(self.state, event)\n"
                "if type(event).__name__ == 'ContextChanged':\n"
                "    self.state.seq -= 1\n"
                "else:\n"
                "    self.events.append(event)",
            ),
        ),
    ),
    Mutant(
        "item-not-marked",
        "When an item of a batch ends, its scatter node is changed in memory and not written.",
        (Change(apply_work.item_ended, 'state.changed.add(("n", node_id))', "pass"),),
    ),
)

MEMORY = (
    Mutant(
        "evicted-while-executing",
        "Runs are dropped from memory, where it is full, also while executions of theirs are in progress.",
        (
            Change(
                Residents.evict,
                "if run.active or run.changed or run_id in in_use:",
                "if run.changed or run_id in in_use:",
            ),
        ),
    ),
)

REPEATED = (
    Mutant(
        "marker-not-asked",
        "A start of a run that has ended begins it again.",
        (
            Change(
                Partition.receive,
                "elif isinstance(command, c.Start) and run is None:",
                "elif isinstance(command, c.Start) and not isinstance(run, RunState):",
            ),
        ),
    ),
    Mutant(
        "resume-key-forgotten",
        "The key of a resume that was applied is not remembered.",
        (Change(apply_waits.wait_resumed, "state.keys.add(event.key)", "pass"),),
    ),
    Mutant(
        "signal-taken-twice",
        "A signal that was kept is given to every wait that asks for it.",
        (Change(apply_waits.signal_taken, "del state.signals[event.number]", "pass"),),
    ),
    Mutant(
        "end-of-another-child",
        "The end of a child ends the node that waits for a child, whichever child that is by now.",
        (Change(subflows._waiting_for, " or work.child.run_id != child", ""),),
    ),
    Mutant(
        "pause-forgotten",
        "Work that was ready when its run was paused begins all the same.",
        (Change(Partition._may_begin, "return not run.paused", "return True"),),
    ),
    Mutant(
        "running-not-begun-again",
        "Work that was running when its owner died counts as begun, and nobody begins it again.",
        (
            Change(
                Partition._may_begin,
                "return work.status == RUNNING and work.token not in self._tokens",
                "return False",
            ),
        ),
    ),
)

MUTANTS = (*JOINS, *TIMERS, *EVENTS, *MEMORY, *REPEATED)
