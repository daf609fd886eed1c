"""Scenarios on a real broker: one or several workers of one group, stepped by hand on virtual time.

The workers live as long as the session, because joining a group costs more than a scenario does; so every scenario has a run
id and a version of its blueprints to itself. Everything between two steps is real: topics, transactions, the group, the
stores. What a worker must have seen before the world is at rest is known from the ends of the jobs topic.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import Consumer, IsolationLevel, KafkaError, TopicPartition
from confluent_kafka.admin import OffsetSpec

from headrace.adapter import Answer, RunResult
from headrace.batch import Batch
from headrace.commands import Command
from headrace.execution import Execution, Outcome
from headrace.plans import Plans
from headrace.ports import Ended
from headrace.state import RunState
from headrace_adapters.base import WorkerLoop
from headrace_adapters.kafka.blueprint_log import BlueprintLog
from headrace_adapters.kafka.carrier import KafkaCarrier
from headrace_adapters.kafka.clients import ConfluentClients
from headrace_adapters.kafka.connection import admin, open_admin, open_producer, plain_producer, reader
from headrace_adapters.kafka.settings import KafkaSettings, kafka_settings
from headrace_adapters.kafka.slot import take_slot
from headrace_adapters.kafka.topic_layout import TopicLayout, ensure
from headrace_adapters.local.layout import Layout
from headrace_topics.jobs_record import encode_command
from headrace_topics.names import run_prefix
from headrace_topics.partitioning import partition_of
from headrace_topics.results_record import decode_result
from tests.scenarios.checks import Checks
from tests.scenarios.scripted import Script, ScriptedExecutor
from tests.scenarios.world import START_MS, ScenarioWorld

PARTITIONS = 3
REST_S = 60.0


class EndsSeen:
    """A consumer that notes where it has read a partition to its end, and hides that it was told so."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.ends: dict[int, int] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def _note(self, message: Any) -> bool:
        if message.error() is not None and message.error().code() == KafkaError._PARTITION_EOF:
            self.ends[message.partition()] = message.offset()
            return False
        return True

    def poll(self, timeout: float) -> Any:
        message = self._client.poll(timeout)
        return message if message is not None and self._note(message) else None

    def consume(self, number: int, timeout: float) -> list[Any]:
        return [message for message in self._client.consume(number, timeout) if self._note(message)]


class WatchedClients(ConfluentClients):
    """Members of the group tell when they have read everything."""

    def __init__(self) -> None:
        self.members: list[EndsSeen] = []

    def consumer(self, configuration: Mapping[str, Any]) -> Any:
        if "group.protocol" not in configuration:
            return super().consumer(configuration)
        self.members.append(EndsSeen(super().consumer({**configuration, "enable.partition.eof": True})))
        return self.members[-1]


class Everything:
    """Every implementation is there: scenarios script what they need."""

    def __contains__(self, _: object) -> bool:
        return True


class Executors:
    """The scripted executor of each scenario that a worker has seen, as one."""

    def __init__(self, scripts: Mapping[str, Script]) -> None:
        self._scripts = scripts
        self._own: dict[str, ScriptedExecutor] = {}
        self._tokens: dict[int, str] = {}

    @property
    def in_progress(self) -> int:
        return sum(own.in_progress for own in self._own.values())

    def submit(self, executions: Sequence[Execution]) -> None:
        for execution in executions:
            name = execution.run_id.partition("/")[0]
            own = self._own.setdefault(name, ScriptedExecutor(self._scripts[name]))
            self._tokens[execution.token] = name
            own.submit([execution])

    def cancel(self, tokens: Iterable[int]) -> None:
        for token in tokens:
            self._own[self._tokens[token]].cancel([token])

    def drain(self) -> list[tuple[int, Outcome]]:
        return [outcome for own in self._own.values() for outcome in own.drain()]

    @property
    def next_ms(self) -> int | None:
        return min((own.next_ms for own in self._own.values() if own.next_ms is not None), default=None)

    def go_on_to(self, clock_ms: int) -> None:
        for own in self._own.values():
            own.go_on_to(clock_ms)


