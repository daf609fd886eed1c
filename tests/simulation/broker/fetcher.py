"""The fetcher of a consumer: what is assigned, from where it is read, and what of it may be given to the application.

Records are taken from the brokers' log when the consumer polls. That something may have come is known after the network's
delay, so nothing is read earlier than that; where nothing gets through to the brokers, nothing is read.
"""

from __future__ import annotations

__all__ = ["Fetcher"]

from collections.abc import Callable, Iterable
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, KafkaError, TopicPartition

from tests.simulation.broker.client_context import Context, failure
from tests.simulation.broker.client_message import Message
from tests.simulation.broker.messages import Cancel, Place, Stored
from tests.simulation.broker.network import Line
from tests.simulation.broker.refused import Refused
from tests.simulation.kernel import Signal

# A place is not known to the fetcher yet, looks for where it begins, or is read.
WAITING, ASKING, ACTIVE = range(3)

# An offset that was not told is asked for again after this time.
ASK_AGAIN_US = 500_000


class _Fetching:
    """A place that is assigned."""

    __slots__ = ("coming", "end_told", "news", "paused", "place", "position", "state", "version", "watch")

    def __init__(self, place: Place) -> None:
        self.place = place
        self.position = -1
        self.state = WAITING
        self.paused = False
        # Whether there may be something, and whether word of it is on its way.
        self.news = False
        self.coming = False
        self.end_told = -1
        self.version = 0
        self.watch: Cancel | None = None


