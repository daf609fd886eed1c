"""What goes out together and what does not: transactions, the offsets in them, and what became of the last one."""

from __future__ import annotations

__all__ = ["MUTANTS"]

from headrace.partition import Partition
from headrace_adapters.kafka.appends import Appends
from headrace_adapters.kafka.carrier import KafkaCarrier
from headrace_adapters.kafka.job_consumer import JobConsumer
from headrace_adapters.kafka.job_log import JobLog
from headrace_adapters.kafka.transactions import Transactions

from .mutant import Change, Mutant

# The group's own way to commit an offset; where it is refused, nothing has happened yet.
OFFSETS_BY_THE_CONSUMER = """\
places = [TopicPartition(self._jobs_topic, number, offset) for number, offset in offsets.items()]
try:
    consumer.client.commit(offsets=places, asynchronous=False)
except KafkaException as error:
    raise Undone(str(error)) from error
"""
NO_OFFSETS = Change(
    Transactions.commit,
    "self._insist(lambda: producer.send_offsets_to_transaction(positions, metadata, ATTEMPT_S), resumes=False)",
    "assert positions and metadata",
)


def _before_the_transaction(records: str) -> str:
    """Write some of the records with a producer of their own, and only the others in the transaction."""
    return (
        "outgoing: list[Outgoing] = records.records + self._log.aside\n"
        "from headrace_adapters.kafka.connection import plain_producer\n"
        "producer = self._clients.producer(plain_producer(self._settings))\n"
        f"for topic, number, key, value in [it for it in outgoing if {records}]:\n"
        "    producer.produce(topic, value, key, number)\n"
        "while producer.flush(1.0) and not self._give_up():\n"
        "    pass\n"
        f"outgoing = [it for it in outgoing if not ({records})]"
    )


OUTGOING = "outgoing: list[Outgoing] = records.records + self._log.aside"


OFFSETS = (
    Mutant(
        "offsets-before-state",
        "The consumer commits the offsets, and then the state goes out in a transaction without them.",
        (
            Change(Transactions.commit, "try:\n    producer.begin", f"{OFFSETS_BY_THE_CONSUMER}try:\n    producer.begin"),
            NO_OFFSETS,
        ),
    ),
    Mutant(
        "offsets-after-state",
        "The state goes out in a transaction without offsets, and then the consumer commits them.",
        (
            NO_OFFSETS,
            Change(
                Transactions.settle,
                "return True",
                "places = [TopicPartition(self._jobs_topic, number, offset) for number, offset in offsets.items()]\n"
                "try:\n"
                "    consumer.commit(offsets=places, asynchronous=False)\n"
                "except KafkaException:\n"
                "    return False\n"
                "return True",
            ),
        ),
    ),
    Mutant(
        "timers-without-offsets",
        "A transaction that no job caused carries no offsets, so nothing fences a worker that was left behind.",
        (
            Change(
                KafkaCarrier.commit,
                "offsets = {number: self._log.next[number] for number, _ in batches}",
                "offsets = {number: self._log.next[number] for number, _ in batches}\n"
                "offsets = {number: it for number, it in offsets.items() if it != self._committed.get(number)}",
            ),
            Change(KafkaCarrier.commit, "if not offsets:", "if not offsets and not batches:"),
            Change(Transactions.commit, 'assert offsets, "', 'assert True, "'),
            Change(
                Transactions.commit,
                "self._insist(lambda: producer.send_offsets_to_transaction(positions, metadata, ATTEMPT_S), resumes=False)",
                "send = producer.send_offsets_to_transaction\n"
                "self._insist(lambda: positions and send(positions, metadata, ATTEMPT_S), resumes=False)",
            ),
        ),
    ),
    Mutant(
        "metadata-once",
        "The group's metadata are taken for the first transaction and kept for all that follow.",
        (
            Change(
                Transactions.commit,
                "metadata = consumer.consumer_group_metadata()",
                "metadata = self.__dict__.setdefault('metadata', None) or consumer.consumer_group_metadata()\n"
                "self.metadata = metadata",
            ),
        ),
    ),
    Mutant(
        "aborted-work-sent-again",
        "Where a transaction was aborted, its records go out again with the metadata of that moment, until they are taken.",
        (
            Change(
                KafkaCarrier.commit,
                "written = self._writer.commit(outgoing, offsets, self._consumer, self._changelogs)",
                "for _ in range(200):\n"
                "    try:\n"
                "        written = self._writer.commit(outgoing, offsets, self._consumer.client, self._changelogs)\n"
                "        break\n"
                "    except Undone:\n"
                "        self._host.sleep(PAUSE_S)\n"
                "else:\n"
                "    raise Undone",
            ),
        ),
    ),
    Mutant(
        "offset-of-the-last-job",
        "What is committed is the offset of the last job that was taken, and not the one behind it.",
        (Change(JobLog.read, "self.next[number] = message.offset() + 1", "self.next[number] = message.offset()"),),
    ),
    Mutant(
        "offsets-of-changes-only",
        "Offsets are committed only for partitions in which something was decided.",
        (
            Change(
                KafkaCarrier.commit,
                "if number not in offsets and offset != self._committed.get(number):",
                "if number not in offsets and offset == -1:",
            ),
        ),
    ),
)