class Member:
    """One worker."""

    def __init__(self, group: Group, folder: Path) -> None:
        self._clients = WatchedClients()
        self.slot = take_slot(folder, None)
        self.plans = Plans(Everything())  # type: ignore[arg-type]
        self.blueprints = BlueprintLog(self._clients, group.settings, group.layout, self.plans)
        self.blueprints.read_to_end()
        self.executor = Executors(group.scripts)
        self.carrier = KafkaCarrier(
            self._clients,
            group.settings,
            group.layout,
            self.slot.store,
            self.blueprints,
            slot_id=self.slot.id,
            client_id="scenario",
            clock=lambda: group.now_ms,
            give_up=lambda: False,
            plans_changed=lambda: self.loop.plans_changed(),  # noqa: PLW0108 (the loop comes after its carrier)
        )
        self.loop = WorkerLoop(
            self.carrier, self.plans, self.executor, lambda: group.now_ms, group.settings.limits, slots=64
        )
        self.loop.on_commit(lambda batch: group.committed(self, batch))
        self.loop.open()

    @property
    def ends(self) -> dict[int, int]:
        return self._clients.members[0].ends

    def die(self) -> None:
        """Nothing that was not committed is done on the way; the group need not wait for the session to time out."""
        self.loop.partitions.clear()
        self.loop._taken.clear()
        self.carrier.close()


class Group:
    """The workers, and everything that outlives a scenario."""

    def __init__(self, bootstrap: str, app: str, folder: Path, workers: int) -> None:
        self.settings: KafkaSettings = kafka_settings(
            app,
            f"kafka://{bootstrap}",
            {"partitions": PARTITIONS, "state": folder, "session_timeout_ms": 6_000, "heartbeat_ms": 300},
        )
        self._admin = open_admin(admin(self.settings))
        self.layout: TopicLayout = ensure(self._admin, self.settings)
        self.now_ms = START_MS
        self.broken = False
        """Whether a worker failed in the middle of something, so that the next scenario needs another group."""
        self.scripts: dict[str, Script] = {}
        self.worlds: dict[str, KafkaWorld] = {}
        self._folder = folder
        self._results_seen: dict[bytes, bytes] = {}
        self._results = Consumer(reader(self.settings))
        self._results.assign([TopicPartition(self.layout.results, number, 0) for number in range(PARTITIONS)])
        self.producer = open_producer({**plain_producer(self.settings), "linger.ms": 0})
        self.members = [self.join() for _ in range(workers)]
        self._workers = workers
        self._until(self._settled_group)

    def join(self) -> Member:
        return Member(self, self._folder / self.settings.app)

    def _settled_group(self) -> bool:
        owned = [len(member.loop.partitions) for member in self.members]
        return sum(owned) == PARTITIONS and all(owned) and not any(member.carrier.restoring for member in self.members)

    def _until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + REST_S
        while not holds():
            self.step()
            self.wait()
            assert time.monotonic() < deadline, "the group does not come to rest"

    def step(self) -> bool:
        try:
            # Each of them, also where the first one had something to do.
            return sum(member.loop.step() for member in self.members) > 0
        except BaseException:
            self.broken = True
            raise

    def wait(self) -> None:
        """Let the broker do something."""
        for member in self.members:
            member.carrier.wait(member.loop._wake, 0.002, 0)

    def caught_up(self) -> bool:
        """Whether every job that was written is taken."""
        places = [TopicPartition(self.layout.jobs, number) for number in range(PARTITIONS)]
        asked = self._admin.list_offsets(
            {place: OffsetSpec.latest() for place in places}, isolation_level=IsolationLevel.READ_UNCOMMITTED
        )
        for place, future in asked.items():
            owner = self.owner(place.partition)
            if owner is None or future.result().offset not in (0, owner.ends.get(place.partition)):
                return False
        return True

    def owner(self, number: int) -> Member | None:
        return next((member for member in self.members if number in member.loop.partitions), None)

    def owner_of(self, run_id: str) -> Member:
        number = partition_of(run_id, PARTITIONS)
        self._until(lambda: self.owner(number) is not None)
        owner = self.owner(number)
        assert owner is not None
        return owner

    def settle(self) -> None:
        """Step until nothing changes any more without the operator."""
        deadline = time.monotonic() + REST_S
        while time.monotonic() < deadline:
            if self.step():
                continue
            for member in self.members:
                member.loop.commit_begun()
            if not all(member.loop.idle for member in self.members) or not self.caught_up():
                self.wait()
            elif not self._pass_time():
                return
        raise AssertionError("the world does not come to rest")

    def _pass_time(self) -> bool:
        next_ms = min((m.executor.next_ms for m in self.members if m.executor.next_ms is not None), default=None)
        if next_ms is None:
            return False
        for member in self.members:
            member.executor.go_on_to(next_ms)
        return True

    def crash(self, run_id: str) -> None:
        """The owner of a run dies, with its disk where it is the only one; another one takes over."""
        dead = self.owner_of(run_id)
        self.members.remove(dead)
        dead.die()
        if self._workers == 1:
            shutil.rmtree(dead.slot.folder)
        self.members.append(self.join())
        self._until(self._settled_group)

    def send(self, command: Command) -> None:
        """Put a command into the jobs topic, as a producer does."""
        number = partition_of(command.run_id, PARTITIONS)
        self.producer.produce(self.layout.jobs, encode_command(command), command.run_id.encode(), number)
        assert self.producer.flush(10) == 0

    def publish(self, blueprints: list[dict[str, Any]]) -> None:
        """Blueprints of a scenario, through the topic."""
        for blueprint in blueprints:
            key = f"{blueprint['id']}@{blueprint['metadata']['version']}".encode()
            self.producer.produce(self.layout.blueprints, orjson.dumps(blueprint), key, 0)
        assert self.producer.flush(10) == 0
        for member in self.members:
            member.blueprints.read_to_end()

    def committed(self, member: Member, batch: Batch) -> None:
        for run_id, change in batch.runs.items():
            world = self.worlds[run_id.partition("/")[0]]
            reader_of = member.carrier.reader(member.carrier.partition_of(run_id))
            world.checks.committed(run_id, change, reader_of)
        for reply in batch.replies:
            for world in self.worlds.values():
                world.answers[reply.request_id] = Answer(reply.outcome, reply.reason)

    def result(self, run_id: str) -> RunResult | None:
        """A result, from its record."""
        deadline = time.monotonic() + 10
        while run_id.encode() not in self._results_seen and time.monotonic() < deadline:
            for message in self._results.consume(100, 0.02):
                if message.error() is None:
                    self._results_seen[message.key()] = message.value()
        record = self._results_seen.get(run_id.encode())
        return None if record is None else decode_result(record)

    def close(self) -> None:
        for member in self.members:
            member.carrier.close()
        self._results.close()