class Fetcher:
    """See the module's text. *problem* takes messages that are no records; *signal* wakes the consumer."""

    def __init__(
        self,
        context: Context,
        line: Line,
        configuration: dict[str, Any],
        signal: Signal,
        problem: Callable[[Message], None],
    ) -> None:
        self._context = context
        self._server = context.server
        self._network = context.network
        self._line = line
        self._group: str = configuration["group.id"]
        self._reset = str(configuration.get("auto.offset.reset", "latest"))
        self._committed = configuration.get("isolation.level", "read_committed") == "read_committed"
        self._tells_ends = str(configuration.get("enable.partition.eof", False)).lower() == "true"
        self._signal = signal
        self._problem = problem
        self._held = False
        self.begins_late = False
        """Whether places are read only a little after they were assigned: so it is with those of a group."""
        # Every place that was ever assigned, and whether it is paused: that lasts beyond an assignment.
        self._seen: dict[Place, bool] = {}
        self.places: dict[Place, _Fetching] = {}
        self._ready: dict[Place, _Fetching] = {}

    # What is assigned.

    def add(self, partitions: Iterable[TopicPartition]) -> None:
        """Assign these as well. Raises _CONFLICT where one of them is already."""
        found = [((it.topic, it.partition), it.offset) for it in partitions]
        for place, _ in found:
            if place in self.places:
                raise failure(KafkaError._CONFLICT, f"{place[0]} [{place[1]}] is already part of the current assignment")
        for place, offset in found:
            fetching = self.places[place] = _Fetching(place)
            fetching.paused = self._seen.setdefault(place, False)
            if self.begins_late:
                self._context.later(
                    self._network.local(), lambda fetching=fetching, offset=offset: self._start(fetching, offset)
                )
            else:
                self._begin(fetching, offset)

    def remove(self, partitions: Iterable[TopicPartition]) -> None:
        """Assign these no more. Raises _INVALID_ARG where one of them is not."""
        places = [(it.topic, it.partition) for it in partitions]
        for place in places:
            if not self.places:
                raise failure(KafkaError._INVALID_ARG, "Can't subtract from empty assignment")
            if place not in self.places:
                raise failure(
                    KafkaError._INVALID_ARG,
                    f"{place[0]} [{place[1]}] can't be unassigned since it is not in the current assignment",
                )
        for place in places:
            self._drop(self.places.pop(place))

    def clear(self) -> None:
        """Nothing is assigned."""
        places, self.places = self.places, {}
        for fetching in places.values():
            self._drop(fetching)

    def _drop(self, fetching: _Fetching) -> None:
        self._ready.pop(fetching.place, None)
        fetching.version += 1
        if fetching.watch is not None:
            fetching.watch.cancel()
            fetching.watch = None

    # Where it is read from.

    def _start(self, fetching: _Fetching, offset: int) -> None:
        if self.places.get(fetching.place) is fetching:
            self._begin(fetching, offset)

    def _begin(self, fetching: _Fetching, offset: int) -> None:
        fetching.version += 1
        fetching.news = False
        fetching.end_told = -1
        self._ready.pop(fetching.place, None)
        if offset >= 0:
            self._read_from(fetching, offset)
            return
        fetching.state = ASKING
        if offset == OFFSET_BEGINNING:
            self._ask(fetching, "earliest")
        elif offset == OFFSET_END:
            self._ask(fetching, "latest")
        else:
            self._ask_committed(fetching)

    def _ask(self, fetching: _Fetching, spec: Any) -> None:
        version, place = fetching.version, fetching.place

        def answer(result: Any) -> None:
            if fetching.version != version:
                return
            if type(result) is Refused:
                self._context.later(ASK_AGAIN_US, lambda: fetching.version == version and self._ask(fetching, spec))
            else:
                self._read_from(fetching, result)

        self._line.request(
            "list offsets", (place, spec), lambda: self._server.list_offsets(place, spec, self._committed), answer
        )

    def _ask_committed(self, fetching: _Fetching) -> None:
        version, place = fetching.version, fetching.place

        def answer(result: Any) -> None:
            if fetching.version != version:
                return
            known = result if type(result) is Refused else result[place]
            if type(known) is Refused:
                self._context.later(ASK_AGAIN_US, lambda: fetching.version == version and self._ask_committed(fetching))
            elif known[0] >= 0:
                self._read_from(fetching, known[0])
            else:
                self._reset_offset(fetching, -1)

        self._line.request(
            "fetch offsets", place, lambda: self._server.offset_fetch(self._group, [place], self._committed), answer
        )

    def _reset_offset(self, fetching: _Fetching, position: int) -> None:
        if self._reset in ("error", "none"):
            fetching.state = WAITING
            error = KafkaError(KafkaError._AUTO_OFFSET_RESET, "no offset to read from, and auto.offset.reset is error")
            self._problem(Message.problem(error, fetching.place, position))
            return
        fetching.state = ASKING
        fetching.version += 1
        self._ask(fetching, "latest" if self._reset in ("latest", "end", "largest") else "earliest")

    def _read_from(self, fetching: _Fetching, position: int) -> None:
        fetching.position = position
        fetching.state = ACTIVE
        if fetching.watch is None:
            place = fetching.place
            try:
                fetching.watch = self._server.watch(place, lambda: self._may_have_come(fetching), self._committed)
            except Refused as refused:
                fetching.state = WAITING
                self._problem(Message.problem(KafkaError(refused.code), place))
                return
        if not fetching.paused:
            self._fetch(fetching)

    def _may_have_come(self, fetching: _Fetching) -> None:
        """The log has grown."""
        if not (fetching.news or fetching.coming or fetching.paused or fetching.state != ACTIVE):
            self._expect(fetching, self._network.one_way())

    def _fetch(self, fetching: _Fetching) -> None:
        self._expect(fetching, self._network.one_way() + self._network.one_way())

    def _expect(self, fetching: _Fetching, delay_us: int) -> None:
        version = fetching.version
        fetching.coming = True

        def arrive() -> None:
            if fetching.version == version:
                fetching.coming = False
                if fetching.paused or self._is_at_end(fetching):
                    return
                fetching.news = True
                self._ready[fetching.place] = fetching
                self._signal.notify()

        self._context.later(delay_us, arrive)

    def _is_at_end(self, fetching: _Fetching) -> bool:
        """Whether a fetch gives nothing, nor has to tell of an end."""
        if self._tells_ends and fetching.end_told != fetching.position:
            return False
        return fetching.position == self._server.list_offsets(fetching.place, "latest", self._committed)

    # What the application says.

    def seek(self, it: TopicPartition) -> None:
        """Read from another offset. Raises _UNKNOWN_PARTITION, and _STATE where nothing is read of the place.

        Right after the assignment of a rebalance it is taken and of no effect, and nobody is told (measured).
        """
        place = (it.topic, it.partition)
        fetching = self.places.get(place)
        if fetching is None or (fetching.state == WAITING and fetching.version):
            known = any(topic == it.topic for topic, _ in self._seen)
            code = KafkaError._STATE if known else KafkaError._UNKNOWN_PARTITION
            raise failure(code, f"Failed to seek to offset {it.offset}: {KafkaError(code).str()}")
        if fetching.state == WAITING:
            return
        fetching.coming = False
        self._begin(fetching, it.offset)

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Give nothing of these; it is no error that one of them is not assigned."""
        for it in partitions:
            place = (it.topic, it.partition)
            if place in self._seen:
                self._seen[place] = True
            fetching = self.places.get(place)
            if fetching is not None and not fetching.paused:
                fetching.paused = True
                self._ready.pop(fetching.place, None)

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Give of these again."""
        for it in partitions:
            place = (it.topic, it.partition)
            if place in self._seen:
                self._seen[place] = False
            fetching = self.places.get(place)
            if fetching is not None and fetching.paused:
                fetching.paused = False
                if fetching.state == ACTIVE:
                    # What was fetched before the pause is out of date, and ends are told again.
                    fetching.version += 1
                    fetching.news = False
                    fetching.end_told = -1
                    self._fetch(fetching)

    def hold(self, held: bool) -> None:
        """Give nothing at all while the application is to be told of a rebalance."""
        self._held = held
        if not held and self._ready:
            self._signal.notify()

    # What it gets.

    def take(self, limit: int) -> list[Message]:
        """At most so many messages that are there."""
        messages: list[Message] = []
        if not self._ready or self._held or self._network.blocks(self._context.process):
            return messages
        for fetching in list(self._ready.values()):
            left = limit - len(messages)
            if left <= 0:
                break
            place = fetching.place
            # Who was read goes behind the others.
            del self._ready[place]
            try:
                fetched = self._server.fetch(place, fetching.position, self._committed, left)
            except Refused as refused:
                self._refused(fetching, refused.code)
                continue
            messages += [Message(place, record) for record in fetched.records]
            at = fetching.position = fetched.next_offset
            end = fetched.last_stable_offset if self._committed else fetched.high_watermark
            if at < end or (self._tells_ends and fetching.end_told != end and len(messages) >= limit):
                self._ready[place] = fetching
                continue
            fetching.news = False
            if self._tells_ends and at == end and fetching.end_told != end:
                fetching.end_told = end
                messages.append(Message(place, Stored(end, None, b"Broker: No more messages", -1), _END))
        return messages

    def _refused(self, fetching: _Fetching, code: int) -> None:
        fetching.news = False
        if code == KafkaError.OFFSET_OUT_OF_RANGE:
            self._reset_offset(fetching, fetching.position)
        else:
            fetching.state = WAITING
            self._problem(Message.problem(KafkaError(code), fetching.place, fetching.position))


_END = KafkaError(KafkaError._PARTITION_EOF)
