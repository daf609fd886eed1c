"""What lies between clients and brokers: delays, connections that break, and times in which nothing gets through.

A request and its answer take a time each, drawn from a range. On the connection of one client neither overtakes another,
and like a broker this answers the requests of a connection one after the other. What can go wrong:

    lost         the connection breaks under a request or an answer. The client notices a little later (``LOST``), and does
                 not know which of the two it was
    down         the brokers are not there. Either they stand still: what was sent to them is done when they go on, also what
                 its client gave up by then. Or what was under way is lost, and what is sent meanwhile waits for them
    cut off      one process alone does not reach them: its requests are late, or it gives them up
    struck       something happens to a process at the very moment at which a request of it reaches the brokers, or is done

All settings may be changed while the world runs. Records are not fetched through here (``fetcher.py``).
"""

from __future__ import annotations

__all__ = ["LOST", "REQUEST_US", "TIMED_OUT", "Answer", "Line", "Network", "Strike"]

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from confluent_kafka import KafkaError

from tests.simulation.broker.refused import Refused
from tests.simulation.kernel import Kernel, Process, Timer

Range = tuple[int, int]

Answer = Callable[[Any], None]
"""Told what a request gives: its value, or a :class:`Refused`."""

LOST = Refused(KafkaError._TRANSPORT)
TIMED_OUT = Refused(KafkaError._TIMED_OUT)

REQUEST_US = 60_000_000
"""How long a client waits for an answer (socket.timeout.ms)."""


class Strike(NamedTuple):
    """What is to *happen* at a request of a process, one of those that are *what*: when it is *done*, or before.

    Of those, *skipped* others go well.
    """

    process: str
    what: str
    skipped: int
    done: bool
    happen: Callable[[], None]


class Network:
    """One for all clients of a world. *delays_us* is the range of what one way takes while nothing is wrong."""

    def __init__(self, kernel: Kernel, delays_us: Range = (100, 800)) -> None:
        self.kernel = kernel
        self.brokers = Process("brokers")
        """They do nothing by themselves while they are away, so nobody's session ends meanwhile."""
        self.trace: Callable[[str], None] | None = None
        """Told of every request and every answer."""
        self.noticed_us: Range = (500, 100_000)
        """When a client notices that its connection broke."""
        self.local_us: Range = (0, 500)
        """How long it takes from one thread of a client to another one."""
        self._random = kernel.draw.random
        self._usual_us = self._one_way_us = delays_us
        self._lost_requests = self._lost_answers = 0.0
        self._down = self._stands_still = False
        self._down_us = -1
        self._cut_off: dict[Process, None] = {}
        self._held: list[_Held] = []
        self.strikes: list[Strike] = []

    def between(self, bounds: Range) -> int:
        """A number from a range."""
        low, high = bounds
        return low + int(self._random() * (high - low))

    def one_way(self) -> int:
        """The next delay."""
        low, high = self._one_way_us
        return low + int(self._random() * (high - low))

    def local(self) -> int:
        """The next delay within a client."""
        return self.between(self.local_us)

    def loses_request(self) -> bool:
        """Whether the next request is lost."""
        return self._lost_requests > 0 and self._random() < self._lost_requests

    def loses_answer(self) -> bool:
        """Whether the next answer is lost."""
        return self._lost_answers > 0 and self._random() < self._lost_answers

    # What happens to it.

    @property
    def is_up(self) -> bool:
        """Whether the brokers are there."""
        return not self._down

    def calm(self) -> None:
        """All is well again."""
        self.lose(0, 0)
        self.delay(None)
        self._cut_off.clear()
        self.strikes.clear()
        self.come_back()

    def delay(self, one_way_us: Range | None) -> None:
        """Have one way take so long from now on; None: as at first."""
        self._one_way_us = one_way_us or self._usual_us

    def lose(self, requests: float, answers: float) -> None:
        """Have so many of the requests and of the answers be lost from now on."""
        self._lost_requests, self._lost_answers = requests, answers

    def go_down(self, stands_still: bool | None = None) -> None:
        """The brokers are gone, or stand still; None: chance decides."""
        self._down = True
        self._stands_still = self._random() < 0.5 if stands_still is None else stands_still
        self._down_us = self.kernel.now_us
        self.kernel.freeze(self.brokers)

    def come_back(self) -> None:
        """The brokers are there, and go on."""
        self._down = self._stands_still = False
        self.kernel.thaw(self.brokers)
        self._release()

    def cut_off(self, process: Process) -> None:
        """A process does not reach the brokers any more."""
        self._cut_off[process] = None

    def join_again(self, process: Process) -> None:
        """A process reaches the brokers again."""
        self._cut_off.pop(process, None)
        self._release()

    def blocks(self, process: Process | None) -> bool:
        """Whether nothing of a process gets through at this moment."""
        return self._down or process in self._cut_off

    def strike(self, strike: Strike) -> None:
        """Have something happen at a request."""
        self.strikes.append(strike)

    def reached(self, process: Process, what: str, *, done: bool) -> bool:
        """A request has come so far; whether something happened because of that."""
        for at, strike in enumerate(self.strikes):
            if (strike.process, strike.what, strike.done) == (process.name, what, done):
                if strike.skipped:
                    self.strikes[at] = strike._replace(skipped=strike.skipped - 1)
                    return False
                del self.strikes[at]
                strike.happen()
                return True
        return False

    # What is under way meanwhile.

    def hold(self, line: Line, sent: _Sent, result: Any) -> None:
        """Keep a request, or the *result* of one, for as long as nothing gets through."""
        answered = result is not _NOTHING
        if self._down and not self._stands_still and (answered or sent.at_us < self._down_us):
            line.lose(sent)
            return

        def give_up() -> None:
            # Brokers that stand still have it already, and will do it.
            if answered or not self._stands_still:
                self._held.remove(held)
            line.give(sent, TIMED_OUT)
            held.sent = sent._replace(answer=_ignore)

        left_us = sent.deadline_us - self.kernel.now_us
        held = _Held(line, sent, result, self.kernel.call_in(left_us, give_up, line.process))
        self._held.append(held)

    def _release(self) -> None:
        held, self._held = self._held, []
        for one in held:
            if self.blocks(one.line.process):
                self._held.append(one)
            else:
                one.timer.cancel()
                if one.result is _NOTHING:
                    one.line.send(one.sent)
                else:
                    one.line.answer(one.sent, one.result)


