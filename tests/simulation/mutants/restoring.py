"""Copies of changelogs: how far they are, whether they are of this changelog at all, and when they are complete."""

from __future__ import annotations

__all__ = ["MUTANTS"]

from headrace_adapters.kafka import changelog_copy
from headrace_adapters.kafka.carrier import KafkaCarrier
from headrace_adapters.kafka.changelog_copy import ChangelogCopy
from headrace_adapters.kafka.restore import Restorer

from .mutant import Change, Mutant

ENDS = (
    Mutant(
        "restored-to-committed-end",
        "A restore ends where readers of committed records end: before the first open transaction, and what lies behind it.",
        (Change(Restorer._ask_ends, "IsolationLevel.READ_UNCOMMITTED", "IsolationLevel.READ_COMMITTED"),),
    ),
    Mutant(
        "unstable-offset-believed",
        "The committed offset is asked for without a look at the transaction that is about to move it.",
        (Change(Restorer._ask_offset, "stable = task.state == OFFSETS", "stable = False"),),
    ),
    Mutant(
        "worked-on-too-early",
        "A partition is worked on before its restore has reached the end.",
        (Change(Restorer._is_done, "task.state == READING and not task.remaining", "task.state == READING"),),
    ),
    Mutant(
        "warm-copy-believed",
        "A warm copy is taken over up to the end that was asked for while the old owner still wrote.",
        (
            Change(
                Restorer._ask_offset,
                "task.offset, task.state, task.unstable_s = answer.offset, ENDS, None",
                "task.offset, task.unstable_s = answer.offset, None\ntask.state = READING if task.reading else ENDS",
            ),
        ),
    ),
    Mutant(
        "offset-of-changelog-ignored",
        "Where the group has forgotten its offset, jobs are read from the beginning, though the changelog knows the offset.",
        (Change(Restorer._first_job, "offset = known", "pass"),),
    ),
)

COPIES = (
    Mutant(
        "origin-not-checked",
        "A copy of the changelogs of another cluster is taken for one of these.",
        (
            Change(
                ChangelogCopy.progress,
                "if origin != self._origin or len(done) != len(self.topics):",
                "if len(done) != len(self.topics):",
            ),
        ),
    ),
    Mutant(
        "wiped-in-name-only",
        "Before a copy is made anew, only what it says about itself is deleted.",
        (
            Change(
                ChangelogCopy.wipe,
                '[(space, space + b"\\xff") for space in spaces])',
                "[(space, space) for space in spaces])",
            ),
        ),
    ),
    Mutant(
        "tombstones-ignored",
        "A restore takes over what was written, and not what was deleted.",
        (
            Change(
                ChangelogCopy.apply,
                "deletes = [key for key, value in places.items() if value is None]",
                "deletes: list[bytes] = []",
            ),
        ),
    ),
    Mutant(
        "copied-progress-first",
        "How far a copy is, is written in a batch of its own, before the records that it speaks of.",
        (
            Change(
                ChangelogCopy.apply,
                "puts += [self.meta(number, done) for number, done in progress.items()]",
                "self._store.write([self.meta(number, done) for number, done in progress.items()])",
            ),
        ),
    ),
    Mutant(
        "committed-progress-first",
        "After a commit, how far the copy is, is written in a batch of its own, before what was committed.",
        (
            Change(
                KafkaCarrier._keep,
                "records.puts += [self._copy.meta(number, self._copied[number]) for number in moved]",
                "self._store.write([self._copy.meta(number, self._copied[number]) for number in moved])",
            ),
        ),
    ),
    Mutant(
        "timers-not-restored",
        "A restore makes no index of timers.",
        (Change(changelog_copy._coordinate, "_set_timer(places, layout, key, value)", "pass"),),
    ),
    Mutant(
        "active-not-restored",
        "A restore makes no index of the runs that are active, so nobody begins again what was in progress.",
        (Change(changelog_copy._coordinate, "marks.begin(key)", "pass"),),
    ),
    Mutant(
        "markers-not-restored",
        "A restore forgets the runs that have ended.",
        (
            Change(
                changelog_copy._head,
                "places[layout.head + prefix] = value",
                "places[layout.head + prefix] = None if value is not None and b'\"ended\":' in value else value",
            ),
        ),
    ),
)

MUTANTS = (*ENDS, *COPIES)
