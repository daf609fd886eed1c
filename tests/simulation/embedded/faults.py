"""What goes wrong on one machine with one disk, by the kind of the fault.

kill, power                       the worker is killed, or the machine loses power, at its time
kill_before, _written, _done      the same at a write, *amount* writes from then on (``tests/simulation/disk.py``
power_written, _done              says what these moments are)
refuse                            the disk takes that write not, and the worker gives up
unsure                            the disk takes it and confirms it not; with *sync* only, else as ``refuse``
stop                              the worker is told to stop, and has *amount* * 5 ms for what it does
lack                              killed, and the next worker lacks a blueprint or an implementation for a while
clock                             the machine's clock jumps, by *amount* seconds, the odd ones backwards
bad                               killed, and records that nobody can read stand in the job log when the next one comes
redrive                           stopped, and all dead letters are written again before the next one comes
"""

from __future__ import annotations

__all__ = ["KINDS", "Faults"]

from collections.abc import Callable
from typing import Final, Protocol

from headrace.commands import Signal
from headrace.errors import StoreError, StoreFull, StoreLocked
from headrace.values import encode
from headrace_adapters.base.dead_letters import LetterFilter
from headrace_adapters.local.carrier import next_number
from headrace_adapters.local.dead_letters import LocalLetterBox
from headrace_adapters.local.layout import DEAD_LETTER, JOB, number_key
from headrace_topics.jobs_record import encode_command
from tests.simulation.disk import BEFORE, DONE, WRITTEN, SimulatedDisk, SimulatedStore
from tests.simulation.kernel import Kernel, Process

from .load import STORE
from .plan import Fault
from .release import Release
from .truth import Truth

# A value of this size is more than the first workers of a world take, and one that reads dead letters again raises that.
VALUE_BYTES_MAX: Final = 20_000

# Who waits for the worker to stop is there before the next one.
LOOK_US: Final = 500
REST_MS_MIN: Final = 20

NOBODY: Final = "nobody"
"""A run that nobody has started."""

BAD: Final = (
    b"\xff is no text",
    b'{"type":"start","blueprintId":"x"}',
    encode_command(Signal(NOBODY, "large", encode("x" * VALUE_BYTES_MAX))),
    b'{"type":"juggle","runId":"nobody"}',
)


class Surroundings(Protocol):
    """What faults need of their world."""

    kernel: Kernel
    disk: SimulatedDisk
    truth: Truth
    calm: bool
    skew_ms: int
    takes_large: bool
    release: Release

    def kill(self, for_ms: int, process: Process | None = None) -> None: ...
    def lose_power(self, for_ms: int) -> None: ...
    def lose_unconfirmed(self) -> None: ...
    def run_command(self, run: Callable[[Process], None]) -> None: ...
    def stop(self, grace_ms: int, for_ms: int) -> None: ...
    def tell(self, line: str) -> None: ...


class Faults:
    """Brings them about."""

    def __init__(self, world: Surroundings, faults: tuple[Fault, ...]) -> None:
        self._world = world
        self.left = len(faults)
        """Faults that have not begun."""
        for fault in faults:
            world.kernel.call_in(fault.at_ms * 1_000, lambda fault=fault: self._begin(fault))  # type: ignore[misc]

    def _begin(self, fault: Fault) -> None:
        self.left -= 1
        self._world.tell(str(fault))
        KINDS[fault.kind](self, fault)

    def _kill(self, fault: Fault) -> None:
        self._world.kill(fault.for_ms)

    def _power(self, fault: Fault) -> None:
        self._world.lose_power(fault.for_ms)

    def _strike(self, fault: Fault, moment: str, happen: Callable[[SimulatedStore], None]) -> None:
        def strike(store: SimulatedStore) -> None:
            self._world.tell(f"{store.process.name} is struck at a write ({moment}): {fault}")
            happen(store)

        self._world.disk.strike(fault.amount, moment, strike)

    def _refuse(self, fault: Fault) -> None:
        def refuse(_: SimulatedStore) -> None:
            raise StoreFull("the disk takes no more: free space, then start the worker again")

        self._strike(fault, BEFORE, refuse)

    def _unsure(self, fault: Fault) -> None:
        def fail(store: SimulatedStore) -> None:
            if store.sync:
                raise StoreError("syncing failed: check the disk, then start the worker again")

        self._strike(fault, WRITTEN, fail)

    def _stop(self, fault: Fault) -> None:
        self._world.stop(fault.amount * 5, fault.for_ms)

    def _lack(self, fault: Fault) -> None:
        if not self._world.calm:
            self._world.release.lack_implementation(fault.amount)
        self._world.kill(fault.for_ms % 100)

    def _clock(self, fault: Fault) -> None:
        self._world.skew_ms += fault.amount * (1_000 if fault.amount % 2 == 0 else -1_000)

    def _bad(self, fault: Fault) -> None:
        self._world.kill(fault.for_ms)
        self._as_command(lambda store: self._append_bad(store, fault))

    def _append_bad(self, store: SimulatedStore, fault: Fault) -> None:
        records = [BAD[(fault.amount + number) % len(BAD)] for number in range(1 + fault.amount % 3)]
        self._world.truth.bad.update(records)
        first = next_number(store, JOB)
        store.write([(number_key(JOB, first + number), record) for number, record in enumerate(records)])

    def _redrive(self, fault: Fault) -> None:
        self._world.stop(0, max(REST_MS_MIN, fault.for_ms))
        self._as_command(self._write_again)

    def _write_again(self, store: SimulatedStore) -> None:
        world = self._world
        world.takes_large = True
        box = LocalLetterBox(store)
        meant = box.find(LetterFilter(), limit=100).letters
        written: list[object] = []
        left_out = box.redrive(LetterFilter(), written.extend)
        fresh = [kept for kept in meant if kept.redriven_ms is None]
        assert not left_out, f"not written again: {left_out}"
        assert len(written) == len(fresh), f"{len(written)} letters are written again, and {len(fresh)} were not before"
        assert not [key for key, again in world.truth.letters.items() if not again and key[:1] == DEAD_LETTER]

    def _as_command(self, act: Callable[[SimulatedStore], None]) -> None:
        """Do something with the folder as soon as nobody has it."""
        world = self._world

        def take(process: Process) -> None:
            try:
                store = world.disk.open(STORE, process, sync=True)
                act(store)
                store.close()
            except StoreLocked:
                if not world.calm:
                    world.kernel.call_in(LOOK_US, lambda: world.run_command(take))
            except StoreError:
                process.alive = False
                world.lose_unconfirmed()

        world.run_command(take)


def _at_write(moment: str, *, power: bool = False) -> Callable[[Faults, Fault], None]:
    def strike(faults: Faults, fault: Fault) -> None:
        world = faults._world

        def happen(store: SimulatedStore) -> None:
            if power:
                world.lose_power(fault.for_ms)
            else:
                world.kill(fault.for_ms, store.process)

        faults._strike(fault, moment, happen)

    return strike


KINDS: Final[dict[str, Callable[[Faults, Fault], None]]] = {
    "kill": Faults._kill,
    "kill_before": _at_write(BEFORE),
    "kill_written": _at_write(WRITTEN),
    "kill_done": _at_write(DONE),
    "power": Faults._power,
    "power_written": _at_write(WRITTEN, power=True),
    "power_done": _at_write(DONE, power=True),
    "refuse": Faults._refuse,
    "unsure": Faults._unsure,
    "stop": Faults._stop,
    "lack": Faults._lack,
    "clock": Faults._clock,
    "bad": Faults._bad,
    "redrive": Faults._redrive,
}
