"""What goes wrong: each kind of fault, what it does, and how it ends. ``docs/faults.md`` says what is claimed about each.

Everything that a fault begins is undone when the world calms down (:meth:`Faults.calm`).
"""

from __future__ import annotations

__all__ = ["KINDS", "TOMBSTONES_KEPT_MS", "Faults"]

import random
from collections.abc import Callable, Sequence

from headrace_adapters.kafka.topic_layout import TopicLayout

from .broker.messages import Place
from .broker.network import Network, Strike
from .broker.server import Server
from .disk import BEFORE, DONE, WRITTEN, Copy
from .kernel import Kernel
from .machine import STORE, Machine
from .observer import Observer
from .plan import Fault

# A worker that is told to stop has so long for what it does, unless the fault says otherwise.
GRACE_US = 300_000

# Tombstones are removed by a cleaning that is so much later; copies take them to stay for TOMBSTONES_KEPT_MS.
CLEANED_AGAIN_US = 4_500_000
TOMBSTONES_KEPT_MS = 3_000

# What a copy of a store from another cluster says it is, and a run that it holds.
META = b"Mk"
RUN = b'"run-'

# The requests of a transaction, and whether the brokers have done them: moments of it at which something may happen.
MOMENTS = (
    ("add partitions", False),
    ("produce", True),
    ("add offsets", True),
    ("commit offsets in transaction", False),
    ("commit offsets in transaction", True),
    ("commit", False),
    ("commit", True),
    ("commit", True),
    ("commit", True),
)

# The same where there are no transactions.
MOMENTS_OF_APPENDS = (("produce", False), ("produce", True), ("commit offsets", False), ("commit offsets", True))

# Who is frozen for so long is in the group no more.
PAST_SESSION_MS = 2_000

# Groups are without members for longer than any session before their offsets are forgotten.
FORGOTTEN_MS = 2_500


