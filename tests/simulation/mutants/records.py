"""What is written, and what becomes of records that are none of this worker's, or none at all."""

from __future__ import annotations

__all__ = ["MUTANTS"]

from headrace.apply import rebuild
from headrace_adapters.kafka.job_log import JobLog
from headrace_adapters.kafka.outgoing import BatchRecords
from headrace_adapters.local.writer import BatchWriter

from .mutant import Change, Mutant

MUTANTS = (
    Mutant(
        "stray-records-dropped",
        "A record on a wrong partition is passed, and not moved to where it belongs.",
        (
            Change(
                JobLog._command,
                "self._aside.setdefault(number, []).append(Outgoing(self._layout.jobs, home",
                "id(Outgoing(self._layout.jobs, home",
            ),
        ),
    ),
    Mutant(
        "stray-records-taken",
        "A record on a wrong partition is carried out where it stands.",
        (
            Change(
                JobLog._command,
                "if home == number:\n    return command",
                "if home == number:\n    return command\nreturn command",
            ),
        ),
    ),
    Mutant(
        "bad-records-skipped",
        "A record that nobody can read is passed without a dead letter.",
        (Change(JobLog._put_aside, "self._aside.setdefault(number, []).append(letter)", "pass"),),
    ),
    Mutant(
        "tombstones-not-written",
        "What a run leaves behind when it ends is deleted from the store, and not from the changelog.",
        (
            Change(
                BatchRecords._add_deletes,
                "records.append(Outgoing(layout.coordination, number, key[_SKIP:], None))",
                "pass",
            ),
        ),
    ),
    Mutant(
        "marker-dropped-early",
        "A run that has ended is forgotten with the rest of its state.",
        (
            Change(
                BatchWriter._end_run,
                "self.puts.append((layout.head + prefix, marker))",
                "self.deletes.append(layout.head + prefix)",
            ),
        ),
    ),
    Mutant(
        "joins-not-read",
        "When a run is read from the store, what has arrived at its joins is forgotten.",
        (Change(rebuild, "arrive(state, edge, out, node_id)", "pass"),),
    ),
)