class KafkaWorld(ScenarioWorld):
    """One scenario on a group (as ``tests.scenarios.world.World``)."""

    def __init__(self, group: Group, run_id: str, blueprints: list[dict[str, Any]], script: Script) -> None:
        self._group = group
        self.run_id = run_id
        self.checks = Checks()
        self.answers: dict[str, Answer] = {}
        self._requests = count()
        self.started_ms = group.now_ms
        group.scripts[run_id] = script
        group.worlds[run_id] = self
        group.publish([_versioned(blueprint, run_id) for blueprint in blueprints])

    @property
    def now_ms(self) -> int:
        return self._group.now_ms

    # Driving.

    def submit(self, command: Command) -> Answer:
        request_id = f"{self.run_id}-{next(self._requests)}"
        self._group.send(command._replace(request_id=request_id))  # type: ignore[call-arg]
        deadline = time.monotonic() + REST_S
        while request_id not in self.answers:
            if not self._group.step():
                self._group.wait()
            assert time.monotonic() < deadline, f"{command} was not answered"
        return self.answers[request_id]

    def deliver(self, command: Command) -> None:
        self._group.send(command)

    def settle(self) -> None:
        self._group.settle()

    def advance(self, by_ms: int) -> None:
        self._group.now_ms += by_ms

    def crash(self) -> None:
        self._group.crash(self.run_id)

    # Looking.

    def run(self, run_id: str) -> RunState | Ended | None:
        owner = self._group.owner_of(run_id)
        return owner.loop.partitions[partition_of(run_id, PARTITIONS)].run(run_id)

    def result(self, run_id: str) -> RunResult:
        result = self._group.result(run_id)
        assert result is not None, f"run {run_id} has no result"
        return result

    def check_end(self) -> None:
        """When all runs have ended, their owners' stores hold nothing of them but dedup markers."""
        for run_id in self.checks.folded:
            number = partition_of(run_id, PARTITIONS)
            store, layout = self._group.owner_of(run_id).slot.store, Layout(number)
            prefix = run_prefix(run_id)
            for space in (layout.coordination, layout.context, layout.active, layout.parked):
                assert not list(store.scan(space + prefix)), f"left in the store: {run_id}"
            for key, _ in store.scan(layout.timer):
                owner, node, _ = orjson.loads(key[len(layout.timer) + 8 :])
                assert owner != run_id or not node, f"a timer is left: {key!r}"
            head = store.get(layout.head + prefix)
            assert head is not None, f"{run_id} has left no marker"
            assert b'"ended"' in head, f"a run that has not ended is left: {run_id}"


def _versioned(blueprint: dict[str, Any], version: str) -> dict[str, Any]:
    return {**blueprint, "metadata": {**blueprint.get("metadata", {}), "version": version}}
