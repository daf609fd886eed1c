"""Partitions that come and go, and the executions of those that are gone."""

from __future__ import annotations

__all__ = ["MUTANTS"]

from headrace.partition import Partition
from headrace_adapters.base.worker_loop import WorkerLoop
from headrace_adapters.kafka.carrier import KafkaCarrier
from headrace_adapters.kafka.job_consumer import JobConsumer

from .mutant import Change, Mutant

# The product would notice by itself, and at once, that it works on what is not its own: here only the worlds do.
UNGUARDED = (
    Change(KafkaCarrier.commit, "assert number in self._consumer.assigned", "assert True"),
    Change(WorkerLoop.take_over, "assert number not in self.partitions", "assert True"),
    Change(JobConsumer.begin, "assert number in self.assigned", "assert True"),
)

GROUP = (
    Mutant(
        "revoke-keeps-work",
        "A partition that is revoked is committed, and worked on as before.",
        (
            *UNGUARDED,
            Change(JobConsumer._on_revoke, "self._hand_over", "lambda numbers: self._owner.hand_over([])"),
            Change(
                JobConsumer._leave, "lambda: self._forget(numbers),", "lambda: what == 'revoked' or self._forget(numbers),"
            ),
        ),
    ),
    Mutant(
        "lost-keeps-work",
        "A partition that was lost is worked on as before.",
        (
            *UNGUARDED,
            Change(JobConsumer._on_lost, "self._owner.drop", "lambda numbers: None"),
            Change(JobConsumer._leave, "lambda: self._forget(numbers),", "lambda: what == 'lost' or self._forget(numbers),"),
        ),
    ),
    Mutant(
        "membership-believed",
        "What librdkafka calls this worker's is believed, though it was given to a member that this worker no longer is.",
        (Change(JobConsumer._lost, "if self._given_to[number] != member", "if self._given_to[number] == 0"),),
    ),
    Mutant(
        "not-sought",
        "Reading a partition goes on where the client stands, and not at the committed offset.",
        (Change(JobConsumer._seek, "self.client.seek(TopicPartition(self._topic, number, offset))", "pass"),),
    ),
    Mutant(
        "restore-outlives-partition",
        "A partition that was taken away while it was restored is worked on when its restore is done.",
        (
            *UNGUARDED,
            Change(KafkaCarrier._released, "self._restorer.drop(numbers)", "pass"),
        ),
    ),
)

EXECUTIONS = (
    Mutant(
        "tokens-begin-anew",
        "When a partition comes back, its executions have the numbers that those of its earlier time here had.",
        (
            Change(
                WorkerLoop.take_over,
                "tokens = self._tokens.setdefault(number, count(number + every, every))",
                "tokens = count(number + every, every)",
            ),
        ),
    ),
    Mutant(
        "outcome-without-attempt",
        "The outcome of an execution that was cancelled counts for the attempt that is running by now.",
        (
            Change(Partition._absorb, "self._tokens.pop(token, None)", "pass"),
            Change(
                Partition.finished,
                "work.status == RUNNING and (work.activation, work.attempt) == (activation, attempt)",
                "work.status == RUNNING",
            ),
        ),
    ),
    Mutant(
        "dropped-not-cancelled",
        "The executions of a partition that is gone are not cancelled, so those that hang keep their slots.",
        (Change(WorkerLoop.drop, "self._executor.cancel(partition.close())", "partition.close()"),),
    ),
    Mutant(
        "timed-out-not-cancelled",
        "An attempt whose time is over is not cancelled, so it keeps its slot.",
        (Change(WorkerLoop._commit, "self._executor.cancel(batch.cancels)", "pass"),),
    ),
    Mutant(
        "undone-not-cancelled",
        "After a transaction that was undone, the executions that were in progress are not cancelled.",
        (Change(WorkerLoop._go_back, "self._executor.cancel(partition.aborted())", "partition.aborted()"),),
    ),
    Mutant(
        "slots-not-given-back",
        "An execution that was cancelled never gives its slot back.",
        (
            Change(
                WorkerLoop._begin,
                "room = self._slots - self._executor.in_progress - len(executions)",
                "room = self._slots - self._executor.in_progress - len(executions) - self.__dict__.get('leaked', 0)",
            ),
            Change(
                WorkerLoop.drop,
                "self._executor.cancel(partition.close())",
                "unwanted = partition.close()\n"
                "self._executor.cancel(unwanted)\n"
                "self.leaked = self.__dict__.get('leaked', 0) + len(unwanted)",
            ),
        ),
    ),
)

MUTANTS = (*GROUP, *EXECUTIONS)
