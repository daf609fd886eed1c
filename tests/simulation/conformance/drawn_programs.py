"""Programs that nobody has thought of: calls at random, by a seed, in an order that a broker answers in one way only."""

from __future__ import annotations

__all__ = ["DRAWN", "drawn_groups", "drawn_reading", "drawn_transactions"]

import random
from collections.abc import Callable, Mapping
from typing import Any

from tests.simulation.conformance.member import Member
from tests.simulation.conformance.program import Broker, Program
from tests.simulation.conformance.writer import Writer

PARTITIONS = 2
STEPS = 30

# Markers and the offsets of a transaction are in place by then; nothing is compared that changes meanwhile.
MARKERS_S = 0.05

# What there is to be read has been read by then.
LOOK_S = 0.3


def drawn_transactions(seed: int) -> Program:
    """Producers under two ids, which fence each other, and offsets of a group without members."""

    def program(broker: Broker) -> None:
        _TransactionsAtRandom(broker, random.Random(seed)).run()

    return program


class _TransactionsAtRandom:
    def __init__(self, broker: Broker, draw: random.Random) -> None:
        self._broker = broker
        self._draw = draw
        self._topic = broker.topic(PARTITIONS)
        self._group = broker.name("group")
        self._ids = [broker.name("id"), broker.name("id")]
        self._outsider = broker.outsider(self._group, self._topic)
        self._writers: list[Writer] = []
        self._values = 0

    def run(self) -> None:
        draw = self._draw
        for each in self._ids:
            self._new(each)
        for _ in range(STEPS):
            writer = draw.choice(self._writers[-3:])
            kind = draw.choices(
                ("begin", "write", "offsets", "commit", "abort", "new", "plain", "look"), (6, 6, 4, 4, 3, 1, 1, 2)
            )[0]
            if kind == "begin":
                writer.begin()
            elif kind == "write":
                self._write(writer)
            elif kind == "offsets":
                self._send(writer)
            elif kind in ("commit", "abort"):
                writer.commit() if kind == "commit" else writer.abort()
                self._broker.pause(MARKERS_S)
            elif kind == "new":
                self._new(draw.choice(self._ids))
            elif kind == "plain":
                self._outsider.commit({draw.randrange(PARTITIONS): draw.randrange(100)})
            else:
                self._look()
        for each in self._ids:
            # Whatever is open is ended by that.
            self._new(each)
        self._look()
        reader = self._broker.reader("r", self._topic)
        reader.assign(dict.fromkeys(range(PARTITIONS), 0))
        reader.read()

    def _new(self, transactional_id: str) -> None:
        writer = self._broker.transactional(f"w{len(self._writers)}", transactional_id)
        self._writers.append(writer)
        writer.init()
        self._broker.pause(MARKERS_S)

    def _write(self, writer: Writer) -> None:
        for _ in range(self._draw.randrange(1, 4)):
            self._values += 1
            writer.write_unwatched(self._topic, self._draw.randrange(PARTITIONS), f"v{self._values}")
        # What is not sent yet is another question: see the programs about fencing.
        writer.flush()

    def _send(self, writer: Writer) -> None:
        numbers = sorted(self._draw.sample(range(PARTITIONS), self._draw.randrange(1, PARTITIONS + 1)))
        offsets = {number: self._draw.randrange(100) for number in numbers}
        writer.offsets(self._outsider.metadata(), self._topic, offsets, f"{writer.name}")

    def _look(self) -> None:
        self._broker.pause(MARKERS_S)
        for number in range(PARTITIONS):
            self._broker.say_ends(self._topic, number, waits=False)
        self._broker.say_pending(self._group, self._topic, *range(PARTITIONS))


def drawn_groups(seed: int, protocol: str) -> Program:
    """Members that come and go, and transactions under metadata that was taken now or at any time before."""

    def program(broker: Broker) -> None:
        _GroupsAtRandom(broker, random.Random(seed), protocol).run()

    return program


