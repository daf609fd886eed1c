"""Brokers that die, hang and come back under load: workers wait for them, and nothing is lost or recorded twice."""

from __future__ import annotations

import random
import time

import pytest
from confluent_kafka.admin import AdminClient

from headrace_adapters.devbroker import BrokerNode, Cluster
from tests.kafka.endings import AppName, MakeLoad, MakeWorkers, Say, after_some, finish, now_ms, settled

pytestmark = [pytest.mark.broker, pytest.mark.slow]

# Everything that waits for a broker gives up sooner than the broker comes back.
IMPATIENT = {"socket.timeout.ms": 2_000}
TRANSACTION_TIMEOUT_MS = 3_000
PAUSE_S = 6.0


def test_a_broker_that_is_killed_and_started_again_finds_all_workers_at_their_places(
    own_broker: BrokerNode, app_name: AppName, make_workers: MakeWorkers, make_load: MakeLoad, say: Say, turn: int
) -> None:
    """It is killed when no commit is on its way.

    A lone broker of Kafka 4.3 that is killed between the decision to commit and the markers has been seen to come back
    without them: the transaction is complete, and its partitions say for ever that one is open. Where there are others
    one of them writes the markers, so a broker is killed in the middle of commits in the test with three.
    """
    workers = make_workers(app_name("outage"), own_broker.bootstrap)
    for _ in range(2):
        workers.begin().ready()
    load = make_load(workers, 100, turn)

    load.allow(0.4)
    load.drain()
    settled(workers)
    own_broker.kill()
    own_broker.start()
    back = now_ms()
    load.press(after_some(load, 0.4))

    assert len(workers.alive) == 2, "no worker may die of an outage"
    finish(workers, load, say, "broker killed and started again", [back])


def test_commits_that_time_out_are_found_out_about(
    own_broker: BrokerNode,
    app_name: AppName,
    make_workers: MakeWorkers,
    make_load: MakeLoad,
    say: Say,
    turn: int,
    thorough: bool,
) -> None:
    """The broker hangs in the middle of the load, longer than any call waits and any transaction may last."""
    workers = make_workers(
        app_name("hanging"), own_broker.bootstrap, transaction_timeout_ms=TRANSACTION_TIMEOUT_MS, kafka=IMPATIENT
    )
    for _ in range(2):
        workers.begin().ready()
    load = make_load(workers, 150, turn)

    backs = []
    for _ in range(2 if thorough else 1):
        load.press(after_some(load, 0.3))
        own_broker.pause()
        time.sleep(PAUSE_S)  # This is the fault itself: so long it hangs.
        own_broker.go_on()
        backs.append(now_ms())

    load.press(after_some(load, 0.2))
    assert len(workers.alive) == 2, "no worker may die of an outage"
    finish(workers, load, say, "broker stopped in the middle of commits", backs)


def test_one_of_three_brokers_that_is_killed_is_not_missed(
    cluster: Cluster, app_name: AppName, make_workers: MakeWorkers, make_load: MakeLoad, seed: int, say: Say, turn: int
) -> None:
    draw = random.Random(seed + turn)
    workers = make_workers(app_name("three"), cluster.bootstrap)
    for _ in range(2):
        workers.begin().ready()
    topics = AdminClient({"bootstrap.servers": cluster.bootstrap}).list_topics(timeout=20).topics
    assert {len(p.replicas) for p in topics[f"{workers.app}.jobs"].partitions.values()} == {3}
    load = make_load(workers, 100, turn)

    load.press(after_some(load, 0.4))
    victim = draw.choice(cluster.nodes)
    fault = now_ms()
    victim.kill()
    load.press(after_some(load, 0.3))
    victim.start()
    load.press(after_some(load, 0.2))

    assert len(workers.alive) == 2, "no worker may die of an outage"
    finish(workers, load, say, "one of three brokers killed", [fault])