class Faults:
    """Brings faults about. *told* gets a line for each."""

    def __init__(
        self,
        kernel: Kernel,
        server: Server,
        network: Network,
        layout: TopicLayout,
        machines: Sequence[Machine],
        observer: Observer,
        told: Callable[[str], None],
    ) -> None:
        self._kernel = kernel
        self._draw: random.Random = kernel.draw
        self._server = server
        self._network = network
        self._layout = layout
        # The group of the workers has the name of the app.
        self._group = layout.jobs.partition(".")[0]
        self._machines = machines
        self._observer = observer
        self._told = told
        self._calm = False
        self._copies: dict[int, Copy] = {}

    def plan(self, faults: Sequence[Fault]) -> None:
        """Have each one happen at its time."""
        for fault in faults:
            self._kernel.call_in(fault.at_ms * 1_000, lambda fault=fault: self._begin(fault))  # type: ignore[misc]

    def _begin(self, fault: Fault) -> None:
        if not self._calm:
            self._told(f"fault {fault.kind} machine {fault.machine} for {fault.for_ms} ms, {fault.amount}")
            KINDS[fault.kind](self, fault)

    def _end_in(self, fault: Fault, end: Callable[[], None]) -> None:
        def over() -> None:
            if not self._calm:
                self._told(f"fault {fault.kind} is over")
                end()

        self._kernel.call_in(fault.for_ms * 1_000, over)

    def calm(self) -> None:
        """From now on nothing goes wrong, and what did is mended."""
        self._calm = True
        if not self._network.is_up:
            self._server.restart()
        self._network.calm()
        self._server.hold_markers(False)
        for machine in self._machines:
            machine.disk.calm()
            self._kernel.thaw(machine.process)
            machine.wanted = True
            machine.start()

    # Workers.

    def _kill(self, fault: Fault) -> None:
        machine = self._machines[fault.machine]
        machine.kill()
        machine.start_in(fault.for_ms * 1_000)

    def _strike(self, fault: Fault, moment: str) -> None:
        machine = self._machines[fault.machine]

        def die(_: object) -> None:
            self._told(f"{machine} dies at a write ({moment})")
            machine.start_in(fault.for_ms * 1_000)
            machine.kill()

        machine.disk.strike(fault.amount % 12, moment, die)

    def _crash_before_write(self, fault: Fault) -> None:
        self._strike(fault, BEFORE)

    def _crash_after_write(self, fault: Fault) -> None:
        self._strike(fault, DONE if fault.amount % 2 else WRITTEN)

    def _in_commit(self, fault: Fault, happen: Callable[[], None]) -> None:
        """Have something happen to a worker in the middle of one of its next transactions."""
        machine = self._machines[fault.machine]
        moments = MOMENTS if machine.settings.guarantee == "exactly_once" else MOMENTS_OF_APPENDS
        skipped, moment = divmod(fault.amount, len(moments))
        what, done = moments[moment]
        name = machine.process.name

        def struck() -> None:
            self._told(f"{name} is struck at {what!r}, {'done' if done else 'not done'}")
            happen()

        self._network.strike(Strike(name, what, skipped % 5, done, struck))

    def _kill_in_commit(self, fault: Fault) -> None:
        self._in_commit(fault, lambda: self._kill(fault))

    def _freeze_in_commit(self, fault: Fault) -> None:
        self._in_commit(fault, lambda: self._freeze(fault))

    def _stop_in_commit(self, fault: Fault) -> None:
        self._in_commit(fault, lambda: self._stop(fault))

    def _freeze_in_rebalance(self, fault: Fault) -> None:
        """Another worker comes, and this one stands still past its session with that news on its way to it."""
        name = self._machines[fault.machine].process.name
        others = [machine for machine in self._machines if machine.number != fault.machine]
        if others:
            other = others[fault.amount % len(others)]
            longer = fault._replace(for_ms=max(fault.for_ms, PAST_SESSION_MS))
            told = Strike(name, "heartbeat", 0, True, lambda: self._freeze(longer))
            self._network.strike(Strike(other.process.name, "join", 0, False, lambda: self._network.strike(told)))
            other.kill()
            other.start_in(1_000)

    def _cut_off_in_commit(self, fault: Fault) -> None:
        self._in_commit(fault, lambda: self._cut_off(fault))

    def _freeze(self, fault: Fault) -> None:
        """SIGSTOP, past the session or not, and SIGCONT."""
        process = self._machines[fault.machine].process
        self._kernel.freeze(process)
        self._end_in(fault, lambda: self._kernel.thaw(process))

    def _freeze_short(self, fault: Fault) -> None:
        self._freeze(fault._replace(for_ms=fault.for_ms % 400))

    def _stop(self, fault: Fault) -> None:
        """SIGTERM; the worker comes back after a while, or the machine is gone until all is calm."""
        machine = self._machines[fault.machine]
        machine.stop(GRACE_US if fault.amount % 3 else 0)
        if fault.amount % 4 or len(self._machines) == 1:
            self._end_in(fault, machine.start)
        else:
            machine.wanted = False

    def _cut_off(self, fault: Fault) -> None:
        process = self._machines[fault.machine].process
        self._network.cut_off(process)
        self._end_in(fault, lambda: self._network.join_again(process))

    def _work_slowly(self, fault: Fault) -> None:
        """Turns of the worker that come late, again and again."""
        process = self._machines[fault.machine].process
        until_us = self._kernel.now_us + fault.for_ms * 1_000

        def hold() -> None:
            if self._calm or not process.alive or self._kernel.now_us >= until_us:
                return
            self._kernel.freeze(process)
            self._kernel.call_in(self._draw.randrange(1_000, 80_000), go_on)

        def go_on() -> None:
            self._kernel.thaw(process)
            self._kernel.call_in(self._draw.randrange(100, 20_000), hold)

        hold()

    # Machines.

    def _power_loss(self, fault: Fault) -> None:
        """The machine is off, and what its disk had not written yet is gone."""
        machine = self._machines[fault.machine]
        machine.kill()
        self._told(f"{machine} loses {machine.disk.lose_power()}")
        machine.start_in(fault.for_ms * 1_000)

    def _disk_lost(self, fault: Fault) -> None:
        machine = self._machines[fault.machine]
        machine.kill()
        machine.disk.delete(STORE)
        if fault.amount % 2:
            # The whole folder is gone, and with it the name of the slot.
            machine.slot += 1
        machine.start_in(fault.for_ms * 1_000)

    def _disk_stale(self, fault: Fault) -> None:
        """A copy of the store from earlier takes its place, as from a backup of the machine."""
        machine = self._machines[fault.machine]
        copy = machine.disk.copy(STORE)

        def bring_back() -> None:
            machine.kill()
            machine.disk.bring_back(STORE, copy)
            machine.start_in(self._draw.randrange(500_000))

        self._end_in(fault, bring_back)

    def _disk_foreign(self, fault: Fault) -> None:
        """The store of another worker is in the place of one's own; or one that is of another cluster."""
        machine = self._machines[fault.machine]
        other = self._machines[fault.amount % len(self._machines)]
        machine.kill()
        copy = other.disk.copy(STORE)
        if other is machine:
            copy = Copy(
                {
                    key.replace(RUN, b'"old-'): value.replace(b'"cluster":"', b'"cluster":"other ')
                    for key, value in copy.values.items()
                }
            )
        machine.disk.bring_back(STORE, copy)
        machine.start_in(fault.for_ms * 1_000)

    def _clock_jump(self, fault: Fault) -> None:
        """The clock of a machine is set, forward or back, and set right after a while."""
        machine = self._machines[fault.machine]
        skew_ms = fault.amount - 500
        machine.skew_ms += skew_ms

        def set_right() -> None:
            machine.skew_ms -= skew_ms

        self._end_in(fault, set_right)

    # Brokers and the way to them.

    def _outage(self, fault: Fault) -> None:
        self._network.go_down()
        self._end_in(fault, self._come_back)

    def _outage_in_commit(self, fault: Fault) -> None:
        self._in_commit(fault, lambda: self._outage(fault))

    def _come_back(self) -> None:
        self._server.restart()
        self._network.come_back()

    def _brokers_move(self, fault: Fault) -> None:
        self._server.restart()

    def _lose_answers(self, fault: Fault) -> None:
        self._network.lose(requests=0.0, answers=0.02 + fault.amount / 5_000)
        self._end_in(fault, lambda: self._network.lose(requests=0.0, answers=0.0))

    def _lose_requests(self, fault: Fault) -> None:
        self._network.lose(requests=0.02 + fault.amount / 5_000, answers=0.0)
        self._end_in(fault, lambda: self._network.lose(requests=0.0, answers=0.0))

    def _be_slow(self, fault: Fault) -> None:
        self._network.delay((1_000, 100 * fault.amount + 5_000))
        self._end_in(fault, lambda: self._network.delay(None))

    def _hold_markers(self, fault: Fault) -> None:
        self._server.hold_markers(True)
        self._end_in(fault, lambda: self._server.hold_markers(False))

    # What brokers do to topics by themselves.

    def _compact(self, fault: Fault) -> None:
        """The changelogs are cleaned; of keys that are gone they go on telling for as long as they are to."""
        for topic in (self._layout.coordination, self._layout.context):
            for number in range(self._layout.partitions):
                self._clean((topic, number))

    def _clean(self, place: Place) -> None:
        before = self._server.list_offsets(place, "latest", True)
        self._observer.keep(place, before)
        self._server.compact(place, keep_tombstones=True)

        def clean_again() -> None:
            self._server.compact(place, keep_tombstones=False, before=before)

        self._kernel.call_in(CLEANED_AGAIN_US, clean_again)

    def _expire_jobs(self, fault: Fault) -> None:
        """Retention takes jobs that were taken long ago."""
        for number, committed in self._observer.committed(self._group).items():
            if committed:
                place = (self._layout.jobs, number)
                before = committed - fault.amount % committed if fault.amount % 3 else committed
                self._observer.keep(place, before)
                self._server.truncate_before(place, before)

    def _forget_offsets(self, fault: Fault) -> None:
        """The offsets of a group that had no members for long."""
        stopped = [machine for machine in self._machines if machine.wanted]
        for machine in stopped:
            machine.wanted = False
            machine.kill()

        def come_back() -> None:
            self._server.delete_group_offsets(self._group)
            for machine in stopped:
                machine.wanted = True
                machine.start()

        self._end_in(fault._replace(for_ms=max(fault.for_ms, FORGOTTEN_MS)), come_back)


KINDS: dict[str, Callable[[Faults, Fault], None]] = {
    name.removeprefix("_"): getattr(Faults, name)
    for name in (
        "_kill", "_kill_in_commit", "_stop_in_commit", "_freeze_in_commit", "_freeze_in_rebalance",
        "_cut_off_in_commit", "_crash_before_write", "_crash_after_write", "_freeze", "_freeze_short", "_stop",
        "_cut_off", "_work_slowly", "_power_loss", "_disk_lost", "_disk_stale", "_disk_foreign", "_clock_jump",
        "_outage", "_outage_in_commit", "_brokers_move", "_lose_answers", "_lose_requests", "_be_slow",
        "_hold_markers", "_compact", "_expire_jobs", "_forget_offsets",
    )
}  # fmt: skip