class _GroupsAtRandom:
    def __init__(self, broker: Broker, draw: random.Random, protocol: str) -> None:
        self._broker = broker
        self._draw = draw
        self._protocol = protocol
        self._topic = broker.topic(4)
        self._group = broker.name("group")
        self._members: list[Member] = []
        self._made = 0
        self._kept: list[tuple[str, Any]] = []
        self._writer = broker.transactional("w", broker.name("id"))

    def run(self) -> None:
        draw = self._draw
        self._writer.init()
        self._join()
        for _ in range(5):
            self._commits()
            # With more than two it is chance which of them gives up what, and so what old metadata is good for.
            if len(self._members) < 2:
                self._join()
            else:
                self._members.pop(draw.randrange(len(self._members))).close()
                self._settle()
        self._commits()
        self._broker.say_committed(self._group, self._topic, *range(4))

    def _join(self) -> None:
        # Names in the order of joining decide which members keep what.
        name = "abcdefghijk"[self._made]
        self._made += 1
        self._members.append(self._broker.member(name, self._group, self._topic, self._protocol))
        self._settle()

    def _settle(self) -> None:
        self._broker.settle(self._group, 4, *self._members)
        for member in self._members:
            member.tell()
            self._kept.append((f"{member.name} in rebalance {len(self._kept)}", member.metadata()))

    def _commits(self) -> None:
        draw, writer = self._draw, self._writer
        for _ in range(3):
            name, metadata = draw.choice(self._kept if draw.random() < 0.6 else self._kept[-len(self._members) :])
            numbers = sorted(draw.sample(range(4), draw.randrange(1, 3)))
            self._broker.say("commits", name, numbers)
            writer.begin()
            writer.offsets(metadata, self._topic, {number: draw.randrange(100) for number in numbers}, name)
            writer.commit()
            writer.abort()
        member = draw.choice(self._members)
        member.commit({draw.randrange(4): draw.randrange(100)})


def drawn_reading(seed: int) -> Program:
    """A reader that is moved about, while records come, transactions end and old records are deleted."""

    def program(broker: Broker) -> None:
        _ReadingAtRandom(broker, random.Random(seed)).run()

    return program


class _ReadingAtRandom:
    def __init__(self, broker: Broker, draw: random.Random) -> None:
        self._broker = broker
        self._draw = draw
        self._topic = broker.topic(PARTITIONS + 1)
        self._reader = broker.reader("r", self._topic)
        self._writer = broker.transactional("w", broker.name("id"))
        self._assigned: set[int] = set()
        self._is_open = False
        self._values = 0

    def run(self) -> None:
        draw, reader = self._draw, self._reader
        self._writer.init()
        # One is always read: a client that has fetched nothing for a while looks but once a second whether it may again.
        reader.assign(dict.fromkeys(range(PARTITIONS + 1), 0))
        self._assigned = set(range(PARTITIONS))
        # The client has to find out first who leads them.
        reader.read()
        for _ in range(STEPS // 2):
            number = draw.randrange(PARTITIONS)
            kind = draw.choices(
                ("put", "write", "end", "pause", "resume", "seek", "turn", "delete"), (4, 4, 4, 2, 3, 3, 2, 1)
            )[0]
            if kind == "put":
                self._broker.put(self._topic, number, *self._more())
            elif kind == "write":
                self._write(number)
            elif kind == "end" and self._is_open:
                self._is_open = False
                self._writer.commit() if draw.random() < 0.5 else self._writer.abort()
                # Where the markers stand among what others write would be a question of time.
                self._broker.pause(MARKERS_S)
            elif kind == "pause":
                reader.pause(number)
            elif kind == "resume":
                reader.resume(number)
            elif kind == "seek" and number in self._assigned:
                reader.seek(number, draw.randrange(self._values + 2))
            elif kind == "turn":
                self._turn(number)
            elif kind == "delete":
                self._delete(number)
            # A client reads ahead, so where it finds an end depends on what comes soon after; what comes is looked at first.
            if kind not in ("write", "pause"):
                self._broker.pause(MARKERS_S)
                reader.look(LOOK_S)
        for number in range(PARTITIONS):
            reader.resume(number)
        reader.look(LOOK_S)

    def _more(self) -> list[str]:
        values = [f"v{self._values + number}" for number in range(self._draw.randrange(1, 4))]
        self._values += len(values)
        return values

    def _write(self, number: int) -> None:
        if not self._is_open:
            self._is_open = True
            self._writer.begin()
        self._writer.write(self._topic, number, *self._more())
        self._writer.flush()

    def _turn(self, number: int) -> None:
        """What is read is not read any more, or the other way round."""
        if number in self._assigned:
            self._assigned.remove(number)
            self._reader.remove(number)
        else:
            self._assigned.add(number)
            self._reader.add({number: self._draw.randrange(self._values + 2)})

    def _delete(self, number: int) -> None:
        # What a reader has or has not fetched before would be a question of time.
        self._broker.pause(MARKERS_S)
        self._reader.look(LOOK_S)
        end = self._broker.ends(self._topic, number)["committed end"]
        self._broker.delete_before(self._topic, number, self._draw.randrange(end + 1))


DRAWN: Mapping[str, Callable[[int], Program]] = {
    "transactions": drawn_transactions,
    "reading": drawn_reading,
    "groups_classic": lambda seed: drawn_groups(seed, "classic"),
    "groups_consumer": lambda seed: drawn_groups(seed, "consumer"),
}
"""By what it is about, the program of a seed."""