class _Sent(NamedTuple):
    """A request under way. *call* makes it; where the answer is *held* back, it is given a function for that."""

    what: str
    about: Any
    call: Callable[..., Any]
    answer: Answer
    held: bool
    at_us: int
    deadline_us: int


class _Held:
    """A request that waits for the brokers, or where there is a *result*, an answer."""

    __slots__ = ("line", "result", "sent", "timer")

    def __init__(self, line: Line, sent: _Sent, result: Any, timer: Timer) -> None:
        self.line = line
        self.sent = sent
        self.result = result
        self.timer = timer


_NOTHING: Any = object()


def _ignore(result: Any) -> None:
    """Nobody waits for it any more."""


class Line:
    """The connection of one client with the brokers."""

    __slots__ = ("_busy", "_in_us", "_kernel", "_network", "_out_us", "_queue", "process")

    def __init__(self, network: Network, process: Process) -> None:
        self.process = process
        self._network = network
        self._kernel = network.kernel
        self._out_us = 0
        self._in_us = 0
        self._busy = False
        self._queue: deque[_Sent] = deque()

    def request(self, what: str, about: Any, call: Callable[[], Any], answer: Answer, timeout_us: int = REQUEST_US) -> None:
        """Have *call* made by the brokers, and *answer* told what it gave; not from within this call."""
        now_us = self._kernel.now_us
        self.send(_Sent(what, about, call, answer, False, now_us, now_us + timeout_us))

    def request_held(
        self, what: str, about: Any, call: Callable[[Answer], Any], answer: Answer, timeout_us: int = REQUEST_US
    ) -> None:
        """The same for a request that brokers answer later. Until then those that follow wait."""
        now_us = self._kernel.now_us
        self.send(_Sent(what, about, call, answer, True, now_us, now_us + timeout_us))

    def send(self, sent: _Sent) -> None:
        """A request is on its way."""
        network = self._network
        if network.trace is not None:
            network.trace(f"{self.process.name} > {sent.what} {sent.about}")
        if network.loses_request():
            self.lose(sent)
            return
        now_us = self._kernel.now_us
        self._out_us = at_us = max(now_us + network.one_way(), self._out_us)
        # It gets there whatever becomes of the process that sent it.
        self._kernel.call_in(at_us - now_us, lambda: self._arrive(sent))

    def _arrive(self, sent: _Sent) -> None:
        network = self._network
        if network.strikes and network.reached(self.process, sent.what, done=False) and not self.process.alive:
            return
        if network.blocks(self.process):
            network.hold(self, sent, _NOTHING)
        elif self._busy:
            self._queue.append(sent)
        elif sent.held:
            self._busy = True
            sent.call(lambda result: self._answered(sent, result))
        else:
            try:
                result = sent.call()
            except Refused as refused:
                result = refused
            self.answer(sent, result)

    def _answered(self, sent: _Sent, result: Any) -> None:
        self.answer(sent, result)
        # Brokers answer in the middle of what they do, and look at the next request when they have done it.
        self._kernel.call_in(0, self._go_on)

    def _go_on(self) -> None:
        self._busy = False
        while self._queue and not self._busy:
            self._arrive(self._queue.popleft())

    def answer(self, sent: _Sent, result: Any) -> None:
        """An answer is on its way back."""
        network = self._network
        if network.strikes:
            network.reached(self.process, sent.what, done=True)
        if network.blocks(self.process):
            network.hold(self, sent, result)
        elif network.loses_answer():
            self.lose(sent)
        else:
            now_us = self._kernel.now_us
            self._in_us = at_us = max(now_us + network.one_way(), self._in_us)
            if network.trace is None:
                answer = sent.answer
                self._kernel.call_in(at_us - now_us, lambda: answer(result), self.process)
            else:
                self._kernel.call_in(at_us - now_us, lambda: self.give(sent, result), self.process)

    def lose(self, sent: _Sent) -> None:
        """The connection breaks."""
        delay_us = self._network.between(self._network.noticed_us)
        self._kernel.call_in(delay_us, lambda: self.give(sent, LOST), self.process)

    def give(self, sent: _Sent, result: Any) -> None:
        """Tell the client."""
        if self._network.trace is not None:
            self._network.trace(f"{self.process.name} < {sent.what} {sent.about}: {result}")
        sent.answer(result)