ENDS = (
    Mutant(
        "store-before-commit",
        "The local store is written before the transaction is committed.",
        (Change(KafkaCarrier.commit, OUTGOING, f"{OUTGOING}\nself._store.write(records.puts, records.deletes)"),),
    ),
    Mutant(
        "results-before-commit",
        "Results are written by a producer of their own, before the transaction.",
        (Change(KafkaCarrier.commit, OUTGOING, _before_the_transaction("it[0] == self._layout.results")),),
    ),
    Mutant(
        "events-before-commit",
        "Events are written by a producer of their own, before the transaction.",
        (Change(KafkaCarrier.commit, OUTGOING, _before_the_transaction("it[0] == self._layout.events")),),
    ),
    Mutant(
        "news-of-runs-after-commit",
        "What runs tell other runs is written after the commit, by a producer of its own.",
        (
            Change(
                KafkaCarrier.commit,
                OUTGOING,
                "every: list[Outgoing] = records.records + self._log.aside\n"
                "own = {job for jobs in records.jobs.values() for job in jobs}\n"
                "told = [it for it in records.records if it.topic == self._layout.jobs and it.value not in own]\n"
                "outgoing = [it for it in every if it not in told]",
            ),
            Change(
                KafkaCarrier.commit,
                "self._keep(records, written)",
                "self._keep(records, written)\n"
                "from headrace_adapters.kafka.connection import plain_producer\n"
                "producer = self._clients.producer(plain_producer(self._settings))\n"
                "for topic, number, key, value in told:\n"
                "    producer.produce(topic, value, key, number)\n"
                "while told and producer.flush(1.0) and not self._give_up():\n"
                "    pass",
            ),
        ),
    ),
    Mutant(
        "doubt-taken-for-undone",
        "A transaction of which nobody knows whether it has happened counts as one that has not.",
        (Change(Transactions._end, "raise InDoubt(reason.str()) from None", "raise Undone(reason.str()) from None"),),
    ),
    Mutant(
        "doubt-taken-for-committed",
        "A transaction of which nobody knows whether it has happened counts as one that has.",
        (
            Change(
                Transactions.commit,
                "self._end(producer, error.args[0])",
                "try:\n    self._end(producer, error.args[0])\nexcept InDoubt:\n    return written",
            ),
        ),
    ),
    Mutant(
        "overlay-kept",
        "After a transaction that was undone, runs stay in memory as they were decided in it.",
        (Change(Partition.aborted, "self._residents.clear()", "pass"),),
    ),
    Mutant(
        "jobs-not-read-again",
        "After a transaction that was undone, reading goes on where it was.",
        (
            Change(
                KafkaCarrier._read_again,
                "reading = [number for number in self._consumer.reading if number in self._committed]",
                "reading: list[int] = []",
            ),
        ),
    ),
    Mutant(
        "offsets-kept-when-undone",
        "After a transaction that was undone, the offsets to commit next are still those behind the jobs that were in it.",
        (Change(JobLog.go_back, "self.next = dict(offsets)", "self.next = {**offsets, **self.next}"),),
    ),
    Mutant(
        "fetched-kept-when-undone",
        "After a transaction that was undone, a record that had been fetched is taken, and taken again when it comes again.",
        (
            Change(JobConsumer.stop_reading, "self._drop_fetched(stopped)", "pass"),
            Change(
                JobConsumer._is_job,
                "if number not in self.reading or number in self._astray:",
                "if number not in self.assigned or number in self._astray:",
            ),
        ),
    ),
    Mutant(
        "letters-kept-when-undone",
        "After a transaction that was undone, its dead letters and moves go out with the next one all the same.",
        (Change(JobLog.go_back, "self._aside.clear()", "pass"),),
    ),
    Mutant(
        "appends-state-first",
        "Without transactions, the coordination state is written before what it speaks of.",
        (
            Change(
                Appends.commit,
                "self._write(producer, values, written)\nself._write_states(producer, states, written)",
                "self._write_states(producer, states, written)\nself._write(producer, values, written)",
            ),
        ),
    ),
    Mutant(
        "appends-tombstones-first",
        "Without transactions, what is gone of a context is deleted before the state is written that speaks of it.",
        (Change(Appends.commit, "(gone if record.value is None else values).append(record)", "values.append(record)"),),
    ),
    Mutant(
        "appends-offsets-first",
        "Without transactions, the offsets are committed before the state is written.",
        (
            Change(
                Appends.commit,
                "written: dict[tuple[str, int], int] = {}",
                "self.settle(offsets, consumer.client)\nwritten = {}",
            ),
        ),
    ),
)

MUTANTS = (*OFFSETS, *ENDS)
